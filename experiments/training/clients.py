"""The client side of a run: from messages to replies, for one office or for all of a round at once.

`Clients.answer` runs `open` for every message, one `train` for all of them, and `close` for every update. The
in-process engine hands it a whole round; Flower's ClientApp, in a simulation or a deployment, hands it one message at
a time. What an office keeps between rounds is given and taken back through a mapping, so the engine decides where it
lives.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from flwr.app import ConfigRecord, MessageType, RecordDict
from numpy.typing import NDArray

from experiments.engines import flower
from experiments.training.optimizers import CrossEntropy
from strategies import Memory, Workload

if TYPE_CHECKING:
    from flwr.app import Message

    from experiments.spec import RunSpec
    from experiments.training.fused import FusedTrainer
    from experiments.training.local import ReferenceTrainer


TABLE = Path(__file__).parents[2] / "results" / "bench" / "trainers.csv"


class Memories(Protocol):
    """What offices remember between rounds; an engine decides where it is kept (a dict will do)."""

    def get(self, office: int, default: Memory, /) -> Memory: ...

    def __setitem__(self, office: int, memory: Memory, /) -> None: ...


@dataclass(frozen=True)
class ClientSide:
    """Everything the clients of a run need, and nothing of the server's (no test row, no validation row). It pickles.

    Attributes:
        spec: the run's options.
        x, y: training rows as the model takes them, and labels.
        classes: number of labels.
        workloads: what each client trains on.
    """

    spec: RunSpec
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    classes: int
    workloads: tuple[Workload, ...]

    def start(self) -> Clients:
        """Build model and trainer (in the process that will train)."""
        return Clients(self)


@cache
def measured() -> Mapping[str, str]:
    """The fastest trainer of each model, by the committed table that `bench` writes; never timed in a run."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return {row["model"]: row["trainer"] for row in csv.DictReader(file)}


def trainer(side: ClientSide) -> FusedTrainer | ReferenceTrainer:
    """The compiled kernel where it is the fastest and does the loss, else (or if asked for) the plain loop.

    Each imports what it stands on, numba or PyTorch, when it is chosen: a worker of a sweep needs one of them.
    """
    spec, shape = side.spec, side.x.shape[1:]
    widths = spec.model.widths(shape, side.classes)
    fused = spec.trainer == "auto" and measured().get(spec.model.notation) == "fused"
    if fused and widths is not None and isinstance(spec.loss, CrossEntropy):
        from experiments.training.fused import FusedTrainer

        return FusedTrainer(spec, widths, side.x, side.y, side.workloads)
    from experiments.training.local import ReferenceTrainer

    return ReferenceTrainer(spec, spec.model.module(shape, side.classes), side.x, side.y, side.workloads)


class Clients:
    """The clients of a run in one process."""

    def __init__(self, side: ClientSide) -> None:
        self.strategy = side.spec.strategy
        self.trainer = trainer(side)

    def answer(self, messages: Sequence[Message], clients: Sequence[int], memories: Memories) -> list[Message]:
        """Replies to one round's messages, in their order; `clients` says whom each message is for."""
        kinds = {message.metadata.message_type for message in messages}
        if kinds == {MessageType.QUERY}:
            return [introduce(message, client) for message, client in zip(messages, clients, strict=True)]
        if kinds != {MessageType.TRAIN}:
            raise RuntimeError(f"clients answer train or query messages; found {', '.join(sorted(kinds))}")
        jobs = [
            self.strategy.open(message, memories.get(client, {}))
            for message, client in zip(messages, clients, strict=True)
        ]
        replies = []
        for message, client, update in zip(messages, clients, self.trainer.train(jobs, clients), strict=True):
            content, memories[client] = self.strategy.close(update, memories.get(client, {}))
            replies.append(flower.reply(message, content))
        return replies


def introduce(message: Message, client: int) -> Message:
    """Tell the server which office stands behind a node id."""
    return flower.reply(message, RecordDict({"config": ConfigRecord({"office": client})}))
