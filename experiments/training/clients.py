"""The client side of a run: from messages to replies, for one office or for all of a round at once.

`Clients.answer` runs `open` for every message, one `train` for all of them, and `close` for every update. The
in-process engine hands it a whole round; Flower's ClientApp, in a simulation or a deployment, hands it one message at
a time. What an office keeps between rounds is given and taken back through a mapping, so the engine decides where it
lives.

Under protection the model lives here too: the clients make the first weights, open sums with keys that the server has
not, and score the model.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Protocol

import numpy as np
from flwr.app import ConfigRecord, MessageType, MetricRecord, RecordDict
from numpy.typing import NDArray

from experiments.engines import flower
from experiments.privacy import noise_shares
from experiments.seeds import Purpose, sequence, stream
from experiments.training.evaluation import Evaluator, Rows
from experiments.training.optimizers import CrossEntropy
from strategies import Job, Memory, StrategyError, Update, Workload
from strategies.maths.streams import ProtectionError
from strategies.protection.base import Office, Protected
from strategies.protection.meter import Meter
from strategies.protection.vault import IN_CLEAR, Vault
from strategies.wire import config_of

if TYPE_CHECKING:
    from flwr.app import Message

    from experiments.federation import Outcome
    from experiments.spec import RunSpec
    from experiments.training.fused import FusedTrainer
    from experiments.training.local import ReferenceTrainer
    from strategies.base import Client
    from strategies.privacy.noise import NoiseStream
    from strategies.protection.office import ProtectedOffice


SPENT = "privacy-steps"  # what an office remembers of its budget: noised steps taken since round 1
TABLE = Path(__file__).parents[2] / "results" / "bench" / "trainers.csv"


class Memories(Protocol):
    """What offices remember between rounds; an engine decides where it is kept (a dict will do)."""

    def get(self, office: int, default: Memory, /) -> Memory: ...

    def __setitem__(self, office: int, memory: Memory, /) -> None: ...


@dataclass(frozen=True)
class Keys:
    """How the clients of a protected run come by keys, and what they do with them.

    Attributes:
        vault: file of the keys; or the keys themselves, where a sweep's driver keeps them in memory for simulated
            offices; or None where no round is computed in earnest.
        measured: rounds that are computed in earnest; None is all (see `Federation.measured`).
        processes: that may share the work.
        seconds: that making the keys took.
    """

    vault: Path | Vault | None = None
    measured: frozenset[int] | None = None
    processes: int = 1
    seconds: float = 0.0


@dataclass(frozen=True)
class ClientSide:
    """Everything the clients of a run need, and nothing of the server's. It pickles.

    Attributes:
        spec: the run's options.
        x, y: training rows as the model takes them, and labels.
        classes: number of labels.
        workloads: what each client trains on.
        first: makes the model's first weights; only protected clients are asked for them.
        test, validation: rows to score on, where the model lives with the clients; none otherwise.
        keys: of a protected run.
        planned: workloads as privacy accounts for them, before an audit's coins; as `workloads` where there is none.
    """

    spec: RunSpec
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    classes: int
    workloads: tuple[Workload, ...]
    first: Callable[[], NDArray[np.float32]] | None = None
    test: Rows | None = None
    validation: tuple[Rows, ...] = ()
    keys: Keys = Keys()
    planned: tuple[Workload, ...] = ()

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
    """The clients of a run in one process.

    Attributes:
        meter: what protection has cost here.
    """

    def __init__(self, side: ClientSide) -> None:
        self.strategy = side.spec.strategy
        self.trainer, self.workloads = trainer(side), side.workloads
        self.meter = Meter()
        self.protection = Protection(side, self.meter) if isinstance(self.strategy, Protected) else None

    def answer(self, messages: Sequence[Message], clients: Sequence[int], memories: Memories) -> list[Message]:
        """Replies to one round's messages, in their order; `clients` says whom each message is for."""
        kinds = {message.metadata.message_type for message in messages}
        if len(kinds) > 1 or not kinds <= {MessageType.TRAIN, MessageType.QUERY, MessageType.EVALUATE}:
            raise RuntimeError(f"clients answer train, query or evaluate messages; found {', '.join(sorted(kinds))}")
        if kinds == {MessageType.TRAIN}:
            return self._train(messages, clients, memories)
        if "hello" in config_of(messages[0].content):
            return [introduce(message, client) for message, client in zip(messages, clients, strict=True)]
        if self.protection is None:
            raise RuntimeError(f"{type(self.strategy).__name__} has no {kinds.pop()} messages")
        replies = []
        for message, client in zip(messages, clients, strict=True):
            office, memory = self.protection.office(client), memories.get(client, {})
            if kinds == {MessageType.QUERY}:
                content, memories[client] = office.query(message, memory)
            else:
                content, memories[client] = office.evaluate(message, memory, self.protection.score)
            replies.append(flower.reply(message, content))
        return replies

    def _train(self, messages: Sequence[Message], clients: Sequence[int], memories: Memories) -> list[Message]:
        offices: list[Client] = [self.protection.office(k) if self.protection else self.strategy for k in clients]
        jobs = [
            office.open(message, memories.get(client, {}))
            for office, message, client in zip(offices, messages, clients, strict=True)
        ]
        spent = [self._spent(client, memories.get(client, {})) for client in clients]
        replies = []
        for office, message, client, update, steps in zip(
            offices, messages, clients, self._trained(jobs, clients), spent, strict=True
        ):
            content, memory = office.close(update, memories.get(client, {}))
            memories[client] = memory | {SPENT: np.array(steps)} if steps else memory
            replies.append(flower.reply(message, content))
        return replies

    def _spent(self, client: int, memory: Memory) -> int:
        """Noised steps that an office will have taken after this round; 0 where none are private.

        Raises:
            StrategyError: more than its budget pays for. It has then taken none of them.
        """
        work = self.workloads[client]
        if work.private is None:
            return 0
        steps = int(memory.get(SPENT, 0)) + work.steps
        if steps > work.private.limit:
            raise StrategyError(
                f"office {client}: its privacy budget pays for {work.private.limit} steps, and this round would make "
                f"them {steps}. The noise was made for the run's own number of rounds; start a run of more"
            )
        return steps

    def _trained(self, jobs: Sequence[Job], clients: Sequence[int]) -> list[Update]:
        if self.protection is None:
            return self.trainer.train(jobs, clients)
        self.protection.prepare(jobs)
        with self.meter.time("train_s", jobs[0].round):
            return self.trainer.train(jobs, clients)

    def finish(self, outcome: Outcome, memories: Mapping[int, Memory]) -> None:
        """At the end of a run, what the harness wants of protected clients: the costs, and the model."""
        if self.protection is None:
            return
        self.meter.expected.clear()
        outcome.meters.append(self.meter)
        newest = max(memories.values(), key=lambda memory: int(memory.get("round", -1)))
        if "model" in newest:
            outcome.models = newest["model"][None]
        self.protection.close()


