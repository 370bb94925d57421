"""All contact with Flower's classes: records and messages, the in-process Grid, and the adapter of our strategies.

What our rooms exchange are letters (`strategies.base.Letter`): settings, arrays and figures by name. Here they become
Flower's records. A model is one flat array `w`, a change of one is `update`, further vectors of a strategy have names
of their own; the layout of the layers stays with the clients, so the server needs no knowledge of the model. In process
an array is passed as it is: Flower's own `Array` holds serialised bytes and decodes them at each use.

Written for Flower 1.41; a test names the version, since messages and records are copied past Flower's own checks, which
would take longer than the sums. A `Message` can be made only by a process with a task identity, which Flower's own
processes get from the SuperLink.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from time import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy as FlowerStrategy
from numpy.typing import NDArray

from strategies.base import Letter

if TYPE_CHECKING:
    from flwr.supercore.run import Run

FLOWER_VERSION = "1.41"


def quiet() -> None:
    """No telemetry, no progress log: a sweep makes thousands of rounds."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    import flwr.supercore.logger  # noqa: F401  importing it sets the level

    logging.getLogger("flwr").setLevel(logging.ERROR)


def identify() -> None:
    """Give this process a task identity, so that it can make messages."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1


# Records.


class NumpyArray(Array):
    """A Flower `Array` that keeps its ndarray and serialises it only when something leaves the process."""

    _ndarray: NDArray[Any]

    def __init__(self, ndarray: NDArray[Any]) -> None:
        # Set at once: Flower's `__setattr__` would clear what it caches of each.
        self.__dict__.update(dtype=_name(ndarray.dtype), shape=ndarray.shape, stype="numpy.ndarray", _ndarray=ndarray)

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The bytes Flower would send."""
        return Array(self._ndarray).data

    def numpy(self) -> NDArray[Any]:
        """The array itself, not a copy: read-only by convention."""
        return self._ndarray

    def deflate(self) -> bytes:
        """As a plain `Array`: the type's name is part of what is sent, and the receiver knows Flower's alone."""
        return Array(self._ndarray).deflate()

    def __reduce__(self) -> tuple[type[NumpyArray], tuple[NDArray[Any]]]:
        return NumpyArray, (self._ndarray,)


@cache
def _name(dtype: np.dtype[Any]) -> str:
    return str(dtype)  # NumPy puts it together anew each time, in as long as a short message takes


_NO_ARRAYS, _NO_RECORDS = ArrayRecord(), RecordDict()


def _held(record: Any) -> dict[str, Any]:
    """What a Flower record holds, without the view that Flower makes of it at every look."""
    held: dict[str, Any] = vars(record)["_data"]
    return held


def _with(record: Any, items: Mapping[str, Any]) -> Any:
    """A copy of a Flower record with further items, which Flower would check one by one."""
    copied, own = object.__new__(type(record)), vars(record)
    vars(copied).update(
        _check_key_fn=own["_check_key_fn"], _check_value_fn=own["_check_value_fn"], _data={**own["_data"], **items}
    )
    return copied


def arrays_record(arrays: Mapping[str, Any]) -> ArrayRecord:
    """Arrays by name as Flower's record; numbers become arrays of no dimension."""
    record: ArrayRecord = _with(_NO_ARRAYS, {name: NumpyArray(np.asarray(array)) for name, array in arrays.items()})
    return record


def arrays_in(record: ArrayRecord) -> dict[str, NDArray[Any]]:
    """The arrays of a record, by name.

    Raises:
        ValueError, TypeError, EOFError: one cannot be decoded.
    """
    return {name: array.numpy() for name, array in _held(record).items()}


def content_of(letter: Letter, counts: MetricRecord | None = None) -> RecordDict:
    """A letter as the content of a Flower message.

    Args:
        counts: metrics that are the same in every round, which Flower need not check again.
    """
    records: dict[str, Any] = {}
    if letter.config:
        records["config"] = ConfigRecord(letter.config)
    records["arrays"] = arrays_record(letter.arrays)
    if counts is not None:
        records["metrics"] = _with(counts, letter.metrics) if letter.metrics else counts
    elif letter.metrics:
        records["metrics"] = MetricRecord(letter.metrics)
    content: RecordDict = _with(_NO_RECORDS, records)
    return content


def letter_of(content: RecordDict) -> Letter:
    """The letter in the content of a Flower message: its first record of each kind."""
    letter = Letter()
    seen: set[type] = set()
    for record in _held(content).values():
        if type(record) in seen:
            continue
        seen.add(type(record))
        if isinstance(record, ArrayRecord):
            letter.arrays = arrays_in(record)
        elif isinstance(record, ConfigRecord):
            letter.config = _held(record)
        else:
            letter.metrics = _held(record)
    return letter


