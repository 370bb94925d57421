"""Our strategies in a Flower app of your own: one call plans a training, and its two sides go into your two apps.

    plan = lift("dp_sgd(epsilon=8)", x, y, offices, model=network, rounds=5)
    result = plan.start(grid)                  # in the ServerApp
    return plan.answer(message, context)       # in the ClientApp, for train, query and evaluate messages

`lift` prepares the strategy as the harness does: it solves the noise that a budget buys, refuses what the strategy
cannot run with, and takes the keys of a protected sum. A private or protected strategy that nobody prepared raises. The
same rows, options and seed give the bits of `python -m experiments run` (on another machine, too, where `experiments`
is imported before NumPy and PyTorch).

Every process makes the plan anew, by the same call. It needs the rows of all offices, as a simulation has them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result
from numpy.typing import ArrayLike, NDArray

from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.engines.flower import arrays_in
from experiments.engines.simulation import ContextMemory
from experiments.federation.clients import Clients
from experiments.federation.rounds import Outcome
from experiments.federation.run import About, RunData, Sides, set_up
from experiments.training.evaluation import Evaluator, Rows, from_metrics
from experiments.training.kernels import machine_code
from experiments.training.models import Model, Shape
from partitions import Deal, Pool
from partitions.measures import measure
from strategies.base import Strategy
from strategies.protection.base import Protected
from strategies.protection.keys import Keys
from strategies.protection.vault import make_vault

if TYPE_CHECKING:
    from torch import nn

OPTIONS = (
    "fraction", "rounds", "local_epochs", "local_steps", "batch_size", "client_lr", "lr_schedule", "optimizer", "loss",
    "standardise", "row_order", "reject_nonfinite", "trainer", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class OwnModel(Model):
    """A PyTorch module of the user's.

    Attributes:
        make: makes it; it returns logits (batch, classes).
    """

    notation: ClassVar[str] = "own"

    make: Callable[[], nn.Module]

    def module(self, shape: Shape, classes: int) -> nn.Module:
        return self.make()


def lift(
    strategy: str | Strategy,
    x: ArrayLike,
    y: ArrayLike,
    offices: Sequence[ArrayLike],
    *,
    model: str | Callable[[], nn.Module],
    test: tuple[ArrayLike, ArrayLike] | None = None,
    persons: ArrayLike | None = None,
    overlap: int = 0,
    keys: Path | None = None,
    **options: Any,
) -> Lifted:
    """The plan of a training, for both of your apps.

    Args:
        strategy: in notation, e.g. `fedprox(mu=0.01)`, or an object of yours.
        x, y: training rows (n, ...) and their labels (n,), 0, 1, ...
        offices: row numbers of every office; no row is in two of them. Office k is the node of `partition-id` k.
        model: in notation, e.g. `mlp(hidden=[64])`, which trains in the compiled kernels, or a function that makes a
            PyTorch module.
        test: rows and labels to score on. Under protection the offices hold them, and the model.
        persons: (n,) whose row it is, for `unit=person`; by default all rows of an office are one person's.
        overlap: how many following rows share samples with a row, which the privacy report counts.
        keys: file of `make_keys`, for a protected strategy.
        options: `rounds`, `client_lr`, `batch_size`, `local_epochs`, `seed` and the others in OPTIONS, as of
            `python -m experiments run --help`.

    Raises:
        UserError: rows, offices or options that do not fit.
        StrategyError: what the strategy cannot run with; a protected one without keys.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(200, 4)), rng.integers(2, size=200)
        >>> plan = lift("dp_sgd(epsilon=8)", x, y, np.split(np.arange(200), 4), model="mlp(hidden=[])", rounds=3)
        >>> round(plan.privacy["epsilon"], 2)
        8.0
    """
    for name in sorted(options.keys() - set(OPTIONS)):
        raise UserError(f"{name} is no option of a lifted strategy; expected {', '.join(OPTIONS)}")
    written = {name: value for name, value in (("strategy", strategy), ("model", model)) if isinstance(value, str)}
    spec = RunSpec.from_options({"standardise": "none", **options, **written})
    if isinstance(strategy, Strategy):
        spec = dataclasses.replace(spec, strategy=strategy)
    if not isinstance(model, str):
        spec = dataclasses.replace(spec, model=OwnModel(model))
    spec = dataclasses.replace(spec, clients=len(offices))
    data = _data(np.asarray(x, np.float32), np.asarray(y, np.int64), offices, persons, test, overlap)
    machine_code.make_ready(spec, data.train.x.shape[1:], len(data.about.classes))
    sides = set_up(spec, data, _deal(data, offices), keys=Keys(keys) if spec.strategy.protected else None)
    return Lifted(spec, sides)


@dataclass(frozen=True)
class Lifted:
    """What both apps call; `lift` makes it.

    Attributes:
        spec: the options.
        sides: what the server and the offices are given.
    """

    spec: RunSpec
    sides: Sides

    def start(self, grid: Grid, evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None) -> Result:
        """Train all rounds by the `start` of Flower's strategies, and return its result.

        Args:
            grid: of the ServerApp.
            evaluate_fn: as Flower calls it after every round; by default the model is scored on the test rows, if any.
                Under protection the server has no model, so that an office scores it.
        """
        server = self.sides.server
        if not self.spec.strategy.protected:
            evaluate_fn = evaluate_fn or self._score
        return server.strategy().start(
            server.grid(grid), server.arrays(), num_rounds=self.spec.rounds, evaluate_fn=evaluate_fn
        )

    def answer(self, message: Message, context: Context) -> Message:
        """An office's answer: train, answer a phase of the strategy, or score. It remembers in the node's context."""
        office = int(context.node_config["partition-id"])
        return self._clients.answer([message], [office], ContextMemory(context))[0]

    @cached_property
    def _clients(self) -> Clients:
        """The offices in this process."""
        return dataclasses.replace(self.sides.clients, processes=1).start()

    @property
    def privacy(self) -> dict[str, Any] | None:
        """What all rounds together spend, as records say it (`epsilon`, `delta`, `unit`, `observer`, ...); None where
        nothing is promised."""
        plan, rounds = self.sides.prepared.privacy, self.spec.rounds
        if plan is None:
            return None
        found: dict[str, Any] = plan.report(Outcome(rounds=[{}] * rounds, trained=[rounds] * self.spec.clients), {})[0]
        return found

    def module(self, arrays: ArrayRecord) -> nn.Module:
        """The PyTorch module with the weights of a round, e.g. `module(result.arrays)`."""
        from experiments.training.flat import Flat

        server = self.sides.server
        flat = Flat(self.spec.model.module(server.shape, server.classes))
        flat.load(next(iter(arrays_in(arrays).values())))
        return flat.module

    def accuracies(self, result: Result) -> list[float | None]:
        """Of every round, on the test rows; empty without any, or where an `evaluate_fn` of yours scored."""
        scored = result.evaluate_metrics_serverapp
        if self.spec.strategy.protected:
            scored = result.evaluate_metrics_clientapp
        classes = self.sides.server.classes
        return [from_metrics(scored[number], classes).test_accuracy for number in sorted(scored) if number]

    def _score(self, number: int, arrays: ArrayRecord) -> MetricRecord | None:
        """The figures of a round's model, as an office would send them."""
        server = self.sides.server
        if server.test is None:
            return None
        models = np.atleast_2d(next(iter(arrays_in(arrays).values())))
        return Evaluator(server.spec.model, server.classes, server.shape, server.test, ())(models).metrics()


