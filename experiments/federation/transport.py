"""One Grid for every engine: office order, the round's cohort, bad updates, and the count of what travels.

`OrderedGrid` wraps the Grid that an engine offers. Flower's own differ in order (replies come as they arrive, and a
floating-point sum in another order has other bits), and its strategies draw their clients from Python's global
generator. Here a strategy sees only the clients of the round, drawn from the run's own stream, and gets their replies
in office order, so that *any* Flower strategy is reproducible. An update that is not finite, or longer than a million
times the median, is left out before a strategy sees it.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from statistics import median
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from experiments.engines.flower import array_bytes, arrays_in, config_of
from experiments.federation.dropout import PHASES, Drop
from experiments.federation.seeds import Purpose, stream

if TYPE_CHECKING:
    from flwr.proto.node_pb2 import NodeInfo
    from flwr.supercore.run import Run

log = logging.getLogger(__name__)

TOO_LONG = 1e6  # times the round's median update length
SET_UP = ("join", "agree")  # phases of a protected run that come before its rounds
OF_A_ROUND = "sum-"  # begins the names of arrays that are of an earlier round than the message they travel in


class Diverged(Exception):
    """The run cannot go on: no finite update is left, or the model's loss is not finite."""


class OrderedGrid(Grid):
    """See the module. Node ids stay the inner Grid's.

    Args:
        inner: the engine's Grid.
        nodes: the inner Grid's node ids in office order.
        seed: the run's seed.
        cohort: clients a round.
        reject_nonfinite: leave bad updates out (and count them), or let the strategy have them.
        first_round: the first that will begin; later ones begin by `begin`.
        dropout: which offices vanish, or None.
        protected: updates cannot be read here: offices check their own, and say so where they send none.
        poisson: every client is in a round by a coin of its own, `cohort` of them on average; there may be none.
    """

    def __init__(
        self,
        inner: Grid,
        nodes: list[int],
        seed: int,
        cohort: int,
        reject_nonfinite: bool,
        first_round: int = 1,
        dropout: Drop | None = None,
        protected: bool = False,
        poisson: bool = False,
    ) -> None:
        self.poisson = poisson
        self.inner, self.nodes, self.seed, self.cohort = inner, nodes, seed, cohort
        self.reject_nonfinite, self.dropout, self.protected = reject_nonfinite, dropout, protected
        self.office_of = {node: office for office, node in enumerate(nodes)}
        self.bytes_up = [0] * len(nodes)
        self.bytes_down = [0] * len(nodes)
        self.bytes_by_round: Counter[tuple[str, int]] = Counter()  # of `up` and `down`, under protection
        self.rejected = [0] * len(nodes)
        self.dropped = [0] * len(nodes)  # rounds in which each office vanished
        self.trained = [0] * len(nodes)  # rounds that each office was asked to train in
        self.train_s = 0.0
        self.round = 0
        self.begin(first_round)

    def begin(self, number: int) -> None:
        """Draw the cohort of a round, if it has not begun yet. Whatever is sent in a round leaves its cohort alone."""
        if number == self.round:
            return
        self.round = number
        drawn = cohort_of(self.seed, self.round, len(self.nodes), self.cohort, self.poisson)
        self._offices = {self.nodes[office]: office for office in drawn}
        self._vanishing = self.dropout.vanishing(self.seed, self.round, drawn) if self.dropout else {}
        self._gone: set[int] = set()

    @property
    def everyone(self) -> Mapping[int, int]:
        """Node id -> office of all clients, whoever's turn it is."""
        return self.office_of

    @property
    def offices(self) -> Mapping[int, int]:
        """Node id -> office of this round's cohort, in office order."""
        return self._offices

    def get_node_ids(self) -> list[int]:
        """The cohort's node ids in office order."""
        return list(self._offices)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send in office order, wait for all, return the good replies in office order.

        Raises:
            RuntimeError: a client failed or did not answer; the office and the round are named.
            Diverged: no update of the round is finite.
        """
        messages = sorted(messages, key=lambda message: self.office_of[message.metadata.dst_node_id])
        if not messages:
            return []
        kind = messages[0].metadata.message_type
        messages = [message for message in messages if not self._lost(message)]
        if not messages and kind != MessageType.TRAIN:
            return []  # of the few that a phase asked, which may not be all that take part
        if not messages and self.poisson:
            return []
        if not messages:
            raise RuntimeError(f"round {self.round}: every client has vanished")
        if kind == MessageType.TRAIN:
            for message in messages:
                self.trained[self.office_of[message.metadata.dst_node_id]] += 1
        started = perf_counter()
        replies = sorted(
            self.inner.send_and_receive(messages, timeout=timeout),
            key=lambda reply: self.office_of[reply.metadata.src_node_id],
        )
        for reply in replies:
            if reply.has_error():
                raise RuntimeError(f"round {self.round}, {self._name(reply)}: {reply.error.reason}")
        if len(replies) < len(messages):
            raise RuntimeError(f"round {self.round}: {len(replies)} of {len(messages)} clients answered")
        if self.protected or kind != MessageType.EVALUATE:
            self._count(messages, replies)
        if kind != MessageType.TRAIN:
            return replies
        self.train_s += perf_counter() - started
        if self.protected:
            return self._willing(replies)
        return self._good(messages, replies) if self.reject_nonfinite else replies

    def _lost(self, message: Message) -> bool:
        """Whether the office has vanished at this message's phase, or before."""
        if not self._vanishing or message.metadata.message_type == MessageType.EVALUATE:
            return False
        office = self.office_of[message.metadata.dst_node_id]
        at, phase = self._vanishing.get(office), str(config_of(message.content).get("phase", "update"))
        lost = at is not None and phase in PHASES and PHASES.index(phase) >= PHASES.index(at)
        if lost and office not in self._gone:
            self._gone.add(office)
            self.dropped[office] += 1
        return lost

    def _willing(self, replies: list[Message]) -> list[Message]:
        """Under protection an office whose update is not finite says so and sends none."""
        willing = []
        for reply in replies:
            if config_of(reply.content).get("abstains"):
                self.reject(
                    reply.metadata.src_node_id, f"round {self.round}, {self._name(reply)}: its update is not finite"
                )
            else:
                willing.append(reply)
        if replies and not willing:
            raise Diverged(f"round {self.round}: no client's update is finite")
        return willing

    def reject(self, node: int, reason: str) -> None:
        """Count and log an update that was left out."""
        self.rejected[self.office_of[node]] += 1
        log.warning("%s", reason)

    def _count(self, messages: list[Message], replies: list[Message]) -> None:
        sent, down = None, 0
        for message, reply in zip(messages, replies, strict=True):
            office = self.office_of[message.metadata.dst_node_id]
            if message.content is not sent:  # most strategies send everybody the same record
                sent, down = message.content, sum(array_bytes(message.content).values())
            self.bytes_down[office] += down
            up = sum(array_bytes(reply.content).values())
            self.bytes_up[office] += up
            if self.protected:
                self._count_by_round(message, down, up)

    def _count_by_round(self, message: Message, down: int, up: int) -> None:
        """What protection sends is counted by round: in a simulation some rounds are in clear and cost nothing.

        A sum travels with the next round's messages, but is of its own round. Set-up is of round 0.
        """
        round_ = 0 if config_of(message.content).get("phase") in SET_UP else self.round
        self.bytes_by_round["up", round_] += up
        self.bytes_by_round["down", round_] += down
        for name, size in array_bytes(message.content).items():
            if name.startswith(OF_A_ROUND):
                self.bytes_by_round["down", round_] -= size
                self.bytes_by_round["down", int(name.split("-")[1])] += size

    def _good(self, messages: list[Message], replies: list[Message]) -> list[Message]:
        lengths = update_lengths(messages, replies)
        finite = [length for length in lengths if math.isfinite(length)]
        if not finite:
            raise Diverged(f"round {self.round}: no client's update is finite")
        longest = TOO_LONG * median(finite)  # 0 where most clients have nothing left to learn
        good = []
        for reply, length in zip(replies, lengths, strict=True):
            if math.isfinite(length) and not 0 < longest < length:
                good.append(reply)
                continue
            self.rejected[self.office_of[reply.metadata.src_node_id]] += 1
            log.warning("round %d, %s: update of length %g left out", self.round, self._name(reply), length)
        return good

    def _name(self, reply: Message) -> str:
        return f"client {self.office_of[reply.metadata.src_node_id]}"

    # The rest of Flower's interface, as the inner Grid has it.

    def set_run(self, run: Run) -> None:
        self.inner.set_run(run)

    @property
    def run(self) -> Run:
        return self.inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def get_nodes(self) -> Iterable[NodeInfo]:
        from flwr.proto.node_pb2 import NodeInfo

        return (NodeInfo(node_id=node) for node in self._offices)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self.inner.pull_messages(message_ids)


