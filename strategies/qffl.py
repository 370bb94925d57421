"""q-FedAvg: offices with a large loss count more, so that losses become more alike.

Li, Sanjabi, Beirami, Smith: Fair Resource Allocation in Federated Learning, ICLR 2020, Algorithm 2; with L = 1 / lr and
F_k the mean loss of the received model on the office's rows,

    D_k = L (x - y_k) F_k^q,    h_k = q F_k^(q-1) |L (x - y_k)|^2 + L F_k^q,    x' = x - sum_k D_k / sum_k h_k
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from strategies.base import (
    Change,
    Job,
    Memory,
    Named,
    Received,
    Round,
    Setting,
    State,
    Strategy,
    Update,
    check_plain_sgd,
    check_range,
)

LEAST = 1e-12  # of a loss: an office that has none left would divide by it


@dataclass(frozen=True)
class QFFL(Strategy):
    """q = 0 is FedAvg weighted uniformly.

    Args:
        q: how much a large loss counts, at least 0.
    """

    dp: ClassVar[str] = "refused: offices send how large their loss is, which no noise covers"
    examples: ClassVar[tuple[str, ...]] = ("qffl(q=1)", "qffl(q=0.1)")

    q: float = 1.0

    def __post_init__(self) -> None:
        check_range("q", self.q, 0.0, 100.0)

    def check(self, setting: Setting) -> None:
        """Refuse momentum and weight decay: 1 / lr would not be the constant of the local steps."""
        check_plain_sgd(self, setting)

    def weight(self, num_examples: int, num_steps: int) -> float:
        return 1.0

    def open(self, received: Received, memory: Memory) -> Job:
        return replace(received.job(), wants_loss=True)

    def close(self, update: Update, memory: Memory) -> tuple[Named, Memory]:
        """-D_k as a change, and h_k."""
        job = update.job
        assert update.start_loss is not None
        loss, way = max(update.start_loss, LEAST), (update.w.astype(np.float64) - job.w) / job.lr
        h = self.q * loss ** (self.q - 1) * float(way @ way) + loss**self.q / job.lr
        return {"w": Change((way * loss**self.q).astype(update.w.dtype)), "h": h}, memory

    def server_step(self, x: Any, mean: Named, state: State, round: Round) -> tuple[Any, State]:
        return x + mean["w"] / mean["h"], state

    def search_space(self) -> dict[str, Any]:
        """What the paper tries, from nearly FedAvg on."""
        return {"q": (1e-3, 5.0), "momentum": [0.0], "weight_decay": [0.0]}
