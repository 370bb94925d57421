"""FedAvg: the weighted mean of the clients' models.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks from Decentralized
Data, AISTATS 2017, Algorithm 1:

    w_{t+1} = sum_k p_k w_k^{t+1},    p_k = n_k / sum_j n_j over the cohort
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_args

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

from strategies.base import Federation, Memory, Strategy, Weighting, check_choice
from strategies.wire import addressed, arrays_of, metrics_of, pack, unpack

if TYPE_CHECKING:
    from flwr.serverapp import Grid

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

    def weight(self, num_examples: int, num_batches: int) -> float:
        return {"uniform": 1.0, "examples": float(num_examples), "batches": float(num_batches)}[self.weighting]

    def server(self, grid: Grid, federation: Federation) -> FedAvgServer:
        return FedAvgServer(weighted_by_key=WEIGHTED_BY[self.weighting], **everyone(federation))


class FedAvgServer(FlowerFedAvg):
    """Flower's FedAvg with its weighted mean written for flat models: the same bits in a third of the time.

    Of the metrics it averages the training loss alone, by the same weights.
    """

    def _construct_messages(self, record: RecordDict, node_ids: list[int], message_type: str) -> list[Message]:
        """Flower's would check the same record for every node."""
        return addressed(record, node_ids, message_type)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """sum_k p_k w_k over the replies, in their order."""
        contents = [message.content for message in replies if not message.has_error()]
        if not contents:
            return None, None
        metrics = [metrics_of(content) for content in contents]
        counts = [cast(float, metric[self.weighted_by_key]) for metric in metrics]
        total = sum(counts)
        shares = [count / total for count in counts]
        losses = [cast(float, metric["train_loss"]) for metric in metrics if "train_loss" in metric]
        from strategies.maths.vectors import weighted_mean  # compiled: what only lists strategies does without

        mean = weighted_mean([unpack(arrays_of(content)) for content in contents], shares)
        if len(losses) < len(metrics):  # under differential privacy no office tells its loss
            return pack(mean), None
        return pack(mean), MetricRecord({"train_loss": sum(p * loss for p, loss in zip(shares, losses, strict=True))})


class SteppingServer(FedAvgServer):
    """FedAvg's mean, and then the strategy's `server_step` on the mean update."""

    def __init__(self, strategy: Strategy, **options: Any) -> None:
        super().__init__(**options)
        self.strategy = strategy
        self.state: Memory = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As Flower's; the model is kept for the step."""
        self.x = unpack(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """x + ..., in the model's precision."""
        mean, metrics = super().aggregate_train(server_round, replies)
        if mean is None:
            return None, None
        x, self.state = self.strategy.server_step(self.x, unpack(mean) - self.x, self.state)
        return pack(x.astype(self.x.dtype, copy=False)), metrics


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
