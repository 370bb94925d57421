"""FedDyn: every office's loss gets a term that makes the offices' optima meet at the federation's.

Acar, Zhao, Matas, Mattina, Whatmough, Saligrama: Federated Learning Based on Dynamic Regularization, ICLR 2021,
Algorithm 1; m offices of which S answer:

    y_i = argmin F_i(w) - l_i w + alpha / 2 ||w - x||^2,    l_i' = l_i - alpha (y_i - x)
    h' = h - alpha / m sum_S (y_i - x),    x' = mean_S(y_i) - h' / alpha

The argmin is that of the local steps, whose gradient is g - l_i + alpha (w - x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from strategies.base import (
    Federation,
    Job,
    Memory,
    Named,
    Received,
    Round,
    State,
    Strategy,
    Update,
    check_range,
)


@dataclass(frozen=True)
class FedDyn(Strategy):
    """Its first round, of all offices, is twice the step of FedProx with mu = alpha, weighted uniformly.

    Args:
        alpha: strength of the term, above 0. The paper tries 0.001 to 0.1.
    """

    dp: ClassVar[str] = "after_noise"
    examples: ClassVar[tuple[str, ...]] = ("feddyn(alpha=0.1)", "feddyn(alpha=1)")

    alpha: float = 0.1

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 1e-9)

    def weight(self, num_examples: int, num_steps: int) -> float:
        return 1.0

    def start(self, x: Any, federation: Federation) -> State:
        return {"h": np.zeros_like(x)}

    def open(self, received: Received, memory: Memory) -> Job:
        return received.job(l=memory.get("l", np.zeros_like(received["w"])))

    def drift(self, job: Job) -> tuple[float, Any]:
        """alpha (w - x) - l_i."""
        return self.alpha, -job.memory["l"]

    def close(self, update: Update, memory: Memory) -> tuple[Named, Memory]:
        """The model; l_i' is remembered."""
        held = update.job.memory["l"]
        return {"w": update.w}, {"l": (held - self.alpha * (update.w - update.job.w)).astype(held.dtype)}

    def server_step(self, x: Any, mean: Named, state: State, round: Round) -> tuple[Any, State]:
        h = state["h"] - self.alpha * round.share * mean["w"]
        return x + mean["w"] - h / self.alpha, {"h": h}

    def search_space(self) -> dict[str, Any]:
        """The paper's range, and one decade on."""
        return {"alpha": (1e-3, 1.0)}
