"""The engine of a sweep: server and clients in one process, a whole round trained in one call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from experiments.engines import flower
from strategies.wire import decode

if TYPE_CHECKING:
    from experiments.federation import Checkpoint, Outcome, ServerSide
    from experiments.training.clients import ClientSide
    from strategies import Memory


def run(server_main: Callable[[Grid], Outcome], client_side: ClientSide, num_clients: int) -> Outcome:
    """Run a federation here."""
    flower.quiet()
    flower.identify()
    grid = InProcessGrid(client_side, num_clients)
    outcome = server_main(grid)
    grid.clients.finish(outcome, grid.memories)
    return outcome


def advance(
    server: ServerSide, client_side: ClientSide, num_clients: int, start: Checkpoint | None, until: int
) -> tuple[Outcome, Checkpoint | None]:
    """Run a federation here from a checkpoint, or from its first weights, to the end of round `until`."""
    flower.quiet()
    flower.identify()
    grid = InProcessGrid(client_side, num_clients)
    if start:
        grid.memories |= copy.deepcopy(start.memories)
    outcome, end = server.advance(grid, start, until)
    grid.clients.finish(outcome, grid.memories)
    return outcome, end and replace(end, memories=grid.memories)


class InProcessGrid(Grid):
    """Node i + 1 is client i; a message is answered in the call that sends it."""

    def __init__(self, client_side: ClientSide, num_clients: int) -> None:
        self.clients = client_side.start()
        self.num_clients = num_clients
        self.memories: dict[int, Memory] = {}

    def get_node_ids(self) -> list[int]:
        return list(range(1, self.num_clients + 1))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        messages = list(messages)
        for content in {id(message.content): message.content for message in messages}.values():
            decode(content)
        return self.clients.answer(messages, [m.metadata.dst_node_id - 1 for m in messages], self.memories)

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