def config_of(content: RecordDict) -> Mapping[str, Any]:
    """The first configuration of a message; empty where there is none."""
    for record in _held(content).values():
        if isinstance(record, ConfigRecord):
            return _held(record)
    return {}


@lru_cache(maxsize=1024)
def counts_record(num_examples: int, num_steps: int) -> MetricRecord:
    """What a client reports alike in every round. One client is the weight of Flower's uniform means."""
    return MetricRecord({"num-examples": num_examples, "num-batches": num_steps, "num-clients": 1})


def decode(content: RecordDict) -> None:
    """Decode a message's arrays in place, once for all who share them."""
    for record in content.values():
        if isinstance(record, ArrayRecord):
            for name, array in record.items():
                if not isinstance(array, NumpyArray):
                    record[name] = NumpyArray(array.numpy())


def array_bytes(content: RecordDict) -> dict[str, int]:
    """Bytes of every array in a message, by name. Flower's envelope, some hundred bytes, is not in."""
    return {
        name: array.numpy().nbytes
        if isinstance(array, NumpyArray)
        else math.prod(array.shape) * np.dtype(array.dtype).itemsize
        for record in _held(content).values()
        if isinstance(record, ArrayRecord)
        for name, array in _held(record).items()
    }


# Messages.


def altered(original: Any, changes: dict[str, Any]) -> Any:
    """A copy of a message or its metadata with other attributes, which Flower would check, for thrice as long."""
    copied = object.__new__(type(original))
    vars(copied).update(vars(original), **changes)
    return copied


def addressed(content: RecordDict, nodes: Sequence[int], kind: str) -> list[Message]:
    """One message to each of several nodes, all with the same content."""
    if not nodes:
        return []
    first = Message(content, dst_node_id=nodes[0], message_type=kind)
    others = [altered(first, {"_metadata": altered(first.metadata, {"_dst_node_id": node})}) for node in nodes[1:]]
    return [first, *others]


def reply(message: Message, content: RecordDict) -> Message:
    """`Message(content, reply_to=message)` in a fifth of its time: it checks arguments that are right here."""
    asked, now = vars(message.metadata), time()
    metadata = altered(
        message.metadata,
        {
            "_message_id": "",
            "_reply_to_message_id": asked["_message_id"],
            "_src_node_id": asked["_dst_node_id"],
            "_dst_node_id": asked["_src_node_id"],
            "_src_task_id": asked["_dst_task_id"],
            "_dst_task_id": asked["_src_task_id"],
            "_created_at": now,
            "_ttl": asked["_created_at"] + asked["_ttl"] - now,
            "_delivered_at": "",
        },
    )
    answer: Message = altered(message, {"_metadata": metadata, "_content": content, "_error": None})
    return answer


# Strategies.


class Server(Protocol):
    """The server's part of a federation, without Flower: what `Adapter` makes a Flower strategy of."""

    def begin(self, post: Post) -> None:
        """Called at the start of every round: a chance to set up what comes before the first."""

    def broadcast(self, number: int, x: Any, post: Post) -> Letter | Mapping[int, Letter]:
        """What the cohort's offices are sent in a round: one letter for all, or one for each office."""

    def take(self, number: int, replies: list[tuple[int, Letter]], post: Post) -> tuple[Any, float | None]:
        """The next model from the offices' letters, None where the offices hold it; and the mean training loss.

        The list is the server's own: what is taken out of it is let go.
        """

    def ask(self, number: int, post: Post) -> Mapping[int, Letter]:
        """What offices are sent to score models, by office; may be empty."""

    def hear(self, number: int, replies: list[tuple[int, Letter]], post: Post) -> Mapping[str, Any] | None:
        """The figures in their answers."""