def make_keys(strategy: str | Strategy, offices: int, path: Path) -> None:
    """Make the keys of one protected training, in a file that only its owner may read.

    The offices share it and the server must not have it: here both run on one machine, so that it shows the protocol
    and protects nobody. A plain strategy needs none, and no file is made.

    Raises:
        ProtectionError: the file exists.
    """
    built = RunSpec.from_options({"strategy": strategy}).strategy if isinstance(strategy, str) else strategy
    if isinstance(built, Protected):
        make_vault(built.make_keys(offices)).save(path)


def _data(
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    offices: Sequence[ArrayLike],
    persons: ArrayLike | None,
    test: tuple[ArrayLike, ArrayLike] | None,
    overlap: int,
) -> RunData:
    """The rows as a run takes them.

    Raises:
        UserError: columns of different lengths, or rows that are not there or stand in two offices.
    """
    owners = np.full(len(x), -1)
    for office, rows in enumerate(map(_rows, offices)):
        if not len(rows) or rows.min() < 0 or rows.max() >= len(x):
            raise UserError(f"office {office} holds {len(rows)} rows; expected some, numbered 0 to {len(x) - 1}")
        if len(np.unique(rows)) < len(rows) or (owners[rows] >= 0).any():
            raise UserError(f"office {office} holds rows that stand twice; expected every row in one office")
        owners[rows] = office
    person = owners if persons is None else np.asarray(persons, np.int64)
    if not len(x) == len(y) == len(person):
        raise UserError(f"x, y and persons are of {len(x)}, {len(y)} and {len(person)} rows; expected as many of each")
    scored = None
    if test is not None:
        labels = np.asarray(test[1], np.int64)
        scored = Rows(np.asarray(test[0], np.float32), labels, np.zeros(len(labels), np.int64))
    highest = max(y.max(), -1 if scored is None else scored.y.max())
    classes = tuple(map(str, range(max(int(highest) + 1, 2))))
    about = About("own", "rows of the user's", "features", classes, "", (), standardise=False, overlap=overlap)
    return RunData(about, Rows(x, y, person), np.zeros(len(y), np.int64), scored)


def _deal(data: RunData, offices: Sequence[ArrayLike]) -> Deal:
    """Who trains on which rows, as given; nobody holds rows to validate on."""
    train = [np.sort(_rows(rows)) for rows in offices]
    pool = Pool(data.train.y, data.train.person, data.recording, len(data.about.classes))
    nobody = (np.empty(0, np.int64),) * len(train)
    return Deal(tuple(train), nobody, 0, measure(pool, train), "")


def _rows(rows: ArrayLike) -> NDArray[np.int64]:
    return np.asarray(rows, np.int64)
