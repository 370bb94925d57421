"""Label skew by a Dirichlet draw a class; office sizes vary with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partitions.base import SKEWED_ALPHA, Ints, Partition, Pool
from partitions.counts import apportion_classes, fill


@dataclass(frozen=True)
class Dirichlet(Partition):
    """Each class is dealt to the K offices by shares of its own, s_c ~ Dir_K(alpha, ..., alpha).

    alpha in (0, 1e6]: small gives each class to few offices, large gives every office the pooled labels and
    equal sizes. Sizes vary too (with four offices and six classes a mean Gini of 0.29 at alpha 0.1), so an
    effect of alpha is one of labels and sizes together; `dirichlet_even` varies labels alone.

    Reference: Li et al., "Federated learning on non-IID data silos: an experimental study" (NIID-Bench), ICDE
    2022, distribution-based label imbalance. Their code also stops dealing to an office that holds its even
    share and draws again until all hold ten rows; this does neither.
    """

    alpha: float
    examples = ({"alpha": 0.1}, {"alpha": 10.0})

    def __post_init__(self) -> None:
        self.require_number("alpha", 0, 1e6, open_low=True)

    @property
    def label_skewed(self) -> bool:
        return self.alpha <= SKEWED_ALPHA

    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
        shares = rng.dirichlet(np.full(clients, self.alpha), size=pool.classes)  # (C, K)
        return fill(pool.labels, apportion_classes(pool.class_counts, shares, rng), rng)
