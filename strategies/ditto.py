"""Ditto: beside the federation's model every office trains one of its own, held near to it.

Li, Hu, Beirami, Smith: Ditto: Fair and Robust Federated Learning Through Personalization, ICML 2021, Algorithm 1; the
model x is FedAvg's, and an office's own v_k takes in every round as many steps on

    min_v  F_k(v) + mu / 2 ||v - x||^2

It starts at the first model that the office received.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from strategies.base import Job, Memory, Named, Received, Update, check_range
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class Ditto(FedAvg):
    """Its common model is FedAvg's, bit for bit; with mu = 0 an office's own is one that trains alone.

    Args:
        mu: strength of the term, at least 0. The paper tries 0.05 to 2.
        weighting: as FedAvg's.
    """

    dp: ClassVar[str] = "refused: the office's own model would be trained on the same rows without noise"
    examples: ClassVar[tuple[str, ...]] = ("ditto(mu=0.1)",)

    mu: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("mu", self.mu, 0.0)

    def open(self, received: Received, memory: Memory) -> Sequence[Job]:
        """FedAvg's job, and that of the office's own model."""
        x = received["w"]
        return [received.job(), received.job(memory.get("v", x), x=x)]

    def drift(self, job: Job) -> tuple[float, Any]:
        """mu (v - x) of the second job, which starts at job.w: mu (v - job.w) + mu (job.w - x)."""
        return (self.mu, self.mu * (job.w - job.memory["x"])) if job.memory else (0.0, None)

    def close(self, update: Update, memory: Memory) -> tuple[Named, Memory]:
        return {"w": update.w}, {"v": update.others[0].w}

    def personal(self, memory: Memory) -> Any:
        return memory.get("v")

    def search_space(self) -> dict[str, Any]:
        """The paper's range."""
        return {"mu": (0.01, 2.0)}
