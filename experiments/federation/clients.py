"""The client side of a run: from messages to replies, for one office or for all of a round at once.

`Clients.answer` opens every message, trains all jobs in one call, and closes every update. The in-process engine hands
it a whole round; Flower's ClientApp, in a simulation or a deployment, hands it one message at a time. What an office
keeps between rounds is given and taken back through a mapping, so the engine decides where it lives.

What `close` remembers waits until the server says, with its next message, that it took the update. An office whose
update was lost or left out then still has the memory that it had before.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from flwr.app import MessageType
from numpy.typing import NDArray

from experiments.engines.flower import config_of, content_of, counts_record, letter_of, reply
from experiments.training.evaluation import Evaluator, Rows
from experiments.training.schedule import learning_rate
from strategies.base import (
    Change,
    Job,
    Letter,
    Memory,
    Named,
    Prepared,
    Received,
    Strategy,
    StrategyError,
    Update,
    Workload,
)

if TYPE_CHECKING:
    from flwr.app import Message

    from experiments.config.spec import RunSpec
    from experiments.federation.rounds import Outcome
    from experiments.training.kernels.fused import FusedTrainer
    from experiments.training.reference import ReferenceTrainer


SPENT = "privacy-steps"  # what an office remembers of its budget: noised steps taken since round 1
WAITING, WAITING_ROUND = "waiting-", "waiting-round"  # of memory that the server has not said it took
TABLE = Path(__file__).parents[2] / "results" / "bench" / "trainers.csv"


class Memories(Protocol):
    """What offices remember between rounds; an engine decides where it is kept (a dict will do)."""

    def get(self, office: int, default: Memory, /) -> Memory: ...

    def __setitem__(self, office: int, memory: Memory, /) -> None: ...


@dataclass(frozen=True)
class ClientSide:
    """Everything the clients of a run need, and nothing of the server's. It pickles.

    Attributes:
        spec: the run's options.
        prepared: the strategy with its plan, without the plan's reports.
        x, y: training rows as the model takes them, and labels.
        classes: number of labels.
        workloads: what each client trains on.
        test: rows to score on where the model lives with the clients; None otherwise.
        validation: rows of each client to score on.
        processes: that may share what clients do beside training.
    """

    spec: RunSpec
    prepared: Prepared
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    classes: int
    workloads: tuple[Workload, ...]
    test: Rows | None = None
    validation: tuple[Rows, ...] = ()
    processes: int | None = None

    def start(self) -> Clients:
        """Build model and trainer (in the process that will train)."""
        return Clients(self)

    def received(self, named: Named, number: int, office: int, config: Mapping[str, Any] | None = None) -> Received:
        """What an office starts round `number` with, as the strategy is given it."""
        return Received(
            named,
            number,
            learning_rate(self.spec, number),
            self.workloads[office].steps,
            self.spec.optimizer.momentum,
            self._layout,
            office,
            config or {},
        )

    def rows(self, office: int) -> OwnRows:
        """The rows that an office trains on, as `Strategy.after` is given them."""
        return OwnRows(self, office)

    @cached_property
    def _layout(self) -> tuple[int, ...]:
        layout: tuple[int, ...] = self.spec.model.layout(self.x.shape[1:], self.classes)
        return layout

    @cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self.spec.model, self.classes, self.x.shape[1:], self.test, self.validation)

    def score(self, w: NDArray[np.float32]) -> Mapping[str, Any]:
        """The figures of a model (d,); what the harness measures on offices' validation rows is outside a protocol."""
        return self._evaluator(w[None]).metrics()

    def personal_accuracy(self, strategy: Strategy, office: int, memory: Memory) -> float:
        """Of the office's own model on its own validation rows, in [0, 1]; nan without model or rows."""
        w, rows = strategy.personal(memory), self.validation[office] if self.validation else None
        if w is None or rows is None or not len(rows):
            return math.nan
        evaluator = Evaluator(self.spec.model, self.classes, self.x.shape[1:], None, (rows,))
        return evaluator(np.asarray(w, np.float32)[None]).office_accuracy[0] or 0.0


