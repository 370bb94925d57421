"""Strategies that exist to test the machinery around strategies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict

from strategies import Federation, Job, Memory, Update
from strategies.fedavg import WEIGHTED_BY, FedAvg, SteppingServer, everyone


@dataclass(frozen=True)
class Remembering(FedAvg):
    """FedAvg whose offices push each local step by what they remember of the last round: client memory at work."""

    notation = "remembering"

    def open(self, message: Message, memory: Memory) -> Job:
        job = super().open(message, memory)
        return replace(job, memory={"last": memory.get("last", np.zeros_like(job.w))})

    def gradient(self, g: Any, w: Any, w_t: Any, memory: Mapping[str, Any]) -> Any:
        return g + 0.1 * memory["last"]

    def close(self, update: Update, memory: Memory) -> tuple[RecordDict, Memory]:
        reply, _ = super().close(update, memory)
        return reply, {"last": update.w - update.job.w}


@dataclass(frozen=True)
class Spoiling(FedAvg):
    """FedAvg in which some offices send spoilt updates from a round on: NaN, or absurdly long."""

    notation = "spoiling"

    offices: tuple[int, ...] = (0,)
    factor: float = float("nan")
    from_round: int = 2

    def open(self, message: Message, memory: Memory) -> Job:
        node = np.array([message.metadata.dst_node_id])  # in process node i + 1 is office i
        return replace(super().open(message, memory), memory={"office": node - 1})

    def close(self, update: Update, memory: Memory) -> tuple[RecordDict, Memory]:
        bad = int(update.job.memory["office"][0]) in self.offices and update.job.round >= self.from_round
        spoilt = replace(update, w=(update.w * np.float32(self.factor)).astype(np.float32)) if bad else update
        return super().close(spoilt, memory)[0], memory


@dataclass(frozen=True)
class Failing(FedAvg):
    """FedAvg with an office that raises in round 2."""

    notation = "failing"

    def open(self, message: Message, memory: Memory) -> Job:
        job = super().open(message, memory)
        if job.round == 2:
            raise RuntimeError("the disk is full")
        return job


@dataclass(frozen=True)
class Forgetful(FedAvg):
    """FedAvg whose aggregation returns nothing, as Flower's Bulyan does with too few replies."""

    notation = "forgetful"

    def server(self, grid: Any, federation: Federation) -> Any:
        server = super().server(grid, federation)
        server.aggregate_train = lambda server_round, replies: (None, None)  # type: ignore[method-assign]
        return server


@dataclass(frozen=True)
class Bending(FedAvg):
    """A server step that is not linear and remembers: each weight's step over the root of its mean square so far."""

    notation = "bending"

    def server(self, grid: Any, federation: Federation) -> Any:
        return SteppingServer(self, weighted_by_key=WEIGHTED_BY[self.weighting], **everyone(federation))

    def server_step(self, x: Any, d: Any, state: Memory) -> tuple[Any, Memory]:
        v = 0.5 * state.get("v", np.zeros_like(d)) + 0.5 * d * d
        return x + 0.1 * d / (np.sqrt(v) + 1e-3), {"v": v}
