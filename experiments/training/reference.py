"""Local training: the plain autograd loop, one client after the other.

This is the readable reference that the fast paths are held to. A local step is

    g = grad loss(w; batch),   g = strategy.gradient(g, w, job) + a (w - w_t) + b,   w, v = optimizer(w, g, v, lr)

where (a, b) is the strategy's drift. A strategy with a `probe` takes the gradient of the batch at a second point. Where
a job names parts of the model they are trained one after the other, the rest frozen. A private step has, in the place
of grad loss, the noised sum of clipped gradients, each found by a backward pass of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.config.errors import UserError
from experiments.training.flat import Flat
from experiments.training.losses.base import NO_TERMS
from experiments.training.schedule import batch_size, epoch_orders, terms_of
from strategies.base import Job, Part, Strategy, Update, Workload

if TYPE_CHECKING:
    from experiments.config.spec import RunSpec


ALL = np.empty(0, np.bool_)  # the mask of a whole model


class ReferenceTrainer:
    """Train the jobs of a round, each as if it were alone.

    Args:
        spec: the run's options (optimiser, loss, batches, order).
        strategy: whose terms act on every step.
        module: the model; its weights are overwritten by every job.
        x, y: the training rows (n, ...) and their labels (n,).
        workloads: what each client trains on, by client number.
        classes: number of labels; those of `y` where it is not given.
    """

    def __init__(
        self,
        spec: RunSpec,
        strategy: Strategy,
        module: torch.nn.Module,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        workloads: Sequence[Workload],
        classes: int | None = None,
    ) -> None:
        self.spec, self.x, self.y, self.workloads = spec, x, y, workloads
        self.model = Flat(module)
        self.terms = terms_of(spec, y, workloads, classes or int(y.max()) + 1)
        self.own = NO_TERMS
        self.received = Flat(copy.deepcopy(module)) if spec.loss.uses_received else None
        self.strategy = strategy
        self.changes, self.probes = strategy.overrides("gradient"), strategy.overrides("probe")
        mixing = [type(layer).__name__ for layer in module.modules() if isinstance(layer, _BatchNorm)]
        if mixing and any(work.private for work in workloads):
            raise UserError(
                f"{mixing[0]} mixes the rows of a batch, so no row's gradient is its own: take another model"
            )

    def train(self, jobs: Sequence[Job], clients: Sequence[int]) -> list[Update]:
        """One update a job, in the order given."""
        return [self._train_one(job, client) for job, client in zip(jobs, clients, strict=True)]

    def mean_loss(self, w: NDArray[np.float32], client: int) -> float:
        """Mean loss of a model (d,) over a client's rows."""
        rows = self.workloads[client].rows
        self._begin(w, client)
        with torch.no_grad():
            return float(self._loss(torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows])))

    def gradient(self, w: NDArray[np.float32], client: int) -> NDArray[np.float32]:
        """Of the mean loss over all of a client's rows, (d,), at a model (d,)."""
        rows = self.workloads[client].rows
        self._begin(w, client)
        self._backward(torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows]))
        g: NDArray[np.float32] = self.model.g.numpy().copy()
        return g

    def _begin(self, w: NDArray[np.float32], client: int) -> None:
        """Make a model (d,) and a client those that are trained now."""
        self.model.load(w)
        self.own = self.terms[client]
        if self.received is not None:
            self.received.load(w)

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        """Mean loss of the model over rows."""
        if self.received is None:
            return self.spec.loss(self.model.module(x), y, self.own)
        with torch.no_grad():
            before = self.received.module(x)
        return self.spec.loss(self.model.module(x), y, self.own, before)

    def _train_one(self, job: Job, client: int) -> Update:
        work = self.workloads[client]
        if not work.steps:  # left out by an audit
            return Update(job, job.w, len(work.rows), 0, None)
        start_loss = self.mean_loss(job.w, client) if job.wants_loss else None
        self._begin(job.w, client)
        w = self.model.w
        if work.private and work.private.shared:  # noised later: of its one step the change counts, to all its digits
            w = torch.from_numpy(job.w.astype(np.float32, copy=False)).double()
        total, seen, done = torch.zeros(()), 0, 0
        batches = self._batches(work, job, client)
        for part in job.parts or (Part(ALL, job.steps),):
            steps = self._private(work, job, client) if work.private else self._plain(batches, job, part.steps)
            loss, rows = self._steps(w, steps, job, torch.from_numpy(part.mask))
            total, seen, done = total + loss, seen + rows, done + part.steps
        told = None if work.private else float(total) / seen
        return Update(job, w.numpy().copy(), len(work.rows), done, told, start_loss)

    def _steps(
        self, w: torch.Tensor, steps: Iterator[tuple[torch.Tensor, torch.Tensor, int]], job: Job, mask: torch.Tensor
    ) -> tuple[torch.Tensor, int]:
        """Take steps on w in place, of the masked weights alone; the summed loss of the rows seen, and their number."""
        received = torch.from_numpy(job.w.astype(np.float32, copy=False))
        a, b = self.strategy.drift(job)
        velocity, total, seen = None, torch.zeros(()), 0
        for gradient, loss, size in steps:
            g = gradient
            if self.changes:
                g = torch.from_numpy(
                    np.asarray(self.strategy.gradient(g.numpy(), self.model.w.numpy(), job), np.float32)
                )
            if a:
                g = g + a * (self.model.w - received)
            if b is not None:
                g = g + torch.from_numpy(b.astype(np.float32, copy=False))
            if len(mask):
                g = g * mask
            velocity = self.spec.optimizer.step(w, g.to(w.dtype), velocity, job.lr)
            total += loss * size
            seen += size
        return total, seen

    def _plain(
        self, batches: Iterator[tuple[torch.Tensor, torch.Tensor]], job: Job, steps: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """Of every step: the gradient of the mean loss, that loss, and the rows it is of."""
        for x, y in islice(batches, steps):
            loss = self._backward(x, y)
            if self.probes:
                at = self.model.w.clone()
                self.model.load(self.strategy.probe(at.numpy(), self.model.g.numpy().copy(), job))
                self._backward(x, y)
                self.model.w.copy_(at)
            yield self.model.g, loss, len(y)

    def _backward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Set the model's gradient to that of a batch's mean loss, and return that loss."""
        self.model.g.zero_()
        loss = self._loss(x, y)
        loss.backward()
        found: torch.Tensor = loss.detach()
        return found

    def _private(self, work: Workload, job: Job, client: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """Of every step: (sum of clipped gradients + noise) / divisor; nothing is said of the loss."""
        private = work.private
        assert private is not None
        # By its name, so that the code of a run in the open does not include it.
        chance = import_module("experiments.training.private").Chance.of(self.spec, work, job.round, client)
        for _ in range(job.steps):
            total = torch.zeros_like(self.model.g)
            for unit in self._units(work, chance.rows(work)):
                self.model.g.zero_()
                self._loss(torch.from_numpy(self.x[unit]), torch.from_numpy(self.y[unit])).backward()
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

    def _batches(self, work: Workload, job: Job, client: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        size = batch_size(self.spec, len(work.rows))
        steps = sum(part.steps for part in job.parts) or job.steps
        for rows in epoch_orders(self.spec, work.rows, steps, self.y, job.round, client):
            x, y = torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows])
            yield from zip(torch.split(x, size), torch.split(y, size), strict=True)


def clip_factor(norm: float, clip_norm: float | None) -> float:
    """min(1, C / norm); a gradient that is not finite counts for nothing."""
    if clip_norm is None:
        return 1.0
    return min(1.0, clip_norm / norm) if 0 < norm < float("inf") else float(norm == 0)
