"""Every person an office of its own: cross-device federation, where a client is a smart device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from partitions.base import Ints, Partition, PartitionError, Pool


@dataclass(frozen=True)
class OnePersonPerClient(Partition):
    """Office k holds all rows of the k-th person in order of id, the same for every seed.

    The number of offices is that of the training persons and no other. Validation rows are the end of each
    recording.

    Reference: the user-level partition of LEAF, Caldas et al., arXiv:1812.01097, 2018.
    """

    own_persons: ClassVar[bool] = True
    one_person: ClassVar[bool] = True
    seeded: ClassVar[bool] = False

    def prescribed_clients(self, persons: int) -> int | None:
        return persons

    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
        persons = np.unique(pool.persons)
        if len(persons) != clients:
            raise PartitionError(
                f"one_person_per_client: {len(persons)} training persons for {clients} offices, expected one "
                f"each: set --clients {len(persons)}, or use by_person"
            )
        return [np.flatnonzero(pool.persons == person) for person in persons]
