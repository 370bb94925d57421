"""What must be said beside a table for it to be read rightly: seeds, settings, caveats, and what made the runs.

A caption names the commit of the *runs*, never the checkout's, and no date: the same records give the same words.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results.reporting.study import CLAIM_SEEDS, SKEWED_SEEDS, Study
from results.statistics import SIGNIFICANCE

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SCORE = "Score: mean test accuracy of the last five rounds, or of all where there are fewer."
FINAL = "Final: test accuracy of the final model."
INTERVAL = (
    "Mean over seeds ± half-width of its 95 % t interval, over seeds alone: a row's runs share their test persons."
)


def number(n: int) -> str:
    """A small number as a word."""
    return _WORDS[n] if n < len(_WORDS) else str(n)


def plural(n: int, noun: str) -> str:
    """`one run`, `12 runs`, `two studies`."""
    if n == 1:
        return f"{number(n)} {noun}"
    return f"{number(n)} {noun[:-1]}ies" if noun.endswith("y") else f"{number(n)} {noun}s"


def span(low: int, high: int, noun: str) -> str:
    """`five seeds`, or `three to five seeds`."""
    return plural(high, noun) if low == high else f"{number(low)} to {plural(high, noun)}"


def seeds(counts: Sequence[int] | pd.Series[int]) -> str:
    """How many seeds the cells have, and whether that is enough to claim anything."""
    low, high = min(counts), max(counts)
    text = span(low, high, "seed")
    if high < CLAIM_SEEDS:
        text += ", no claims"
    elif low < CLAIM_SEEDS:
        text += f", no claims from cells of fewer than {number(CLAIM_SEEDS)}"
    single = " A cell of one seed has no interval." if low == 1 else ""
    return text[0].upper() + text[1:] + "." + single


def claim() -> str:
    """What a claim takes."""
    return (
        f"Claim: only where the step-down p is below {SIGNIFICANCE:g}, there are {number(CLAIM_SEEDS)} pairs or more "
        f"({SKEWED_SEEDS} where labels are skewed: shards, Dirichlet at 0.3 and under, majorities of 0.8 and over), "
        "and the difference is at least the least detectable one."
    )


def unfinished(study: Study) -> str:
    """The runs that do not count, or count with a mark; empty where there are none."""
    runs = study.primary
    diverged, failed = (runs["status"] == "diverged").sum(), (runs["status"] == "failed").sum()
    parts = []
    if diverged or failed:
        kinds = [f"{count} {kind}" for count, kind in ((diverged, "diverged"), (failed, "failed")) if count]
        parts.append(
            f"Of {plural(len(runs), 'run')} {' and '.join(kinds)}: such a cell's mean is over the runs that finished, "
            "whose number stands first in brackets [finished/all]."
        )
    blind = int(((runs["status"] == "ok") & runs["score"].isna()).sum())
    if blind:
        parts.append(f"{plural(blind, 'run').capitalize()} never saw test rows (tuning) and has no score here.")
    filtered = int(runs["filtered"].sum())
    if filtered:
        parts.append(f"(f): an update was left out as not finite or absurdly long ({plural(filtered, 'run')}).")
    marked = int(runs["marked"].eq(True).sum())
    if marked:
        parts.append(f"(m): a draw moved over 5 % of the rows to reach the minimum size ({plural(marked, 'run')}).")
    return " ".join(parts)


def settings(study: Study) -> str:
    """The options that all runs share; those that are off are left out."""
    shown = [f"{name} {value}" for name, value in study.common.items() if value != "none"]
    return f"Common settings: {', '.join(shown)}."


def data_notes(study: Study) -> str:
    """The data set and its caveats."""
    return f"Data: {'; '.join((study.title, *study.notes))}."


def twins(study: Study) -> str:
    """Protected runs whose sums were mostly in clear; empty where there are none."""
    runs = study.frames.protection
    runs = runs[runs["run"].isin(study.primary.index) & (runs["measured_rounds"] < runs["all_rounds"])]
    if runs.empty:
        return ""
    return (
        f"{plural(len(runs), 'protected run').capitalize()} ran as the plain twin, whose bits are the same by test, "
        "but for rounds whose cost was measured."
    )


def simulated(study: Study) -> str:
    """Runs whose noise is that of more units than there are; empty where there are none."""
    found = study.frames.privacy
    runs = found.loc[found["run"].isin(study.primary.index) & found["simulated_units"].notna(), "run"].nunique()
    if not runs:
        return ""
    return f"{plural(runs, 'run').capitalize()} with simulate=n: the noise of n units on fewer, a promise to nobody."


def machines(runs: pd.DataFrame) -> str:
    """What runs were made on."""
    pairs = set(zip(runs["machine"], runs["cpu_path"], strict=True))
    return f"Machine: {'; '.join(sorted(f'{machine}, {path}' for machine, path in pairs)) or 'none'}."


def provenance(study: Study, stale: int = 0) -> str:
    """Commits of the runs, and how many were made by other code.

    Args:
        stale: runs of the whole report that other code than the present made, where the caller has compared them.
    """
    runs = study.frames.runs.drop_duplicates(["run_id", "engine"])  # a run of two origins was made once
    commits = runs["commit"].fillna("unknown").value_counts().sort_index()
    made = ", ".join(f"{commit} ({plural(count, 'run')})" for commit, count in commits.items())
    text = f"Runs by commit: {made}."
    mixed = other_code(runs)
    if stale:
        text += f" {plural(stale, 'run').capitalize()} of this report made by other code than the present."
    elif mixed:
        text += f" {plural(mixed, 'run').capitalize()} made by other code than most of the same cell."
    repeats = int((~runs["primary"]).sum())
    if repeats:
        text += f" {plural(repeats, 'run').capitalize()} left out: the same seed by another engine or trainer."
    return text


def other_code(runs: pd.DataFrame) -> int:
    """Runs whose sources are not those of most runs of their cell; two cells may rightly use different files."""
    versions = runs.groupby(["cell", "sources_hash"]).size()
    return int((versions.groupby("cell").sum() - versions.groupby("cell").max()).sum())
