"""Two strategies over the same seeds. A paired comparison is far sharper than two levels side by side.

    mean difference       the level of d = a - b (`mean_interval`)
    sign flips            p = share of the 2^n signings of d whose |mean| is at least that seen          Fisher 1935
    signed ranks          the same on sign(d) rank(|d|): exact Wilcoxon, ties and zeros included         Wilcoxon 1945
    effect size           J(n - 1) mean(d) / s_d                            Cohen 1988; J: Hedges 1981

A test by permutation needs no normal law. How often one run beats another is in `improvement`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from results.statistics.intervals import Interval, least_detectable, mean_interval
from results.statistics.values import LEVEL, TIE, Floats, finite

EXACT = 16  # up to this many pairs all 2^n signings are taken; beyond, as many at random


@dataclass(frozen=True)
class Paired:
    """A comparison of pairs: a minus b.

    Attributes:
        difference: mean difference with its interval.
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


def paired(a: ArrayLike, b: ArrayLike, level: float = LEVEL, seed: int = 0) -> Paired:
    """Compare a with b, pair by pair (the same seeds in the same order).

    Args:
        seed: of the random signings that stand in for all of them beyond 16 pairs.

    Raises:
        ValueError: unequal lengths, no values, or one that is not finite.
    """
    d = differences(a, b)
    difference = mean_interval(d, level)
    exact = d.size <= EXACT
    if difference.sd is None:
        return Paired(difference, None, None, exact, None, None)
    return Paired(
        difference,
        sign_flip(d, seed),
        sign_flip(_signed_ranks(d), seed),
        exact,
        # Of two pairs the factor is 0, and an effect size of 0 would be read as no effect.
        None if difference.degenerate or d.size < 3 else hedges_factor(d.size - 1) * difference.mean / difference.sd,
        float(least_detectable(difference.sd, d.size)),
    )


def differences(a: ArrayLike, b: ArrayLike) -> Floats:
    """a minus b, (n,); ValueError unless both hold as many values, all finite."""
    first, second = finite(a), finite(b)
    if first.shape != second.shape:
        raise ValueError(f"pairs need as many values of one as of the other; found {first.size} and {second.size}")
    return first - second


def sign_flip(d: ArrayLike, seed: int = 0) -> float:
    """Two-sided p that the differences are symmetric about 0 (Fisher 1935, section 21): exact up to 16 values.

    Beyond, 65,536 random signings, whose own error at p = 0.05 is 0.001. The smallest p is 2 / 2^n: with five pairs
    none is below 0.05.
    """
    values = finite(d)
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


def _signed_ranks(d: Floats) -> Floats:
    """`sign(d) rank(|d|)`, zeros left out: flipping the sign of a d flips that of its rank and changes nothing else."""
    whole = np.rint(d / (np.abs(d).max() * TIE)) if d.any() else d  # 0.3 - 0.1 and 0.2 are a tie
    ranks = np.zeros_like(d)
    held = whole != 0
    ranks[held] = stats.rankdata(np.abs(whole[held])) * np.sign(whole[held])
    return ranks
