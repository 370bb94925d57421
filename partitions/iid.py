"""IID: the baseline in which no office differs from another but by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partitions.base import Ints, Partition, Pool


@dataclass(frozen=True)
class IID(Partition):
    """All rows shuffled, then cut into equal parts: sizes differ by at most one row, labels by chance alone.

    A person's rows land in several offices. "IID" as in McMahan et al., "Communication-efficient learning of
    deep networks from decentralized data", AISTATS 2017, section 3.
    """

    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
        return [np.sort(part) for part in np.array_split(rng.permutation(len(pool)), clients)]
