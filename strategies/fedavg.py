"""FedAvg: the weighted mean of the clients' models.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks from Decentralized
Data, AISTATS 2017, Algorithm 1:

    w_{t+1} = sum_k p_k w_k^{t+1},    p_k = n_k / sum_j n_j over the cohort
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from strategies.base import Federation, Strategy, Weighting, check_choice

if TYPE_CHECKING:
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

# The reply's count that a client's weight is proportional to.
WEIGHTED_BY = {"uniform": "num-clients", "examples": "num-examples", "batches": "num-batches"}


@dataclass(frozen=True)
class FedAvg(Strategy):
    """FedAvg with one client is local SGD; with one local step over all rows it is a step of centralised gradient
    descent.

    Args:
        weighting: `examples` (the paper's n_k), `uniform` (1 each), or `batches` (the pilot's: minibatches taken).
    """

    linear: ClassVar[bool] = True
    dp: ClassVar[str] = "after_noise"
    examples: ClassVar[tuple[str, ...]] = ("fedavg", "fedavg(weighting=uniform)", "fedavg(weighting=batches)")

    weighting: Weighting = field(default="examples", kw_only=True)

    def __post_init__(self) -> None:
        check_choice("weighting", self.weighting, get_args(Weighting))

    def server(self, grid: Grid, federation: Federation) -> FlowerFedAvg:
        """Flower's own FedAvg: its weighted mean is the formula above."""
        from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

        return FlowerFedAvg(weighted_by_key=WEIGHTED_BY[self.weighting], **everyone(federation))


def everyone(federation: Federation) -> dict[str, Any]:
    """Flower's sampling options for *all clients that the Grid shows* (which are the round's cohort) and no client
    evaluation.

    Left at Flower's defaults, round 1 trains two of four clients and a federation of one waits for ever.
    """
    return {
        "fraction_train": 1.0,
        "min_train_nodes": federation.cohort,
        "min_available_nodes": federation.cohort,
        "fraction_evaluate": 0.0,
        "min_evaluate_nodes": 0,
    }
