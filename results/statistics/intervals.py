"""Intervals of one mean and of one new run, and the smallest mean that would be seen.

With five or ten seeds the t interval is the honest one: bootstraps cover too little there (BCa 84 % at n = 5 and 91 %
at n = 10, t 95 %). From twenty values up BCa follows the skewness of the scores, which t cannot.

    level, n < 20         mean(x) +- t_{n-1} s / sqrt(n)                                    Student 1908
    level, n >= 20        bootstrap, bias-corrected and accelerated                         Efron 1987
    one new run           mean(x) +- t_{n-1} s sqrt(1 + 1/n)                                Hahn and Meeker 1991
    least detectable      the mean of d that a two-sided t test at 5 % finds with 80 % power             Cohen 1988

All intervals are two-sided. Values may be in any unit; what comes out is in the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from results.statistics.values import LEVEL, POWER, SIGNIFICANCE, Floats, all_equal, finite, share

BCA_FROM = 20  # values
_RESAMPLES = 2**15  # leave an error of the ends, by the draw of resamples, under one per cent of the width
_SEED = 19870301  # of the resamples: the same values have the same interval


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
        method: how it was made; `bca` is not symmetric about the mean.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    level: float
    degenerate: bool
    method: Literal["t", "bca"]

    @property
    def half(self) -> float | None:
        """The longer side, so that `mean ± half` never shows less than the interval holds; of `t` both are alike."""
        return None if self.low is None or self.high is None else max(self.high - self.mean, self.mean - self.low)


def mean_interval(x: ArrayLike, level: float = LEVEL) -> Interval:
    """Interval of the mean: t under 20 values (Student 1908), BCa from 20 up (Efron 1987).

    Equal values have a width of zero, marked `degenerate`.

    Raises:
        ValueError: no values, or one that is not finite; a level outside 0 to 1.
    """
    values = finite(x)
    n, mean, sd = _moments(values)
    if n >= BCA_FROM and sd:
        low, high = _bca(values, share(level, "level"))
        return Interval(n, mean, sd, low, high, level, degenerate=False, method="bca")
    return t_interval(values, level)


def t_interval(x: ArrayLike, level: float = LEVEL) -> Interval:
    """`mean +- t_{n-1} s / sqrt(n)` whatever n is (Student 1908).

    Raises:
        ValueError: as `mean_interval`.
    """
    n, mean, sd = _moments(finite(x))
    half = None if sd is None else float(half_width(sd, n, level))
    return _symmetric(n, mean, sd, half, level)


def prediction_interval(x: ArrayLike, level: float = LEVEL) -> Interval:
    """Interval for the value of *one new* run: `mean +- t s sqrt(1 + 1/n)` (Hahn and Meeker 1991).

    A published single run belongs in this one; the interval of the mean would be about sqrt(n) times too narrow.

    Raises:
        ValueError: as `mean_interval`.
    """
    n, mean, sd = _moments(finite(x))
    half = None if sd is None else float(half_width(sd, n, level) * np.sqrt(n + 1))  # t s / sqrt(n) * sqrt(n + 1)
    return _symmetric(n, mean, sd, half, level)


def half_width(sd: ArrayLike, n: ArrayLike, level: float = LEVEL) -> Floats:
    """Half the width of the t interval, `t_{n-1} sd / sqrt(n)`, element by element; nan where n < 2."""
    sizes = np.asarray(n, dtype=float)
    t = stats.t.ppf((1 + share(level, "level")) / 2, np.where(sizes > 1, sizes - 1, np.nan))
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
    effects = np.array([_two_sided_effect(int(size), power, significance) for size in different])
    return np.asarray(effects[place].reshape(sizes.shape) * np.asarray(sd, dtype=float))


def detectable_effect(n: int, power: float, critical: float) -> float:
    """The delta = mean / sd with `P(T > critical) = power`, T noncentral t (n - 1 df, noncentrality delta sqrt(n)).

    Finding the difference on its wrong side (T < -critical, below 1e-4 at 80 %) does not count as finding it.
    """
    if critical > 100:  # far out T is delta sqrt(n) over an independent root of chi2 / df; scipy's nct fails there
        return float(critical * np.sqrt(stats.chi2.ppf(power, n - 1) / (n - 1) / n))

    def shortfall(delta: float) -> float:
        return float(stats.nct.sf(critical, n - 1, delta * np.sqrt(n)) - power)

    enough = 3 * max(critical, 1) / np.sqrt(n)  # of a power of 0.9 or so; power grows with delta
    while shortfall(enough) < 0:
        enough *= 2
    return float(optimize.brentq(shortfall, 0, enough))


@lru_cache
def _two_sided_effect(n: int, power: float, significance: float) -> float:
    if n < 2:
        return float("nan")
    critical = stats.t.ppf(1 - share(significance, "significance") / 2, n - 1)
    return detectable_effect(n, share(power, "power"), float(critical))


def _bca(values: Floats, level: float) -> tuple[float, float]:
    found = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=level,
        n_resamples=_RESAMPLES,
        batch=4096,
        method="BCa",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def _moments(values: Floats) -> tuple[int, float, float | None]:
    n = values.size
    if n > 1 and all_equal(values):
        return n, float(values[0]), 0.0  # summing equal values may leave an sd just above 0
    return n, float(values.mean()), float(values.std(ddof=1)) if n > 1 else None


def _symmetric(n: int, mean: float, sd: float | None, half: float | None, level: float) -> Interval:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Interval(n, mean, sd, low, high, level, degenerate=sd == 0, method="t")
