"""Logit adjustment: cross-entropy of logits that are shifted by how frequent the office's classes are.

Menon, Jayasumana, Rawat, Jain, Veit, Kumar: Long-Tail Learning via Logit Adjustment, ICLR 2021, equation (10); pi_c is
the share of class c in the office's own training rows:

    loss = -log softmax(z + tau log pi)_y

A class that the office does not hold leaves its softmax: the office then learns nothing against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from experiments.config.errors import UserError
from experiments.training.losses.base import Loss, Terms


@dataclass(frozen=True)
class LogitAdjusted(Loss):
    """With equal counts of all classes, or tau = 0 and no class absent, it is cross-entropy.

    Args:
        tau: how much of the frequencies is taken out, at least 0; 1 is consistent for the balanced error.
    """

    uses_counts: ClassVar[bool] = True

    tau: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.tau < float("inf"):
            raise UserError(f"tau must be at least 0; found {self.tau!r}")

    def terms(self, counts: NDArray[np.int64]) -> Terms:
        """tau log pi, -inf for an absent class."""
        here = counts > 0
        shift = np.full(len(counts), -np.inf)
        shift[here] = self.tau * np.log(counts[here] / counts.sum())
        return Terms(shift.astype(np.float32))
