"""What a promise of differential privacy is, and what it cost: tables of private runs.

An epsilon says nothing without its unit, neighbouring relation, delta, accountant and observer, so every row names
them. At window level it protects *one row*: windows overlap by half, so that neighbours share half their samples, and
what it comes to for a person (all of a person's windows) and for any stretch of signal stands beside it.

A *line* is what a run's rule is less its budget: the same training at several epsilons and without noise. A clip alone
can cost more than the noise, so the two are told apart: what the *noise* cost is the score less that of the same line,
seed, rows and clip without noise; beside it stands what clip and noise cost together.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from results.reporting import captions, text, titles
from results.reporting.render import Table
from results.reporting.study import Study, cells, summary
from results.rules import Rule, rule
from results.statistics import half_width, least_detectable

MEASURES = ("score", "worst_f1")
LOST = (2.0, 1.0)  # points below the score without clip and noise, which a simulated federation is to come within
NOT_REACHED = "not reached"
INFINITE = "infinite"
_BUDGET = re.compile(r"\b(epsilon|noise_multiplier|simulate)=[^,()]+(, )?|\bclip_norm='?none'?(, )?")
_CLIP = re.compile(r"\bclip_norm=[^,()]+(, )?")
_SAYS = ["inner", "noise", "noise_source", "accountant", "relation", "sampling", "observer"]


def private(study: Study) -> pd.DataFrame:
    """A row a promise of a private run, with what the run scored.

    Returns:
        columns of `frames.privacy`; `row` of the study, seed, partition_hash; finished; score and worst_f1 (of each
        run the lowest F1 of a class of the final model), in [0, 1], nan where it did not finish; rounds_made; line (the
        rule less its budget) and label (its name in a legend); x (epsilon as asked for, as spent where none was,
        inf without noise); clipped.
    """
    runs = study.primary
    kept = runs[[*study.row, "seed", "partition_hash", "notation", "score"]].assign(
        finished=(runs["status"] == "ok") & runs["score"].notna(),
        worst_f1=study.frames.classes.groupby("run")["f1"].min(),
        rounds_made=study.frames.rounds.groupby("run").size(),
    )
    found = study.frames.privacy.merge(kept, left_on="run", right_index=True)
    found[[*MEASURES]] = found[[*MEASURES]].where(found["finished"])
    found["x"] = found["target_epsilon"].where(np.isfinite(found["epsilon"]), np.inf).fillna(found["epsilon"])
    found["clipped"] = found["clip_norm"].notna()
    found["line"] = _lines(found, study)
    found["label"] = _labels(found)
    order = [*study.row, "seed", "run", "nested"]
    return found.sort_values(order, kind="stable").reset_index(drop=True)


def _lines(found: pd.DataFrame, study: Study) -> pd.Series[str]:
    """The rule less its budget. A clip belongs to the budget, unless several were tried for one epsilon."""
    strict = found["notation"].map(lambda name: _less(_BUDGET, name))
    loose = strict.map(lambda name: _less(_CLIP, name))
    place = [found[name] for name in ("partition", *study.panels, "unit", "x", "clipped", "simulated_units")]
    several = found["notation"].groupby([*place, loose], observed=True, dropna=False).nunique().max()
    return strict if several > 1 else loose


def _less(what: re.Pattern[str], notation: str) -> str:
    """A rule's text without some options."""
    return what.sub("", notation).replace(", )", ")").replace("()", "")


def _labels(found: pd.DataFrame) -> pd.Series[str]:
    """`fedprox(mu=0.1), own noise`, and what else two lines of that name differ in."""
    short = inner_rules(found) + ", " + found["noise"].fillna("own") + " noise"
    parts = found["line"].map(lambda line: set(re.findall(r"\w+=[\w.]+", line)))
    shared = {name: set.intersection(*group) for name, group in parts.groupby([found["unit"], short])}
    names = [
        ", ".join([label, *sorted(part - shared[unit, label])])
        for unit, label, part in zip(found["unit"], short, parts, strict=True)
    ]
    return pd.Series(names, index=found.index, dtype=str)


