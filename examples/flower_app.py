"""A Flower app with a strategy of ours in it, run by Flower's own simulation: `python -m examples.flower_app`.

Seven persons did shoulder exercises with a smart watch on; each is an office with the windows of one person, and three
others are tested. Nothing is downloaded. Name another strategy to have it in the place of FedProx:

    python -m examples.flower_app "dp_sgd(epsilon=8)"      # and the epsilon that the plan grants
    python -m examples.flower_app masked_sum               # the server sees no update, sum or model
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from secrets import token_hex

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.server.superlink.fleet.vce.backend.backend import BackendConfig
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from experiments.data import load
from experiments.lift import Lifted, lift, make_keys

STRATEGY, KEYS = "EXAMPLE_STRATEGY", "EXAMPLE_KEYS"  # Flower's worker processes inherit the environment

server, client = ServerApp(), ClientApp()


@cache
def plan() -> Lifted:
    """The strategy, planned: by the same call in every process."""
    watch = load("watch")
    x, test = np.clip(watch.x, -1, 1), watch.person > 7
    return lift(
        os.environ[STRATEGY],
        x,
        watch.y,
        [np.flatnonzero(~test & (watch.person == person)) for person in np.unique(watch.person[~test])],
        model="mlp(hidden=[32])",  # or a function that makes a PyTorch module of yours
        test=(x[test], watch.y[test]),
        keys=Path(os.environ[KEYS]),
        rounds=5,
        client_lr=0.1,
    )


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """The server."""
    result = plan().start(grid)
    for number, accuracy in enumerate(plan().accuracies(result), 1):
        print(f"round {number}: accuracy {accuracy:.4f}")


@client.train()
@client.query()
@client.evaluate()
def answer(message: Message, context: Context) -> Message:
    """An office."""
    return plan().answer(message, context)


def main(strategy: str = "fedprox(mu=0.01)") -> None:
    """Run both apps."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    # Ray's ports listen on all interfaces and run the code of whoever reaches them: let them want a token.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_hex(32)}
    backend: BackendConfig = {
        "init_args": {"num_cpus": 2, "log_to_driver": False},
        "client_resources": {"num_cpus": 1},
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {STRATEGY: strategy, KEYS: f"{folder}/keys.json"}
        make_keys(strategy, 7, Path(folder, "keys.json"))
        promise = plan().privacy
        if promise:
            print(f"epsilon {promise['epsilon']:.2f} at delta {promise['delta']:g}, of one {promise['unit']}")
        run_simulation(server, client, 7, backend_config=backend)


if __name__ == "__main__":
    from examples import flower_app  # by its name, so that the worker processes import it

    flower_app.main(*sys.argv[1:])
