"""A problem small enough to check by hand: least squares, 3 offices of unequal size, 5 weights, float64.

`Small` runs a strategy of ours on it through the real path (the round loop, our Grid, the strategy's own hooks) with a
local trainer that is written out in NumPy. The references in the tests are loops over offices and weights and use
nothing of this. Under protection, with keys for tests, the offices hold the model in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, MetricRecord
from numpy.typing import NDArray

from experiments.config.spec import RunSpec
from experiments.engines import flower
from experiments.engines.flower import Adapter, InProcessGrid, arrays_in, arrays_record
from experiments.federation.clients import Clients, PlainOffices
from experiments.federation.rounds import PlainServer, rounds
from experiments.federation.seeds import Purpose
from experiments.federation.transport import OrderedGrid, who_is_who
from experiments.training.optimizers import SGD
from strategies.base import Federation, Job, Memory, Named, Prepared, Received, Setting, Strategy, Update, Workload
from strategies.protection.keys import Keys
from strategies.protection.plan import ProtectedOffices
from tests.strategies.protection.key_files import vault_for

SIZES = (11, 6, 4)  # rows of the three offices; with batches of 4 the first two end on a short one
BATCH, EPOCHS, LR, ROUNDS = 4, 2, 0.05, 3

_rng = np.random.default_rng(20)
A = _rng.normal(size=(sum(SIZES), 5))
B = A @ np.arange(1.0, 6.0) + _rng.normal(size=sum(SIZES))
START = _rng.normal(size=5)
ROWS = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])


def gradient(w: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Of the mean loss, (a.w - b)^2 / 2, over rows."""
    return A[rows].T @ (A[rows] @ w - B[rows]) / len(rows)


def loss(w: NDArray[Any], rows: NDArray[np.int64]) -> float:
    """Mean of (a.w - b)^2 / 2 over rows."""
    return float(((A[rows] @ w - B[rows]) ** 2).mean() / 2)


def batches(rows: NDArray[np.int64], steps: int) -> list[NDArray[np.int64]]:
    """The rows of each step, in file order, epoch after epoch."""
    once = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    return [once[step % len(once)] for step in range(steps)]


@dataclass
class LeastSquares:
    """Local training on the mean of (a.w - b)^2 / 2, rows in file order, by the strategy's hooks."""

    strategy: Any
    workloads: Sequence[Any]

    def train(self, jobs: Sequence[Job], clients: Sequence[int]) -> list[Update]:
        return [self._one(job, self.workloads[client]) for job, client in zip(jobs, clients, strict=True)]

    def _one(self, job: Job, work: Workload) -> Update:
        w, (a, b) = job.w.copy(), self.strategy.drift(job)
        for rows in batches(work.rows, job.steps):
            g = gradient(w, rows)
            if self.strategy.overrides("probe"):
                g = gradient(self.strategy.probe(w, g, job), rows)
            g = self.strategy.gradient(g, w, job)
            w = w - job.lr * (g + a * (w - job.w) + (0 if b is None else b))
        start = loss(job.w, work.rows) if job.wants_loss else None
        return Update(job, w, len(work.rows), job.steps, 0.0, start)


@dataclass
class Side:
    """What the in-process engine starts, with the trainer above in the place of the harness's own."""

    prepared: Prepared
    workloads: Sequence[Workload]
    processes: int | None = 1
    personal: dict[int, Any] = field(default_factory=dict)
    classes: int = 1

    def rows(self, office: int) -> Any:
        raise AssertionError("these strategies sum nothing besides the rounds")

    def start(self) -> Clients:
        clients = Clients.__new__(Clients)
        strategy = self.prepared.strategy
        clients.trainer = LeastSquares(strategy, self.workloads)  # type: ignore[assignment]
        clients.workloads = self.workloads  # type: ignore[assignment]
        offices: Any = ProtectedOffices if strategy.protected else PlainOffices
        clients.offices = offices(self)
        clients.silent = strategy.protected
        return clients

    def received(self, named: Named, number: int, office: int, config: Mapping[str, Any] | None = None) -> Received:
        return Received(named, number, LR, self.workloads[office].steps, 0.0, (len(START),), office, config or {})

    def score(self, w: Any) -> Mapping[str, Any]:
        return {"test_accuracy": 0.0}

    def personal_accuracy(self, strategy: Strategy, office: int, memory: Memory) -> float:
        self.personal[office] = strategy.personal(memory)
        return math.nan


