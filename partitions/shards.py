"""A fixed number of classes an office: the hardest label skew of the literature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partitions.base import Floats, Ints, Partition, PartitionError, Pool
from partitions.counts import apportion_classes, fill


@dataclass(frozen=True)
class Shards(Partition):
    """Every office holds exactly `classes` distinct classes, every class lies at one office or more.

    Classes are dealt in a random order, one card an office and round again until all offices and all classes
    have had one; an office then draws its other classes at random. The rows of a class are split evenly among
    its holders, so sizes vary. `classes` equal to the number of classes deals every class evenly to all.
    Where a class has fewer rows than holders, some of these go without.

    Reference: Li et al. (NIID-Bench), ICDE 2022, quantity-based label imbalance (#C = k). The
    sort-and-cut of McMahan et al. 2017, where an office may get a class twice, is another split.
    """

    classes: int
    examples = ({"classes": 2}, {"classes": 3})

    def __post_init__(self) -> None:
        self.require_number("classes", 1, whole=True)

    @property
    def label_skewed(self) -> bool:
        return True

    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
        present = np.flatnonzero(pool.class_counts)
        if self.classes > len(present):
            raise PartitionError(
                f"shards: classes is {self.classes}, found {len(present)} classes with training rows: set "
                f"classes={len(present)} or fewer"
            )
        if clients * self.classes < len(present):
            raise PartitionError(
                f"shards: {clients} offices x {self.classes} classes leave some of {len(present)} classes "
                f"without an office: set classes={-(-len(present) // clients)} or more, or more --clients"
            )
        holders = np.zeros((pool.classes, clients))  # (C, K), 1 where office k holds class c
        deck = rng.permutation(present)
        for card in range(max(clients, len(deck))):
            holders[deck[card % len(deck)], card % clients] = 1
        for k in range(clients):
            others = present[holders[present, k] == 0]
            more = self.classes - (len(present) - len(others))
            holders[rng.choice(others, more, replace=False), k] = 1
        return fill(pool.labels, apportion_classes(pool.class_counts, _evenly(holders), rng), rng)


def _evenly(holders: Floats) -> Floats:
    """Shares (C, K), equal among the holders of a class; a class without holders (it has no rows) is shared by all."""
    shared: Floats = np.where(holders.any(axis=1, keepdims=True), holders, 1.0)
    shared /= shared.sum(axis=1, keepdims=True)
    return shared
