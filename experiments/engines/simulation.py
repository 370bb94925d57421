"""Flower's own simulation, in a child process of its own.

It starts and stops Ray, which would pull a sweep's Ray down with it, so it never runs inside the caller's process.
The child reads the run from a pickle in a private temporary folder; the clients, in Ray actors, read the same file
once a process instead of getting their data with every message.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.engines import flower

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid

    from experiments.federation.clients import Clients, ClientSide
    from experiments.federation.rounds import Outcome
    from strategies import Memory

MEMORY = "memory"  # the record of a node's Context that holds what the office keeps


def run(server_main: Callable[[Grid], Outcome], client_side: ClientSide, num_clients: int) -> Outcome:
    """Run a federation under Flower's simulation.

    Raises:
        RuntimeError: the simulation failed; the message ends with the last lines it printed.
    """
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:  # mode 0700
        task = Path(folder) / "task.pickle"
        task.write_bytes(pickle.dumps((server_main, client_side, num_clients), protocol=5))
        command = [sys.executable, "-m", "experiments.engines.simulation", str(task)]
        child = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
        answer = task.with_suffix(".outcome")
        if not answer.exists():
            raise RuntimeError("Flower's simulation failed:\n" + "\n".join(child.stderr.splitlines()[-20:]))
        outcome: Outcome = pickle.loads(answer.read_bytes())
        outcome.meters += [pickle.loads(meter.read_bytes()) for meter in sorted(Path(folder).glob("*.meter-*"))]
        return outcome


def client_app(task: str) -> ClientApp:
    """Flower's ClientApp over `Clients`, for one message at a time."""
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return _answer(task, message, context)

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return _answer(task, message, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return _answer(task, message, context)

    return app


def _answer(task: str, message: Message, context: Context) -> Message:
    office = int(context.node_config["partition-id"])
    clients = _clients(task)
    reply = clients.answer([message], [office], ContextMemory(context))[0]
    meter = getattr(clients.offices, "meter", None)
    if meter is not None:  # what protection costs goes past the server
        Path(f"{task}.meter-{os.getpid()}").write_bytes(pickle.dumps(meter))
    return reply


@lru_cache(maxsize=1)
def _clients(task: str) -> Clients:
    import torch

    torch.set_num_threads(1)
    flower.quiet()
    side: ClientSide = pickle.loads(Path(task).read_bytes())[1]
    return replace(side, processes=1).start()  # the actors share the cores already


class ContextMemory:
    """One office's memory in its Flower Context, which the simulation carries from round to round."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def get(self, office: int, default: Memory) -> Memory:
        """What the office remembers."""
        if MEMORY not in self.context.state:
            return default
        return {name: array.numpy() for name, array in self.context.state[MEMORY].items()}  # type: ignore[union-attr]

    def __setitem__(self, office: int, memory: Memory) -> None:
        from flwr.app import Array, ArrayRecord

        self.context.state[MEMORY] = ArrayRecord({name: Array(np.asarray(a)) for name, a in memory.items()})


def main(task: str) -> None:
    """The child: run Flower's simulation and leave the outcome beside the task."""
    flower.quiet()
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    server_main, _, num_clients = pickle.loads(Path(task).read_bytes())
    app = ServerApp()

    @app.main()
    def serve(grid: Grid, context: Context) -> None:
        Path(task).with_suffix(".outcome").write_bytes(pickle.dumps(server_main(grid), protocol=5))

    run_simulation(
        server_app=app,
        client_app=client_app(task),
        num_supernodes=num_clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


if __name__ == "__main__":
    # Import the module by its name, so that the app's functions pickle by reference and not, with their data, by value.
    from experiments.engines import simulation

    simulation.main(sys.argv[1])