class Post:
    """A Grid as a server sees it: offices by number, letters in the place of messages.

    Our own Grid knows which node is which office. Of any other, nodes are numbered in ascending order.
    """

    def __init__(self, grid: Grid, number: int) -> None:
        self.grid = grid
        nodes = enumerate(sorted(grid.get_node_ids())) if not hasattr(grid, "offices") else ()
        if hasattr(grid, "begin"):
            grid.begin(number)
        self.cohort: dict[int, int] = dict(nodes) or _turned(getattr(grid, "offices", {}))
        self.everyone: dict[int, int] = _turned(getattr(grid, "everyone", {})) or self.cohort

    def reject(self, office: int, reason: str) -> None:
        """Count and log that an office's update is left out."""
        if hasattr(self.grid, "reject"):
            self.grid.reject(self.everyone[office], reason)
        else:
            logging.getLogger(__name__).warning("%s", reason)

    def query(self, letters: Mapping[int, Letter]) -> dict[int, Letter]:
        """Send a letter to each office, and have the answers of those that are there."""
        messages = self.messages(letters, MessageType.QUERY)
        return dict(self.opened(self.grid.send_and_receive(messages)))

    def messages(self, letters: Mapping[int, Letter], kind: str) -> list[Message]:
        """A message to each office."""
        return [
            Message(content_of(letter), dst_node_id=self.everyone[office], message_type=kind)
            for office, letter in letters.items()
        ]

    def opened(self, replies: Iterable[Message]) -> list[tuple[int, Letter]]:
        """Who answered, and what. Of an answer that cannot be read the letter holds the error as `unreadable`."""
        offices = {node: office for office, node in self.everyone.items()}
        found = []
        for message in replies:
            if message.has_error():
                continue
            try:
                letter = letter_of(message.content)
            except (ValueError, TypeError, EOFError) as error:
                letter = Letter(dict(config_of(message.content)), {}, {"unreadable": str(error)})
            found.append((offices[message.metadata.src_node_id], letter))
        return found


def _turned(offices: Mapping[int, int]) -> dict[int, int]:
    return {office: node for node, office in offices.items()}


class Adapter(FlowerStrategy):
    """The Flower strategy of all of ours: Flower's round loop, or ours, drives a `Server` through it.

    Example:
        A plain strategy in a ServerApp of your own (`experiments.lift` plans any, and has the ClientApp's side)::

            adapter = Adapter(PlainServer(FedProx(mu=0.1), Federation(clients=4, cohort=4)))
            result = adapter.start(grid, arrays_record({"w": first_weights}), num_rounds=10)
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.post: Post

    def summary(self) -> None:
        """Flower prints this at the start; records say all of it."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages to the round's cohort."""
        self.post = Post(grid, server_round)
        self.server.begin(self.post)
        x = next(iter(arrays_in(arrays).values()), None)
        letters = self.server.broadcast(server_round, x, self.post)
        asked = dict(_held(config))  # by a Flower class around ours: what it wants of the offices has to reach them
        if isinstance(letters, Letter):
            letters = replace(letters, config=asked | letters.config)
            return addressed(content_of(letters), list(self.post.cohort.values()), MessageType.TRAIN)
        letters = {office: replace(letter, config=asked | letter.config) for office, letter in letters.items()}
        return self.post.messages(letters, MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The next model; an empty record where the offices hold it."""
        letters = self.post.opened(replies)
        if isinstance(replies, list):
            replies.clear()  # Flower's loop holds the same list: what the server is done with can be let go
        x, loss = self.server.take(server_round, letters, self.post)
        record = ArrayRecord() if x is None else arrays_record({"w": x})
        return record, None if loss is None else MetricRecord({"train_loss": loss})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages to the offices that are asked to score models, if any are."""
        return self.post.messages(self.server.ask(server_round, self.post), MessageType.EVALUATE)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """What the offices answered."""
        found = self.server.hear(server_round, self.post.opened(replies), self.post)
        return None if found is None else MetricRecord(dict(found))


# Grids.


class InProcessGrid(Grid):
    """Node i + 1 is client i; a message is answered in the call that sends it.

    Args:
        answer: makes the replies of a round's messages, given them, their clients, and what offices remember.
        num_clients: of the federation.
    """

    def __init__(self, answer: Callable[..., list[Message]], num_clients: int) -> None:
        self.answer, self.num_clients = answer, num_clients
        self.memories: dict[int, dict[str, Any]] = {}

    def get_node_ids(self) -> list[int]:
        return list(range(1, self.num_clients + 1))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        messages = list(messages)
        for content in {id(message.content): message.content for message in messages}.values():
            decode(content)
        return self.answer(messages, [message.metadata.dst_node_id - 1 for message in messages], self.memories)

    # A round is one call: there is nothing to push now and pull later.

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise RuntimeError("the in-process engine answers at once; use send_and_receive")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise RuntimeError("the in-process engine answers at once; use send_and_receive")

    def set_run(self, run: Run) -> None:
        raise RuntimeError("the in-process engine has no Flower run")

    @property
    def run(self) -> Run:
        raise RuntimeError("the in-process engine has no Flower run")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)
