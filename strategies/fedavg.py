"""FedAvg: the weighted mean of the clients' models.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks from Decentralized
Data, AISTATS 2017, Algorithm 1:

    w_{t+1} = sum_k p_k w_k^{t+1},    p_k = n_k / sum_j n_j over the cohort
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from strategies.base import Strategy, check_choice

Weighting = Literal["uniform", "examples", "batches"]


@dataclass(frozen=True)
class FedAvg(Strategy):
    """FedAvg with one client is local SGD; with one local step over all rows it is a step of centralised gradient
    descent.

    Args:
        weighting: `examples` (the paper's n_k), `uniform` (1 each), or `batches` (the pilot's: minibatches taken).
    """

    dp: ClassVar[str] = "after_noise"
    examples: ClassVar[tuple[str, ...]] = ("fedavg", "fedavg(weighting=uniform)", "fedavg(weighting=batches)")

    weighting: Weighting = field(default="examples", kw_only=True)

    def __post_init__(self) -> None:
        check_choice("weighting", self.weighting, get_args(Weighting))

    def weight(self, num_examples: int, num_steps: int) -> float:
        return {"uniform": 1.0, "examples": float(num_examples), "batches": float(num_steps)}[self.weighting]
