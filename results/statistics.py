"""Intervals and tests for a handful of seeds. Pure functions of numbers; every one names its source.

With five or ten seeds the t interval is the honest one (bootstraps cover too little there), a paired comparison is
far sharper
than two levels side by side, and a test by permutation needs no normal law:

    level                 mean(x) +- t_{n-1} s / sqrt(n)                    Student 1908
    one new run           mean(x) +- t_{n-1} s sqrt(1 + 1/n)                Hahn and Meeker 1991
    paired difference     the level of d = a - b, and
        sign flips        p = share of the 2^n signings of d whose |mean| is at least that seen          Fisher 1935
        signed ranks      the same on sign(d) rank(|d|): exact Wilcoxon, ties and zeros included         Wilcoxon 1945
        effect size       J(n - 1) mean(d) / s_d                            Cohen 1988; J: Hedges 1981
    least detectable      the mean of d that a two-sided t test at 5 % finds with 80 % power             Cohen 1988

All intervals are two-sided. Values may be in any unit; what comes out is in the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

LEVEL = 0.95
POWER = 0.8
SIGNIFICANCE = 0.05
EXACT = 16  # up to this many pairs all 2^n signings are taken; beyond, as many at random
_TIE = 1e-12  # values closer than this, relative to the largest, are equal: rounding must not break a tie

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its interval.

    Attributes:
        n: number of values.
        mean: their mean.
        sd: their standard deviation (n - 1); None for one value.
        low, high: the interval; None for one value, which has none.
        level: its nominal coverage.
        degenerate: all values are equal, so that a width of zero says nothing of what a further value would be.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    level: float
    degenerate: bool

    @property
    def half(self) -> float | None:
        """Half the width."""
        return None if self.high is None else self.high - self.mean


@dataclass(frozen=True)
class Paired:
    """A comparison of pairs: a minus b.

    Attributes:
        difference: mean difference with its t interval.
        p_sign_flip, p_wilcoxon: two-sided p values; None for one pair.
        exact: whether all signings were taken.
        d_z: standardised mean difference with Hedges' correction; None where it is not defined (one pair, or no
            spread).
        least_detectable: see `least_detectable`; None for one pair.
    """

    difference: Interval
    p_sign_flip: float | None
    p_wilcoxon: float | None
    exact: bool
    d_z: float | None
    least_detectable: float | None


def mean_interval(x: ArrayLike, level: float = LEVEL) -> Interval:
    """t interval of the mean (Student 1908).

    Raises:
        ValueError: no values, or one that is not finite.
    """
    values = _finite(x)
    n, mean, sd = _moments(values)
    half = None if sd is None else float(half_width(sd, n, level))
    return _interval(values, mean, sd, half, level)


def prediction_interval(x: ArrayLike, level: float = LEVEL) -> Interval:
    """Interval for the value of *one new* run: `mean +- t s sqrt(1 + 1/n)` (Hahn and Meeker 1991).

    A published single run belongs in this one; the interval of the mean would be about sqrt(n) times too narrow.

    Raises:
        ValueError: as `mean_interval`.
    """
    values = _finite(x)
    n, mean, sd = _moments(values)
    half = None if sd is None else float(half_width(sd, n, level) * np.sqrt(n + 1))  # t s / sqrt(n) * sqrt(n + 1)
    return _interval(values, mean, sd, half, level)


def half_width(sd: ArrayLike, n: ArrayLike, level: float = LEVEL) -> Floats:
    """Half the width of the t interval, `t_{n-1} sd / sqrt(n)`, element by element; nan where n < 2."""
    sizes = np.asarray(n, dtype=float)
    t = stats.t.ppf((1 + level) / 2, np.where(sizes > 1, sizes - 1, np.nan))
    return np.asarray(t * np.asarray(sd, dtype=float) / np.sqrt(np.maximum(sizes, 1)))


def least_detectable(sd: ArrayLike, n: ArrayLike, power: float = POWER, significance: float = SIGNIFICANCE) -> Floats:
    """Mean paired difference that a two-sided t test over n pairs finds with the given power (Cohen 1988, chapter 2).

    Args:
        sd: standard deviation of the differences.
        n: number of pairs; fewer than two detect nothing (nan).

    Returns:
        in the unit of sd: 1.68, 1.00, 0.66 and 0.53 sd for n = 5, 10, 20 and 30.
    """
    sizes = np.asarray(n, dtype=float)
    different, place = np.unique(sizes, return_inverse=True)
    effects = np.array([_detectable_effect(int(size), power, significance) for size in different])
    return np.asarray(effects[place].reshape(sizes.shape) * np.asarray(sd, dtype=float))


def paired(a: ArrayLike, b: ArrayLike, level: float = LEVEL, seed: int = 0) -> Paired:
    """Compare a with b, pair by pair (the same seeds in the same order).

    Args:
        seed: of the random signings that stand in for all of them beyond 16 pairs.

    Raises:
        ValueError: unequal lengths, no values, or one that is not finite.
    """
    first, second = _finite(a), _finite(b)
    if first.shape != second.shape:
        raise ValueError(f"pairs need as many values of one as of the other; found {first.size} and {second.size}")
    d = first - second
    difference = mean_interval(d, level)
    exact = d.size <= EXACT
    if difference.sd is None:
        return Paired(difference, None, None, exact, None, None)
    return Paired(
        difference,
        sign_flip(d, seed),
        sign_flip(_signed_ranks(d), seed),
        exact,
        None if difference.degenerate else hedges_factor(d.size - 1) * difference.mean / difference.sd,
        float(least_detectable(difference.sd, d.size)),
    )


def sign_flip(d: ArrayLike, seed: int = 0) -> float:
    """Two-sided p that the differences are symmetric about 0 (Fisher 1935, section 21): exact up to 16 values.

    Beyond, 65,536 random signings, whose own error at p = 0.05 is 0.001. The smallest p is 2 / 2^n: with five pairs
    none is below 0.05.
    """
    values = _finite(d)
    if not values.any():
        return 1.0  # every signing gives the same mean

    def statistic(x: Any, axis: int = -1) -> Any:
        return np.mean(x, axis=axis)

    found = stats.permutation_test(
        (values,),
        statistic,
        permutation_type="samples",
        n_resamples=2**EXACT,
        vectorized=True,
        alternative="two-sided",
        batch=4096,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def hedges_factor(df: int) -> float:
    """`J(df) = Gamma(df/2) / (sqrt(df/2) Gamma((df-1)/2))`, which frees d of its bias (Hedges 1981, equation 6e)."""
    if df < 2:
        return 0.0  # its limit
    return float(np.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / np.sqrt(df / 2))


@lru_cache
def _detectable_effect(n: int, power: float, significance: float) -> float:
    """The delta = mean / sd with `P(T > t) = power`, T noncentral t with n - 1 df and noncentrality delta sqrt(n).

    Finding the difference on its wrong side (T < -t, below 1e-4 at this power) does not count as finding it.
    """
    if n < 2:
        return float("nan")
    critical = stats.t.ppf(1 - significance / 2, n - 1)

    def shortfall(delta: float) -> float:
        return float(stats.nct.sf(critical, n - 1, delta * np.sqrt(n)) - power)

    # Power grows with delta, from 0.025 at 0; at 3 t / sqrt(n) it is above 0.9 for every n from 2 up.
    return float(optimize.brentq(shortfall, 1e-6, 3 * critical / np.sqrt(n)))


def _signed_ranks(d: Floats) -> Floats:
    """`sign(d) rank(|d|)`, zeros left out: flipping the sign of a d flips that of its rank and changes nothing else."""
    whole = np.rint(d / (np.abs(d).max() * _TIE)) if d.any() else d  # 0.3 - 0.1 and 0.2 are a tie
    ranks = np.zeros_like(d)
    held = whole != 0
    ranks[held] = stats.rankdata(np.abs(whole[held])) * np.sign(whole[held])
    return ranks


def _finite(x: ArrayLike) -> Floats:
    values = np.asarray(x, dtype=float).ravel()
    if values.size == 0 or not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"expected one or more finite values; found {values.size}, of which {bad} not finite")
    return values


def _moments(values: Floats) -> tuple[int, float, float | None]:
    n = values.size
    if n > 1 and np.ptp(values) <= _TIE * np.abs(values).max():
        return n, float(values[0]), 0.0  # summing equal values may leave an sd just above 0
    return n, float(values.mean()), float(values.std(ddof=1)) if n > 1 else None


def _interval(values: Floats, mean: float, sd: float | None, half: float | None, level: float) -> Interval:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Interval(values.size, mean, sd, low, high, level, degenerate=sd == 0)
