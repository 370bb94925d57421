"""Differences to FedAvg, pair by pair: the same seed, the same rows at the same offices, every panel's option alike."""

from __future__ import annotations

import pandas as pd

from results.reporting.study import Study
from results.rules import BASELINE
from results.statistics import least_detectable


def pairs(study: Study, measure: str = "score") -> pd.DataFrame:
    """The scored runs of every strategy but FedAvg that have a FedAvg to be paired with, a row a run.

    Returns:
        columns `row` of the study, seed; `run`, `run_base` (rows of `frames.runs`); the measure and `<measure>_base`;
        `difference` in points. In the order of the study's rows, then by seed.
    """
    kept = [*study.row, "seed", "partition_hash", measure]
    scored = study.scored[kept].reset_index(names="run")  # a few columns: a hundred make every group slow
    pair = ["partition", *study.panels, "seed", "partition_hash"]
    base = scored.loc[scored["strategy"] == BASELINE, [*pair, "run", measure]]
    joined = scored[scored["strategy"] != BASELINE].merge(base, on=pair, suffixes=("", "_base"))
    joined["difference"] = 100 * (joined[measure] - joined[f"{measure}_base"])
    return joined.sort_values([*study.row, "seed"], kind="stable").reset_index(drop=True)


def least(study: Study) -> pd.DataFrame:
    """Of every cell that has pairs: their number and the least detectable mean difference in points.

    Returns:
        columns `row` of the study, pairs, sd and least; both nan where the differences have no spread to tell it by.
    """
    groups = pairs(study).groupby(study.row, observed=True, sort=True)["difference"]
    found = groups.agg(["count", "std", "min", "max"]).reset_index()
    equal = found["max"] - found["min"] <= 1e-10  # points
    found["sd"] = found["std"].mask(equal)
    found["least"] = least_detectable(found["sd"].to_numpy(), found["count"].to_numpy())
    return found.rename(columns={"count": "pairs"})[[*study.row, "pairs", "sd", "least"]]


def detectable(study: Study) -> str:
    """`Least detectable difference in score: 0.40 to 12.30 points`: to FedAvg, over the cells."""
    return span_of_least(least(study)["least"], "in score")


def span_of_least(values: pd.Series[float], what: str) -> str:
    """The same of given values in points."""
    known = values.dropna()
    if known.empty:
        return "Too few pairs to tell a least detectable difference"
    low, high = (f"{value:.2f}" for value in (known.min(), known.max()))
    return f"Least detectable difference {what}: {low if low == high else f'{low} to {high}'} points"
