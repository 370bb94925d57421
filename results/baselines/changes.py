"""A check against the baselines: is every cell what it was, and if not, by how much and is that more than rounding.

    bits     on the same versions, CPU path and data every round must be the same, bit for bit;
    means    elsewhere the differences d_s = score_s - committed score_s are judged. A cell fails when
             |mean d| > max(0.1, t_{1 - 0.005 / m, df} s / sqrt(n))      n seeds, m cells in the check

which is Bonferroni's bound: the false alarms of a whole check are at most 1 %. s and df are the cell's jitter and its
degrees of freedom (`results.baselines.baselines.jitter`). Scores and differences are in points (percent).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from scipy import special

from results.baselines.baselines import Baselines, Cell, CellKey, Outcome, Outcomes
from results.reporting.render import Table
from results.reporting.text import NOTHING

FLOOR = 0.1  # points: less is never called a change
FALSE_ALARMS = 0.01  # of a whole check, at most
CATCH = 0.99  # probability with which a least detectable change is caught
TELLS = 1.0  # points: a cell that cannot tell this guards its bits alone
BITS_ONLY = "guards bits only"


class Verdict(StrEnum):
    """What a check says of a cell."""

    IDENTICAL = "identical"
    WITHIN = "within jitter"  # bits were not compared
    CHANGED = "changed, within jitter"  # bits were, and differ
    REGRESSED = "regressed"
    IMPROVED = "improved"
    NEW = "new"
    GONE = "gone"
    REFUSED = "refused"

    @property
    def fails(self) -> bool:
        """Whether it fails the check. A rise fails too: nobody meant it, or `make baselines` would have recorded it."""
        return self in (Verdict.REGRESSED, Verdict.IMPROVED, Verdict.NEW, Verdict.GONE)


@dataclass(frozen=True)
class Judgement:
    """One row of a check; figures in points, None where there is none.

    Attributes:
        seeds: how many were compared.
        committed, now: mean scores over them.
        difference: mean d.
        limit: what |mean d| may not exceed.
        least: change that is caught with probability `CATCH`.
    """

    key: CellKey
    verdict: Verdict
    seeds: int = 0
    committed: float | None = None
    now: float | None = None
    difference: float | None = None
    limit: float | None = None
    least: float | None = None
    note: str = ""

    @property
    def bits_only(self) -> bool:
        """Whether its means could not tell a change of one point."""
        return self.verdict not in _UNJUDGED and (self.least is None or self.least > TELLS)


_UNJUDGED = (Verdict.NEW, Verdict.GONE, Verdict.REFUSED)


def judge(cell: Cell, runs: Outcomes, *, cells: int, bits: bool) -> Judgement:
    """A cell's runs against its baseline.

    Args:
        runs: by seed; any of the baseline's seeds.
        cells: how many the check judges.
        bits: whether bits compare; else means alone are judged.
    """
    missing = sorted(set(runs) - set(cell.seeds))
    if missing:
        return Judgement(cell.key, Verdict.NEW, note=f"no baseline of seed {', '.join(map(str, missing))}")
    old = {seed: cell.seeds[seed] for seed in runs}
    lost = [f"seed {seed} {runs[seed].problem}" for seed in runs if _loses(old[seed], runs[seed])]
    found = [
        f"seed {seed} has a score now" for seed in runs if old[seed].score is None and runs[seed].score is not None
    ]
    pairs = [(before.score, runs[seed].score) for seed, before in old.items()]
    scored = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
    n = len(scored)
    limit, least = detectable(cell.jitter, cell.df, n, cells)
    committed, now = (float(mean) for mean in scored.mean(axis=0)) if n else (None, None)
    d = float((scored[:, 1] - scored[:, 0]).mean()) if n else None
    if lost or (d is not None and limit is not None and d < -limit):
        verdict = Verdict.REGRESSED
    elif d is not None and limit is not None and d > limit:
        verdict = Verdict.IMPROVED
    elif bits:
        same = all(before.same(runs[seed]) for seed, before in old.items())
        verdict = Verdict.IDENTICAL if same else Verdict.CHANGED
    else:
        verdict = Verdict.WITHIN
    return Judgement(cell.key, verdict, n, committed, now, d, limit, least, "; ".join([*lost, *found]))


def _loses(before: Outcome, after: Outcome) -> bool:
    """Whether a run that had a score has none, or one that diverged does not even run."""
    return after.score is None and (before.score is not None or (after.problem or "").startswith("failed"))


def detectable(sd: float | None, df: float | None, n: int, cells: int) -> tuple[float | None, float | None]:
    """(limit, least detectable change) of a mean over n seeds; None where the jitter is not known.

    A true change of limit + t_{0.99} s / sqrt(n) is caught with probability 0.99.
    """
    if sd is None or df is None or n == 0:
        return None, None
    one = sd / math.sqrt(n)
    limit = max(FLOOR, float(special.stdtrit(df, 1 - FALSE_ALARMS / 2 / cells)) * one)
    return limit, limit + float(special.stdtrit(df, CATCH)) * one


def table(title: str, caption: Sequence[str], rows: Sequence[Judgement]) -> Table:
    """A row a cell, in the order given."""
    raw = pd.DataFrame(
        {
            "partition": [row.key.partition for row in rows],
            "strategy": [row.key.strategy for row in rows],
            "verdict": [str(row.verdict) for row in rows],
            "seeds": [row.seeds for row in rows],
            "committed": [row.committed for row in rows],
            "now": [row.now for row in rows],
            "difference": [row.difference for row in rows],
            "limit": [row.limit for row in rows],
            "least_detectable": [row.least for row in rows],
            "note": [row.note for row in rows],
        }
    )
    shown = pd.DataFrame(
        {
            "Partition": raw["partition"],
            "Strategy": raw["strategy"],
            "Verdict": raw["verdict"],
            "Remark": [", ".join(filter(None, [BITS_ONLY if row.bits_only else "", row.note])) for row in rows],
            "Seeds": [str(row.seeds) if row.seeds else NOTHING for row in rows],
            "Baseline [%]": [_number(row.committed) for row in rows],
            "Now [%]": [_number(row.now) for row in rows],
            "Difference": [_signed(row.difference) for row in rows],
            "Limit": [_number(row.limit) for row in rows],
            "Least detectable": [_number(row.least) for row in rows],
        }
    )
    return Table("check", title, tuple(caption), raw, shown, left=4)


def summary(rows: Sequence[Judgement]) -> str:
    """One line: how many cells came to which verdict."""
    counts = Counter(row.verdict for row in rows)
    parts = [f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]]
    return f"{len(rows)} cell{'' if len(rows) == 1 else 's'}: {'; '.join(parts) or 'none'}"


def changes(old: Baselines | None, new: Baselines) -> list[str]:
    """What differs between two files, a line a cell, for a commit message; empty where nothing does."""
    before = {} if old is None else old.by_key
    lines = []
    for key, cell in new.by_key.items():
        if key not in before:
            lines.append(f"{key.partition}, {key.strategy}: new, {_level(cell)}")
        elif cell.seeds != before[key].seeds:
            lines.append(
                f"{key.partition}, {key.strategy}: {_level(before[key])} -> {_level(cell)}{_step(before[key], cell)}"
            )
    lines += [f"{key.partition}, {key.strategy}: gone" for key in before if key not in new.by_key]
    if old is not None:
        lines += old.elsewhere(new)
    return lines


def _level(cell: Cell) -> str:
    scores = [outcome.score for outcome in cell.seeds.values() if outcome.score is not None]
    return f"{np.mean(scores):.3f}" if scores else "no score"


def _step(before: Cell, after: Cell) -> str:
    """The mean paired difference, with what rounding may make of it."""
    pairs = [(before.seeds[seed].score, after.seeds[seed].score) for seed in after.seeds if seed in before.seeds]
    d = [new - old for old, new in pairs if old is not None and new is not None]
    size = "" if after.jitter is None or not d else f"; jitter {after.jitter / math.sqrt(len(d)):.3f}"
    return f" ({np.mean(d):+.3f} points{size})" if d else ""


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.3f}" if value else "0"
