"""Mean ranks of strategies over cells, with Friedman's test and Nemenyi's critical difference (Demsar 2006).

With N cells, k strategies and mean ranks R_j (1 is the best, ties share the mean of their places):

    chi2_F = 12 N / (k (k + 1)) (sum_j R_j^2 - k (k + 1)^2 / 4)       Friedman 1937; chi-squared, k - 1 df
    F_F    = (N - 1) chi2_F / (N (k - 1) - chi2_F)                    Iman and Davenport 1980; F, k-1 and (k-1)(N-1) df
    CD     = q_alpha sqrt(k (k + 1) / (6 N))                          Nemenyi 1963; q: studentised range over sqrt(2)

The formulas are Demsar's, without the correction for ties that scipy's `friedmanchisquare` makes; without ties both
are the same. All three are *descriptive* for cells of one data set, which share rows, persons and seeds: a bar of CD is
for five or more data sets, or for the seeds of one cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from results.statistics.values import LEVEL, TIE, Floats, frozen, share, table

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Ranks:
    """Ranks of k strategies over N cells; arrays of shape (k,), in the order of the columns.

    Attributes:
        mean: mean ranks, 1 (best everywhere) to k.
        low, high: percentile bootstrap interval of each, cells resampled whole.
        level: its nominal coverage.
        chi2, chi2_p: Friedman's statistic and p.
        f, f_p: Iman and Davenport's, less conservative; f is inf when all cells agree on the order.
        cd_05, cd_10: mean ranks further apart than this differ at 5 % and 10 %.
    """

    mean: Floats
    low: Floats
    high: Floats
    level: float
    chi2: float
    chi2_p: float
    f: float
    f_p: float
    cd_05: float
    cd_10: float


def ranks(scores: ArrayLike, level: float = LEVEL, seed: int = 0) -> Ranks:
    """Rank the strategies within every cell and describe the ranks.

    Args:
        scores: (cells, strategies), higher is better; two or more of each; (seeds, strategies) inside one cell.
        seed: of the resamples.

    Raises:
        ValueError: another shape, a value that is not finite, a level outside 0 to 1.
    """
    values = table(scores, "cells", "strategies", (2, 2))
    n, k = values.shape
    whole = np.rint(values / (np.abs(values).max() * TIE)) if values.any() else values  # rounding breaks no tie
    places = stats.rankdata(-whole, axis=1)
    mean = places.mean(axis=0)
    most = n * (k - 1)  # chi2_F of cells that all agree
    chi2 = min(float(12 * n / (k * (k + 1)) * ((mean**2).sum() - k * (k + 1) ** 2 / 4)), float(most))
    f = (n - 1) * chi2 / (most - chi2) if most - chi2 > TIE * most else float("inf")
    tail = (1 - share(level, "level")) / 2
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES) @ places / n
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return Ranks(
        frozen(mean),
        frozen(low),
        frozen(high),
        level,
        chi2,
        float(stats.chi2.sf(chi2, k - 1)),
        f,
        float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))),
        critical_difference(k, n, 0.05),
        critical_difference(k, n, 0.10),
    )


def critical_difference(strategies: int, cells: int, significance: float) -> float:
    """Nemenyi's critical difference of mean ranks (Demsar 2006, section 3.2.2)."""
    if strategies < 2 or cells < 1:
        raise ValueError(f"expected two or more strategies over one or more cells; found {strategies} over {cells}")
    q = stats.studentized_range.ppf(1 - share(significance, "significance"), strategies, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(strategies * (strategies + 1) / (6 * cells)))
