"""Federations whose every message a test can read and change, and whose training it can write itself.

`Stage` puts a protected strategy's server, our Grid and the in-process clients on a table, where
`experiments.federation.run` builds them out of sight. `Between` stands between server and offices; `run` and `Stage`
both can have it there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from experiments.config.spec import RunSpec
from experiments.engines import inprocess
from experiments.engines.flower import Adapter, InProcessGrid, NumpyArray
from experiments.federation.clients import Clients, ClientSide
from experiments.federation.run import RunData, deal_rows, run_models, set_up
from experiments.federation.transport import OrderedGrid
from results.record import RunRecord
from strategies.base import Job, Memory, Strategy, Update
from strategies.protection.base import Protected
from strategies.protection.keys import Keys
from strategies.protection.server import ProtectedServer
from tests.experiments.problems import problem
from tests.strategies.protection.key_files import vault_for

Change = Callable[["Letter"], None]
Train = Callable[[int, int, Update], NDArray[Any]]  # office, round, what training made -> the model to send


@dataclass
class Letter:
    """One message as a test sees it: `down` to an office or `up` to the server."""

    message: Message
    down: bool
    office: int

    @property
    def content(self) -> RecordDict:
        return self.message.content

    @property
    def config(self) -> ConfigRecord:
        return self.content["config"]  # type: ignore[return-value]

    @property
    def arrays(self) -> ArrayRecord:
        return self.content["arrays"]  # type: ignore[return-value]

    @property
    def round(self) -> int:
        return int(str(self.content["config"].get("context-round", 0))) if "config" in self.content else 0

    @property
    def kind(self) -> str:
        """train, evaluate or query."""
        return str(self.message.metadata.message_type)

    def is_(self, way: str, kind: str, round_: int, office: int | None = None) -> bool:
        found = ("down" if self.down else "up", self.kind, self.round)
        return found == (way, kind, round_) and office in (None, self.office)

    def copy(self) -> dict[str, NDArray[Any]]:
        """Its arrays, as they are now."""
        return {name: array.numpy().copy() for name, array in self.arrays.items()}

    def put(self, **arrays: NDArray[Any]) -> None:
        """Exchange arrays; `sum_2` stands for `sum-2`."""
        for name, array in arrays.items():
            self.arrays[name.replace("_", "-")] = NumpyArray(array)


class Between(InProcessGrid):
    """An engine's Grid that shows every message to `look` before it goes on, for looking or for changing."""

    def __init__(self, clients: Clients, num_clients: int, look: Change | None) -> None:
        super().__init__(clients.answer, num_clients)
        self.look = look

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        messages = list(messages)
        for message in messages:
            self._show(Letter(message, True, message.metadata.dst_node_id - 1))
        replies = super().send_and_receive(messages, timeout=timeout)
        for reply in replies:
            self._show(Letter(reply, False, reply.metadata.src_node_id - 1))
        return replies

    def _show(self, letter: Letter) -> None:
        if self.look and not {"hello", "office"} & set(letter.content.get("config", {})):  # that is the engine's own
            self.look(letter)


@dataclass
class Written:
    """Local training, and then what the test makes of it."""

    inner: Any
    write: Train

    def train(self, jobs: Sequence[Job], clients: Sequence[int]) -> list[Update]:
        updates = self.inner.train(jobs, clients)
        return [
            replace(update, w=self.write(office, update.job.round, update).astype(np.float32))
            for office, update in zip(clients, updates, strict=True)
        ]


@contextmanager
def between(look: Change | None = None, train: Train | None = None) -> Iterator[None]:
    """Runs in this block have `Between` for their in-process Grid."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inprocess, "connect", functools.partial(connect, inprocess.connect, look, train))
        yield


def connect(
    inner: Any, look: Change | None, train: Train | None, side: ClientSide, number: int
) -> tuple[Between, Clients]:
    """As the engine's own, with `Between` in the place of its Grid."""
    _, clients = inner(side, number)
    if train:
        clients.trainer = Written(clients.trainer, train)
    return Between(clients, number, look), clients


def case(strategy: Strategy, **options: Any) -> tuple[RunSpec, RunData]:
    """A small problem under a strategy, which need not be in the folder."""
    spec, data = problem(**options)
    return replace(spec, strategy=strategy), data


def keys_for(spec: RunSpec, measured: Any = None) -> Keys | None:
    """Test keys, for all rounds or those that are measured."""
    return Keys(vault_for(spec.strategy, spec.clients), measured) if isinstance(spec.strategy, Protected) else None


def result(
    strategy: Strategy,
    measured: Any = None,
    look: Change | None = None,
    train: Train | None = None,
    engine: str = "inprocess",
    **options: Any,
) -> tuple[RunRecord, NDArray[np.float32]]:
    """Record and final models (1, d) of a run; its rounds are computed in earnest unless `measured` says which are."""
    spec, data = case(strategy, **options)
    with between(look, train):
        record, models = run_models(spec, data, engine, keys=keys_for(spec, measured))
    assert models is not None or engine != "inprocess"
    return record, models  # type: ignore[return-value]


@dataclass
class Stage:
    """A protected federation in process, with all its parts in reach."""

    spec: RunSpec
    inner: Between
    clients: Clients
    grid: OrderedGrid
    adapter: Adapter
    server: ProtectedServer
    memories: dict[int, Memory] = field(init=False)

    def __post_init__(self) -> None:
        self.memories = self.inner.memories

    def play(self, rounds: int = 3) -> None:
        self.adapter.start(self.grid, initial_arrays=ArrayRecord(), num_rounds=rounds)

    @property
    def desk(self) -> Any:
        return self.clients.offices.desk  # type: ignore[attr-defined]


def stage(
    strategy: Protected,
    measured: Any = None,
    look: Change | None = None,
    train: Train | None = None,
    **options: Any,
) -> Stage:
    """The parts of a run, set up and not yet started."""
    spec, data = case(strategy, **options)
    sides = set_up(spec, data, deal_rows(spec, data), keys=keys_for(spec, measured))
    number = len(sides.clients.workloads)
    inner, clients = connect(inprocess.connect, look, train, sides.clients, number)
    adapter = sides.server.strategy()
    assert isinstance(adapter, Adapter)
    assert isinstance(adapter.server, ProtectedServer)
    return Stage(spec, inner, clients, sides.server.grid(inner), adapter, adapter.server)
