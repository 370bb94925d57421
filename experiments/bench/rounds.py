"""A federation whose rounds are taken one at a time, so that those of several can be timed in turn.

Server, offices and messages are those of a run in process; the calls are those of Flower's own loop. Nothing is scored:
a round is training, protection and aggregation, and, under protection, the opening of the sum.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from flwr.app import ConfigRecord, Message

from experiments.config.spec import RunSpec
from experiments.engines import inprocess
from experiments.engines.flower import array_bytes
from experiments.federation.run import RunData, deal_rows, resolved, set_up
from strategies.protection.keys import Keys
from strategies.protection.protocol import KeyHolder


class Federated:
    """A federation that has begun and trains when `round` is called.

    Args:
        spec: of the run; its number of rounds does not matter.
        data: training rows; its test rows are left aside.
        keys: of a protected run.

    Attributes:
        round_seconds: wall and CPU seconds of every round so far, those of worker processes among the latter.
        update_bytes: of each office's update in the last round, as it travelled.
    """

    def __init__(self, spec: RunSpec, data: RunData, keys: Keys | None = None) -> None:
        data = replace(data, test=None)
        spec = resolved(spec, data)
        sides = set_up(spec, data, deal_rows(spec, data), keys=keys)
        inner, self.clients = inprocess.connect(sides.clients, spec.clients)
        self.grid = sides.server.grid(inner)
        self.server = sides.server.strategy()
        self.arrays = sides.server.arrays()
        self.number = 0
        self.round_seconds: list[tuple[float, float]] = []
        self.update_bytes: list[int] = []

    def round(self) -> None:
        """One round, timed."""
        wall, cpu = time.perf_counter(), self._cpu()
        self.add(self.train())
        self.evaluate()
        self.round_seconds.append((time.perf_counter() - wall, self._cpu() - cpu))

    def train(self) -> list[Message]:
        """The offices' part of a round: their replies."""
        self.number += 1
        self.grid.begin(self.number)
        asked = self.server.configure_train(self.number, self.arrays, ConfigRecord(), self.grid)
        replies = self.grid.send_and_receive(asked)
        self.update_bytes = [sum(array_bytes(reply.content).values()) for reply in replies]
        return replies

    def add(self, replies: Sequence[Message]) -> None:
        """The server's part."""
        arrays, _ = self.server.aggregate_train(self.number, replies)
        assert arrays is not None
        self.arrays = arrays

    def evaluate(self) -> None:
        """Where the model lives with the offices, one opens the sum."""
        asked = self.server.configure_evaluate(self.number, self.arrays, ConfigRecord(), self.grid)
        self.server.aggregate_evaluate(self.number, self.grid.send_and_receive(asked))

    def __enter__(self) -> Federated:
        return self

    def __exit__(self, *_: object) -> None:
        """Let worker processes go."""
        if self._holder:
            self._holder.close()

    @property
    def _holder(self) -> KeyHolder | None:
        desk = getattr(self.clients.offices, "desk", None)
        return None if desk is None else desk.holder

    def _cpu(self) -> float:
        return time.process_time() + (self._holder.cpu_seconds() if self._holder else 0.0)
