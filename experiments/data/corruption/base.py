"""What a corruption is: the rows of one office as a faulty office would hold them.

A corruption answers one question, `corrupt(x, y, rows, classes, rng)`: what do these rows look like when they are
spoilt? It acts after the rows are dealt to the offices and before they are standardised. Who holds which rows, and the
label counts in a record, are therefore those of the rows before they were spoilt. Test rows are never spoilt.

To add one, add a file: its name is the corruption's name in grids and on the command line, and the one concrete
`Corruption` in it, a frozen dataclass of its options, is the corruption. The law test then runs on its `examples`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from experiments.config.errors import UserError
from experiments.data.offices import office_index

Features = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Corruption(ABC):
    """See the module.

    Args:
        office: whose rows are spoilt, by its index from 0 or by its name (CBS, ISTAT, ONS, STATCAN); the index is kept.
        validation: spoil the office's validation rows, too.
    """

    examples: ClassVar[tuple[str, ...]]
    """As on the command line, with any options that it needs: what the law test runs on."""

    office: Any
    validation: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "office", office_index(self.office))

    @abstractmethod
    def corrupt(
        self, x: Features, y: Ints, rows: Ints, classes: int, rng: np.random.Generator
    ) -> tuple[Features, Ints]:
        """Copies of x and y in which these rows are spoilt; the arguments stay as they are.

        Args:
            x: (n, ...) features or windows of all rows, before they are standardised.
            y: (n,) class codes from 0 to classes - 1.
            rows: (m,) numbers of the rows to spoil.
        """

    def check(self, clients: int) -> None:
        """Refuse an office that the run does not have.

        Raises:
            UserError: which.
        """
        if self.office >= clients:
            raise UserError(
                f"corrupt names office {self.office}, and the run has {clients} offices: expected 0 to {clients - 1}"
            )

    def applied(
        self,
        x: Features,
        y: Ints,
        train: Sequence[Ints],
        validation: Sequence[Ints],
        classes: int,
        rng: np.random.Generator,
    ) -> tuple[Features, Ints]:
        """Copies of x and y in which the office's training rows, and then its validation rows if asked, are spoilt.

        Args:
            train, validation: row numbers of each office.
        """
        # The training rows come first, so that they do not depend on whether the validation rows follow.
        for dealt in (train, validation) if self.validation else (train,):
            x, y = self.corrupt(x, y, dealt[self.office], classes, rng)
        return x, y