class OwnRows:
    """An office's training rows.

    Attributes:
        x, y: rows (n, ...) as the model takes them, and labels (n,).
    """

    def __init__(self, side: ClientSide, office: int) -> None:
        self.side, chosen = side, side.workloads[office].rows
        self.x, self.y = side.x[chosen], side.y[chosen]

    def gradient(self, w: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the mean loss over the rows, (d,), at a model w (d,)."""
        from experiments.training.reference import ReferenceTrainer

        side, whole = self.side, Workload(np.arange(len(self.y)), 1)
        module = side.spec.model.module(side.x.shape[1:], side.classes)
        strategy = side.prepared.strategy
        return ReferenceTrainer(side.spec, strategy, module, self.x, self.y, [whole], side.classes).gradient(w, 0)


@cache
def measured() -> Mapping[str, str]:
    """The fastest trainer of each model, by the committed table that `bench` writes; never timed in a run."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return {row["model"]: row["trainer"] for row in csv.DictReader(file)}


def trainer(side: ClientSide) -> FusedTrainer | ReferenceTrainer:
    """The compiled kernel where it is the fastest and does the loss, else (or if asked for) the plain loop.

    Each imports what it stands on, numba or PyTorch, when it is chosen: a worker of a sweep needs one of them.
    """
    spec, shape, strategy = side.spec, side.x.shape[1:], side.prepared.strategy
    widths = spec.model.widths(shape, side.classes)
    fused = spec.trainer == "auto" and measured().get(spec.model.notation) == "fused"
    if fused and widths is not None and spec.loss.compiled:
        from experiments.training.kernels.fused import FusedTrainer

        return FusedTrainer(spec, strategy, widths, side.x, side.y, side.workloads)
    from experiments.training.reference import ReferenceTrainer

    return ReferenceTrainer(
        spec, strategy, spec.model.module(shape, side.classes), side.x, side.y, side.workloads, side.classes
    )


class Offices(Protocol):
    """What a strategy makes of letters at the offices of one process."""

    def open(self, letter: Letter, office: int, memory: Memory) -> tuple[Sequence[Job], Memory]:
        """The jobs of a round, and the memory after what the letter says of the last."""

    def close(self, update: Update, office: int, memory: Memory) -> tuple[Letter, Memory]:
        """What is sent for an update, and the memory."""

    def query(self, letter: Letter, office: int, memory: Memory) -> tuple[Letter, Memory]:
        """The answer to a phase of the strategy's own."""

    def evaluate(self, letter: Letter, office: int, memory: Memory) -> tuple[Letter, Memory]:
        """Figures of the model that the office has."""

    def training(self, round_: int, messages: int) -> AbstractContextManager[None]:
        """A context around the training for so many messages of a round."""

    def finish(self, outcome: Outcome, memories: Mapping[int, Memory]) -> None:
        """At the end of a run, what the harness wants to know besides."""


class PlainOffices:
    """The offices of a federation in the open.

    Args:
        side: of the run.
    """

    def __init__(self, side: ClientSide) -> None:
        self.side, self.strategy = side, side.prepared.strategy
        self.silent = self.strategy.protects == "client"  # then counts and losses are private, too

    def open(self, letter: Letter, office: int, memory: Memory) -> tuple[Sequence[Job], Memory]:
        memory = settled(memory, letter.config.get("taken"))
        return jobs_of(self.strategy, self.received(letter, office), memory), memory

    def received(self, letter: Letter, office: int) -> Received:
        """A letter as the strategy is given it."""
        others = {name: value for name, value in letter.config.items() if name not in ("server-round", "taken")}
        named = letter.arrays
        if "w" not in named:  # one of Flower's own servers, which may name the array as it likes
            named = {**named, "w": next(iter(named.values()))}
        return self.side.received(named, int(letter.config["server-round"]), office, others)

    def close(self, update: Update, office: int, memory: Memory) -> tuple[Letter, Memory]:
        sent, after = self.strategy.close(update, memory)
        letter = Letter(arrays=arrays_of(sent))
        if update.train_loss is not None and not self.silent:
            letter.metrics["train_loss"] = update.train_loss
        return letter, memory if after is memory else {**memory, **waiting(after, update.job.round)}

    def query(self, letter: Letter, office: int, memory: Memory) -> tuple[Letter, Memory]:
        """What the office sends once, before the first round or after the last."""
        rows = self.side.rows(office)
        phase = letter.config.get("phase")
        if phase == "before":
            sent = self.strategy.before(np.bincount(rows.y, minlength=self.side.classes))
        elif phase == "after":
            sent = self.strategy.after(letter.arrays["w"], rows)
        else:
            raise RuntimeError(f"{type(self.strategy).__name__} has no phase {phase!r}")
        return Letter(arrays={name: np.asarray(value) for name, value in sent.items()}), memory

    def evaluate(self, letter: Letter, office: int, memory: Memory) -> tuple[Letter, Memory]:
        """The accuracy of the office's own model on its own validation rows."""
        memory = settled(memory, letter.config.get("taken"))
        return Letter(metrics={"personal-accuracy": self.side.personal_accuracy(self.strategy, office, memory)}), memory

    def training(self, round_: int, messages: int) -> AbstractContextManager[None]:
        return nullcontext()

    def finish(self, outcome: Outcome, memories: Mapping[int, Memory]) -> None:
        pass


def jobs_of(strategy: Strategy, received: Received, memory: Memory) -> Sequence[Job]:
    """What an office trains, as a list."""
    jobs = strategy.open(received, {name: value for name, value in memory.items() if name != SPENT})
    return [jobs] if isinstance(jobs, Job) else list(jobs)


def arrays_of(sent: Named) -> dict[str, Any]:
    """What `close` sends as arrays by name: a change of the model is called `update`, a model `w`, and comes first."""
    w = sent["w"]
    first = {"update": w.vector} if isinstance(w, Change) else {"w": w}
    return first | {name: np.asarray(value) for name, value in sent.items() if name != "w"}


def waiting(memory: Memory, number: int) -> Memory:
    """Memory that counts once the server has taken the update of this round."""
    return {WAITING_ROUND: np.array(number), **{WAITING + name: np.asarray(value) for name, value in memory.items()}}


def settled(memory: Memory, taken: int | None) -> Memory:
    """The memory after what the server says of the last update: what waited counts if that was taken, else it is gone.

    Args:
        taken: the last round in which the office's update was taken; None where the server does not say.
    """
    if WAITING_ROUND not in memory:
        return memory
    number = int(memory[WAITING_ROUND])
    if taken is None or taken == number:
        kept = {
            name.removeprefix(WAITING): value
            for name, value in memory.items()
            if name.startswith(WAITING) and name != WAITING_ROUND
        }
        return kept | {name: memory[name] for name in (SPENT,) if name in memory}
    return {name: value for name, value in memory.items() if not name.startswith(WAITING)}


class Clients:
    """The clients of a run in one process."""

    def __init__(self, side: ClientSide) -> None:
        self.trainer, self.workloads = trainer(side), side.workloads
        make = side.prepared.offices
        self.offices: Offices = PlainOffices(side) if make is None else make(side)
        self.silent = side.prepared.strategy.protected or side.prepared.strategy.protects == "client"

    def answer(self, messages: Sequence[Message], clients: Sequence[int], memories: Memories) -> list[Message]:
        """Replies to one round's messages, in their order; `clients` says whom each message is for."""
        kinds = {message.metadata.message_type for message in messages}
        if len(kinds) > 1 or not kinds <= {MessageType.TRAIN, MessageType.QUERY, MessageType.EVALUATE}:
            raise RuntimeError(f"clients answer train, query or evaluate messages; found {', '.join(sorted(kinds))}")
        if kinds == {MessageType.TRAIN}:
            return self._train(messages, clients, memories)
        if "hello" in config_of(messages[0].content):
            return [introduce(message, client) for message, client in zip(messages, clients, strict=True)]
        work = self.offices.query if kinds == {MessageType.QUERY} else self.offices.evaluate
        replies = []
        for message, client in zip(messages, clients, strict=True):
            letter, memories[client] = work(letter_of(message.content), client, memories.get(client, {}))
            replies.append(reply(message, content_of(letter)))
        return replies

    def _train(self, messages: Sequence[Message], clients: Sequence[int], memories: Memories) -> list[Message]:
        jobs: list[Job] = []
        owners: list[int] = []
        kept: dict[int, Memory] = {}
        content, letter = None, Letter()
        for message, client in zip(messages, clients, strict=True):
            if message.content is not content:  # most strategies send everybody the same record
                content, letter = message.content, letter_of(message.content)
            memory = memories.get(client, {})
            spent = self._spent(client, memory)
            own, memory = self.offices.open(letter, client, memory)
            kept[client] = memory | {SPENT: np.array(spent)} if spent else memory
            jobs += own
            owners += [client] * len(own)
        if any(self.workloads[client].private for client in kept) and len(jobs) > len(kept):
            raise StrategyError("several trainings a round would each add the same noise; only one can be private")
        with self.offices.training(jobs[0].round, len(kept)):
            updates = self.trainer.train(jobs, owners)
        replies = []
        for message, (client, update) in zip(messages, _by_owner(owners, updates), strict=True):
            letter, memories[client] = self.offices.close(update, client, kept[client])
            counts = None if self.silent else counts_record(update.num_examples, update.steps)
            replies.append(reply(message, content_of(letter, counts)))
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

    def finish(self, outcome: Outcome, memories: Mapping[int, Memory]) -> None:
        """At the end of a run, what the harness wants to know besides."""
        self.offices.finish(outcome, memories)


def _by_owner(owners: Sequence[int], updates: Sequence[Update]) -> Iterator[tuple[int, Update]]:
    """Each client's first update, which holds those of its further jobs."""
    for client, group in groupby(zip(owners, updates, strict=True), key=lambda pair: pair[0]):
        first, *others = (update for _, update in group)
        yield client, replace(first, others=tuple(others)) if others else first


def introduce(message: Message, client: int) -> Message:
    """Tell the server which office stands behind a node id."""
    return reply(message, content_of(Letter({"office": client})))