class Protection:
    """What clients have besides a trainer where the model lives with them: keys, first weights, rows to score on."""

    def __init__(self, side: ClientSide, meter: Meter) -> None:
        from strategies.protection.desk import Desk

        assert isinstance(side.spec.strategy, Protected)
        self.side, self.meter = side, meter
        self.strategy: Protected = side.spec.strategy
        spec, shape, keys = side.spec, side.x.shape[1:], side.keys
        if keys.vault is None and keys.measured != frozenset():
            raise ProtectionError("a round computed in earnest wants keys, and this run was given none")
        vault = Vault.load(keys.vault) if isinstance(keys.vault, Path) else keys.vault or IN_CLEAR
        layout = spec.model.layout(shape, side.classes)
        with meter.time("keygen_s"):
            clients = len(side.workloads)
            cohort = spec.cohort(clients)
            shares = noise_shares(spec, side.workloads, sum(layout))
            self.desk = Desk(self.strategy, vault, clients, cohort, layout, keys.processes, keys.measured, shares)
        self._evaluator: Evaluator | None = None

    def office(self, client: int) -> ProtectedOffice:
        """One office."""
        work, spec = self.side.workloads[client], self.side.spec
        assert self.side.first is not None
        return self.strategy.at(
            Office(
                client,
                len(work.rows),
                work.steps,
                self.side.first,
                lambda round_: stream(spec.seed, Purpose.ROUNDING, round_, client),
                lambda round_: self._noise(round_, client),
                self.desk,
                self.meter,
            )
        )

    def _noise(self, round_: int, client: int) -> NoiseStream:
        """The stream of an office's share of a round's noise."""
        from strategies.privacy.noise import stream_of  # compiled: what sends no noise does without

        ours = self.strategy.central_dp or self.strategy.local_dp
        assert ours is not None
        return stream_of(sequence(self.side.spec.seed, Purpose.SHARE, round_, client), ours.secure_rng)

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Work ahead while the offices train."""
        self.desk.holder_of(jobs[0].round).prepare(len(jobs))

    def close(self) -> None:
        """Let worker processes go."""
        if self.desk.measured != frozenset():
            wall, cpu = perf_counter(), process_time()
            self.meter.largest |= self.desk.holder.naive()
            self.meter.largest |= {"aside_wall_s": perf_counter() - wall, "aside_cpu_s": process_time() - cpu}
        self.meter.largest["crypto_cpu_s"] = self.desk.holder.cpu_seconds()
        self.desk.holder.close()

    def score(self, w: NDArray[np.float32]) -> MetricRecord:
        """The figures of a model; what the harness measures on offices' validation rows is outside the protocol."""
        if self._evaluator is None:
            side = self.side
            self._evaluator = Evaluator(side.spec.model, side.classes, side.x.shape[1:], side.test, side.validation)
        with self.meter.time("evaluate_s"):
            return self._evaluator(w[None]).metrics()


def introduce(message: Message, client: int) -> Message:
    """Tell the server which office stands behind a node id."""
    return flower.reply(message, RecordDict({"config": ConfigRecord({"office": client})}))
