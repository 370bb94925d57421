"""Models without a compiled kernel: the plain loop, or `torch.func` over stacked parameters?

Which is faster depends on the kind of model (a convolution with weights of its own for every client becomes a grouped
one), so it is measured here and written to a table that is committed: a run never times anything to choose its trainer.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from experiments.bench.clock import interleave, progress
from experiments.bench.figures import Figures
from experiments.config.spec import RunSpec
from experiments.federation.seeds import Purpose, stream
from experiments.training.flat import Flat, first_weights
from experiments.training.kernels.fused import FusedTrainer
from experiments.training.reference import ReferenceTrainer
from experiments.training.schedule import job
from strategies.base import Update, Workload
from strategies.fedavg import FedAvg

MODELS = {"mlp": ((561,), "mlp(hidden=[128, 64])"), "cnn1d": ((128, 9), "cnn1d(channels=[32, 64])")}
SECTION = "Models by trainer, a client's step"
FUSED, LOOP, STACKED = "fused", "loop", "stacked"
CLIENTS = (4, 30)
GAIN = 1.3  # another trainer must be worth its code


class Problem:
    """Made-up rows of a model's shape, and a few batches of them for every client."""

    def __init__(self, model: str, clients: int, batches: int, batch: int = 32) -> None:
        shape, text = MODELS[model]
        self.clients, self.batch, self.rows = clients, batch, batches * batch
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(clients * self.rows, *shape)).astype(np.float32)
        self.y = rng.integers(0, 6, clients * self.rows)
        self.spec = RunSpec.from_options({"model": text, "row_order": "file", "batch_size": batch, "clients": clients})
        self.module = self.spec.model.module(shape, 6)
        self.first = first_weights(self.module, stream(0, Purpose.INITIAL_WEIGHTS))
        starts = range(0, clients * self.rows, self.rows)
        self.workloads = [Workload(np.arange(start, start + self.rows), batches) for start in starts]
        self.jobs = [job(self.spec, self.first, 1, batches)] * clients

    def loop(self) -> Callable[[], list[Update]]:
        """The plain autograd loop, client by client."""
        trainer = ReferenceTrainer(self.spec, FedAvg(), self.module, self.x, self.y, self.workloads)
        return lambda: trainer.train(self.jobs, range(self.clients))

    def fused(self) -> Callable[[], list[Update]] | None:
        """The compiled kernel, where there is one."""
        widths = self.spec.model.widths(self.x.shape[1:], 6)
        if widths is None:
            return None
        trainer = FusedTrainer(self.spec, FedAvg(), widths, self.x, self.y, self.workloads)
        return lambda: trainer.train(self.jobs, range(self.clients))

    def stacked(self) -> Callable[[], list[torch.Tensor]]:
        """`vmap(grad)`: parameters with a leading axis of clients; their list after the round."""
        module = self.spec.model.module(self.x.shape[1:], 6)
        Flat(module).load(self.first)
        first = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
        x = torch.from_numpy(self.x.reshape(self.clients, self.rows, *self.x.shape[1:]))
        y = torch.from_numpy(self.y.reshape(self.clients, self.rows))
        bare = self.spec.model.module(self.x.shape[1:], 6)

        def loss(parameters: dict[str, torch.Tensor], rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(functional_call(bare, parameters, (rows,)), labels)

        gradients = vmap(grad(loss))

        def train() -> list[torch.Tensor]:
            w = {name: part.repeat(self.clients, *[1] * part.dim()) for name, part in first.items()}
            for start in range(0, self.rows, self.batch):
                batch = slice(start, start + self.batch)
                for name, g in gradients(w, x[:, batch], y[:, batch]).items():
                    w[name].sub_(g, alpha=self.spec.client_lr)
            return list(w.values())

        return train


def measure_generic(figures: Figures, repeats: int) -> None:
    """Milliseconds of one client's step by each trainer that can do the model."""
    for model, clients in ((model, clients) for model in MODELS for clients in CLIENTS):
        progress(f"trainers: {model}, {clients} clients")
        batches = 8 if clients == CLIENTS[0] else 2
        problem = Problem(model, clients, batches)
        contestants: dict[str, Callable[[], object]] = {LOOP: problem.loop(), STACKED: problem.stacked()}
        fused = problem.fused()
        if fused is not None:
            contestants[FUSED] = fused
        for name, seconds in interleave(contestants, max(3, repeats // 2)).items():
            figures.add(SECTION, name, f"{model}, {clients} clients", 1e3 * seconds / clients / batches, "ms")


def choice(figures: Figures, model: str) -> str:
    """The trainer of a kind of model: compiled where it can be, stacked where it gains enough for few and for many."""
    if figures.look(SECTION, FUSED, f"{model}, {CLIENTS[0]} clients") is not None:
        return FUSED
    return STACKED if min(loop_over_stacked(figures, model)) >= GAIN else LOOP


def loop_over_stacked(figures: Figures, model: str) -> list[float]:
    """How many times as long the loop takes, by number of clients."""
    columns = [f"{model}, {clients} clients" for clients in CLIENTS]
    return [figures.get(SECTION, LOOP, column) / figures.get(SECTION, STACKED, column) for column in columns]


def write_choices(path: Path, figures: Figures) -> None:
    """The table that a run reads: one row a kind of model."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "trainer", *(f"loop_over_stacked_{clients}_clients" for clients in CLIENTS)])
        for model in MODELS:
            ratios = loop_over_stacked(figures, model)
            writer.writerow([model, choice(figures, model), *(f"{ratio:.1f}" for ratio in ratios)])
