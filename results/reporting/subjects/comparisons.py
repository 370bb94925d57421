"""Which strategy is better, cell by cell, and what may not be said. Differences are in points of accuracy.

A *family* is the strategies of one partition and panel against FedAvg; its p values are corrected together, over the
seeds that all of its strategies finished. A strategy that lacks seeds is left out of the correction and claims nothing:
runs that fail are not a random draw. A claim needs all three: a corrected p below 5 %, ten pairs (30 where labels are
skewed), and a difference of at least what so many pairs can detect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from results.frame import DEFAULT, ORIGIN
from results.reporting import captions, text, titles
from results.reporting.differences import pairs
from results.reporting.render import Table
from results.reporting.study import Study, cells
from results.reporting.subjects.persons import accuracies, crossed
from results.rules import BASELINE, is_arm
from results.statistics import (
    SIGNIFICANCE,
    best_set,
    half_width,
    paired,
    ranks,
    step_down,
)

MARGIN = 1.0  # point: nobody's choice should hang on less


def compared(study: Study) -> pd.DataFrame:
    """Every cell but FedAvg's against it, a row a cell.

    Returns:
        columns `row` of the study; pairs; difference, half, sd, least (points); equal (no spread); p_step_down, p_holm,
        p_sign_flip, p_wilcoxon; d_z; improves and improves_paired (probabilities of improvement); crossed and
        crossed_half (mean over test persons of the final model and its half-width over persons and seeds, points);
        claim (`better`, `worse` or empty). nan where there is no such number.
    """
    found, persons = [], accuracies(study)
    for _, part in pairs(study).groupby(["partition", *study.panels], observed=True, sort=True):
        corrected = adjusted(part, "strategy")
        for strategy, runs in part.groupby("strategy", observed=True, sort=True):
            names = {name: runs[name].iloc[0] for name in study.row}
            found.append(names | against(persons, runs) | corrected.get(strategy, {}))
    return with_claims(study, pd.DataFrame(found, columns=[*study.row, *NUMBERS]))


def with_claims(study: Study, found: pd.DataFrame) -> pd.DataFrame:
    """Rows of `against` as numbers, with their claim."""
    table = found.astype(dict.fromkeys(NUMBERS, float))
    table = table.assign(pairs=table["pairs"].astype(int), equal=table["equal"] == 1)
    seen = (table["p_step_down"] < SIGNIFICANCE) & (table["difference"].abs() >= table["least"])
    enough = table["pairs"] >= table["partition"].astype(str).map(study.claim_seeds).astype(int)
    side = np.where(table["difference"] > 0, "better", "worse")
    return table.assign(claim=np.where(seen & enough, side, ""))


def columns(found: pd.DataFrame, heading: str) -> dict[str, pd.Series[str]]:
    """The columns that every table of pairs shows after its names, as text; `heading` is the difference's."""
    return {
        "Pairs": found["pairs"].astype(str),
        f"{heading} [points]": text.points(found["difference"], found["half"], found["equal"]),
        "Final model, over persons and seeds [points]": text.points(
            found["crossed"], found["crossed_half"], found["crossed_half"] == 0
        ),
        "Step-down p": text.p_values(found["p_step_down"]),
        "Holm p": text.p_values(found["p_holm"]),
        "d_z": text.numbers(found["d_z"]),
        "Least detectable [points]": text.numbers(found["least"]),
        "Claim": found["claim"].replace("", text.NOTHING),
    }


NUMBERS = (
    *("pairs", "difference", "half", "equal", "sd", "least", "p_step_down", "p_holm", "p_sign_flip", "p_wilcoxon"),
    *("d_z", "improves", "improves_paired", "crossed", "crossed_half"),
)


def adjusted(part: pd.DataFrame, member: str) -> dict[Any, dict[str, float]]:
    """Corrected p values of a family, by its members; those without all of the family's seeds are not in it."""
    wide = seeds_by(part, member, "difference")
    whole = wide.loc[:, wide.notna().all()]
    if len(whole) < 2 or whole.empty:
        return {}
    found = step_down(whole)
    # The least detectable difference of equal differences is unknown, so that none of these can become a claim.
    return {
        name: {"p_step_down": p, "p_holm": holm}
        for name, p, holm in zip(whole.columns, found.p, found.holm, strict=True)
    }


