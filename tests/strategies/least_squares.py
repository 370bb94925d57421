"""A problem small enough to check by hand: least squares, 3 offices of unequal size, 5 weights, float64.

`federate` runs a strategy of ours on it through the real path (Flower's round loop, our Grid, the strategy's own
hooks) with a local trainer that is written out in NumPy. The references in the tests are loops over offices and
weights and use nothing of this. Under protection, with keys for tests, the offices hold the model in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, MetricRecord

from experiments.engines import flower
from experiments.engines.grid import OrderedGrid, who_is_who
from experiments.engines.inprocess import InProcessGrid
from experiments.spec import RunSpec
from experiments.training.clients import Clients
from strategies import Federation, Job, Update
from strategies.protection.base import Office
from strategies.protection.desk import Desk
from strategies.protection.meter import Meter
from strategies.protection.office import ProtectedOffice
from strategies.wire import pack, unpack
from tests.strategies.vaults import vault_for

SIZES = (11, 6, 4)  # rows of the three offices; with batches of 4 the first two end on a short one
BATCH, EPOCHS, LR, ROUNDS = 4, 2, 0.05, 3

_rng = np.random.default_rng(20)
A = _rng.normal(size=(sum(SIZES), 5))
B = A @ np.arange(1.0, 6.0) + _rng.normal(size=sum(SIZES))
START = _rng.normal(size=5)
ROWS = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])


@dataclass
class LeastSquares:
    """Local training on sum (a.w - b)^2 / (2 batch), rows in file order, by the strategy's hook."""

    strategy: Any
    workloads: Sequence[Any]

    def train(self, jobs: Sequence[Job], clients: Sequence[int]) -> list[Update]:
        updates = []
        for job, client in zip(jobs, clients, strict=True):
            work = self.workloads[client]
            w = job.w.copy()
            memory = {name: np.asarray(value)[None] for name, value in job.memory.items()}
            a, b = self.strategy.drift(job.w, job.memory)
            steps = 0
            while steps < work.steps:
                for start in range(0, len(work.rows), BATCH):
                    if steps == work.steps:
                        break
                    rows = work.rows[start : start + BATCH]
                    g = A[rows].T @ (A[rows] @ w - B[rows]) / len(rows)
                    g = self.strategy.gradient(g[None], w[None], job.w[None], memory)[0]
                    g = g + a * (w - job.w) + (0 if b is None else b)
                    w = w - LR * g
                    steps += 1
            updates.append(Update(job, w, len(work.rows), steps, 0.0))
        return updates


class _Side:
    """What the in-process engine starts, with the trainer above in place of PyTorch's."""

    def __init__(self, strategy: Any, workloads: Sequence[Any]) -> None:
        self.strategy, self.workloads = strategy, workloads

    def start(self) -> Clients:
        clients = Clients.__new__(Clients)
        clients.strategy = self.strategy
        clients.trainer = LeastSquares(self.strategy, self.workloads)  # type: ignore[assignment]
        clients.workloads = self.workloads
        clients.meter = Meter()
        clients.protection = None
        if self.strategy.protected:
            clients.protection = _Protection(self.strategy, self.workloads, clients.meter)  # type: ignore[assignment]
        return clients


def _none(round_: int) -> Any:
    raise AssertionError("these strategies add no noise")


class _Protection:
    """What the clients have besides a trainer where the model lives with them, without rows to score on."""

    def __init__(self, strategy: Any, workloads: Sequence[Any], meter: Meter) -> None:
        offices = len(workloads)
        self.strategy, self.workloads, self.meter = strategy, workloads, meter
        self.desk = Desk(strategy, vault_for(strategy, offices), offices, offices, (len(START),), 1, None)

    def office(self, client: int) -> ProtectedOffice:
        work = self.workloads[client]
        rng = np.random.default_rng
        office = Office(client, len(work.rows), work.steps, lambda: START, rng, _none, self.desk, self.meter)
        return self.strategy.at(office)

    def prepare(self, jobs: Sequence[Job]) -> None:
        pass

    def score(self, w: Any) -> MetricRecord:
        return MetricRecord()


def federate(strategy: str, cohort: int = 3, rounds: int = ROUNDS) -> tuple[np.ndarray, list[list[int]]]:
    """Final weights, and the offices that trained in each round; under protection all of them do."""
    from strategies import Workload

    flower.quiet()
    flower.identify()
    ours = RunSpec.from_options({"strategy": strategy}).strategy
    workloads = ours.regroup([Workload(rows, EPOCHS * -(-len(rows) // BATCH)) for rows in ROWS])
    inner = InProcessGrid(_Side(ours, workloads), len(workloads))  # type: ignore[arg-type]
    cohort = min(cohort, len(workloads))
    nodes = who_is_who(inner, len(workloads))
    grid = OrderedGrid(inner, nodes, seed=1, cohort=cohort, reject_nonfinite=True, protected=ours.protected)
    federation = Federation(len(workloads), cohort, 5, seed=1)
    server = ours.server(grid, federation)
    seen: list[list[int]] = []
    configure = server.configure_train

    def noting(*arguments: Any) -> Any:
        seen.append(list(grid.offices.values()))
        return configure(*arguments)

    server.configure_train = noting  # type: ignore[method-assign]
    if ours.protected:
        server.start(grid, initial_arrays=ArrayRecord(), num_rounds=rounds)
        return max(inner.memories.values(), key=lambda memory: int(memory["round"]))["model"], seen
    result = server.start(grid, initial_arrays=pack(ours.initial(START, federation)), num_rounds=rounds)
    return unpack(result.arrays), seen
