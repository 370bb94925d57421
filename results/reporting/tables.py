"""The tables of a study. Accuracies and F1 are in percent, differences in points.

Result tables hold nothing measured in seconds, bytes or dates, and do not depend on the order the runs were stored in:
the same records give the same bytes. `costs` is the exception, and stands apart.
"""

from __future__ import annotations

import pandas as pd

from results.reporting import captions, text, titles
from results.reporting.render import Table
from results.reporting.study import MEASURES, PERSONAL, Study, cells, one_a_cell, summary
from results.reporting.subjects import persons
from results.rules import Rule

_HEADINGS = {
    "score": "Score [%]",
    "test_accuracy": "Final [%]",
    "test_macro_f1": "Macro F1 [%]",
    "mean_office_accuracy": "Office mean [%]",
    "weighted_office_accuracy": "Weighted [%]",
    "worst_office_accuracy": "Worst [%]",
    "mean_personal_accuracy": "Own models, mean [%]",
    "worst_personal_accuracy": "Own models, worst [%]",
}


def score_table(study: Study, stale: int = 0) -> Table:
    """A row a cell: score and final model with their intervals, offices, seeds, and what the row was made on."""
    found = cells(study)
    names = titles.names(study, found)
    asked = one_a_cell(study, ["strategy_options", "notation"])
    strategies = asked["notation"].map(lambda rule: Rule.parse(rule).strategy)
    weighting, options = zip(*map(text.strategy_options, asked["strategy_options"], strategies), strict=True)
    training = _training(study)
    over = _over_persons(study, found)
    shown = names.assign(Runs=text.finished(found))
    personal = [name for name in PERSONAL if found[name].notna().any()]
    measures = (*MEASURES, *personal)
    for name in measures:
        shown[_HEADINGS[name]] = text.level(found, name)
        if name == "test_accuracy":
            shown["Persons [%]"] = text.level(over, "persons")
    shown["Marks"] = text.marks(found)
    shown["Weighting"], shown["Options"] = weighting, options
    shown["Seeds"] = found["seeds"].map(text.ranges)
    shown["Partition hash"] = found["partition_hashes"].map(text.digest)
    shown["Local training"] = training
    first = study.frames.runs.iloc[0]
    made = names.assign(weighting=weighting, strategy_options=options, notation=asked["notation"], **study.common)
    made = made.assign(data=first["data_title"], form=str(first["form"]), data_hash=str(first["data_hash"]))
    raw = pd.concat([made, found[["runs", "finished", "diverged", "failed", "filtered", "marked"]]], axis=1)
    for name in measures:
        raw[f"{name}_percent"] = 100 * found[name]
        raw[f"{name}_half_width"] = 100 * found[f"{name}_half"]
        raw[f"{name}_all_equal"] = found[f"{name}_equal"].map({True: "true", False: "false"})
    for name in ("score", "test_accuracy"):  # t s sqrt(1 + 1/n): of one new run, to hold a published figure against
        raw[f"{name}_prediction_half_width"] = raw[f"{name}_half_width"] * (found["finished"] + 1) ** 0.5
    raw["persons_percent"], raw["persons_and_seeds_half_width"] = 100 * over["persons"], 100 * over["persons_half"]
    for name in ("seeds", "partition_hashes", "commits"):
        raw[name] = found[name].map(lambda values: " ".join(map(str, values)))
    caption = (
        captions.seeds(found["runs"]),
        captions.SCORE,
        captions.FINAL,
        captions.INTERVAL,
        "Persons: final model, mean over test persons ± half-width of its 95 % interval over persons and seeds.",
        "Offices: the final model on each office's validation rows: mean, weighted by examples, worst.",
        "Own models: that of each office on its own validation rows, where a strategy keeps such." * bool(personal),
        "Partition hash: first digits of the hash over the seeds' partitions; the CSV names each.",
        *titles.ending(study, stale),
    )
    return titles.table(study, "scores", caption, raw, shown, left=len(study.row), across=4)


def _over_persons(study: Study, found: pd.DataFrame) -> pd.DataFrame:
    """Levels over persons and seeds, in [0, 1], a row for each of `found`."""
    over = found[study.row].merge(persons.levels(study), how="left", on=study.row)
    shares = over[["persons", "persons_half"]].astype(float) / 100
    return shares.assign(persons_equal=shares["persons_half"] == 0)


def _training(study: Study) -> list[str]:
    """An office's training in words, for every cell; options that older records do not hold are left out."""
    options = [name for name in _TRAINING if name in study.frames.options]
    rows = one_a_cell(study, options).astype(str).to_dict("records")
    return [", ".join(_TRAINING[name].format(row[name]) for name in options if row[name] != "none") for row in rows]


