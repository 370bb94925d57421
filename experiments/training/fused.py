"""The fast trainer of linear-and-ReLU models: `kernel.train` behind the interface of the plain loop.

Clients are trained one after the other, each as if it were alone, so an office's bits do not depend on who else trains.
The plain loop (`local.ReferenceTrainer`) is the oracle; `python -m experiments bench` measures both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments.training import kernel
from experiments.training.schedule import batch_size, epoch_orders, learning_rate
from strategies import Job, Strategy, Update, Workload

if TYPE_CHECKING:
    from experiments.spec import RunSpec

Floats = NDArray[np.float32]
NONE, NO_BOUNDS, NO_WORDS = np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.uint32)


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

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """Squared length of every row, with the 1 that the bias reads, (n,)."""
        lengths: NDArray[np.float64] = np.einsum("ij,ij->i", self.x, self.x, dtype=np.float64) + 1.0
        return lengths

    def train(self, jobs: Sequence[Job], clients: Sequence[int]) -> list[Update]:
        """One update a job, in the order given."""
        return [self._one(job, self.workloads[client], client) for job, client in zip(jobs, clients, strict=True)]

    def _one(self, job: Job, work: Workload, client: int) -> Update:
        if not work.steps:  # left out by an audit
            return Update(job, job.w, len(work.rows), 0, None)
        if self.strategy.changes_gradient:
            return self._step_by_step(job, work, client)
        return (self._private_round if work.private else self._whole_round)(job, work, client)

    def _whole_round(self, job: Job, work: Workload, client: int) -> Update:
        """All steps of the round in one compiled call."""
        lr, sgd = learning_rate(self.spec, job.round), self.spec.optimizer
        a, b = self.strategy.drift(job.w, job.memory)
        received = job.w.astype(np.float32, copy=False)
        w = received.copy()
        drift = (received if a else NONE, NONE if b is None else b.astype(np.float32, copy=False))
        rows = (self.widths, self.x, self.y, epoch_orders(self.spec, work, self.y, job.round, client))
        size = batch_size(self.spec, len(work.rows))
        loss = kernel.train(w, *drift, *rows, size, work.steps, lr, sgd.momentum, sgd.weight_decay, a)
        return Update(job, w, len(work.rows), work.steps, loss)

    def _private_round(self, job: Job, work: Workload, client: int) -> Update:
        """A compiled step at a time: what is drawn for it comes from a stream cipher, outside."""
        lr, sgd = learning_rate(self.spec, job.round), self.spec.optimizer
        a, b = self.strategy.drift(job.w, job.memory)
        received = job.w.astype(np.float32, copy=False)
        w = received.copy()
        v = np.zeros_like(w)
        drift = (received if a else NONE, NONE if b is None else b.astype(np.float32, copy=False))
        step = PrivateStep(self, work, job.round, client)
        for _ in range(work.steps):
            step(w, v, drift, lr, sgd.momentum, sgd.weight_decay, a)
        if step.private.shared:  # noised later, so the change itself counts, which w rounds to its own last digit
            return Update(job, received.astype(np.float64) + v, len(work.rows), work.steps, None)
        return Update(job, w, len(work.rows), work.steps, None)

    def _step_by_step(self, job: Job, work: Workload, client: int) -> Update:
        """A compiled gradient at every step, for a strategy whose hook is more than a drift."""
        import torch  # what hooks are written for; no other path here needs it

        lr = learning_rate(self.spec, job.round)
        received = torch.from_numpy(job.w.astype(np.float32, copy=False))[None]
        memory = {name: torch.from_numpy(np.asarray(value, np.float32))[None] for name, value in job.memory.items()}
        a, b = self.strategy.drift(job.w, job.memory)
        w = received[0].clone()
        velocity, total, seen = None, 0.0, 0
        gradients = self._private if work.private else self._plain
        steps = gradients(work, job.round, client, w.numpy())
        if work.private and work.private.shared:  # of its one step the change counts, as in `_private_round`
            w = w.double()
        for loss, gradient, size in steps:
            g = self.strategy.gradient(torch.from_numpy(gradient)[None], w[None], received, memory)[0]
            if a:
                g = g + a * (w - received[0])
            if b is not None:
                g = g + torch.from_numpy(b.astype(np.float32, copy=False))
            velocity = self.spec.optimizer.step(w, g, velocity, lr)
            total += loss * size
            seen += size
        return Update(job, w.numpy(), len(work.rows), work.steps, None if work.private else total / seen)

    def _plain(self, work: Workload, round_: int, client: int, w: Floats) -> Iterator[tuple[float, Floats, int]]:
        """Of every step: its mean loss, the gradient at w as it then is, and its rows."""
        size = batch_size(self.spec, len(work.rows))
        batches = [
            order[start : start + size]
            for order in epoch_orders(self.spec, work, self.y, round_, client)
            for start in range(0, len(order), size)
        ]
        for rows in batches[: work.steps]:
            g = np.empty_like(w)
            loss = kernel.gradient(w, g, self.widths, self.x, self.y, rows)
            yield loss, g, len(rows)

    def _private(self, work: Workload, round_: int, client: int, w: Floats) -> Iterator[tuple[float, Floats, int]]:
        """As `_plain`, of the clipped and noised gradient; nothing is said of the loss."""
        step = PrivateStep(self, work, round_, client)
        for _ in range(work.steps):
            v = np.zeros_like(w)
            step(w.copy(), v, (NONE, NONE), 1.0, 0.0, 0.0, 0.0)
            yield 0.0, -v, 0


class PrivateStep:
    """The private steps of a client's round, one at each call."""

    def __init__(self, trainer: FusedTrainer, work: Workload, round_: int, client: int) -> None:
        from experiments.training import ghost  # compiled: what trains in the open does without
        from experiments.training.private import Chance

        assert work.private is not None
        self.step, self.trainer, self.work, self.private = ghost.step, trainer, work, work.private
        self.chance = Chance.of(trainer.spec, work, round_, client)
        self.bounds = NO_BOUNDS if self.private.persons is None else self.private.persons

    def __call__(
        self, w: Floats, v: Floats, drift: tuple[Floats, Floats], lr: float, momentum: float, decay: float, a: float
    ) -> None:
        """`ghost.step`, of the units that are drawn and under the noise that is drawn."""
        private, trainer = self.private, self.trainer
        clip, sigma = private.clip_norm or 0.0, private.scale * private.noise_multiplier * (private.clip_norm or 0.0)
        rows = self.chance.rows(self.work)
        words = self.chance.words(len(w)) if sigma else NO_WORDS
        data = (trainer.widths, trainer.x, trainer.y, trainer.lengths, rows, self.bounds, words)
        self.step(w, v, *drift, *data, clip, sigma, private.divisor, lr, momentum, decay, a)