def inner_rules(found: pd.DataFrame) -> pd.Series[str]:
    """What trains within the noise, without its weighting, which shared noise prescribes.

    Args:
        found: of `private`.
    """
    losses = found["notation"].map(lambda text_: Rule.parse(text_).loss)
    inner = [rule(*both) for both in zip(found["inner"], losses, strict=True)]
    whole = pd.Series(inner, index=found.index, dtype=str).where(found["inner"].notna(), found["line"])
    return whole.map(lambda text_: _less(re.compile(r"\bweighting=\w+(, )?"), text_))


def unaudited(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that canaries took no part in, where such were made: a canary costs a little of the score."""
    audited = runs["audit_auc"].notna() | runs["audit_lower_bound"].notna()
    place = [runs["label"], runs["x"], runs["clipped"]]
    both = audited.groupby(place).transform("nunique") > 1
    return runs[~(audited & both)]


def costs(study: Study, found: pd.DataFrame) -> pd.DataFrame:
    """What the noise cost, and what clip and noise cost together: a row a cell, paired by seed and rows.

    Args:
        found: of `private`.

    Returns:
        columns `row` of the study; noise_cost (mean difference in score to the same line and clip without noise,
        points), noise_half (of its t interval), noise_equal, noise_least (what so many pairs can detect; nan where
        there is no spread to tell it by), noise_at (the settings of the run without noise where they differ,
        `rounds 200`, or empty); both_cost and its like: to the same line without noise and clip. nan where there is no
        pair; no row for what has neither.
    """
    training = found["notation"].map(lambda name: _less(_CLIP, _less(_BUDGET, name)))
    own = found.assign(training=training)[~found["nested"] & found["finished"]]
    free = own[np.isinf(own["x"]) & own["simulated_units"].isna()]
    noise = _against(study, own[np.isfinite(own["x"])], free, ["clip_norm"])
    both = _against(study, own, free[~free["clipped"]], [])
    joined = noise.add_prefix("noise_").join(both.add_prefix("both_"), how="outer")
    return _named_at(joined.reset_index())


def _against(study: Study, runs: pd.DataFrame, free: pd.DataFrame, same: list[str]) -> pd.DataFrame:
    """Differences in score to runs without noise of the same training, seed and rows, indexed by `row` of the study.

    Args:
        same: further columns that both must have alike.

    Returns:
        columns cost, half, equal, least, at, as `costs` has them.
    """
    pair = ["partition", *study.panels, "unit", "training", "seed", "partition_hash", *same]
    settings = [name for name in study.settings if name not in study.panels]
    base = free.drop_duplicates(pair)[[*pair, *settings, "run", "score"]]
    joined = runs.merge(base, on=pair, suffixes=("", "_base")).query("run != run_base")
    joined["difference"] = 100 * (joined["score"] - joined["score_base"])
    joined["at"] = _other_settings(joined, settings)
    groups = joined.groupby(study.row, observed=True, sort=True)
    known = groups["difference"].agg(["mean", "std", "count", "min", "max"])
    flat = known["max"] - known["min"] <= 1e-10  # points
    equal = (known["count"] > 1) & flat
    half = pd.Series(half_width(known["std"], known["count"]), index=known.index).mask(equal, 0.0)
    least = least_detectable(known["std"].mask(flat).to_numpy(), known["count"].to_numpy())
    at = groups["at"].first().astype(object)
    return pd.DataFrame({"cost": known["mean"], "half": half, "equal": equal, "least": least, "at": at})


def _named_at(found: pd.DataFrame) -> pd.DataFrame:
    """With "" where no pair has other settings, or there is no pair."""
    return found.assign(**{name: found[name].astype(object).fillna("") for name in ("noise_at", "both_at")})


def _other_settings(joined: pd.DataFrame, settings: list[str]) -> list[str]:
    """Of every pair, the settings of the run without noise that the private run does not share: `client_lr 0.5`."""
    own, base = (joined[[f"{name}{end}" for name in settings]].astype(str).to_numpy() for end in ("", "_base"))
    return [
        ", ".join(f"{name} {b}" for name, a, b in zip(settings, *pair, strict=True) if a != b)
        for pair in zip(own, base, strict=True)
    ]


def privacy_table(study: Study, stale: int = 0) -> Table | None:
    """A row a promise: what it protects, from whom, how it was kept, and what the runs scored; None without any."""
    runs = private(study)
    if runs.empty:
        return None
    by = [*study.row, "nested", "unit"]
    groups = runs.groupby(by, observed=True, sort=True)
    worst = ["epsilon", "epsilon_rdp", "person_windows", "person_epsilon", "signal_windows", "signal_epsilon", "steps"]
    same = ["mechanism", *_SAYS, "target_epsilon", "delta", "clip_norm", "simulated_units", "label", "x", "clipped"]
    found = pd.concat([groups[worst].max(), groups[same].first(), summary(runs, by, MEASURES)], axis=1)
    found["rounds_made"], found["runs"] = groups["rounds_made"].max(), groups.size()
    found["finished"] = groups["finished"].sum()
    order = ["partition", *study.panels, "unit", "label", "x", "clipped", "simulated_units"]
    found = found.reset_index().merge(costs(study, runs), how="left", on=study.row)
    found = _named_at(found)
    audits = ["audit_auc", "audit_tpr_at_1pct", "audit_lower_bound", "audit_ceiling"]
    if runs["audit_auc"].notna().any() or runs["audit_lower_bound"].notna().any():
        found = found.join(groups[audits].mean().reset_index(drop=True))
    found = found.sort_values(order, ascending=[True] * (len(order) - 2) + [False, True], kind="stable")
    found = found.reset_index(drop=True)
    names = found[study.row].astype(str).assign(unit=found["unit"])
    shown = names.rename(columns={"unit": "Unit"}).join(_shown(found))
    raw = names.join(_raw(found))
    return titles.table(study, "privacy", _caption(study, runs, found, stale), raw, shown, len(names.columns), 6)


def _shown(found: pd.DataFrame) -> pd.DataFrame:
    """The table as readers see it."""
    columns = {
        "Epsilon": epsilons(found["epsilon"]) + found["simulated_units"].map(_simulated),
        "By RDP": epsilons(found["epsilon_rdp"]),
        "Target": text.significant(found["target_epsilon"], 4),
        "Delta": text.significant(found["delta"], 3),
        "Accountant": found["accountant"].fillna(text.NOTHING),
        "Neighbours": found["relation"].fillna(text.NOTHING),
        "Mechanism": found["mechanism"].fillna(text.NOTHING),
        "Noise": found["noise"].fillna(text.NOTHING),
        "Noise source": found["noise_source"].replace("reproducible", "seeded").fillna(text.NOTHING),
        "Clip": text.significant(found["clip_norm"], 3, "none"),
        "Sampling": found["sampling"].fillna(text.NOTHING),
        "Rounds": text.numbers(found["rounds_made"], 0),
        "Steps": text.numbers(found["steps"], 0),
        "A person's windows": _grouped(found, "person"),
        "samples of one window": _grouped(found, "signal"),
        "Runs": text.finished(found),
        "Score [%]": text.level(found, "score"),
        "Worst-class F1 [%]": text.level(found, "worst_f1"),
        "Noise [points]": text.points(found["noise_cost"], found["noise_half"], found["noise_equal"].eq(True)),
        "Least detectable [points]": text.numbers(found["noise_least"]),
        "Clip and noise [points]": text.points(found["both_cost"], found["both_half"], found["both_equal"].eq(True)),
    }
    if "audit_auc" in found:
        columns |= {
            "Audit AUC": text.numbers(found["audit_auc"], 3),
            "TPR at 1 % FPR": text.numbers(found["audit_tpr_at_1pct"], 3),
            "Lower bound": text.significant(found["audit_lower_bound"], 3),
            "Its ceiling": text.significant(found["audit_ceiling"], 3),
        }
    return pd.DataFrame(columns | {"Observer": found["observer"].fillna(text.NOTHING)})


def epsilons(values: pd.Series[float]) -> pd.Series[str]:
    """Epsilons by four significant digits, infinite ones in a word."""
    texts = (text.NOTHING if v != v else INFINITE if np.isinf(v) else f"{v:.4g}" for v in values)
    return pd.Series(list(texts), index=values.index, dtype=str)


def _simulated(units: float) -> str:
    return "" if units != units else f" (simulated: {units:.0f} units)"


def _grouped(found: pd.DataFrame, kind: str) -> pd.Series[str]:
    """`409 windows: 2.4e+05`."""
    values = text.numbers(found[f"{kind}_windows"], 0) + " windows: " + epsilons(found[f"{kind}_epsilon"])
    return values.mask(found[f"{kind}_windows"].isna(), text.NOTHING)


def _raw(found: pd.DataFrame) -> pd.DataFrame:
    """For programs: scores in percent with four decimals, all else by significant digits (delta is small)."""
    columns: dict[str, pd.Series[Any]] = {}
    plain = ["mechanism", *_SAYS, "target_epsilon", "epsilon", "epsilon_rdp", "delta", "clip_norm", "simulated_units"]
    plain += ["person_windows", "person_epsilon", "signal_windows", "signal_epsilon", "rounds_made", "steps"]
    plain += [str(name) for name in found if str(name).startswith("audit_")]
    for name in plain:
        numeric = pd.api.types.is_numeric_dtype(found[name])
        columns[name] = text.significant(found[name], 6, "") if numeric else found[name]
    columns |= {"runs": found["runs"], "finished": found["finished"]}
    for name in MEASURES:
        columns[f"{name}_percent"], columns[f"{name}_half_width"] = 100 * found[name], 100 * found[f"{name}_half"]
    for name in ("noise", "both"):
        columns[f"{name}_points"], columns[f"{name}_half_width"] = found[f"{name}_cost"], found[f"{name}_half"]
        columns[f"{name}_least_detectable"] = found[f"{name}_least"]
        columns[f"{name}_other_settings"] = found[f"{name}_at"]
    return pd.DataFrame(columns)


def _caption(study: Study, runs: pd.DataFrame, found: pd.DataFrame, stale: int) -> tuple[str, ...]:
    """What must be said beside an epsilon."""
    units = set(runs["unit"])
    public = sorted({one for listed in runs["public"] if isinstance(listed, tuple) for one in listed})
    scaled = study.frames.runs["data_name"].eq("uci-har").any() and "features" in set(study.frames.runs["form"])
    return (
        captions.seeds(cells(study)["runs"]),
        "Epsilon: of each run alone, the worst office's (of a person: over all offices the person is in), the largest "
        "of the seeds; choosing options by looking at results (tuning) is outside epsilon.",
        "Window: one row; neighbours share half their samples. So beside it what it comes to for all windows of the "
        "person with most, and for the samples of any one window, which others share." * ("window" in units),
        "Office: with so few clients the unit is an office." * ("office" in units),
        "Simulated: noise as small as so many units would make it, on the data of fewer; no promise to anybody."
        * bool(runs["simulated_units"].notna().any()),
        "Seeded noise can be taken off by whoever knows the seed: it is for simulation only; a deployment draws from "
        "the operating system." * bool(runs["noise_source"].eq("reproducible").any()),
        f"Declared public: {', '.join(public)}." * bool(public),
        "The official scaling of UCI HAR used all rows: that is outside epsilon." * bool(scaled),
        f"By RDP: the same by Renyi orders {'; '.join(sorted(runs['orders'].dropna().unique()))}."
        * bool(runs["orders"].notna().any()),
        "Steps: of the office with most. Worst-class F1: of each run the lowest of a class, final model.",
        "Noise: paired by seed to the same training with the same clip and without noise, which is all that an epsilon "
        "costs; least detectable: what so many pairs find at 5 % with 80 % power. Clip and noise: to the same training "
        "with neither.",
        _own_settings(found),
        "Audit: a membership attack on random canaries, mean over runs; one run refutes little, and no bound is above "
        "its ceiling, which all guesses right would give." * ("audit_auc" in found),
        captions.SCORE,
        captions.INTERVAL,
        *titles.ending(study, stale),
    )


def _own_settings(found: pd.DataFrame) -> str:
    """What to say where a row without noise was trained in settings of its own; empty where none was."""
    if not (found["noise_at"].astype(bool) | found["both_at"].astype(bool)).any():
        return ""
    return (
        "Some rows without noise have settings of their own (a rate, a number of rounds), which the difference then "
        "includes; the CSV names them (other_settings)."
    )


def offices_table(study: Study, stale: int = 0) -> Table | None:
    """Epsilon by office: its units, sampling, steps, noise; None where no office made a promise of its own."""
    runs = private(study)
    kept = runs[[*study.row, "seed", "run", "unit", "label", "x", "clipped", "simulated_units", "offices"]]
    rows = kept[kept["offices"].map(lambda held: isinstance(held, tuple) and len(held) > 0).astype(bool)].explode(
        "offices"
    )
    if rows.empty:
        return None
    rows = rows.reset_index(drop=True)
    rows["office"] = rows.groupby(["run", "unit"]).cumcount()
    told = pd.DataFrame(list(map(msgspec.to_builtins, rows["offices"])), index=rows.index)
    numbers = ["epsilon", "epsilon_rdp", "noise_multiplier", "sampling_rate", "steps", "units"]
    rows[numbers] = told.reindex(columns=numbers).astype(float)
    for name in ("epsilon", "epsilon_rdp"):
        rows[name] = rows[name].fillna(np.inf)  # null is infinite
    rows = rows.merge(study.frames.offices[["run", "office", "name"]], how="left", on=["run", "office"])
    rows["name"] = rows["name"].fillna("Office " + (rows["office"] + 1).astype(str))
    by = ["partition", *study.panels, "unit", "label", "x", "clipped", *study.row[1:], "office"]  # in this order
    groups = rows.groupby(list(dict.fromkeys(by)), observed=True, sort=True)
    largest, means, low, high = (groups[numbers].agg(how) for how in ("max", "mean", "min", "max"))
    simulated = groups["simulated_units"].first()
    names = groups["name"].first().reset_index()[[*study.row, "unit", "name"]].astype(str)
    shown = names.rename(columns={"unit": "Unit", "name": "Office"})
    shown["Epsilon"] = list(epsilons(largest["epsilon"]) + simulated.map(_simulated))
    shown["By RDP"] = list(epsilons(largest["epsilon_rdp"]))
    for name, heading, digits in (
        ("units", "Units", 0),
        ("sampling_rate", "Sampling rate", 4),
        ("steps", "Steps", 0),
        ("noise_multiplier", "Noise multiplier", 3),
    ):
        shown[heading] = list(text.spread(means[name], low[name], high[name], digits))
    raw = names.rename(columns={"name": "office"})
    for name in numbers:
        raw[name] = list(text.significant((largest if "epsilon" in name else means)[name], 6, ""))
    raw["simulated_units"] = list(text.significant(simulated, 6, ""))
    caption = (
        captions.seeds(cells(study)["runs"]),
        "Epsilon: of one run and this office alone, the largest of the seeds; the other columns: mean over seeds, and "
        "range where they differ. A person in several offices spends in each: the table of privacy composes them.",
        "Under shared noise the noise multiplier is that of the sum, of which each office adds a share."
        * bool(runs["noise"].eq("shared").any()),
        "Simulated: no promise to anybody." * bool(simulated.notna().any()),
        *titles.ending(study, stale),
    )
    return titles.table(study, "epsilon-by-office", caption, raw, shown, len(names.columns))


def persons_needed(study: Study) -> pd.DataFrame:
    """How many persons it would take to come close to the score without clip and noise, by simulation, a row a line.

    Returns:
        columns partition, label, epsilon (asked for); free (score without clip and noise, in [0, 1]; nan where none was
        run);
        persons, score (as it is); real (whether that is measured, on as many persons as there are); within_2, within_1
        (persons, interpolated over log persons between means of seeds; inf where not reached, nan where not known);
        offices (nan where persons are in several). Only lines that simulate.
    """
    runs = private(study)
    runs = unaudited(runs[~runs["nested"] & runs["finished"] & runs["unit"].eq("person")])
    rows = []
    for (partition, label), line in runs.groupby(["partition", "label"], observed=True, sort=True):
        free = line.loc[np.isinf(line["x"]) & ~line["clipped"], "score"].mean()
        for epsilon, part in line[np.isfinite(line["x"])].groupby("x"):
            if part["simulated_units"].isna().all():
                continue
            means = by_persons(part)["score"]
            real = part[part["simulated_units"].isna()]
            row = {"partition": partition, "label": label, "epsilon": epsilon, "free": free}
            row |= {"persons": means.index[0], "score": means.iloc[0], "real": len(real) > 0}
            row |= {f"within_{lost:.0f}": _crossing(means, free - lost / 100) for lost in LOST}
            rows.append(row | {"offices": _offices(part)})
    columns = ["partition", "label", "epsilon", "free", "persons", "score", "real", "within_2", "within_1", "offices"]
    return pd.DataFrame(rows, columns=columns)


def _offices(part: pd.DataFrame) -> float:
    """How many offices share the persons out among themselves; nan where some are in several."""
    held = part.iloc[0]["offices"] or []
    apart = sum(office.units for office in held) == part.iloc[0]["units"]
    return float(len(held)) if apart else float("nan")


def by_persons(part: pd.DataFrame) -> pd.DataFrame:
    """Scores of a line at one epsilon by number of persons, as `summary`; a run that simulates none has its own."""
    persons = part["simulated_units"].fillna(part["units"])
    return summary(part.assign(persons=persons), ["persons"], ("score",))


def _crossing(means: pd.Series[float], wanted: float) -> float:
    """Where a series over log x first reaches a value: the first x if it does from the start, inf if it never does."""
    if wanted != wanted:
        return float("nan")
    x, y = np.log(means.index.to_numpy(dtype=float)), means.to_numpy()
    reached = np.flatnonzero(y >= wanted)
    if not len(reached):
        return float("inf")
    k = int(reached[0])
    if k == 0:
        return float(np.exp(x[0]))
    return float(np.exp(np.interp(wanted, y[k - 1 : k + 1], x[k - 1 : k + 1])))


def persons_words(value: float) -> str:
    """`212`, `not reached`, or that nothing is known."""
    return "not known" if value != value else NOT_REACHED if np.isinf(value) else f"{np.ceil(value - 1e-9):.0f}"


def needed_table(study: Study, stale: int = 0) -> Table | None:
    """How many persons it would take; None where no run simulates any."""
    found = persons_needed(study)
    if found.empty:
        return None
    by = ["partition", "label"]
    columns = {"partition": "Partition", "label": "Training"}
    shown = (
        found[by]
        .astype(str)
        .rename(columns=columns)
        .assign(
            **{
                "Epsilon": epsilons(found["epsilon"]),
                "Score without clip and noise [%]": text.numbers(100 * found["free"]),
                "Fewest persons": text.numbers(found["persons"], 0) + found["real"].map({True: " (real)", False: ""}),
                "Score there [%]": text.numbers(100 * found["score"]),
                "Persons within 2 points": found["within_2"].map(persons_words),
                "Persons within 1 point": found["within_1"].map(persons_words),
            }
        )
    )
    raw = found.drop(columns=["free", "score", "offices"]).astype({"partition": str})
    raw = raw.assign(free_percent=100 * found["free"], score_percent=100 * found["score"])
    caption = (
        captions.seeds(cells(study)["runs"]),
        "Simulated: the persons there are, under noise as small as that of more persons would be at the same epsilon; "
        "a promise to nobody. More persons would also be more data, which this leaves out.",
        "Persons: of all offices together, interpolated over the logarithm of their number between means of seeds; "
        f"{NOT_REACHED}: by no number tried.",
        captions.SCORE,
        *titles.ending(study, stale),
    )
    return titles.table(study, "persons-needed", caption, raw, shown, left=2)
