"""Local training: the plain autograd loop, one client after the other.

This is the readable reference that the fast paths are held to. A local step is

    g = grad loss(w; batch),   g = strategy.gradient(g, w, w_t) + a (w - w_t) + b,   w, v = optimizer(w, g, v, lr)

where (a, b) is the strategy's drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.training.flat import Flat
from experiments.training.schedule import batch_size, epoch_orders, learning_rate
from strategies import Job, Strategy, Update, Workload

if TYPE_CHECKING:
    from experiments.spec import RunSpec


class ReferenceTrainer:
    """Train the jobs of a round, each as if it were alone.

    Args:
        spec: the run's options (optimiser, loss, rates, batches, order).
        module: the model; its weights are overwritten by every job.
        x, y: the training rows (n, ...) and their labels (n,).
        workloads: what each client trains on, by client number.
    """

    def __init__(
        self,
        spec: RunSpec,
        module: torch.nn.Module,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        workloads: Sequence[Workload],
    ) -> None:
        self.spec, self.x, self.y, self.workloads = spec, x, y, workloads
        self.model = Flat(module)
        self.strategy: Strategy = spec.strategy

    def train(self, jobs: Sequence[Job], clients: Sequence[int]) -> list[Update]:
        """One update a job, in the order given."""
        return [self._train_one(job, client) for job, client in zip(jobs, clients, strict=True)]

    def _train_one(self, job: Job, client: int) -> Update:
        model, work = self.model, self.workloads[client]
        model.load(job.w)
        received = torch.from_numpy(job.w.astype(np.float32, copy=False))
        memory = {name: torch.from_numpy(np.asarray(value, np.float32))[None] for name, value in job.memory.items()}
        a, b = self.strategy.drift(job.w, job.memory)
        lr = learning_rate(self.spec, job.round)
        velocity = None
        total = torch.zeros(())
        seen = 0
        for x, y in self._batches(work, job.round, client):
            model.g.zero_()
            loss = self.spec.loss(model.module(x), y)
            loss.backward()
            g = model.g
            if self.strategy.changes_gradient:
                g = self.strategy.gradient(g[None], model.w[None], received[None], memory)[0]
            if a:
                g = g + a * (model.w - received)
            if b is not None:
                g = g + torch.from_numpy(b.astype(np.float32, copy=False))
            velocity = self.spec.optimizer.step(model.w, g, velocity, lr)
            total += loss.detach() * len(y)
            seen += len(y)
        return Update(job, model.w.numpy().copy(), len(work.rows), work.steps, float(total) / seen)

    def _batches(self, work: Workload, round_: int, client: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        size = batch_size(self.spec, len(work.rows))
        left = work.steps
        for rows in epoch_orders(self.spec, work, self.y, round_, client):
            x, y = torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows])
            for batch in zip(torch.split(x, size), torch.split(y, size), strict=True):
                if left == 0:
                    return
                yield batch
                left -= 1
