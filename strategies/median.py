"""Median: coordinate by coordinate the median of the offices' updates.

Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML 2018,
Algorithm 1, option I. Of an even number of offices it is the mean of the two in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from strategies.base import Named, Round, State, Strategy


@dataclass(frozen=True)
class Median(Strategy):
    """Of one or two offices it is FedAvg weighted uniformly, to rounding."""

    dp: ClassVar[str] = "after_noise"
    examples: ClassVar[tuple[str, ...]] = ("median",)

    def weight(self, num_examples: int, num_steps: int) -> float:
        return 1.0

    def aggregate(self, x: Any, updates: Named, state: State, round: Round) -> tuple[Any, State]:
        return x + np.median(updates["w"], axis=0), state