def seeds_by(part: pd.DataFrame, member: str, values: str) -> pd.DataFrame:
    """Values as (seeds, members), both in order: `pivot` keeps the order of the rows, which is that of run_ids."""
    return (
        part.sort_values([member, "seed"], kind="stable")
        .pivot(index="seed", columns=member, values=values)
        .sort_index()
    )


def against(persons: pd.DataFrame, runs: pd.DataFrame) -> dict[str, Any]:
    """The pairs of one cell.

    Args:
        persons: `accuracies` of the study.
        runs: columns run, run_base, score, score_base; a row a pair.
    """
    a, b = 100 * runs["score"].to_numpy(), 100 * runs["score_base"].to_numpy()
    one = paired(a, b)
    level = one.difference
    spread = None if level.degenerate else level.sd  # equal differences tell nothing of what could be detected
    both = crossed(persons.loc[runs["run"]].to_numpy() - persons.loc[runs["run_base"]].to_numpy())
    wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)  # (n, n): ties count half (Agarwal et al. 2021)
    return {
        "pairs": level.n,
        "difference": level.mean,
        "half": None if level.sd is None else float(half_width(level.sd, level.n)),
        "equal": level.degenerate,
        "sd": spread,
        "least": None if spread is None else one.least_detectable,
        "p_sign_flip": one.p_sign_flip,
        "p_wilcoxon": one.p_wilcoxon,
        "d_z": one.d_z,
        # Points alone: bootstrap intervals, which `statistics.improvement` has, cost more than all else here.
        "improves": float(wins.mean()),
        "improves_paired": float(np.diag(wins).mean()),
        "crossed": both[0],
        "crossed_half": both[1],
    }


def differences_table(study: Study, stale: int = 0) -> Table | None:
    """Score minus FedAvg's, paired by seed on the same rows; None where no strategy has a FedAvg to be paired with."""
    found = compared(study)
    if found.empty:
        return None
    names = titles.names(study, found)
    shown = names.assign(**columns(found, "Difference"))
    raw = names.assign(
        pairs=found["pairs"],
        difference_points=found["difference"],
        half_width_points=found["half"],
        sd_points=found["sd"],
        persons_and_seeds_difference_points=found["crossed"],
        persons_and_seeds_half_width_points=found["crossed_half"],
        **{name: found[name] for name in ("p_step_down", "p_holm", "p_sign_flip", "p_wilcoxon", "d_z")},
        least_detectable_points=found["least"],
        claim=found["claim"],
        **{name: found[name] for name in NUMBERS if name.startswith("improves")},
    )
    caption = (
        captions.seeds(found["pairs"]),
        f"Score minus that of {BASELINE} on the same seed and partition.",
        "Mean ± half-width of its 95 % t interval over seeds; beside it the final model's difference over test "
        "persons, ± half-width of the 95 % interval over persons and seeds (two-way random effects).",
        "p: exact sign flips up to 16 pairs, step-down max-t over all strategies of the same partition and options "
        "(the family), Holm beside it; none where a strategy lacks seeds that others have.",
        "d_z: standardised mean difference, Hedges' correction.",
        "Least detectable: what a two-sided paired t test at 5 % finds with 80 % power.",
        f"{captions.claim()} Probabilities of improvement are in the CSV.",
        *titles.ending(study, stale),
    )
    return titles.table(study, "differences", caption, raw, shown, left=len(study.row), across=8)


