"""FedNova: offices that take more local steps do not move the model further for it.

Wang, Liu, Liang, Joshi, Poor: Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization,
NeurIPS 2020, equations (6) to (8); an office's change is a sum of gradients with coefficients a_i,

    x' = x + tau_eff sum_i p_i (y_i - x) / |a_i|_1,    tau_eff = sum_i p_i |a_i|_1

    |a_i|_1 = K                                                  plain steps
            = (K - rho (1 - rho^K) / (1 - rho)) / (1 - rho)      momentum rho, reset in every round
            = (1 - (1 - lr mu)^K) / (lr mu)                      with the proximal term; tau_eff is then sum_i p_i K_i,
                                                                 as in the authors' code
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from strategies.base import Change, Job, Memory, Named, Round, Setting, State, StrategyError, Update, check_range
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class FedNova(FedAvg):
    """Where all offices take equally many steps it is FedAvg, and with mu > 0 FedProx scaled by a number.

    Args:
        mu: strength of the proximal term, at least 0.
        weighting: as FedAvg's; the paper's p_i are `examples`.
    """

    dp: ClassVar[str] = "after_noise"
    examples: ClassVar[tuple[str, ...]] = ("fednova", "fednova(mu=0.01)")

    mu: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("mu", self.mu, 0.0)

    def check(self, setting: Setting) -> None:
        """Refuse momentum beside the proximal term, whose coefficients have no closed form."""
        if self.mu and setting.momentum:
            raise StrategyError(
                f"fednova(mu={self.mu:g}) knows the coefficients of steps without momentum; found "
                f"momentum={setting.momentum:g}: set --optimizer sgd, or mu=0"
            )

    def drift(self, job: Job) -> tuple[float, Any]:
        return self.mu, None

    def close(self, update: Update, memory: Memory) -> tuple[Named, Memory]:
        """The change over |a_i|_1, and |a_i|_1."""
        a = self.length(max(update.steps, 1), update.job)
        return {"w": Change((update.w - update.job.w) / update.w.dtype.type(a)), "a": a}, memory

    def length(self, steps: int, job: Job) -> float:
        """|a_i|_1 of so many steps."""
        rho, shrink = job.momentum, job.lr * self.mu
        if shrink:
            return (1 - (1 - shrink) ** steps) / shrink
        return (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho)

    def server_step(self, x: Any, mean: Named, state: State, round: Round) -> tuple[Any, State]:
        tau = float(round.weights @ round.num_steps) if self.mu else mean["a"]
        return x + tau * mean["w"], state

    def search_space(self) -> dict[str, Any]:
        """The proximal term where there is one; momentum stays with FedNova without it."""
        return {"mu": (1e-3, 1.0), "momentum": [0.0]} if self.mu else {}
