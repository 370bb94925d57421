"""Local training: the plain autograd loop, one client after the other.

This is the readable reference that the fast paths are held to. A local step is

    g = grad loss(w; batch),   g = strategy.gradient(g, w, w_t) + a (w - w_t) + b,   w, v = optimizer(w, g, v, lr)

where (a, b) is the strategy's drift. A private step has, in the place of grad loss, the noised sum of clipped
gradients, each found by a backward pass of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.errors import UserError
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
        mixing = [type(layer).__name__ for layer in module.modules() if isinstance(layer, _BatchNorm)]
        if mixing and any(work.private for work in workloads):
            raise UserError(
                f"{mixing[0]} mixes the rows of a batch, so no row's gradient is its own: take another model"
            )

    def train(self, jobs: Sequence[Job], clients: Sequence[int]) -> list[Update]:
        """One update a job, in the order given."""
        return [self._train_one(job, client) for job, client in zip(jobs, clients, strict=True)]

    def _train_one(self, job: Job, client: int) -> Update:
        model, work = self.model, self.workloads[client]
        if not work.steps:  # left out by an audit
            return Update(job, job.w, len(work.rows), 0, None)
        model.load(job.w)
        received = torch.from_numpy(job.w.astype(np.float32, copy=False))
        memory = {name: torch.from_numpy(np.asarray(value, np.float32))[None] for name, value in job.memory.items()}
        a, b = self.strategy.drift(job.w, job.memory)
        lr = learning_rate(self.spec, job.round)
        w, velocity = model.w, None
        if work.private and work.private.shared:  # noised later: of its one step the change counts, to all its digits
            w = received.double()
        total, seen = torch.zeros(()), 0
        for gradient, loss, size in (
            self._private(work, job, client) if work.private else self._plain(work, job, client)
        ):
            g = gradient
            if self.strategy.changes_gradient:
                g = self.strategy.gradient(g[None], model.w[None], received[None], memory)[0]
            if a:
                g = g + a * (model.w - received)
            if b is not None:
                g = g + torch.from_numpy(b.astype(np.float32, copy=False))
            velocity = self.spec.optimizer.step(w, g.to(w.dtype), velocity, lr)
            total += loss * size
            seen += size
        told = None if work.private else float(total) / seen
        return Update(job, w.numpy().copy(), len(work.rows), work.steps, told)

    def _plain(self, work: Workload, job: Job, client: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """Of every step: the gradient of the mean loss, that loss, and the rows it is of."""
        for x, y in self._batches(work, job.round, client):
            self.model.g.zero_()
            loss = self.spec.loss(self.model.module(x), y)
            loss.backward()
            yield self.model.g, loss.detach(), len(y)

    def _private(self, work: Workload, job: Job, client: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """Of every step: (sum of clipped gradients + noise) / divisor; nothing is said of the loss."""
        from experiments.training.private import Chance  # compiled: what trains in the open does without

        private = work.private
        assert private is not None
        chance = Chance.of(self.spec, work, job.round, client)
        for _ in range(work.steps):
            total = torch.zeros_like(self.model.g)
            for unit in self._units(work, chance.rows(work)):
                self.model.g.zero_()
                self.spec.loss(
                    self.model.module(torch.from_numpy(self.x[unit])), torch.from_numpy(self.y[unit])
                ).backward()
                factor = clip_factor(float(self.model.g.norm()), private.clip_norm)
                if factor:
                    total += factor * self.model.g
            if private.noise_multiplier:
                assert private.clip_norm is not None
                total += torch.from_numpy(
                    chance.noise.normals(len(total), private.scale * private.noise_multiplier * private.clip_norm)
                )
            yield total / private.divisor, torch.zeros(()), 0

    @staticmethod
    def _units(work: Workload, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """The rows of each unit in a step."""
        assert work.private is not None
        if work.private.persons is None:
            yield from rows[:, None]
        else:
            yield from np.split(rows, work.private.persons[1:-1])

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


def clip_factor(norm: float, clip_norm: float | None) -> float:
    """min(1, C / norm); a gradient that is not finite counts for nothing."""
    if clip_norm is None:
        return 1.0
    return min(1.0, clip_norm / norm) if 0 < norm < float("inf") else float(norm == 0)