@dataclass
class Small:
    """A federation on the problem.

    Attributes:
        w: the model, after every round in `models` too.
        cohorts: the offices that trained in each round.
    """

    strategy: Strategy
    cohort: int = 3
    reject: bool = True
    dropout: Any = None
    cohorts: list[list[int]] = field(default_factory=list)
    models: list[NDArray[Any]] = field(default_factory=list)

    @classmethod
    def of(cls, text: str, **options: Any) -> Small:
        """From a strategy's notation."""
        return cls(RunSpec.from_options({"strategy": text}).strategy, **options)

    def __post_init__(self) -> None:
        flower.quiet()
        flower.identify()
        ours = self.strategy
        workloads = ours.regroup([Workload(rows, EPOCHS * -(-len(rows) // BATCH)) for rows in ROWS])
        number = len(workloads)
        self.cohort = min(self.cohort, number)
        keys = Keys(vault_for(ours, number)) if ours.protected else None  # type: ignore[arg-type]
        setting = Setting(
            tuple(workloads),
            ROUNDS,
            self.cohort,
            lambda _: LR,
            lambda: (len(START),),
            np.arange(len(A)),
            seed=1,
            stream=lambda purpose, number, client: np.random.SeedSequence([Purpose[purpose], number, client or 0]),
            optimizer=SGD(),
            first=lambda: START,
            keys=keys,
        )
        ours.check(setting)
        prepared = ours.prepare(setting)
        self.side = Side(prepared, workloads)
        self.clients = self.side.start()
        self.inner = InProcessGrid(self.clients.answer, number)
        nodes = who_is_who(self.inner, number)
        self.grid = OrderedGrid(
            self.inner, nodes, 1, self.cohort, self.reject, dropout=self.dropout, protected=ours.protected
        )
        self.federation = Federation(number, self.cohort, 1)
        if prepared.server:
            self.server: Any = prepared.server(self.federation, until=None)
        else:
            self.server = PlainServer(prepared.strategy, self.federation)
        self.flower = prepared.flower(self.federation, self._adapted) if prepared.flower else Adapter(self.server)

    def _adapted(self, strategy: Strategy) -> Adapter:
        return Adapter(PlainServer(strategy, self.federation))

    def play(self, numbers: int = ROUNDS) -> Small:
        """Train for so many rounds."""
        first = ArrayRecord() if self.strategy.protected else self._first()
        rounds(self.flower, self.grid, first, range(1, numbers + 1), self._note, {"aggregate_s": 0.0})
        return self

    def _first(self) -> ArrayRecord:
        return arrays_record({"w": self.strategy.initial(START, self.federation)})

    def _note(self, number: int, arrays: ArrayRecord, trained: MetricRecord | None, heard: MetricRecord | None) -> None:
        self.cohorts.append(list(self.grid.offices.values()))
        self.models.append(self._newest() if self.strategy.protected else next(iter(arrays_in(arrays).values())))

    def _newest(self) -> NDArray[Any]:
        memory = max(self.memories.values(), key=lambda memory: int(memory.get("round", -1)))
        return memory["model"]

    @property
    def w(self) -> NDArray[Any]:
        return self.models[-1]

    @property
    def state(self) -> Mapping[str, Any]:
        """Of the server's; under protection every office keeps it."""
        if not self.strategy.protected:
            state: Mapping[str, Any] = self.server.state
            return state
        newest = max(self.memories.values(), key=lambda memory: int(memory.get("round", -1)))
        return {name.removeprefix("step-"): value for name, value in newest.items() if name.startswith("step-")}

    @property
    def memories(self) -> dict[int, Memory]:
        """Of the offices."""
        return self.inner.memories


def federate(strategy: str, cohort: int = 3, rounds: int = ROUNDS) -> tuple[NDArray[Any], list[list[int]]]:
    """Final weights, and the offices that trained in each round; under protection all of them do."""
    small = Small.of(strategy, cohort=cohort).play(rounds)
    return small.w, small.cohorts
