"""SCAFFOLD: control variates take the offices' own direction out of every local step.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh: SCAFFOLD: Stochastic Controlled Averaging for Federated Learning, ICML
2020, Algorithm 1 with option II; K steps of rate lr, m offices of which S answer:

    y <- y - lr (g(y) - c_i + c)
    c_i' = c_i - c + (x - y) / (K lr),    x' = x + server_lr mean(y - x),    c' = c + |S| / m mean(c_i' - c_i)

Means are uniform, as in the paper. An office whose update was not taken keeps its c_i, or the c of the server would no
longer be the mean of the offices'.
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
    Setting,
    State,
    Strategy,
    Update,
    check_plain_sgd,
    check_range,
)


@dataclass(frozen=True)
class Scaffold(Strategy):
    """In its first round, where all variates are zero, it is FedAvg weighted uniformly.

    Args:
        server_lr: step size of the server, above 0.
    """

    dp: ClassVar[str] = "after_noise"
    examples: ClassVar[tuple[str, ...]] = ("scaffold", "scaffold(server_lr=0.5)")

    server_lr: float = 1.0

    def __post_init__(self) -> None:
        check_range("server_lr", self.server_lr, 1e-9)

    def check(self, setting: Setting) -> None:
        """Refuse momentum and weight decay: the mean gradient of a round could not be read off the change."""
        check_plain_sgd(self, setting)

    def weight(self, num_examples: int, num_steps: int) -> float:
        return 1.0

    def start(self, x: Any, federation: Federation) -> State:
        return {"c": np.zeros_like(x)}

    def broadcast(self, state: State) -> Named:
        return {"c": state["c"]}

    def open(self, received: Received, memory: Memory) -> Job:
        c = received["c"]
        return received.job(c=c, c_i=memory.get("c_i", np.zeros_like(c)))

    def drift(self, job: Job) -> tuple[float, Any]:
        """g - c_i + c."""
        return 0.0, job.memory["c"] - job.memory["c_i"]

    def close(self, update: Update, memory: Memory) -> tuple[Named, Memory]:
        """The model and c_i' - c_i; c_i' is remembered."""
        job = update.job
        c, c_i = job.memory["c"], job.memory["c_i"]
        new = c_i - c + (job.w - update.w) / (max(update.steps, 1) * job.lr)
        return {"w": update.w, "c": (new - c_i).astype(c.dtype)}, {"c_i": new.astype(c.dtype)}

    def server_step(self, x: Any, mean: Named, state: State, round: Round) -> tuple[Any, State]:
        return x + self.server_lr * mean["w"], {"c": state["c"] + round.share * mean["c"]}

    def search_space(self) -> dict[str, Any]:
        """The server's step; what it refuses is not tried."""
        return {"server_lr": (0.1, 3.0), "momentum": [0.0], "weight_decay": [0.0]}
