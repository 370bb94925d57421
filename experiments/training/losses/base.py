"""A loss: cross-entropy of logits that an office may shift and weigh by its own class counts.

    loss(row) = weight_y (log sum_c exp(z_c + shift_c) - z_y - shift_y)

Losses for skewed labels have this form with two vectors an office, found once before it trains: they then cost the
compiled trainer nothing that could be measured. Any other loss overrides `__call__` and trains in the plain loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

NONE = np.empty(0, np.float32)


@dataclass(frozen=True)
class Terms:
    """What a loss makes of an office's class counts.

    Attributes:
        shift: (classes,) added to the logits, -inf for a class that leaves the softmax; empty for none.
        weight: (classes,) of a row by its label; empty for 1 each.
    """

    shift: NDArray[np.float32] = field(default_factory=lambda: NONE)
    weight: NDArray[np.float32] = field(default_factory=lambda: NONE)


NO_TERMS = Terms()


class Loss:
    """Base of every loss's dataclass.

    Class attributes:
        uses_counts: it depends on the class counts of the office, which a gradient then tells of.
        uses_received: `__call__` is given the logits of the model that the job started from, (rows, classes).
    """

    uses_counts: ClassVar[bool] = False
    uses_received: ClassVar[bool] = False

    def terms(self, counts: NDArray[np.int64]) -> Terms:
        """The two vectors of an office with these class counts (classes,)."""
        return NO_TERMS

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, terms: Terms = NO_TERMS, received: Any = None
    ) -> Any:
        """Mean loss over rows, from logits (rows, classes) and labels (rows,); a tensor of no dimension."""
        import torch
        from torch.nn import functional

        if len(terms.shift):
            logits = logits + torch.from_numpy(terms.shift)
        if not len(terms.weight):
            return functional.cross_entropy(logits, labels)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return (torch.from_numpy(terms.weight)[labels] * losses).mean()

    @property
    def compiled(self) -> bool:
        """Whether the two vectors say all of it, so that the compiled trainer does it."""
        return type(self).__call__ is Loss.__call__
