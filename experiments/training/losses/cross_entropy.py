"""Cross-entropy of softmax(logits), the mean over the rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.training.losses.base import Loss


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """It has no options."""
