"""How often a run of one strategy beats a run of another: two questions that share a name in print.

    unpaired      P(A > B) + P(A = B) / 2 for any run of A against any run of B: Mann and Whitney's U / (n_a n_b), the
                  mean over cells                                                        Agarwal et al. 2021 (rliable)
    paired        the same for two runs of one seed, which share the deal of classes

They differ widely where seeds vary more than strategies: a strategy that is one point better at every seed has 1 paired
and near 0.5 unpaired. Each has a percentile bootstrap interval whose resamples stay within a cell, as rliable's do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from results.statistics.values import LEVEL, Floats, share

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Improvement:
    """A probability that A beats B, in 0 to 1.

    Attributes:
        probability: half of the ties counted.
        low, high: percentile bootstrap interval.
        level: its nominal coverage, which few runs do not reach.
        degenerate: every resample gives the same value (as when A always wins): a width of zero is no certainty.
    """

    probability: float
    low: float
    high: float
    level: float
    degenerate: bool


def probability_of_improvement(a: ArrayLike, b: ArrayLike, level: float = LEVEL, seed: int = 0) -> Improvement:
    """That a run of A beats a run of B, *unpaired* (Agarwal et al. 2021, section 4.3).

    Args:
        a, b: (n_a,) and (n_b,) runs of one cell, or (n_a, cells) and (n_b, cells).
        seed: of the resamples, which draw the runs of A and of B apart.

    Raises:
        ValueError: no values, one that is not finite, unequal cells, a level outside 0 to 1.
    """
    first, second = _runs(a), _runs(b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"expected the same cells of A and B; found {first.shape[1]} and {second.shape[1]}")
    rng = np.random.default_rng(seed)
    seen, drawn = 0.0, np.zeros(_RESAMPLES)
    cells = first.shape[1]
    for wins in (_wins(first[:, None, i], second[None, :, i]) for i in range(cells)):  # (n_a, n_b)
        seen += float(wins.mean()) / cells
        drawn += np.einsum("ri,ij,rj->r", _weights(rng, len(first)), wins, _weights(rng, len(second)), optimize=True)
    return _improvement(seen, drawn / cells, level)


def paired_probability_of_improvement(a: ArrayLike, b: ArrayLike, level: float = LEVEL, seed: int = 0) -> Improvement:
    """That A beats B at the same seed: the share of seeds won, half of the ties counted.

    Args:
        a, b: (n,) scores of one cell paired by seed, or (n, cells).
        seed: of the resamples, which draw pairs.

    Raises:
        ValueError: unequal shapes, no values, one that is not finite, a level outside 0 to 1.
    """
    first, second = _runs(a), _runs(b)
    if first.shape != second.shape:
        raise ValueError(f"pairs need as many values of one as of the other; found {first.shape} and {second.shape}")
    rng = np.random.default_rng(seed)
    wins = _wins(first, second)  # (n, cells)
    drawn = np.mean([_weights(rng, len(wins)) @ wins[:, i] for i in range(wins.shape[1])], axis=0)
    return _improvement(float(wins.mean()), drawn, level)


def _wins(a: Floats, b: Floats) -> Floats:
    return np.asarray((a > b) + 0.5 * (a == b))


def _weights(rng: np.random.Generator, n: int) -> Floats:
    """A bootstrap resample of n runs is how often each is drawn, over n: (resamples, n)."""
    return np.asarray(rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES) / n)


def _improvement(seen: float, drawn: Floats, level: float) -> Improvement:
    tail = (1 - share(level, "level")) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Improvement(seen, float(low), float(high), level, degenerate=bool(np.ptp(drawn) < 1e-9))


def _runs(x: ArrayLike) -> Floats:
    values = np.asarray(x, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"expected finite (runs,) or (runs, cells); found shape {np.shape(x)}, {bad} not finite")
    return values
