"""What is measured: one epoch of minibatch SGD by equal clients over the rows of UCI HAR, or of its shape."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from experiments.config.spec import RunSpec
from experiments.data import load_default
from experiments.federation.run import About, RunData, prepare
from experiments.federation.seeds import Purpose, stream
from experiments.training.evaluation import Rows
from experiments.training.schedule import job, steps_a_round
from strategies.base import Job, Workload

CLASSES = ("walking", "upstairs", "downstairs", "sitting", "standing", "laying")
ROUNDS, SHORT = 25, 20  # of a whole run, and of a run that the frameworks are compared by
SHAPE = (7352, 2947, 561)  # training rows, test rows, features of UCI HAR


@dataclass(frozen=True)
class Work:
    """One round of local training.

    Attributes:
        x, y: the training rows (n, inputs) and labels (n,); a client holds n // clients of them, in order.
        widths: of the model's input, each hidden layer and the output.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    widths: tuple[int, ...]
    clients: int
    batch: int = 32
    lr: float = 0.05

    @property
    def model(self) -> str:
        """Its widths, as in `561-128-64-6`."""
        return "-".join(map(str, self.widths))

    @property
    def name(self) -> str:
        """As a column is headed."""
        return f"{self.model}, {self.clients} clients"

    @property
    def rows(self) -> int:
        """Rows of a client."""
        return len(self.y) // self.clients

    def batches(self) -> list[slice]:
        """A client's minibatches, the short last one included, as slices of its rows."""
        return [slice(start, min(start + self.batch, self.rows)) for start in range(0, self.rows, self.batch)]

    def stacked(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Rows (K, n, inputs) and labels (K, n) by client."""
        used = self.clients * self.rows
        return self.x[:used].reshape(self.clients, self.rows, -1), self.y[:used].reshape(self.clients, self.rows)

    def spec(self, **options: object) -> RunSpec:
        """The options of a run that does this work in every round."""
        model = f"mlp(hidden={list(self.widths[1:-1])})"
        own = {"model": model, "clients": self.clients, "batch_size": self.batch, "client_lr": self.lr, "validation": 0}
        return RunSpec.from_options({**own, **options})

    def workloads(self, spec: RunSpec) -> list[Workload]:
        """Who trains on which rows."""
        starts = range(0, self.clients * self.rows, self.rows)
        return [Workload(np.arange(start, start + self.rows), steps_a_round(spec, self.rows)) for start in starts]

    def first(self) -> NDArray[np.float32]:
        """First weights (d,), a layer a block (inputs + 1, outputs)."""
        rng = stream(0, Purpose.INITIAL_WEIGHTS)
        return np.asarray(self.spec().model.first_weights((self.widths[0],), self.widths[-1], rng))

    def job(self, steps: int | None = None) -> Job:
        """A client's training in a round, of one epoch unless said otherwise."""
        spec = self.spec()
        return job(spec, self.first(), 1, steps or steps_a_round(spec, self.rows))

    def layers(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """The first weights as a matrix (inputs, outputs) and a bias (outputs,) for each layer."""
        w, layers, start = self.first(), [], 0
        for inputs, outputs in zip(self.widths, self.widths[1:], strict=False):
            block = w[start : start + (inputs + 1) * outputs].reshape(inputs + 1, outputs)
            layers.append((block[:-1].copy(), block[-1].copy()))
            start += block.size
        return layers


def measured_data() -> RunData:
    """UCI HAR where it can be had, else made-up rows of its shape: a product takes as long whatever it multiplies."""
    dataset, message = load_default()
    return prepare(dataset, "official") if message is None else made_up(*SHAPE)


def made_up(train: int, test: int, features: int) -> RunData:
    """Normal rows with labels at random, by thirty persons."""
    rng = np.random.default_rng(0)
    total = train + test
    x = rng.normal(size=(total, features)).astype(np.float32)
    y, person = rng.integers(0, len(CLASSES), total), np.sort(rng.integers(0, 30, total))
    both = Rows(x, y, person)
    title = f"made-up rows of UCI HAR's shape ({train} + {test} of {features} features)"
    about = About("table", title, "features", CLASSES, f"made-up-{train}-{test}-{features}", (), False, 0)
    return RunData(about, _part(both, slice(train)), person[:train], _part(both, slice(train, None)))


def _part(rows: Rows, which: slice) -> Rows:
    return replace(rows, x=rows.x[which], y=rows.y[which], person=rows.person[which])
