"""Folds of persons: all persons are dealt once into `of` folds, alike in every run.

The deal is fixed by a constant of this file and not by the run's seed, so that fold i holds the same persons
whatever varies from run to run, and the folds of one data set together test (or validate on) every person
exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from partitions.base import Ints, PartitionError

DEAL = 30  # seed of the one deal; changing it changes every published fold


@dataclass(frozen=True)
class Fold:
    """Fold `i` (0 to of - 1) of `of` folds. Raises PartitionError for fewer than two folds and an i out of
    range."""

    notation: ClassVar[str] = "fold"

    i: int
    of: int

    def __post_init__(self) -> None:
        for name in ("i", "of"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise PartitionError(f"fold: {name} is {value!r}, expected a whole number, as in fold(0, of=5)")
        if self.of < 2:
            raise PartitionError(f"fold: of is {self.of}, expected at least 2 folds, as in fold(0, of=5)")
        if not 0 <= self.i < self.of:
            raise PartitionError(f"fold: i is {self.i}, expected 0 to {self.of - 1} with of={self.of}")

    def holds_out(self, persons: Ints) -> Ints:
        """The persons of this fold, ascending.

        persons: ids in any order, repeats allowed. Folds differ by at most one person. Raises PartitionError
        where there are more folds than persons.
        """
        everyone = np.unique(persons)
        if len(everyone) < self.of:
            fewer = f"of={len(everyone)} or fewer" if len(everyone) > 1 else "no fold, or data of more persons"
            raise PartitionError(
                f"fold({self.i}, of={self.of}) needs {self.of} persons, found {len(everyone)}: choose {fewer}"
            )
        dealt = np.random.default_rng(DEAL).permutation(everyone)
        return np.sort(dealt[self.i :: self.of])