def cohort_of(seed: int, round_: int, clients: int, cohort: int, poisson: bool = False) -> list[int]:
    """Who takes part in a round, ascending: so many, drawn without replacement; or each by a coin."""
    if cohort >= clients:
        return list(range(clients))
    rng = stream(seed, Purpose.COHORT, round_)
    drawn = np.flatnonzero(rng.random(clients) < cohort / clients) if poisson else rng.choice(clients, cohort, False)
    return [int(client) for client in np.sort(drawn)]


def update_lengths(messages: Sequence[Message], replies: Sequence[Message]) -> list[float]:
    """L2 norm of every client's update: what came back minus what was sent, or the change that it says it is.

    It is not finite where anything is not that the client sent, its further vectors and numbers included.
    """
    lengths: list[float] = []
    # Most strategies send everybody the same record.
    for _, group in groupby(zip(messages, replies, strict=True), key=lambda pair: id(pair[0].content)):
        sent, received = zip(*group, strict=True)
        lengths += _lengths(_arrays(sent[0]), [_arrays(reply) for reply in received])
    return lengths


def _arrays(message: Message) -> dict[str, Any]:
    record = next(record for record in message.content.values() if isinstance(record, ArrayRecord))
    return arrays_in(record)


def _lengths(sent: Mapping[str, Any], received: Sequence[Mapping[str, Any]]) -> list[float]:
    from strategies.numerics.vectors import distances  # compiled: what only plans a sweep does without

    x = next(iter(sent.values()))
    changes = "update" in received[0]
    origin = np.zeros_like(received[0]["update"]) if changes else x
    lengths = distances([next(iter(arrays.values())) for arrays in received], origin)
    for k, arrays in enumerate(received):
        others = list(arrays.values())[1:]
        if others and not all(np.isfinite(array).all() for array in others):
            lengths[k] = math.nan
    return lengths


def who_is_who(grid: Grid, clients: int, patience: float = 120.0) -> list[int]:
    """Node ids in office order, asked of the nodes themselves once all are there.

    Raises:
        RuntimeError: fewer nodes than clients after `patience` seconds.
    """
    deadline = perf_counter() + patience
    while len(nodes := list(grid.get_node_ids())) < clients:
        if perf_counter() > deadline:
            raise RuntimeError(f"{len(nodes)} of {clients} clients are connected after {patience:g} s")
        sleep(0.1)
    hello = RecordDict({"config": ConfigRecord({"hello": 1})})
    replies = grid.send_and_receive(
        [Message(hello, dst_node_id=node, message_type=MessageType.QUERY) for node in nodes]
    )
    offices = {int(str(reply.content["config"]["office"])): reply.metadata.src_node_id for reply in replies}
    return [offices[office] for office in sorted(offices)]
