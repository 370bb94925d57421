"""The pilot's split over its four offices: equal sizes and, in every office, the labels of the pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from partitions.base import Ints, Partition, Pool


@dataclass(frozen=True)
class Stratified(Partition):
    """Rows sorted by label, ties in file order; place j in that order goes to office j modulo K.

    Sizes, and the rows of each class, differ between offices by at most one. The same for every seed, and a
    person's rows land in several offices: the most even split there is.

    Reference: UNECE HLG-MOS Input Privacy-Preservation project, 2020-2022, code at StatCan/UN-PML-Pilot.
    """

    seeded: ClassVar[bool] = False

    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
        by_label = np.argsort(pool.labels, kind="stable")
        return [np.sort(by_label[k::clients]) for k in range(clients)]
