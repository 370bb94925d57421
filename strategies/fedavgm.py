"""FedAvgM: FedAvg with momentum at the server.

Hsu, Qi, Brown: Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification, 2019,
arXiv:1909.06335, section 4.3; with d the mean update of a round,

    m_{t+1} = beta m_t + d,    x_{t+1} = x_t + server_lr m_{t+1},    m_0 = 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from strategies.base import Named, Round, State, check_range
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class FedAvgM(FedAvg):
    """beta = 0 and server_lr = 1 is FedAvg, to rounding.

    Args:
        beta: momentum, in [0, 1).
        server_lr: step size of the server, above 0.
        weighting: as FedAvg's.
    """

    dp: ClassVar[str] = "after_noise"
    examples: ClassVar[tuple[str, ...]] = ("fedavgm(beta=0.9)", "fedavgm(beta=0.5, server_lr=0.7)")

    beta: float = 0.9
    server_lr: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("beta", self.beta, 0.0, 0.999999)
        check_range("server_lr", self.server_lr, 1e-9)

    def server_step(self, x: Any, mean: Named, state: State, round: Round) -> tuple[Any, State]:
        d = mean["w"]
        m = self.beta * state["m"] + d if "m" in state else d
        return x + self.server_lr * m, {"m": m}

    def search_space(self) -> dict[str, Any]:
        """Momentum as the paper's grid has it."""
        return {"beta": [0.0, 0.7, 0.9, 0.97], "server_lr": (0.1, 3.0)}
