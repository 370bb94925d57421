"""Two majority classes an office: the pilot's split of 2023, for any number of classes and offices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partitions.base import SKEWED_RATIO, Ints, Partition, Pool
from partitions.counts import apportion_classes, fill, majority_shares


@dataclass(frozen=True)
class PickTwo(Partition):
    """Office k's majority classes are 2k mod C and 2k+1 mod C. Of a class's rows `ratio` go to its majority
    offices, the rest to the others, both evenly; a class that is nobody's majority is dealt evenly to all.

    ratio in [0, 1]: 1 leaves a class to its majority offices alone. Sizes differ.

    Reference: the UN PML pilot of 2023, StatCan/UN-PML-Pilot, FederatedWeightedAverageImbalance.ipynb,
    `pick_two`. It sampled for one office after another, and failed where a class had too few rows left for
    the next; shares of what there is cannot run out.
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
        shares = majority_shares([2 * office % pool.classes, (2 * office + 1) % pool.classes], pool.classes, self.ratio)
        return fill(pool.labels, apportion_classes(pool.class_counts, shares, rng), rng)
