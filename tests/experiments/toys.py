"""Strategies that exist to test the machinery around strategies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from strategies.base import Job, Memory, Named, Received, Round, State, Update
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class Remembering(FedAvg):
    """FedAvg whose offices push each local step by what they remember of the last round: client memory at work."""

    notation = "remembering"
    dp: ClassVar[str] = "after_noise"

    def open(self, received: Received, memory: Memory) -> Job:
        return received.job(last=memory.get("last", np.zeros_like(received["w"])))

    def gradient(self, g: Any, w: Any, job: Job) -> Any:
        return g + 0.1 * job.memory["last"]

    def close(self, update: Update, memory: Memory) -> tuple[Named, Memory]:
        return {"w": update.w}, {"last": update.w - update.job.w}


@dataclass(frozen=True)
class Spoiling(FedAvg):
    """FedAvg in which some offices send spoilt updates from a round on: NaN, or absurdly long."""

    notation = "spoiling"

    offices: tuple[int, ...] = (0,)
    factor: float = float("nan")
    from_round: int = 2

    def open(self, received: Received, memory: Memory) -> Job:
        return received.job(office=received.office)

    def close(self, update: Update, memory: Memory) -> tuple[Named, Memory]:
        bad = update.job.memory["office"] in self.offices and update.job.round >= self.from_round
        spoilt = replace(update, w=(update.w * np.float32(self.factor)).astype(np.float32)) if bad else update
        return {"w": spoilt.w}, memory


@dataclass(frozen=True)
class Failing(FedAvg):
    """FedAvg with an office that raises in round 2."""

    notation = "failing"

    def open(self, received: Received, memory: Memory) -> Job:
        if received.round == 2:
            raise RuntimeError("the disk is full")
        return received.job()


@dataclass(frozen=True)
class Forgetful(FedAvg):
    """FedAvg whose aggregation returns nothing, as Flower's Bulyan does with too few replies."""

    notation = "forgetful"

    def aggregate(self, x: Any, updates: Named, state: State, round: Round) -> tuple[Any, State]:
        return None, state


@dataclass(frozen=True)
class Bending(FedAvg):
    """A server step that is not linear and remembers: each weight's step over the root of its mean square so far."""

    notation = "bending"

    def server_step(self, x: Any, mean: Named, state: State, round: Round) -> tuple[Any, State]:
        d = mean["w"]
        v = 0.5 * state.get("v", np.zeros_like(d)) + 0.5 * d * d
        return x + 0.1 * d / (np.sqrt(v) + 1e-3), {"v": v}
