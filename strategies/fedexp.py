"""FedExP: the server goes further along the mean update, the more the offices' updates point apart.

Jhunjhunwala, Wang, Joshi: FedExP: Speeding Up Federated Averaging via Extrapolation, ICLR 2023, Algorithm 1; with
d_k = w_k - x, and p_k the weights of the mean,

    d = sum_k p_k d_k,    eta = max(1, sum_k p_k |d_k|^2 / (2 (|d|^2 + eps))),    x' = x + eta d

With p_k = 1 / M this is the paper's sum_k |d_k|^2 / (2 M (|d|^2 + eps)). The paper also scores the mean of the last two
models; here the last one is scored, as for every strategy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from strategies.base import Memory, Named, Round, State, Update, check_range
from strategies.fedavg import FedAvg

LEAST = 1e-12  # of eps: with none, offices that do not move would divide by zero


def _squared(v: Any) -> float:
    """|v|^2 in float64."""
    v = np.asarray(v, np.float64)
    return float(v @ v)


@dataclass(frozen=True)
class FedExP(FedAvg):
    """FedAvg with a server step of 1 or more, from one further number of each office; a large eps is FedAvg.

    Args:
        eps: what is added to |d|^2, so that a small mean update does not make a huge step.
        weighting: `examples`, `uniform` (the paper's 1 / M) or `batches`, in the mean and in the step alike.
    """

    dp: ClassVar[str] = "after_noise"  # nothing of it touches a gradient; |d_k|^2 is of the noised update
    examples: ClassVar[tuple[str, ...]] = ("fedexp", "fedexp(weighting=uniform)", "fedexp(eps=0.1)")

    eps: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("eps", self.eps, LEAST)

    def close(self, update: Update, memory: Memory) -> tuple[Named, Memory]:
        """The model, and |d_k|^2."""
        moved = np.asarray(update.w, np.float64) - update.job.w
        return {"w": update.w, "squared": _squared(moved)}, memory

    def server_step(self, x: Any, mean: Named, state: State, round: Round) -> tuple[Any, State]:
        eta = max(1.0, float(mean["squared"]) / (2 * (_squared(mean["w"]) + self.eps)))
        return x + eta * mean["w"], state

    def search_space(self) -> dict[str, Any]:
        """From the paper's default on, to nearly FedAvg."""
        return {"eps": (1e-3, 1.0)}
