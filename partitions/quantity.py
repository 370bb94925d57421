"""Size skew by a Dirichlet draw, labels alike at every office."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partitions.base import Ints, Partition, Pool
from partitions.counts import apportion, fill, stratify


@dataclass(frozen=True)
class Quantity(Partition):
    """Office sizes are shares ~ Dir_K(alpha, ..., alpha) of the rows; every office has the pooled labels.

    alpha in (0, 1e6]: small gives one office nearly everything, large equal sizes. Labels are stratified so
    that size alone varies. `sizes` sets the sizes instead of drawing them.

    Reference: Li et al. (NIID-Bench), ICDE 2022, quantity skew (theirs leaves labels to chance).
    """

    alpha: float
    examples = ({"alpha": 0.3}, {"alpha": 10.0})

    def __post_init__(self) -> None:
        self.require_number("alpha", 0, 1e6, open_low=True)

    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
        sizes = apportion(len(pool), rng.dirichlet(np.full(clients, self.alpha)), rng)
        return fill(pool.labels, stratify(pool.class_counts, sizes), rng)
