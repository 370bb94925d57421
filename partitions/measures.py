"""How uneven a split is: sizes (Gini) and labels (entropy, Jensen-Shannon distance, information).

Labels are compared with the pooled training labels, in bits throughout:

    Gini                  G  = sum_kl |n_k - n_l| / (2 K sum_k n_k)                in [0, (K-1)/K]
    label entropy         h  = H(p_k) / log2(C)                                    in [0, 1]
    Jensen-Shannon        d  = sqrt(H((p_k + q) / 2) - (H(p_k) + H(q)) / 2)        in [0, 1]
    information           I  = H(q) - sum_k a_k H(p_k)                             in [0, min(log2 C, log2 K)]

p_k (C,) the label shares of office k, q = sum_k a_k p_k the pooled ones, a_k the office's share of all rows.
I is the mutual information of label and office: how many bits knowing the office tells about a row's label.

Reference for d: Endres and Schindelin, "A new metric for probability distributions", IEEE Trans. Inf. Theory
49(7), 2003. It is `scipy.spatial.distance.jensenshannon(p, q, base=2)`, held equal by a test; written out
because importing that costs every worker half a second, and because scipy gives nan where rounding leaves the
divergence below zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partitions.base import Floats, Ints, Pool


@dataclass(frozen=True)
class OfficeUnevenness:
    """One office. entropy in [0, 1] (bits over log2 of the classes); js_distance to the pooled labels, in [0,
    1]."""

    num_examples: int
    class_counts: tuple[int, ...]
    num_persons: int
    entropy: float
    js_distance: float


@dataclass(frozen=True)
class Unevenness:
    """All offices. entropy and js_distance are means over offices weighted by examples; information is in
    bits.

    gini_normalised is K / (K - 1) times gini, so that one office holding everything is 1 for any K; 0 for one
    office.
    """

    offices: tuple[OfficeUnevenness, ...]
    gini: float
    gini_normalised: float
    entropy: float
    js_distance: float
    information: float


def measure(pool: Pool, offices: list[Ints]) -> Unevenness:
    """Measure a split: the rows of the pool each office trains on. An empty office has entropy
    and distance 0."""
    counts = class_table(pool.labels, offices, pool.classes)  # (C, K)
    sizes = counts.sum(axis=0)  # (K,)
    a = sizes / sizes.sum()
    pooled = shares(counts.sum(axis=1))  # (C,)
    bits = np.array([entropy_bits(shares(column)) for column in counts.T])  # (K,)
    entropies = bits / np.log2(pool.classes) if pool.classes > 1 else np.zeros_like(bits)
    distances = np.array([js_distance(shares(column), pooled) if column.any() else 0.0 for column in counts.T])
    return Unevenness(
        offices=tuple(
            OfficeUnevenness(
                num_examples=len(rows),
                class_counts=tuple(counts[:, k].tolist()),
                num_persons=len(np.unique(pool.persons[rows])),
                entropy=float(entropies[k]),
                js_distance=float(distances[k]),
            )
            for k, rows in enumerate(offices)
        ),
        gini=gini(sizes),
        gini_normalised=gini_normalised(sizes),
        entropy=float(a @ entropies),
        js_distance=float(a @ distances),
        information=max(0.0, float(entropy_bits(pooled) - a @ bits)),  # rounding may leave -1e-16
    )


def class_table(labels: Ints, offices: list[Ints], classes: int) -> Ints:
    """Rows of each class at each office, (C, K)."""
    return np.stack([np.bincount(labels[rows], minlength=classes) for rows in offices], axis=1)


def gini(sizes: Ints | Floats) -> float:
    """Gini of non-negative sizes, at least one of them above 0."""
    # over the sorted sizes: G = sum_k (2 k - K - 1) n_(k) / (K sum n), k = 1..K
    rank = 2 * np.arange(1, len(sizes) + 1) - len(sizes) - 1
    return float(rank @ np.sort(sizes) / (len(sizes) * sizes.sum()))


def gini_normalised(sizes: Ints | Floats) -> float:
    """K / (K - 1) G, in [0, 1]; 0 for one office."""
    offices = len(sizes)
    return gini(sizes) * offices / (offices - 1) if offices > 1 else 0.0


def shares(counts: Ints) -> Floats:
    """Counts as shares that sum to 1; zeros where there is nothing to share."""
    return np.divide(counts, max(int(counts.sum()), 1))


def entropy_bits(p: Floats) -> float:
    """H(p) = -sum p log2 p, in bits, with 0 log 0 = 0."""
    p = p[p > 0]
    return max(0.0, float(-(p * np.log2(p)).sum()))  # max: -0.0 for a single class


def js_distance(p: Floats, q: Floats) -> float:
    """Jensen-Shannon distance of two label distributions: root of the base-2 divergence, in [0, 1]."""
    m = (p + q) / 2
    divergence = (_relative_entropy(p, m) + _relative_entropy(q, m)) / 2
    return float(np.sqrt(min(max(divergence, 0.0), 1.0)))


def _relative_entropy(p: Floats, m: Floats) -> float:
    held = p > 0  # m > 0 wherever p is
    return float((p[held] * np.log2(p[held] / m[held])).sum())
