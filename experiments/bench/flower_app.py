"""The same work in Flower's own simulation, written as its tutorials do: a module, its state dict, `torch.optim`.

Run as a script it is the whole simulation: FedAvg without evaluation, two actors of one thread each. The client's
functions live in an importable module and are pickled by reference; each actor reads the rows once. (Written in
`__main__` they would travel by value, with the rows, in every message.)
"""

from __future__ import annotations

import json
import os
import sys
from functools import lru_cache
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from torch.nn import functional

WORK = "FEDERATED_OFFICES_BENCH_WORK"  # path of the npz, which the actors' environment inherits
ACTORS = 2

app = ClientApp()


@lru_cache(maxsize=1)
def work() -> dict[str, Any]:
    """The work's arrays and numbers."""
    torch.set_num_threads(1)
    with np.load(os.environ[WORK]) as file:
        return {name: torch.from_numpy(file[name]) if name in ("x", "y") else file[name].tolist() for name in file}


def network(widths: list[int]) -> torch.nn.Sequential:
    """The model of the work."""
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


@app.train()
def train(message: Message, context: Context) -> Message:
    """One epoch over the client's rows, in a new order."""
    todo = work()
    model = network(todo["widths"])
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())  # type: ignore[union-attr]
    rows = len(todo["y"]) // todo["clients"]
    order = torch.randperm(rows) + int(context.node_config["partition-id"]) * rows
    optimizer = torch.optim.SGD(model.parameters(), lr=todo["lr"])
    for batch in order.split(todo["batch"]):
        optimizer.zero_grad()
        functional.cross_entropy(model(todo["x"][batch]), todo["y"][batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": rows})})
    return Message(content, reply_to=message)


def main(path: str) -> None:
    """The simulation; seconds of every round as the last line printed."""
    os.environ[WORK] = path
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    todo = work()
    ends: list[float] = []
    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        everyone = {"min_train_nodes": todo["clients"], "min_available_nodes": todo["clients"]}
        FedAvg(fraction_evaluate=0.0, min_evaluate_nodes=0, **everyone).start(
            grid,
            ArrayRecord(network(todo["widths"]).state_dict()),
            num_rounds=todo["rounds"],
            evaluate_fn=lambda round_, arrays: ends.append(perf_counter()),
        )

    run_simulation(
        server_app=server,
        client_app=app,
        num_supernodes=todo["clients"],
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": ACTORS}},
    )
    from importlib.metadata import version

    print(json.dumps({"version": version("flwr"), "rounds": np.diff(ends).tolist()}))


if __name__ == "__main__":
    from experiments.bench import flower_app  # so that the client is pickled by its module's name

    flower_app.main(sys.argv[1])
