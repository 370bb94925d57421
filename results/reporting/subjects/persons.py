"""Test persons: intervals over persons and seeds, and every person tested in turn.

Seeds say how a result varies on the same test persons; a statistical office asks about the next person. Two answers:

- persons x seeds of one cell: accuracies of the final model by person, as a two-way table (`crossed_interval`).
- runs that differ in their test persons alone (folds that between them test everybody) are one row of `persons_table`:
  each person's accuracy is its mean over seeds, the interval is over persons.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from results.reporting import captions, layout, text, titles
from results.reporting.differences import span_of_least
from results.reporting.render import Table
from results.reporting.study import Study
from results.reporting.style import Look, wrapped
from results.rules import BASELINE
from results.statistics import crossed_interval, half_width, least_detectable, person_cv

FOLDED = "test_persons"  # the option


def accuracies(study: Study) -> pd.DataFrame:
    """Accuracy [%] of the final model, (runs, persons): rows of `frames.runs` by persons' names, nan where untested."""
    wide = study.frames.persons.pivot(index="run", columns="person", values="accuracy")
    return 100 * wide.reindex(study.frames.runs.index).sort_index(axis="columns")


def crossed(table: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and half-width over persons and seeds of a table (S, P); nan where it has holes or is too small.

    Persons whom no run tested do not count.
    """
    table = table[:, ~np.isnan(table).all(axis=0)]
    if min(table.shape) < 2 or np.isnan(table).any():
        return float("nan"), float("nan")
    found = crossed_interval(table)
    return found.mean, found.half


def levels(study: Study) -> pd.DataFrame:
    """Mean over test persons and half-width over persons and seeds, in percent, a row a cell.

    Returns:
        columns `row` of the study, persons (mean) and persons_half.
    """
    runs = study.scored.sort_values([*study.row, "seed"], kind="stable")
    wide = accuracies(study).loc[runs.index].to_numpy()
    names = runs[study.row].drop_duplicates()
    ends = [*runs.index.get_indexer(names.index)[1:], len(runs)]
    found, start = [], 0
    for end in ends if len(runs) else ():
        found.append(crossed(wide[start:end]))
        start = end
    means = pd.DataFrame(found, columns=["persons", "persons_half"], index=names.index, dtype=float)
    return names.join(means).reset_index(drop=True)


def folded(study: Study) -> bool:
    """Whether runs differ in their test persons alone."""
    return FOLDED in study.panels


def in_turn(study: Study) -> tuple[pd.DataFrame, int]:
    """The scored runs of folds of test persons, and how many folds there are.

    Runs on the official persons test some persons once more, and so do other folds: of several divisions the finest
    counts.
    """
    runs = study.scored
    folds = runs[FOLDED].astype(str).str.extract(r"^fold\(i=\d+, of=(\d+)\)$", expand=False).astype(float)
    finest = folds.max()
    return runs[folds == finest], 0 if np.isnan(finest) else int(finest)


def rows(study: Study) -> list[str]:
    """What names a row when all folds of test persons are one."""
    return [name for name in study.row if name != FOLDED]


def by_person(study: Study) -> pd.DataFrame:
    """Accuracy [%] of every person, mean over seeds, a row a person and row; only seeds that tested all persons.

    Returns:
        columns `rows(study)`, person, accuracy, seeds.
    """
    runs = in_turn(study)[0].reset_index(names="run")
    joined = study.frames.persons.merge(runs[["run", "seed", *rows(study)]], on="run")
    seeds = joined.groupby([*rows(study), "seed"], observed=True)["person"].nunique().rename("tested")
    joined = joined.join(seeds, on=[*rows(study), "seed"])
    everybody = joined.groupby(rows(study), observed=True)["tested"].transform("max")
    groups = joined[joined["tested"] == everybody].groupby([*rows(study), "person"], observed=True, sort=True)
    return groups["accuracy"].agg(accuracy=lambda x: 100 * x.mean(), seeds="count").reset_index()


def against_fedavg(study: Study, found: pd.DataFrame) -> pd.DataFrame:
    """Every person's difference to FedAvg, mean over persons and what so many persons can detect, a row a row.

    Args:
        found: `by_person(study)`.

    Returns:
        columns `rows(study)`; difference, half (of the t interval over persons), least; all in points. No row for
        FedAvg, nor where the same persons were not tested with both.
    """
    pair = ["partition", *(name for name in study.panels if name != FOLDED), "person"]
    base = found.loc[found["strategy"] == BASELINE, [*pair, "accuracy"]]
    joined = found[found["strategy"] != BASELINE].merge(base, on=pair, suffixes=("", "_base"))
    joined["difference"] = joined["accuracy"] - joined["accuracy_base"]
    groups = joined.groupby(rows(study), observed=True, sort=True)["difference"]
    sizes = found.groupby(rows(study), observed=True).size()
    means = groups.agg(["mean", "std", "count"]).join(sizes.rename("persons"))
    means = means[means["count"] == means["persons"]]
    return pd.DataFrame(
        {
            "difference": means["mean"],
            "half": half_width(means["std"], means["count"]),
            "least": least_detectable(
                means["std"].mask(means["std"] < 1e-10), means["count"]
            ),  # no spread tells nothing
        }
    ).reset_index()


def persons_table(study: Study, stale: int = 0) -> Table | None:
    """Mean accuracy over all persons, each tested by models that never saw it; None where no folds were run."""
    if not folded(study):
        return None
    found = by_person(study)
    if found.empty:
        return None
    differences = {
        tuple(map(str, row[:-3])): row[-3:] for row in against_fedavg(study, found).itertuples(index=False, name=None)
    }
    shown, raw = [], []
    for _, part in found.groupby(rows(study), observed=True, sort=True):
        names = {name: str(part[name].iloc[0]) for name in rows(study)}
        count = len(part)
        one = person_cv(part["accuracy"], _training_persons(study, count))
        difference, half, least = differences.get(tuple(names.values()), (np.nan, np.nan, np.nan))
        worst = part.sort_values("accuracy", kind="stable").iloc[0]
        numbers = {
            "seeds": int(part["seeds"].max()),
            "persons": count,
            "accuracy_percent": one.plain.mean,
            "half_width": one.plain.half,
            "nadeau_bengio_half_width": one.corrected.half,
            "sd_over_persons": one.plain.sd,
            "worst_person": str(worst["person"]),
            "worst_percent": worst["accuracy"],
            "difference_points": difference,
            "difference_half_width": half,
            "least_detectable_points": least,
        }
        raw.append(names | numbers)
        shown.append(
            names
            | {
                "Seeds": str(numbers["seeds"]),
                "Persons": str(count),
                "Accuracy [%]": f"{one.plain.mean:.2f}",
                "± over persons": f"{one.plain.half:.2f}" if one.plain.half is not None else text.NOTHING,
                "± Nadeau-Bengio": f"{one.corrected.half:.2f}" if one.corrected.half is not None else text.NOTHING,
                "Worst person [%]": f"{worst['accuracy']:.2f} ({worst['person']})",
                "To FedAvg [points]": text.NOTHING if difference != difference else f"{difference:+.2f} ± {half:.2f}",
                "Least detectable [points]": text.NOTHING if least != least else f"{least:.2f}",
            }
        )
    caption = (
        captions.seeds([row["seeds"] for row in raw]),
        "Accuracy of the final model on each person, in turn in the test fold and never in training then: mean over "
        "seeds, then over persons.",
        "±: half-widths of 95 % t intervals over persons; the second with Nadeau and Bengio's correction, since the "
        "models of different folds share most of their training persons.",
        "Worst person: its accuracy and name. To FedAvg: mean difference, paired by person, ± half-width of the t "
        "interval over persons; least detectable: what so many pairs find at 5 % with 80 % power.",
        *_missing_folds(study),
        *titles.ending(study, stale),
    )
    left = len(rows(study))
    return titles.table(study, "persons", caption, pd.DataFrame(raw), pd.DataFrame(shown), left, across=8)


def _missing_folds(study: Study) -> list[str]:
    """That persons are missing, where folds are."""
    runs, folds = in_turn(study)
    found = runs[FOLDED].nunique()
    return [] if found == folds else [f"Only {found} of {folds} folds were run; the persons of the others are missing."]


def _training_persons(study: Study, persons: int) -> float:
    """Persons that trained each model: all but the test fold, less the validation persons."""
    runs, folds = in_turn(study)
    left = persons - persons / folds
    held = str(runs["validation"].iloc[0]) if "validation" in runs else "0"
    inside = re.search(r"of=(\d+)", held)
    if inside:
        return left - left / int(inside[1])
    share = float(held)
    return left - max(1, round(share * left)) if share else left


def persons(study: Study, look: dict[str, Look], label: str = "") -> list[Figure]:
    """Accuracy of every person, worst first, a panel a partition: how far the mean is from the person it fails."""
    found = by_person(study)
    if not folded(study) or found.empty:
        return []
    others = [name for name in study.panels if name != FOLDED]
    figures = []
    groups = list(found.groupby(["partition", *others], observed=True, sort=True))
    for figure, page in layout.sheets(groups, 1.5):
        for (keys, part), panel in page:
            panel.set_title(wrapped(", ".join(str(key) for key in keys), 27))
            for strategy, one in part.groupby("strategy", observed=True, sort=True):
                heights = np.sort(one["accuracy"].to_numpy())
                panel.plot(np.arange(1, len(heights) + 1), heights, **look[str(strategy)].strokes, linewidth=0.7)
        seeds = captions.span(int(found["seeds"].min()), int(found["seeds"].max()), "seed")
        least = span_of_least(against_fedavg(study, found)["least"], "over persons")
        shown = f"Each person's mean over {seeds}, worst first"
        heading = layout.heading(study, "accuracy by person", label, shown, least)
        layout.legend(figure, look, found["strategy"], heading)
        layout.axes(figure, "Person, by rank within the strategy", "Accuracy [%]")
        figures.append(figure)
    return figures
