"""The tables of a study. Accuracies and F1 are in percent, differences in points.

Result tables hold nothing measured in seconds, bytes or dates, and do not depend on the order the runs were stored in:
the same records give the same bytes. `costs` is the exception, and stands apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results import captions, text
from results.render import Table
from results.statistics import least_detectable
from results.study import BASELINE, MEASURES, Study, cells, summary

_HEADINGS = {
    "score": "Score [%]",
    "test_accuracy": "Final [%]",
    "test_macro_f1": "Macro F1 [%]",
    "mean_office_accuracy": "Office mean [%]",
    "weighted_office_accuracy": "Weighted [%]",
    "worst_office_accuracy": "Worst [%]",
}


def score_table(study: Study, stale: int = 0) -> Table:
    """A row a cell: score and final model with their intervals, offices, seeds, and what the row was made on."""
    found = cells(study)
    names = _names(study, found)
    known = _strategies(study)
    weighting = [known[strategy][0] for strategy in names["strategy"]]
    options = [known[strategy][1] for strategy in names["strategy"]]
    shown = names.assign(Runs=text.finished(found))
    for name, heading in _HEADINGS.items():
        shown[heading] = text.level(found, name)
    shown["Marks"] = text.marks(found)
    shown["Weighting"], shown["Options"] = weighting, options
    shown["Seeds"] = found["seeds"].map(text.ranges)
    shown["Partition hash"] = found["partition_hashes"].map(text.digest)
    first = study.frames.runs.iloc[0]
    asked = names.assign(weighting=weighting, strategy_options=options, **study.common)
    asked = asked.assign(data=first["data_title"], form=str(first["form"]), data_hash=str(first["data_hash"]))
    raw = pd.concat([asked, found[["runs", "finished", "diverged", "failed", "filtered", "marked"]]], axis=1)
    for name in MEASURES:
        raw[f"{name}_percent"] = 100 * found[name]
        raw[f"{name}_half_width"] = 100 * found[f"{name}_half"]
        raw[f"{name}_all_equal"] = found[f"{name}_equal"].map({True: "true", False: "false"})
    for name in ("seeds", "partition_hashes", "commits"):
        raw[name] = found[name].map(lambda values: " ".join(map(str, values)))
    caption = (
        captions.seeds(found["runs"]),
        captions.SCORE,
        captions.FINAL,
        captions.INTERVAL,
        "Offices: the final model on each office's validation rows: mean, weighted by examples, worst.",
        "Partition hash: first digits of the hash over the seeds' partitions; the CSV names each.",
        *_ending(study, stale),
    )
    return _table(study, "scores", caption, raw, shown, left=len(study.row), across=4)


def main_table(study: Study, stale: int = 0) -> Table:
    """The score, partitions down and strategies across; panels' options are columns before."""
    found = cells(study)
    rows = ["partition", *study.panels]
    shown = _pivot(found.assign(value=text.level(found, "score") + text.flags(found)), rows, "value").fillna("")
    raw = _pivot(found.assign(value=100 * found["score"]), rows, "value")
    half = _pivot(found.assign(value=100 * found["score_half"]), rows, "value")
    joined = [column for name in raw.columns for column in (raw[name], half[name].rename(f"{name} ±"))]
    raw = pd.concat(joined, axis=1).reset_index()
    caption = (captions.seeds(found["runs"]), captions.SCORE, captions.INTERVAL, *_ending(study, stale))
    return _table(study, "main", caption, raw, shown.reset_index(), left=len(rows), across=6)


