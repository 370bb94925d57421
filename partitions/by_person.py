"""The natural split: a person belongs to one office, as a respondent belongs to a country."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from partitions.base import Ints, Partition, PartitionError, Pool


@dataclass(frozen=True)
class ByPerson(Partition):
    """Persons in a random order, cut into parts that differ by at most one person; all rows go with them.

    Offices differ in how their persons move and how many rows each has. Validation persons are chosen inside
    each office, and no row moves between offices to reach a minimum size.

    Reference: the natural partition of LEAF, Caldas et al., arXiv:1812.01097, 2018, with several persons an
    office.
    """

    own_persons: ClassVar[bool] = True

    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
        persons = np.unique(pool.persons)
        if len(persons) < clients:
            raise PartitionError(
                f"by_person: {len(persons)} training persons for {clients} offices, expected at least one "
                f"each: set --clients {len(persons)} or lower"
            )
        parts = np.array_split(rng.permutation(persons), clients)
        return [np.flatnonzero(np.isin(pool.persons, part)) for part in parts]
