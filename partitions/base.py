"""What a partition is: who holds which training rows.

A partition answers one question, `split(pool, clients, rng)`: which rows go to which office. It sees labels,
persons and recordings, never features, strategies or test rows, so every strategy meets the same split. What
all partitions share (validation persons, minimum sizes, unevenness) is in `deal.py` and `measures.py`.

To add one, add a file: its name is the partition's name in grids and on the command line, the one concrete
`Partition` in it, a frozen dataclass of its options, is the partition. Every law test in `tests/partitions`
then runs on it by itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

SKEWED_ALPHA = 0.3  # of a Dirichlet draw, at most: see `label_skewed`
SKEWED_RATIO = 0.8  # of a class that goes to its majority offices, at least

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class PartitionError(ValueError):
    """A split that cannot be made as asked: what was found, what was expected, what to do."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The training rows as a partition may see them, in file order.

    labels: (n,) class codes 0..classes-1. persons: (n,) person ids. recordings: (n,) ids of the recordings
    the rows were cut from; the rows of one recording stand in order of time. classes: classes of the data
    set, present or not.

    Raises PartitionError for no rows, columns of different lengths and labels that are no class codes.
    """

    labels: Ints
    persons: Ints
    recordings: Ints
    classes: int

    def __post_init__(self) -> None:
        lengths = {len(self.labels), len(self.persons), len(self.recordings)}
        if len(lengths) > 1:
            raise PartitionError(f"labels, persons and recordings differ in length: {sorted(lengths)}")
        if not len(self.labels):
            raise PartitionError("no training rows to split: choose other --test-persons")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.classes:
            raise PartitionError(f"labels run from {low} to {high}, expected codes 0 to {self.classes - 1}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_counts(self) -> Ints:  # (C,)
        """Rows of each class, zero for a class without any."""
        return np.bincount(self.labels, minlength=self.classes)

    def take(self, rows: Ints) -> Pool:
        """The pool of these rows alone."""
        return Pool(self.labels[rows], self.persons[rows], self.recordings[rows], self.classes)


class Partition(ABC):
    """Deals the rows of a pool to offices. Subclasses are frozen dataclasses of their options."""

    own_persons: ClassVar[bool] = False
    """True where a person belongs to one office; validation persons are then chosen inside each office."""

    one_person: ClassVar[bool] = False
    """True where an office is a person."""

    seeded: ClassVar[bool] = True
    """False where the split takes nothing from the generator, so that all seeds give one split."""

    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({},)
    """Options to build it with: what the law tests run on."""

    @abstractmethod
    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
        """Row numbers of the pool, ascending, an office: disjoint, together every row; an office may be
        empty.

        Raises PartitionError where the options do not fit this pool or this number of offices.
        """

    def prescribed_clients(self, persons: int) -> int | None:
        """The one number of offices this partition works with, given the number of persons; None: any
        number."""
        return None

    @property
    def label_skewed(self) -> bool:
        """Whether offices hold so unlike labels that a claim about strategies takes more seeds.

        The line is a Dirichlet draw at 0.3, by the mean Jensen-Shannon distance to the pooled labels: with four
        offices and six classes of equal size, `majority(ratio=0.8)` is as far from them. It is drawn by class and
        options, not by the draw, so that all seeds of a cell are alike.
        """
        return False

    @property
    def name(self) -> str:
        """As in grids and on the command line: the module's name."""
        return type(self).__module__.rpartition(".")[2]

    def require_number(
        self,
        option: str,
        low: float,
        high: float = math.inf,
        *,
        open_low: bool = False,
        whole: bool = False,
    ) -> None:
        """Raise PartitionError unless the option is a number in [low, high], or (low, high] if `open_low`."""
        value = getattr(self, option)
        kinds = int if whole else int | float
        number = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if number and low <= value <= high and not (open_low and value == low):
            return
        expected = f"above {low:g}" if open_low else f"at least {low:g}"
        if high < math.inf:
            expected += f" and at most {high:g}"
        usual = next((e[option] for e in self.examples if option in e), None)
        advice = "" if usual is None else f"; for example {self.name}({option}={usual})"
        raise PartitionError(
            f"{self.name}: {option} is {value!r}, expected a {'whole ' * whole}number {expected}{advice}"
        )