def differences_table(study: Study, stale: int = 0) -> Table | None:
    """Score minus FedAvg's, paired by seed on the same rows; None where no strategy has a FedAvg to be paired with."""
    scored = study.scored
    pair = ["partition", *study.panels, "seed", "partition_hash"]
    base = scored.loc[scored["strategy"] == BASELINE, [*pair, "score"]]
    joined = scored[scored["strategy"] != BASELINE].merge(base, on=pair, suffixes=("", "_base"))
    if joined.empty:
        return None
    joined["difference"] = 100 * (joined["score"] - joined["score_base"])
    groups = joined.groupby(study.row, observed=True, sort=True)["difference"]
    found = summary(joined, study.row, ("difference",)).assign(pairs=groups.count(), sd=groups.std()).reset_index()
    # Equal differences have no spread to tell what could be detected.
    found["sd"] = found["sd"].mask(found["difference_equal"])
    found["least"] = least_detectable(found["sd"], found["pairs"])
    shown = _names(study, found).assign(
        **{
            "Pairs": found["pairs"].astype(str),
            "Difference [points]": text.points(
                found["difference"], found["difference_half"], found["difference_equal"]
            ),
            "Least detectable [points]": text.numbers(found["least"]),
        }
    )
    raw = (
        found[study.row]
        .astype(str)
        .assign(
            pairs=found["pairs"],
            difference_points=found["difference"],
            half_width_points=found["difference_half"],
            sd_points=found["sd"],
            least_detectable_points=found["least"],
        )
    )
    caption = (
        captions.seeds(found["pairs"]),
        "Score minus that of fedavg on the same seed and partition.",
        "Mean ± half-width of its 95 % t interval over seeds.",
        "Least detectable: what a two-sided paired t test at 5 % finds with 80 % power; no claim is smaller.",
        *_ending(study, stale),
    )
    return _table(study, "differences", caption, raw, shown, left=len(study.row))


def class_table(study: Study, stale: int = 0) -> Table | None:
    """F1 of every class, mean over seeds; None where no run was scored by class."""
    scored = study.scored
    joined = study.frames.classes.merge(scored[study.row], left_on="run", right_index=True)
    if joined.empty:
        return None
    found = summary(joined, [*study.row, "class_"], ("f1",)).unstack("class_")
    means, halves = 100 * found["f1"], 100 * found["f1_half"]
    names = found.index.to_frame(index=False)
    shown, raw = _names(study, names), names.astype(str)
    for place, name in enumerate(study.classes):
        mean = means[place].reset_index(drop=True)
        shown[name] = text.numbers(mean, 1)
        raw[f"{name}_f1_percent"] = mean
        raw[f"{name}_f1_half_width"] = halves[place].reset_index(drop=True)
    caption = (
        captions.seeds(cells(study)["runs"]),
        "F1 [%] of each class, final model, mean over seeds; half-widths of the 95 % t intervals are in the CSV.",
        *_ending(study, stale),
    )
    return _table(study, "classes", caption, raw, shown, left=len(study.row), across=8)


def unevenness_table(study: Study, stale: int = 0) -> Table | None:
    """How uneven each partition's draws are: mean and range over the different draws; None where nothing was dealt."""
    rows = ["partition", *(name for name in study.settings if name in ("clients", "min_examples", "validation"))]
    runs = study.primary[study.primary["partition_hash"].notna()]
    draws = runs.drop_duplicates([*rows, "partition_hash"])
    if draws.empty:
        return None
    smallest = study.frames.offices.groupby("run")["num_examples"].min()
    draws = draws.assign(smallest=smallest.reindex(draws.index), moved_percent=100 * draws["moved_share"])
    measures = {
        "gini": "Gini",
        "gini_normalised": "K/(K-1) Gini",
        "entropy": "Label entropy",
        "js_distance": "JS distance",
        "information": "Information [bits]",
        "moved_percent": "Moved [%]",
        "smallest": "Smallest office [rows]",
    }
    groups = draws.groupby(rows, observed=True, sort=True)
    low, mean, high = (getattr(groups[list(measures)], how)().reset_index() for how in ("min", "mean", "max"))
    counts = groups.size().to_numpy()
    shown = low[rows].astype(str).assign(Draws=[str(count) for count in counts])
    raw = low[rows].astype(str).assign(draws=counts, marked_draws=groups["marked"].sum().astype(int).to_numpy())
    for name, heading in measures.items():
        digits = 0 if name == "smallest" else 2
        shown[heading] = text.spread(mean[name], low[name], high[name], digits)
        for how, part in (("mean", mean), ("min", low), ("max", high)):
            raw[f"{name}_{how}"] = part[name].astype(float)
    caption = (
        "Mean over draws (lowest–highest).",
        "Gini of the offices' sizes, and scaled to reach 1 for any number of offices;",
        "label entropy in bits over log2 of the classes and Jensen-Shannon distance to the pooled labels (base 2),",
        "both means over offices weighted by examples; information: bits that an office tells of a row's label;",
        "moved: rows that changed office to reach the minimum size.",
        *_ending(study, stale)[1:],
    )
    return _table(study, "unevenness", caption, raw, shown, left=len(rows))


