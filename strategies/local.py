"""The lower reference arm: every office trains alone and keeps its own model.

The global state is a matrix with one model a row, (K, d): the server hands office k row k and takes it back. Nothing
is combined and nothing would travel, so its bytes are 0. It answers whether federating pays at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

from strategies.base import Federation, OfficeGrid, Strategy, Vector
from strategies.fedavg import everyone
from strategies.wire import arrays_of, metrics_of, pack, unpack

if TYPE_CHECKING:
    from flwr.serverapp import Grid


@dataclass(frozen=True)
class Local(Strategy):
    """With one office it is the centralised arm."""

    dp: ClassVar[str] = "refused: a reference arm, nothing leaves an office"
    federated: ClassVar[bool] = False
    own_models: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = ("local",)

    def server(self, grid: Grid, federation: Federation) -> LocalServer:
        return LocalServer(**everyone(federation))

    def initial(self, w: Vector, federation: Federation) -> Vector:
        """The same first weights for every office, (K, d)."""
        return np.tile(w, (federation.clients, 1))


class LocalServer(FlowerFedAvg):
    """Row k of the state belongs to office k; an office that does not train in a round keeps its row."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Each office gets its own row."""
        config["server-round"] = server_round
        self.models = unpack(arrays).copy()  # (K, d)
        self.row: dict[int, int] = {}
        messages = []
        for node, office in cast(OfficeGrid, grid).offices.items():
            content = RecordDict({"arrays": pack(self.models[office]), "config": config})
            messages.append(Message(content, dst_node_id=node, message_type=MessageType.TRAIN))
            self.row[node] = office
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord, MetricRecord | None]:
        """Put the trained rows back."""
        replies = list(replies)
        for message in replies:
            self.models[self.row[message.metadata.src_node_id]] = unpack(arrays_of(message.content))
        losses = [float(str(metrics_of(message.content)["train_loss"])) for message in replies]
        return pack(self.models), MetricRecord({"train_loss": sum(losses) / len(losses)})
