"""The engine of a sweep: server and clients in one process, a whole round trained in one call."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from experiments.engines import flower

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from experiments.federation.clients import Clients, ClientSide
    from experiments.federation.rounds import Checkpoint, Outcome, ServerSide


def run(server_main: Callable[[Grid], Outcome], client_side: ClientSide, num_clients: int) -> Outcome:
    """Run a federation here."""
    grid, clients = connect(client_side, num_clients)
    outcome = server_main(grid)
    clients.finish(outcome, grid.memories)
    return outcome


def advance(
    server: ServerSide, client_side: ClientSide, num_clients: int, start: Checkpoint | None, until: int
) -> tuple[Outcome, Checkpoint | None]:
    """Run a federation here from a checkpoint, or from its first weights, to the end of round `until`."""
    grid, clients = connect(client_side, num_clients)
    if start:
        grid.memories |= copy.deepcopy(start.memories)
    outcome, end = server.advance(grid, start, until)
    clients.finish(outcome, grid.memories)
    return outcome, end and replace(end, memories=grid.memories)


def connect(client_side: ClientSide, num_clients: int) -> tuple[flower.InProcessGrid, Clients]:
    """Clients in this process, and the Grid that reaches them."""
    flower.quiet()
    flower.identify()
    clients = client_side.start()
    return flower.InProcessGrid(clients.answer, num_clients), clients