def costs_table(study: Study, stale: int = 0) -> Table:
    """Seconds and bytes of a run, median over seeds, every engine apart. Differs by machine and by day."""
    runs = study.frames.runs[study.frames.runs["status"] == "ok"]
    by = [*study.row, "engine", *(["trainer"] if runs["trainer"].nunique() > 1 else [])]
    seconds = [name for name in runs.columns if name.endswith("_s") and (runs[name] > 0).any()]
    groups = runs.groupby(by, observed=True, sort=True)
    found = groups[[*seconds, "bytes_up", "bytes_down"]].median()
    found.insert(0, "runs", groups.size())
    found = found.reset_index()
    shown = found[by].astype(str).assign(Runs=found["runs"].astype(str))
    for name in seconds:
        shown[f"{_SECONDS.get(name, name.removesuffix('_s').capitalize())} [s]"] = text.numbers(found[name], 2)
    for name in ("bytes_up", "bytes_down"):
        shown[f"{name.replace('bytes_', '').capitalize()} [MB]"] = text.numbers(found[name] / 1e6, 2)
    raw = found.astype(dict.fromkeys(by, str))
    pairs = set(zip(runs["machine"], runs["cpu_path"], strict=True))
    machines = "; ".join(sorted(f"{machine}, {path}" for machine, path in pairs))
    caption = (
        "Median over seeds of a whole run (a worker's first run also loads and compiles); bytes are totals over the "
        "offices. Times are measured: they differ by day.",
        f"Machine: {machines or 'none'}.",
        captions.provenance(study, stale),
    )
    return _table(study, "costs", caption, raw, shown, left=len(by))


def problems_table(study: Study) -> Table | None:
    """The runs that failed or diverged, with their first line of error; None where there are none."""
    runs = study.frames.runs[study.frames.runs["status"] != "ok"]
    if runs.empty:
        return None
    found = runs.sort_values([*study.row, "seed", "engine"], kind="stable").reset_index(drop=True)
    shown = found[["run_id", "engine", "status", "seed", *study.row]].astype(str)
    shown["error"] = found["error"].fillna("").str.split("\n").str[0]
    caption = ("Failed runs are tried again by the next sweep, diverged ones are not.",)
    return _table(study, "unfinished", caption, shown, shown, left=len(shown.columns))


_TITLES = {
    "main": "score [%] by partition and strategy",
    "scores": "scores of every cell",
    "differences": "score, differences to FedAvg",
    "classes": "F1 by class [%]",
    "unevenness": "unevenness of the partitions",
    "costs": "costs of a run",
    "unfinished": "runs that did not finish",
}
_CAPITAL = {"run_id": "Run", **{name: name.capitalize() for name in ("partition", "strategy", "engine", "trainer")}}
_CAPITAL |= {name: name.capitalize() for name in ("status", "seed", "error")}
_SECONDS = {"wall_s": "Wall clock", "cpu_s": "CPU"}


def _table(
    study: Study,
    name: str,
    caption: Sequence[str],
    raw: pd.DataFrame,
    shown: pd.DataFrame,
    left: int,
    across: int = 0,
) -> Table:
    kept = tuple(part for part in caption if part)
    title = f"{study.title}: {_TITLES[name]}"
    return Table(f"{study.slug}-{name}", title, kept, raw, shown.rename(columns=_CAPITAL), left, across)


def _names(study: Study, found: pd.DataFrame) -> pd.DataFrame:
    """The columns that name a cell, as text."""
    return found[study.row].astype(str)


def _strategies(study: Study) -> dict[str, tuple[str, str]]:
    """Weighting and other options of every strategy."""
    first = study.frames.runs.drop_duplicates("strategy")
    pairs = zip(first["strategy"].astype(str), first["strategy_options"], strict=True)
    return {notation: text.strategy_options(known, notation) for notation, known in pairs}


def _pivot(found: pd.DataFrame, rows: list[str], values: str) -> pd.DataFrame:
    """Strategies across, in their order."""
    wide = found.pivot(index=rows, columns="strategy", values=values)
    return wide.rename(columns=str).rename_axis(columns=None)


def _ending(study: Study, stale: int) -> tuple[str, ...]:
    """What every caption of result tables ends with; `_table` drops empty parts."""
    parts = (captions.unfinished(study), captions.settings(study), captions.data_notes(study))
    return (*parts, captions.provenance(study, stale))
