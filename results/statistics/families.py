"""All strategies of one cell at once: which differ from FedAvg, and which may be the best.

Both tests flip the signs of whole seeds, the same for every strategy, so that what strategies share (the deal of
classes, FedAvg's own bad seed) stays shared. With `d` (S seeds, m strategies) and signs `e` in {-1, 1}^S,

    r_j(e) = sum_s e_s d_sj / sqrt(sum_s d_sj^2)          t_j = r_j sqrt(S - 1) / sqrt(S - r_j^2)

r rises with Student's t, its denominator is untouched by signs (so that a family is one matrix product), and it stays
within sqrt(S) where a column without spread would have an infinite t.

    step_down      p_(j) = share of e with max over (j), (j+1), ... of |r(e)| >= |r_(j)|, made non-decreasing;
                   (1), (2), ... in falling order of |r|            Westfall and Young 1993, algorithm 2.8 (max-T form)
    best_set       theta_k - max of the other theta, simultaneously for all k          Hsu 1981; Edwards and Hsu 1983
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from results.statistics.intervals import detectable_effect
from results.statistics.pairs import EXACT
from results.statistics.values import LEVEL, POWER, TIE, Bools, Floats, frozen, share, table

_SLACK = 1e-10  # of r, which is at most sqrt(S): equal sums added in another order are equal


@dataclass(frozen=True)
class StepDown:
    """Two-sided p values of m strategies against FedAvg; arrays of shape (m,), in the order of the columns.

    Attributes:
        p: step-down max-|t|: bounds the chance of any false finding in the cell. At least 2 / 2^S.
        holm: Holm's of `exact`, for comparison: at least 2 m / 2^S.
        exact: every strategy's own sign-flip p, not adjusted; by all signings up to 16 seeds, else by 65,536.
    """

    p: Floats
    holm: Floats
    exact: Floats


@dataclass(frozen=True)
class BestSet:
    """Every strategy against the best of the others; arrays of shape (m,), in the order of the columns.

    Attributes:
        difference: mean of the strategy minus the largest mean of the others; above 0 only for the leader.
        low, high: simultaneous interval for the same of the true means: 0 is always in it, and is an end of it when
            the strategy is surely not, or surely, the best. -inf and inf where the seeds cannot say (under five).
        in_best: the strategy may be the best.
        within_margin: the whole interval lies within `margin` of the best of the others.
        margin: in the unit of the scores.
        level: simultaneous coverage.
        least_detectable: how far behind a strategy must be to drop out of the set four times in five, by the spread of
            its differences to the leader; the median over the strategies but the leader.
    """

    difference: Floats
    low: Floats
    high: Floats
    in_best: Bools
    within_margin: Bools
    margin: float
    level: float
    least_detectable: float

    @property
    def no_difference(self) -> bool:
        """More than half of the strategies may be the best: the cell says nothing but `least_detectable`."""
        return bool(2 * self.in_best.sum() > self.in_best.size)


def step_down(differences: ArrayLike, seed: int = 0) -> StepDown:
    """Which of m strategies differ from FedAvg in one cell (Westfall and Young 1993; Holm 1979).

    Differences that are all 0 have p = 1 and burden no other strategy. Differences that are all equal and not 0 are
    the largest |t| there is and get the smallest p that so many seeds can give, never 0: a spread of zero may be luck.

    Args:
        differences: (S, m), strategy minus FedAvg, paired by seed; S >= 2.
        seed: of the random signings that stand in for all of them beyond 16 seeds.

    Raises:
        ValueError: another shape, or a value that is not finite.
    """
    d = table(differences, "seeds", "strategies", (2, 1))
    drawn = np.abs(_signings(len(d), seed) @ _scaled(d))  # (half of the signings, m): the other half has the same |r|
    seen = drawn[0]
    order = np.argsort(-seen, kind="stable")
    # Against each strategy stands the largest of its own and all that rank behind it.
    largest = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]
    p = np.empty_like(seen)
    p[order] = np.maximum.accumulate(_reached(largest, seen[order]))
    exact = _reached(drawn, seen)
    return StepDown(frozen(p), frozen(_holm(exact)), frozen(exact))


def best_set(scores: ArrayLike, margin: float = 1.0, level: float = LEVEL, seed: int = 0) -> BestSet:
    """Which strategies of one cell may be the best, and how far each is from the best of the others (Hsu 1981).

    For every k the others are tested together against k: k stays in the set unless max_j r_jk, one-sided, is among
    the `1 - level` largest of its sign flips. Only the test of the true best can shut that one out, so the set holds
    it with probability `level` without a correction over k. The same critical value, turned into a t, is c_k in

        high_k = max(0, min_{j != k} (x_k - x_j + c_k s_jk / sqrt(S)))
        low_k  = min(0, min_{j in set, j != k} (x_k - x_j - c_j s_jk / sqrt(S)))

    It is the larger of two: of the differences as they are, which makes the test exact, and of the differences less
    their means, without which a leader far ahead of all (whose differences then flip as one) would get intervals that
    hold in 86 % of sweeps.

    Args:
        scores: (S, m), paired by seed; higher is better; m >= 2, S >= 2. Under five seeds no test can reach 5 %.
        margin: see `BestSet.within_margin`.
        seed: as in `step_down`.

    Raises:
        ValueError: another shape, a value that is not finite, a negative margin, a level outside 0 to 1.
    """
    x = table(scores, "seeds", "strategies", (2, 2))
    if not margin >= 0:
        raise ValueError(f"margin is 0 or more, in the unit of the scores; found {margin}")
    seeds, m = x.shape
    significance = 1 - share(level, "level")
    signs = _signings(seeds, seed)
    spread, critical, in_best = np.zeros((m, m)), np.empty(m), np.empty(m, dtype=bool)
    scale = float(np.abs(x).max())
    same = np.abs(x[:, :, None] - x[:, None, :]).max(axis=0) <= TIE * scale
    for k in range(m):
        d = np.delete(x, k, axis=1) - x[:, [k]]  # how much the others are better, (S, m - 1)
        spread[k, np.arange(m) != k] = d.std(axis=0, ddof=1)
        scaled = _scaled(d, scale)
        centred = _scaled(d - d.mean(axis=0), scale)
        limit = max(_limit(signs @ scaled, significance), _limit(signs @ centred, significance))
        in_best[k] = scaled.sum(axis=0).max() <= limit + _SLACK
        critical[k] = _t(limit, seeds)
    mean = x.mean(axis=0)
    ahead = mean[:, None] - mean[None, :]  # [k, j]: k minus j
    reach = np.full((m, m), np.inf)  # [k, j]: c_k s_jk / sqrt(S)
    np.multiply(critical[:, None], spread / np.sqrt(seeds), out=reach, where=np.isfinite(critical)[:, None])
    reach[same] = 0  # no signing moves them apart
    other = ~np.eye(m, dtype=bool)
    most = np.asarray(np.min(ahead + reach, axis=1, where=other, initial=np.inf), dtype=np.float64)
    high = np.where(in_best, np.maximum(0, most), 0)
    low = np.asarray(np.min(ahead - reach.T, axis=1, where=other & in_best[None, :], initial=0), dtype=np.float64)
    leader = int(mean.argmax())
    effect = detectable_effect(seeds, POWER, float(critical[leader]))
    behind = float(np.median(np.delete(spread[leader], leader)))
    return BestSet(
        difference=frozen(np.asarray(np.min(ahead, axis=1, where=other, initial=np.inf), dtype=np.float64)),
        low=frozen(low),
        high=frozen(high),
        in_best=frozen(in_best),
        within_margin=frozen((-margin <= low) & (high <= margin)),
        margin=margin,
        level=level,
        least_detectable=effect * behind if behind > 0 else 0.0,
    )


@lru_cache(maxsize=4)
def _signings(seeds: int, seed: int) -> Floats:
    """One of each pair of opposite signings, the identity first: (2^(S - 1), S), or (32,768, S) at random."""
    if seeds <= EXACT:
        bits = np.arange(2 ** (seeds - 1))[:, None] >> np.arange(seeds)
        return frozen(
            np.where(bits & 1, -1.0, 1.0)
        )  # the last seed keeps its sign, so that no row is another's negative
    drawn = np.random.default_rng(seed).choice([-1.0, 1.0], size=(2 ** (EXACT - 1), seeds))
    drawn[0] = 1.0
    return frozen(drawn)


def _limit(drawn: Floats, significance: float) -> float:
    """What max_j r_j must exceed: at most a share `significance` of all signings lies above it. drawn: (half, m)."""
    largest = np.concatenate([drawn.max(axis=1), -drawn.min(axis=1)])  # of each signing and of its negative
    allowed = int(np.floor(significance * largest.size + _SLACK))
    return float(np.partition(largest, -1 - allowed)[-1 - allowed]) if allowed else float("inf")


def _scaled(d: Floats, largest: float | None = None) -> Floats:
    """Columns over the root of their sum of squares; those that are zero but for rounding are zero."""
    scale = np.abs(d).max() if largest is None else largest
    held = np.abs(d).max(axis=0) > TIE * scale
    scaled = np.zeros_like(d)
    np.divide(d, np.sqrt((d**2).sum(axis=0)), out=scaled, where=held)
    return scaled


def _reached(drawn: Floats, seen: Floats) -> Floats:
    """Share of the signings (rows) that reach what is seen; the first row is what is seen, so it is above 0."""
    return np.asarray((drawn >= seen - _SLACK).mean(axis=0))


def _holm(p: Floats) -> Floats:
    """Holm 1979: the i-th smallest of m p values times m - i + 1, made non-decreasing, at most 1.

    statsmodels' `multipletests`, which tests hold it against, collects garbage at every call: 57 ms for 13 values.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted


def _t(r: float, seeds: int) -> float:
    """Student's t from r."""
    left = seeds - r**2
    return float(r * np.sqrt((seeds - 1) / left)) if left > _SLACK else float("inf")
