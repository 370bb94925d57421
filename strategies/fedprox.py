"""FedProx: FedAvg whose clients are held near the model they received.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks, MLSys 2020, equation (2):

    min_w  h_k(w; w_t) = F_k(w) + mu / 2 ||w - w_t||^2

The term is squared, so its gradient is linear in the distance; a term `mu / 2 ||w - w_t||`, as in some published
code, pulls with constant force instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from strategies.base import Job, check_range
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class FedProx(FedAvg):
    """mu = 0 is FedAvg, bit for bit; so is one local step, where w = w_t.

    Args:
        mu: strength of the proximal term, at least 0. The paper tries 0.001 to 1.
        weighting: as FedAvg's.
    """

    dp: ClassVar[str] = "after_noise"
    examples: ClassVar[tuple[str, ...]] = ("fedprox(mu=0.01)", "fedprox(mu=1, weighting=uniform)")

    mu: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("mu", self.mu, 0.0)

    def drift(self, job: Job) -> tuple[float, Any]:
        """grad h_k = grad F_k + mu (w - w_t)."""
        return self.mu, None

    def search_space(self) -> dict[str, Any]:
        """The paper's range."""
        return {"mu": (1e-3, 1.0)}
