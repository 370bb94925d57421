"""What a client does in a round: how many steps, at which rate, on which rows in which order.

The rows of a client are in an order of its own: drawn anew for every epoch from the stream of this round and client, or
as they stand in the file, or sorted by label (the pilot's). The last batch of an epoch may be short; it is neither
dropped nor padded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments.federation.seeds import Purpose, stream
from experiments.training.losses.base import NO_TERMS, Terms
from strategies.base import Job, Workload

if TYPE_CHECKING:
    from experiments.config.spec import RunSpec

Rows = NDArray[np.int64]


def batch_size(spec: RunSpec, num_examples: int) -> int:
    """Rows of a minibatch; `full` is all of the client's."""
    return num_examples if spec.batch_size == "full" else min(int(spec.batch_size), num_examples)


def steps_an_epoch(spec: RunSpec, num_examples: int) -> int:
    """Minibatches in a client's rows, a short one included."""
    return math.ceil(num_examples / batch_size(spec, num_examples))


def steps_a_round(spec: RunSpec, num_examples: int) -> int:
    """Minibatch steps of a client with `num_examples` rows: `--local-steps`, or whole epochs."""
    if spec.local_steps is not None:
        return spec.local_steps
    return spec.local_epochs * steps_an_epoch(spec, num_examples)


def learning_rate(spec: RunSpec, round_: int) -> float:
    """`--client-lr` under `--lr-schedule` in round 1..rounds; the first round always has the full rate."""
    done = (round_ - 1) / spec.rounds  # in [0, 1)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": (1.0 + math.cos(math.pi * done)) / 2}
    return spec.client_lr * factor[spec.lr_schedule]


def job(spec: RunSpec, w: NDArray[np.float32], round_: int, steps: int) -> Job:
    """FedAvg's training from w (d,) in a round."""
    return Job(w, round_, {}, learning_rate(spec, round_), steps, spec.optimizer.momentum)


def terms_of(spec: RunSpec, y: NDArray[np.int64], workloads: Sequence[Workload], classes: int) -> tuple[Terms, ...]:
    """What the loss makes of each client's class counts."""
    if not spec.loss.uses_counts:
        return (NO_TERMS,) * len(workloads)
    return tuple(spec.loss.terms(np.bincount(y[work.rows], minlength=classes)) for work in workloads)


def epoch_orders(spec: RunSpec, rows: Rows, steps: int, labels: NDArray[np.int64], round_: int, client: int) -> Rows:
    """The client's rows in the order of each epoch that its steps of a round reach into, (epochs, n)."""
    epochs = math.ceil(steps / steps_an_epoch(spec, len(rows)))
    if spec.row_order == "label":
        rows = rows[np.argsort(labels[rows], kind="stable")]
    if spec.row_order != "shuffled":
        return np.tile(rows, (epochs, 1))
    rng = stream(spec.seed, Purpose.ORDER, round_, client)
    return np.stack([rng.permutation(rows) for _ in range(epochs)])