_TRAINING = {
    "rounds": "rounds {}",
    "local_epochs": "epochs {}",
    "local_steps": "instead steps {}",
    "batch_size": "batch {}",
    "client_lr": "rate {}",
    "lr_schedule": "{}",
    "optimizer": "{}",
}


def main_table(study: Study, stale: int = 0) -> Table:
    """The score, partitions down and strategies across; panels' options are columns before."""
    found = cells(study)
    rows = ["partition", *study.panels]
    shown = titles.pivot(found.assign(value=text.level(found, "score") + text.flags(found)), rows, "value").fillna("")
    raw = titles.pivot(found.assign(value=100 * found["score"]), rows, "value")
    half = titles.pivot(found.assign(value=100 * found["score_half"]), rows, "value")
    joined = [column for name in raw.columns for column in (raw[name], half[name].rename(f"{name} ±"))]
    raw = pd.concat(joined, axis=1).reset_index()
    caption = (captions.seeds(found["runs"]), captions.SCORE, captions.INTERVAL, *titles.ending(study, stale))
    return titles.table(study, "main", caption, raw, shown.reset_index(), left=len(rows), across=6)


def class_table(study: Study, stale: int = 0) -> Table | None:
    """F1 of every class, mean over seeds; None where no run was scored by class."""
    scored = study.scored
    joined = study.frames.classes.merge(scored[study.row], left_on="run", right_index=True)
    if joined.empty:
        return None
    found = summary(joined, [*study.row, "class_"], ("f1",)).unstack("class_")
    means, halves = 100 * found["f1"], 100 * found["f1_half"]
    names = found.index.to_frame(index=False)
    shown, raw = titles.names(study, names), names.astype(str)
    for place, name in enumerate(study.classes):
        mean = means[place].reset_index(drop=True)
        shown[name] = text.numbers(mean, 1)
        raw[f"{name}_f1_percent"] = mean
        raw[f"{name}_f1_half_width"] = halves[place].reset_index(drop=True)
    caption = (
        captions.seeds(cells(study)["runs"]),
        "F1 [%] of each class, final model, mean over seeds; half-widths of the 95 % t intervals are in the CSV.",
        *titles.ending(study, stale),
    )
    return titles.table(study, "classes", caption, raw, shown, left=len(study.row), across=8)


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
        *titles.ending(study, stale)[1:],
    )
    return titles.table(study, "unevenness", caption, raw, shown, left=len(rows))


def costs_table(study: Study, stale: int = 0) -> Table:
    """Seconds and bytes of a run, median over seeds, every engine apart. Differs by machine and by day."""
    runs, sampled = _without_samples(study, study.frames.runs[study.frames.runs["status"] == "ok"])
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
    caption = (
        "Median over seeds of a whole run (a worker's first run also loads and compiles); bytes are totals over the "
        "offices. Times are measured: they differ by day.",
        f"{captions.plural(sampled, 'protected run').capitalize()} measured protection in a sample of the rounds: only "
        "training and scoring count here, the rest is in the table of protection." * bool(sampled),
        captions.machines(runs),
        captions.provenance(study, stale),
    )
    return titles.table(study, "costs", caption, raw, shown, left=len(by))


def _without_samples(study: Study, runs: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Runs without the totals of those that were protected in some of their rounds, and how many these are.

    Such totals are neither the plain twin's nor the protocol's.
    """
    found = study.frames.protection
    sampled = runs.index.isin(found.loc[found["measured_rounds"] < found["all_rounds"], "run"])
    totals = [name for name in runs.columns if name.endswith("_s") or name in ("bytes_up", "bytes_down")]
    kept = runs.astype(dict.fromkeys(totals, float))
    kept.loc[sampled, [name for name in totals if name not in ("train_s", "evaluate_s")]] = float("nan")
    return kept, int(sampled.sum())


def problems_table(study: Study) -> Table | None:
    """The runs that failed or diverged, with their first line of error; None where there are none."""
    runs = study.frames.runs[study.frames.runs["status"] != "ok"]
    if runs.empty:
        return None
    found = runs.sort_values([*study.row, "seed", "engine"], kind="stable").reset_index(drop=True)
    shown = found[["run_id", "engine", "status", "seed", *study.row]].astype(str)
    shown["error"] = found["error"].fillna("").str.split("\n").str[0]
    caption = ("Failed runs are tried again by the next sweep, diverged ones are not.",)
    return titles.table(study, "unfinished", caption, shown, shown, left=len(shown.columns))


_SECONDS = {"wall_s": "Wall clock", "cpu_s": "CPU"}
