"""One majority class an office, sizes as they come: the pilot's split of 2023."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partitions.base import SKEWED_RATIO, Ints, Partition, Pool
from partitions.counts import apportion_classes, fill, majority_shares


@dataclass(frozen=True)
class Majority(Partition):
    """Office k's majority class is k mod C. Of a class's rows `ratio` go to its majority offices, the rest to
    the others, both evenly; a class that is nobody's majority is dealt evenly to all.

    ratio in [0, 1]: 1 leaves a class to its majority offices alone; with one office for each class, ratio 1/K
    is the even deal. Sizes differ.

    Reference: the UN PML pilot of 2023, StatCan/UN-PML-Pilot, FederatedWeightedAverageImbalance.ipynb,
    `majority`: there for at least as many offices as classes, and with the rest dealt to all offices, a
    class's majority office included.
    """

    ratio: float
    examples = ({"ratio": 0.6}, {"ratio": 1.0})

    def __post_init__(self) -> None:
        self.require_number("ratio", 0, 1)

    @property
    def label_skewed(self) -> bool:
        return self.ratio >= SKEWED_RATIO

    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
        office = np.arange(clients)
        shares = majority_shares([office % pool.classes], pool.classes, self.ratio)
        return fill(pool.labels, apportion_classes(pool.class_counts, shares, rng), rng)
