"""One majority class an office, equal sizes: the pilot's split of 2023."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partitions.base import SKEWED_RATIO, Ints, Partition, Pool
from partitions.counts import apportion, apportion_classes, even_sizes, fill, majority_shares, stratify


@dataclass(frozen=True)
class MajorityEven(Partition):
    """As `majority`, then offices above the even size give their surplus to those below it.

    An office gives rows of its other classes, by their shares in it, and of its majority class only when
    these are used up; what all give is dealt to the takers alike in labels. Sizes differ by at most one row.

    ratio in [0, 1], as in `majority`.

    Reference: the UN PML pilot of 2023, StatCan/UN-PML-Pilot, FederatedWeightedAverageImbalance.ipynb,
    `majority_even`, which topped each office's majority rows up with rows of other classes and failed where
    these ran out.
    """

    ratio: float
    examples = ({"ratio": 0.6}, {"ratio": 1.0})

    def __post_init__(self) -> None:
        self.require_number("ratio", 0, 1)

    @property
    def label_skewed(self) -> bool:
        return self.ratio >= SKEWED_RATIO

    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
        majority = np.arange(clients) % pool.classes
        shares = majority_shares([majority], pool.classes, self.ratio)
        counts = apportion_classes(pool.class_counts, shares, rng)
        return fill(pool.labels, _level(counts, majority, rng), rng)


def _level(counts: Ints, majority: Ints, rng: np.random.Generator) -> Ints:
    """The table (C, K) with its surplus rows moved so that all offices have the even size."""
    surplus = counts.sum(axis=0) - even_sizes(int(counts.sum()), counts.shape[1])  # (K,)
    given = np.zeros_like(counts)
    for k in np.flatnonzero(surplus > 0):
        others = counts[:, k].copy()
        others[majority[k]] = 0
        number = min(int(surplus[k]), int(others.sum()))
        if number:
            given[:, k] = apportion(number, others / others.sum(), rng)
        given[majority[k], k] = surplus[k] - number
    return counts - given + stratify(given.sum(axis=1), np.maximum(-surplus, 0))
