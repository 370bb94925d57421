"""Local training: the plain autograd loop, one client after the other.

This is the readable reference. A local step is

    g = grad loss(w; batch),   g = strategy.gradient(g, w, w_t),   w, v = optimizer(w, g, v, lr)

with the rows of a client in an order of its own: drawn anew for every epoch from the stream of this round and client,
or as they stand in the file, or sorted by label (the pilot's). The last batch of an epoch may be short; it is neither
dropped nor padded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.seeds import Purpose, stream
from experiments.training.models import Flat
from strategies import Job, Strategy, Update, Workload

if TYPE_CHECKING:
    from experiments.spec import RunSpec

Rows = NDArray[np.int64]


def steps_a_round(spec: RunSpec, num_examples: int) -> int:
    """Minibatch steps of a client with `num_examples` rows: `--local-steps`, or whole epochs."""
    if spec.local_steps is not None:
        return spec.local_steps
    return spec.local_epochs * math.ceil(num_examples / batch_size(spec, num_examples))


def batch_size(spec: RunSpec, num_examples: int) -> int:
    """Rows of a minibatch; `full` is all of the client's."""
    return num_examples if spec.batch_size == "full" else min(int(spec.batch_size), num_examples)


def learning_rate(spec: RunSpec, round_: int) -> float:
    """`--client-lr` under `--lr-schedule` in round 1..rounds; the first round always has the full rate."""
    done = (round_ - 1) / spec.rounds  # in [0, 1)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": (1.0 + math.cos(math.pi * done)) / 2}
    return spec.client_lr * factor[spec.lr_schedule]


def epochs(spec: RunSpec, rows: Rows, labels: NDArray[np.int64], round_: int, client: int) -> Iterator[Rows]:
    """The client's rows in the order of each epoch of a round, without end."""
    if spec.row_order == "label":
        rows = rows[np.argsort(labels[rows], kind="stable")]
    rng = stream(spec.seed, Purpose.ORDER, round_, client)
    while True:
        yield rng.permutation(rows) if spec.row_order == "shuffled" else rows


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
        received = torch.from_numpy(job.w)[None]  # (1, d)
        memory = {name: torch.from_numpy(np.asarray(value, np.float32))[None] for name, value in job.memory.items()}
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
                g = self.strategy.gradient(g[None], model.w[None], received, memory)[0]
            velocity = self.spec.optimizer.step(model.w, g, velocity, lr)
            total += loss.detach() * len(y)
            seen += len(y)
        return Update(job, model.w.numpy().copy(), len(work.rows), work.steps, float(total) / seen)

    def _batches(self, work: Workload, round_: int, client: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        size = batch_size(self.spec, len(work.rows))
        left = work.steps
        for rows in epochs(self.spec, work.rows, self.y, round_, client):
            x, y = torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows])
            for batch in zip(torch.split(x, size), torch.split(y, size), strict=True):
                if left == 0:
                    return
                yield batch
                left -= 1
