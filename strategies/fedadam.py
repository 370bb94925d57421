"""FedAdam: Adam at the server, on the mean update in the place of a gradient.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization, ICLR 2021, Algorithm 2;
with d the mean update of a round,

    m' = beta1 m + (1 - beta1) d,    v' = beta2 v + (1 - beta2) d^2,    x' = x + server_lr m' / (sqrt(v') + tau)

m starts at 0 and v at tau^2; there is no bias correction (some published code has one, and starts v at 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from strategies.base import Federation, Named, Round, State, check_range
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class FedAdam(FedAvg):
    """With beta1 = beta2 = 0, server_lr = tau and tau far above every |d| it is FedAvg.

    Args:
        server_lr: step size of the server, above 0.
        beta1, beta2: decay of the two means, in [0, 1).
        tau: adaptivity, above 0; the smaller, the more alike are the steps of all weights.
        weighting: as FedAvg's.
    """

    dp: ClassVar[str] = "after_noise"
    examples: ClassVar[tuple[str, ...]] = ("fedadam(server_lr=0.03)", "fedadam(server_lr=0.1, tau=0.1)")

    server_lr: float = 0.03
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("server_lr", self.server_lr, 1e-9)
        check_range("beta1", self.beta1, 0.0, 0.999999)
        check_range("beta2", self.beta2, 0.0, 0.999999)
        check_range("tau", self.tau, 1e-12)

    def start(self, x: Any, federation: Federation) -> State:
        return {"m": np.zeros_like(x), "v": np.full_like(x, self.tau**2)}

    def server_step(self, x: Any, mean: Named, state: State, round: Round) -> tuple[Any, State]:
        d = mean["w"]
        m = self.beta1 * state["m"] + (1 - self.beta1) * d
        v = self.beta2 * state["v"] + (1 - self.beta2) * d * d
        return x + self.server_lr * m / (np.sqrt(v) + self.tau), {"m": m, "v": v}

    def search_space(self) -> dict[str, Any]:
        """What the paper tunes: the step and the adaptivity."""
        return {"server_lr": (1e-3, 1.0), "tau": (1e-4, 1e-1)}
