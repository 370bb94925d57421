"""The fast trainer of linear-and-ReLU models: `kernel.train` behind the interface of the plain loop.

Clients are trained one after the other, each as if it were alone, so an office's bits do not depend on who else trains.
The plain loop (`local.ReferenceTrainer`) is the oracle; `python -m experiments bench` measures both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments.training import kernel
from experiments.training.schedule import batch_size, epoch_orders, learning_rate
from strategies import Job, Strategy, Update, Workload

if TYPE_CHECKING:
    from experiments.spec import RunSpec

NONE = np.empty(0, np.float32)


class FusedTrainer:
    """Train the jobs of a round.

    Args:
        spec: the run's options.
        widths: of the input, each hidden layer and the output.
        x, y: the training rows (n, ...) and their labels (n,).
        workloads: what each client trains on, by client number.
    """

    def __init__(
        self,
        spec: RunSpec,
        widths: tuple[int, ...],
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        workloads: Sequence[Workload],
    ) -> None:
        self.spec, self.widths, self.y, self.workloads = spec, np.array(widths), y, workloads
        self.x = np.ascontiguousarray(x.reshape(len(x), -1))
        self.strategy: Strategy = spec.strategy

    def train(self, jobs: Sequence[Job], clients: Sequence[int]) -> list[Update]:
        """One update a job, in the order given."""
        one = self._step_by_step if self.strategy.changes_gradient else self._whole_round
        return [one(job, self.workloads[client], client) for job, client in zip(jobs, clients, strict=True)]

    def _whole_round(self, job: Job, work: Workload, client: int) -> Update:
        """All steps of the round in one compiled call."""
        lr, sgd = learning_rate(self.spec, job.round), self.spec.optimizer
        a, b = self.strategy.drift(job.w, job.memory)
        received = job.w.astype(np.float32, copy=False)
        w = received.copy()
        velocity = np.zeros_like(w) if sgd.momentum else NONE
        drift = (received if a else NONE, NONE if b is None else b.astype(np.float32, copy=False))
        rows = (self.widths, self.x, self.y, epoch_orders(self.spec, work, self.y, job.round, client))
        size = batch_size(self.spec, len(work.rows))
        loss = kernel.train(w, velocity, *drift, *rows, size, work.steps, lr, sgd.momentum, sgd.weight_decay, a)
        return Update(job, w, len(work.rows), work.steps, loss)

    def _step_by_step(self, job: Job, work: Workload, client: int) -> Update:
        """A compiled gradient at every step, for a strategy whose hook is more than a drift."""
        import torch  # what hooks are written for; no other path here needs it

        lr = learning_rate(self.spec, job.round)
        received = torch.from_numpy(job.w.astype(np.float32, copy=False))[None]
        memory = {name: torch.from_numpy(np.asarray(value, np.float32))[None] for name, value in job.memory.items()}
        a, b = self.strategy.drift(job.w, job.memory)
        w = received[0].clone()
        velocity, total, seen = None, 0.0, 0
        size = batch_size(self.spec, len(work.rows))
        batches = [
            order[start : start + size]
            for order in epoch_orders(self.spec, work, self.y, job.round, client)
            for start in range(0, len(order), size)
        ]
        for rows in batches[: work.steps]:
            loss, gradient = self._gradient(w.numpy(), rows)
            g = self.strategy.gradient(torch.from_numpy(gradient)[None], w[None], received, memory)[0]
            if a:
                g = g + a * (w - received[0])
            if b is not None:
                g = g + torch.from_numpy(b.astype(np.float32, copy=False))
            velocity = self.spec.optimizer.step(w, g, velocity, lr)
            total += loss * len(rows)
            seen += len(rows)
        return Update(job, w.numpy(), len(work.rows), work.steps, total / seen)

    def _gradient(self, w: NDArray[np.float32], rows: NDArray[np.int64]) -> tuple[float, NDArray[np.float32]]:
        """Loss and gradient of one batch: the velocity that one step of rate 1 starts from nothing is -g."""
        v = np.zeros_like(w)
        batch = (self.widths, self.x, self.y, rows[None], len(rows))
        loss = kernel.train(w.copy(), v, NONE, NONE, *batch, 1, 1.0, 0.0, 0.0, 0.0)
        return loss, -v
