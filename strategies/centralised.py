"""The upper reference arm: one model trained on everybody's rows, as if they could be pooled.

It takes as many gradient steps as all offices together (or as one of them), so that a gap to a federated strategy is
the price of federating and not of less work. Nothing travels in a federation of one, so its bytes are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strategies.base import Strategy, Workload, check_choice


@dataclass(frozen=True)
class Centralised(Strategy):
    """One client with all rows; FedAvg over one client leaves its model as it is.

    Args:
        steps: `all` takes the steps of all offices together in a round, `one` those of one office (their mean,
        rounded up).
    """

    dp: ClassVar[str] = "refused: a reference arm on pooled rows protects nobody"
    federated: ClassVar[bool] = False
    examples: ClassVar[tuple[str, ...]] = ("centralised", "centralised(steps=one)")

    steps: str = "all"

    def __post_init__(self) -> None:
        check_choice("steps", self.steps, ("all", "one"))

    def regroup(self, workloads: Sequence[Workload]) -> list[Workload]:
        """One workload of all rows, in file order."""
        total = sum(workload.steps for workload in workloads)
        rows = np.sort(np.concatenate([workload.rows for workload in workloads]))
        return [Workload(rows, total if self.steps == "all" else -(-total // len(workloads)))]