def best_table(study: Study, stale: int = 0) -> Table | None:
    """Which strategies of a cell may be the best, a row a cell; None where no cell has two strategies and two seeds."""
    by = ["partition", *study.panels]
    runs = _chosen(study)[[*by, "strategy", "seed", "score"]]
    shown, raw = [], []
    keys: Any
    for keys, part in runs.groupby(by, observed=True, sort=True):
        wide = seeds_by(part, "strategy", "score")
        whole = 100 * wide.loc[:, wide.notna().all()]
        if min(whole.shape) < 2:
            continue
        found = best_set(whole, MARGIN)
        wanted = study.claim_seeds[str(keys[0])]
        few = len(whole) < wanted
        least = found.least_detectable if np.isfinite(found.least_detectable) else float("nan")  # under five seeds
        names = dict(zip(by, map(str, keys), strict=True))
        strategies = [str(name) for name in whole.columns]
        members = _listed(strategies, found.in_best)
        if found.no_difference:
            members = f"no difference found (least detectable {least:.2f} points)"
        shown.append(
            names
            | {
                "Seeds": str(len(whole)),
                "Strategies": str(len(strategies)),
                "Best set": f"fewer than {captions.number(wanted)} seeds" if few else members,
                "Within one point": text.NOTHING if few else _listed(strategies, found.within_margin),
                "Least detectable [points]": text.NOTHING if least != least else f"{least:.2f}",
            }
        )
        numbers = {
            "seeds": len(whole),
            "strategy": strategies,
            "score_percent": whole.mean().to_numpy(),
            "to_best_of_others_points": found.difference,
            "low_points": np.where(np.isfinite(found.low), found.low, np.nan),
            "high_points": np.where(np.isfinite(found.high), found.high, np.nan),
            "in_best_set": np.where(found.in_best, "true", "false"),
            "within_one_point": np.where(found.within_margin, "true", "false"),
            "least_detectable_points": least,
        }
        raw.append(pd.DataFrame(names | numbers))
    if not raw:
        return None
    caption = (
        captions.seeds([int(row["Seeds"]) for row in shown]),
        "Best set: strategies that may be the best of the cell at 95 % (multiple comparisons with the best, by sign "
        "flips of whole seeds); one that holds more than half of them tells nothing apart.",
        "Within one point: the simultaneous interval of the difference to the best of the others lies inside ±1 point, "
        "which more seeds make likelier, as not being told apart is made likelier by fewer.",
        "The reference arms are no candidates; a strategy that lacks seeds that others have is left out.",
        *titles.ending(study, stale),
    )
    return titles.table(study, "best", caption, pd.concat(raw), pd.DataFrame(shown), left=len(by))


def _listed(names: Sequence[str], chosen: Any) -> str:
    return ", ".join(name for name, one in zip(names, chosen, strict=True) if one) or text.NOTHING


def ranks_table(study: Study, stale: int = 0) -> Table | None:
    """Mean rank of every strategy over the cells that all have; None with fewer than two cells or strategies.

    Default values are ranked apart from tuned ones, wherever these are from: they may be the same cells twice.
    """
    found = cells(study)
    found = found[~found["strategy"].map(is_arm).astype(bool)]
    panels, by = [name for name in study.panels if name != ORIGIN], []
    if ORIGIN in study.panels:
        by = [ORIGIN]
        found = found.assign(**{ORIGIN: np.where(found[ORIGIN].astype(str) == DEFAULT, DEFAULT, "tuned")})
    groups = found.groupby(by, observed=True, sort=True) if by else [((), found)]
    shown, raw, ranked = [], [], []
    keys: Any
    for keys, part in groups:
        wide = part.pivot(index=["partition", *panels], columns="strategy", values="score")
        wide = wide.dropna(axis="columns", how="all").dropna()
        if min(wide.shape) < 2:
            continue
        one = ranks(wide)
        names = dict(zip(by, map(str, keys), strict=True)) | {"strategy": [str(name) for name in wide.columns]}
        rows = pd.DataFrame(names | {"cells": len(wide), "mean_rank": one.mean, "low": one.low, "high": one.high})
        texts = rows[[*by, "strategy"]].assign(Cells=str(len(wide)))
        texts["Mean rank"] = text.numbers(rows["mean_rank"])
        texts["95 % interval"] = [f"{low:.2f}–{high:.2f}" for low, high in zip(one.low, one.high, strict=True)]
        raw.append(rows)
        shown.append(texts)
        ranked.append(part)
    if not raw:
        return None
    counts = [int(rows["cells"].iloc[0]) for rows in raw]
    caption = (
        "Descriptive, no claim: cells of one data set share rows, persons and seeds and are no independent problems, "
        "so neither Friedman's test nor a critical difference holds over them (it would over five data sets).",
        "1 is best, ties share their places; interval: percentiles over resampled cells.",
        f"Ranks of the mean score over {captions.span(min(counts), max(counts), 'cell')} that all strategies have"
        f"{', default and tuned values apart' if by else ''}; reference arms left out.",
        captions.seeds(pd.concat(ranked)["runs"]),
        *titles.ending(study, stale),
    )
    raws, texts = pd.concat(raw, ignore_index=True), pd.concat(shown, ignore_index=True)
    return titles.table(study, "ranks", caption, raws, texts, left=1 + len(by))


def _chosen(study: Study) -> pd.DataFrame:
    """The scored runs without the reference arms, which nobody can choose."""
    runs = study.scored
    return runs[~runs["strategy"].map(is_arm).astype(bool)]
