"""The fast trainer of linear-and-ReLU models: `kernel.train` behind the interface of the plain loop.

Clients are trained one after the other, each as if it were alone, so an office's bits do not depend on who else trains.
The plain loop (`local.ReferenceTrainer`) is the oracle; `python -m experiments bench` measures both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.training.kernels import kernel
from experiments.training.schedule import batch_size, epoch_orders, terms_of
from strategies.base import Job, Part, Strategy, Update, Workload

if TYPE_CHECKING:
    from experiments.config.spec import RunSpec

Floats = NDArray[np.float32]
ALL = np.empty(0, np.bool_)  # the mask of a whole model
NONE = np.empty(0, np.float32)


class FusedTrainer:
    """Train the jobs of a round.

    Args:
        spec: the run's options.
        strategy: whose terms act on every step.
        widths: of the input, each hidden layer and the output.
        x, y: the training rows (n, ...) and their labels (n,).
        workloads: what each client trains on, by client number.
    """

    def __init__(
        self,
        spec: RunSpec,
        strategy: Strategy,
        widths: tuple[int, ...],
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        workloads: Sequence[Workload],
    ) -> None:
        self.spec, self.widths, self.y, self.workloads = spec, np.array(widths), y, workloads
        self.x = np.ascontiguousarray(x.reshape(len(x), -1))
        self.strategy = strategy
        self.terms = terms_of(spec, y, workloads, widths[-1])
        self.by_steps = strategy.overrides("gradient", "probe")
        # By its name, so that the code of a run in the open does not include it.
        private = any(work.private for work in workloads)
        self.private: Any = import_module("experiments.training.private") if private else None

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """Squared length of every row, with the 1 that the bias reads, (n,)."""
        lengths: NDArray[np.float64] = np.einsum("ij,ij->i", self.x, self.x, dtype=np.float64) + 1.0
        return lengths

    def train(self, jobs: Sequence[Job], clients: Sequence[int]) -> list[Update]:
        """One update a job, in the order given."""
        return [self._one(job, self.workloads[client], client) for job, client in zip(jobs, clients, strict=True)]

    def mean_loss(self, w: Floats, client: int) -> float:
        """Mean loss of a model (d,) over a client's rows."""
        rows = self.workloads[client].rows
        loss: float = kernel.gradient(w, np.empty_like(w), self.widths, self.x, self.y, rows, *self._terms(client))
        return loss

    def _one(self, job: Job, work: Workload, client: int) -> Update:
        if not work.steps:  # left out by an audit
            return Update(job, job.w, len(work.rows), 0, None)
        start_loss = self.mean_loss(job.w, client) if job.wants_loss else None
        if self.by_steps or job.parts:
            train = self._step_by_step
        else:
            train = self._private_round if work.private else self._whole_round
        w, steps, loss = train(job, work, client)
        return Update(job, w, len(work.rows), steps, loss, start_loss)

    def _terms(self, client: int) -> tuple[Floats, Floats]:
        """Shift and weight of the client's loss."""
        terms = self.terms[client]
        return terms.shift, terms.weight

    def _drift(self, job: Job, received: Floats) -> tuple[float, tuple[Floats, Floats]]:
        """a, and (w_t, b) of the strategy's drift, empty where they are not needed."""
        a, b = self.strategy.drift(job)
        return a, (received if a else NONE, NONE if b is None else b.astype(np.float32, copy=False))

    def _whole_round(self, job: Job, work: Workload, client: int) -> tuple[Floats, int, float]:
        """All steps of the round in one compiled call."""
        sgd = self.spec.optimizer
        received = job.w.astype(np.float32, copy=False)
        w = received.copy()
        a, drift = self._drift(job, received)
        orders = epoch_orders(self.spec, work.rows, job.steps, self.y, job.round, client)
        size = batch_size(self.spec, len(work.rows))
        loss: float = kernel.train(
            w, *drift, self.widths, self.x, self.y, orders, *self._terms(client), size, job.steps, job.lr,
            sgd.momentum, sgd.weight_decay, a,
        )  # fmt: skip
        return w, job.steps, loss

    def _private_round(self, job: Job, work: Workload, client: int) -> tuple[Any, int, None]:
        """A compiled step at a time: what is drawn for it comes from a stream cipher, outside."""
        sgd = self.spec.optimizer
        received = job.w.astype(np.float32, copy=False)
        w = received.copy()
        v = np.zeros_like(w)
        a, drift = self._drift(job, received)
        step = self.private.PrivateStep(self, work, job.round, client)
        for _ in range(job.steps):
            step(w, v, drift, job.lr, sgd.momentum, sgd.weight_decay, a)
        if step.private.shared:  # noised later, so the change itself counts, which w rounds to its own last digit
            return received.astype(np.float64) + v, job.steps, None
        return w, job.steps, None

    def _step_by_step(self, job: Job, work: Workload, client: int) -> tuple[Any, int, float | None]:
        """A compiled gradient at every step, for a strategy whose hook is more than a drift."""
        import torch  # which the optimizer's single step is written for; no other path here needs it

        received = torch.from_numpy(job.w.astype(np.float32, copy=False))
        a, b = self.strategy.drift(job)
        point = received.clone()  # where gradients are taken
        # Noised later: of its one step the change counts, as in `_private_round`.
        w = point.double() if work.private and work.private.shared else point
        total, seen, done = 0.0, 0, 0
        batches = self._batches(job, work, client)
        for part in job.parts or (Part(ALL, job.steps),):
            steps = self._private(work, job, client, point.numpy())
            if not work.private:
                steps = self._plain(islice(batches, part.steps), job, client, point.numpy())
            velocity, mask = None, torch.from_numpy(part.mask)
            for loss, gradient, size in steps:
                g = torch.from_numpy(np.asarray(self.strategy.gradient(gradient, point.numpy(), job), np.float32))
                if a:
                    g = g + a * (point - received)
                if b is not None:
                    g = g + torch.from_numpy(b.astype(np.float32, copy=False))
                if len(mask):
                    g = g * mask
                velocity = self.spec.optimizer.step(w, g.to(w.dtype), velocity, job.lr)
                total += loss * size
                seen += size
            done += part.steps
        return w.numpy(), done, None if work.private else total / seen

    def _batches(self, job: Job, work: Workload, client: int) -> Iterator[NDArray[np.int64]]:
        """The rows of every minibatch of a round, in order."""
        size = batch_size(self.spec, len(work.rows))
        steps = sum(part.steps for part in job.parts) or job.steps
        for order in epoch_orders(self.spec, work.rows, steps, self.y, job.round, client):
            for start in range(0, len(order), size):
                yield order[start : start + size]

    def _plain(
        self, batches: Iterator[NDArray[np.int64]], job: Job, client: int, w: Floats
    ) -> Iterator[tuple[float, Floats, int]]:
        """Of every step: its mean loss, the gradient at w as it then is (or at its probe), and its rows."""
        for rows in batches:
            g = np.empty_like(w)
            loss = kernel.gradient(w, g, self.widths, self.x, self.y, rows, *self._terms(client))
            if self.strategy.overrides("probe"):
                probe = np.asarray(self.strategy.probe(w.copy(), g, job), np.float32)
                g = np.empty_like(w)
                kernel.gradient(probe, g, self.widths, self.x, self.y, rows, *self._terms(client))
            yield loss, g, len(rows)

    def _private(self, work: Workload, job: Job, client: int, w: Floats) -> Iterator[tuple[float, Floats, int]]:
        """As `_plain`, of the clipped and noised gradient; nothing is said of the loss."""
        step = self.private.PrivateStep(self, work, job.round, client)
        for _ in range(job.steps):
            v = np.zeros_like(w)
            step(w.copy(), v, (NONE, NONE), 1.0, 0.0, 0.0, 0.0)
            yield 0.0, -v, 0
