"""The server side of a run: Flower's own round loop over our Grid, and what comes of it.

`ServerSide` pickles and is called with the Grid that an engine offers. The loop is `Strategy.start` of Flower:
configure, send, aggregate, evaluate, for every round. A run may be stopped after any round and go on from its
`Checkpoint`, with the bits of a run that was never stopped.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray

from experiments.engines.grid import Diverged, OrderedGrid, who_is_who
from experiments.seeds import Purpose, stream
from experiments.training.evaluation import Evaluation, Evaluator, Rows, from_metrics
from strategies import Federation, Memory
from strategies.protection.meter import Meter
from strategies.wire import pack, unpack

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy as FlowerStrategy

    from experiments.spec import RunSpec


@dataclass
class Outcome:
    """What a federation left behind.

    Attributes:
        rounds: one row a finished round, with the record's keys.
        models: (M, d) final models, M = 1 or one an office.
        evaluation: of the final models.
        diverged: why the run could not go on, or None.
        bytes_up, bytes_down, rejected, dropped: by client.
        trained: rounds that each client was asked to train in.
        bytes_by_round: of all clients, by (`up` or `down`, round), under protection alone.
        seconds: by phase.
        meters: of a protected run's server, and of its clients where the engine can see them.
    """

    rounds: list[dict[str, Any]] = field(default_factory=list)
    models: NDArray[np.float32] | None = None
    evaluation: Evaluation | None = None
    diverged: str | None = None
    bytes_up: list[int] = field(default_factory=list)
    bytes_down: list[int] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    bytes_by_round: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    meters: list[Meter] = field(default_factory=list)

    def add(self, grid: OrderedGrid) -> None:
        """What a Grid counted since it was made."""
        for name in ("bytes_up", "bytes_down", "rejected", "dropped", "trained"):
            counted = getattr(grid, name)
            before = getattr(self, name) or [0] * len(counted)
            setattr(self, name, [old + new for old, new in zip(before, counted, strict=True)])
        self.bytes_by_round.update(grid.bytes_by_round)
        self.seconds["train_s"] += grid.train_s


@dataclass(frozen=True)
class Checkpoint:
    """A federation between two rounds: all that its later rounds depend on. It pickles.

    Attributes:
        outcome: up to here.
        arrays: the model, or models, as the server would send them next; empty under protection.
        server: attributes of the Flower strategy.
        memories: what offices remember, by client.
        generators: states of Python's and NumPy's global generators, for strategies that draw from them.
    """

    outcome: Outcome
    arrays: NDArray[Any]
    server: dict[str, Any]
    memories: dict[int, Memory]
    generators: tuple[Any, Any] | None

    @property
    def round(self) -> int:
        """Rounds done."""
        return len(self.outcome.rounds)


@dataclass(frozen=True)
class ServerSide:
    """Everything the server of a run needs, and no training row.

    Attributes:
        spec: the run's options.
        first: first weights of the model, (d,); empty under protection, where the offices make them.
        clients: number of clients.
        classes, shape: of the data.
        test: the common test rows, or None.
        validation: validation rows by office.
        measured, noise_multiplier: as in `Federation`.
    """

    spec: RunSpec
    first: NDArray[np.float32]
    clients: int
    classes: int
    shape: tuple[int, ...]
    test: Rows | None
    validation: tuple[Rows, ...]
    measured: frozenset[int] | None = None
    noise_multiplier: float = 0.0

    def __call__(self, inner: Grid) -> Outcome:
        """Run all rounds."""
        return self.advance(inner, None, self.spec.rounds)[0]

    def advance(self, inner: Grid, start: Checkpoint | None, until: int) -> tuple[Outcome, Checkpoint | None]:
        """Run from a checkpoint, or from the first weights, to the end of round `until`.

        Returns:
            the outcome, that of earlier rounds included, and a checkpoint without the offices' memories, which are
            the engine's; None where the run diverged.
        """
        spec = self.spec
        cohort = spec.cohort(self.clients)
        done = start.round if start else 0
        grid = OrderedGrid(
            inner,
            who_is_who(inner, self.clients),
            spec.seed,
            cohort,
            spec.reject_nonfinite and spec.strategy.central_dp is None,  # who is left out would depend on the others
            rounds_done=done,
            dropout=spec.dropout,
            protected=spec.strategy.protected,
            poisson=_poisson(spec),
        )
        federation = Federation(self.clients, cohort, len(self.first), spec.seed, self.measured, self.noise_multiplier)
        if spec.strategy.global_random:
            seed = int(stream(spec.seed, Purpose.STRATEGY).integers(2**32))
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
        watch = _Watch(self, done)
        strategy = spec.strategy.server(grid, federation)
        arrays = spec.strategy.initial(self.first, federation)
        if start:
            watch.outcome, arrays = copy.deepcopy(start.outcome), start.arrays
            vars(strategy).update(copy.deepcopy(start.server))
            if start.generators:
                random.setstate(start.generators[0])
                np.random.set_state(start.generators[1])  # noqa: NPY002
        watched = watch.over(strategy)
        try:
            first = ArrayRecord() if spec.strategy.protected else pack(arrays)
            watched.start(grid, initial_arrays=first, num_rounds=until - done, evaluate_fn=watch.evaluate)
        except Diverged as reason:
            watch.outcome.diverged = str(reason)
        outcome = watch.outcome
        outcome.add(grid)
        if hasattr(strategy, "meter"):  # a checkpoint has carried it on; those of the clients stay beside it
            outcome.meters[:1] = [strategy.meter]
        if outcome.diverged:
            return outcome, None
        generators = None
        if spec.strategy.global_random:
            generators = (random.getstate(), np.random.get_state())  # noqa: NPY002
        return outcome, Checkpoint(outcome, watch.arrays, _state(strategy), {}, generators)


def _poisson(spec: RunSpec) -> bool:
    """Whether clients take part by coins of their own."""
    central = spec.strategy.central_dp
    return central is not None and central.sampling == "poisson"


def _state(strategy: FlowerStrategy) -> dict[str, Any]:
    """What a Flower strategy holds besides functions and its Grid: its state is among it, in place or rebound."""
    return {
        name: value for name, value in vars(strategy).items() if not callable(value) and not isinstance(value, Grid)
    }


class _Watch:
    """Looks at every round: scores the models, times the phases, and does not let a silent failure pass."""

    def __init__(self, side: ServerSide, done: int) -> None:
        self.outcome = Outcome(seconds={"train_s": 0.0, "aggregate_s": 0.0, "evaluate_s": 0.0})
        self.done = done  # rounds before this start: Flower's loop counts from 1
        self.arrays: NDArray[Any] = side.first
        self.train_loss: float | None = None
        self.classes = side.classes
        self.seen: Evaluation | None = None  # by an office, under protection
        self.evaluator = None
        if not side.spec.strategy.protected:
            self.evaluator = Evaluator(side.spec.model, side.classes, side.shape, side.test, side.validation)

    def over(self, strategy: FlowerStrategy) -> FlowerStrategy:
        """Time the aggregation; Flower's loop would keep the old model silently if it returned nothing."""
        configure, aggregate = strategy.configure_train, strategy.aggregate_train

        def counted(server_round: int, *rest: Any) -> Any:
            return configure(self.done + server_round, *rest)

        def checked(server_round: int, replies: Any) -> Any:
            server_round += self.done
            started = perf_counter()
            arrays, metrics = aggregate(server_round, replies)
            self.outcome.seconds["aggregate_s"] += perf_counter() - started
            if arrays is None:
                raise RuntimeError(f"round {server_round}: {type(strategy).__name__} aggregated nothing")
            self.train_loss = float(str(metrics["train_loss"])) if metrics and "train_loss" in metrics else None
            return arrays, metrics

        strategy.configure_train = counted  # type: ignore[method-assign, assignment]
        strategy.aggregate_train = checked  # type: ignore[method-assign]
        if self.evaluator is None:
            ask, hear = strategy.configure_evaluate, strategy.aggregate_evaluate

            def asked(server_round: int, *rest: Any) -> Any:
                return ask(self.done + server_round, *rest)

            def heard(server_round: int, replies: Any) -> Any:
                metrics = hear(self.done + server_round, replies)
                self.seen = from_metrics(metrics, self.classes) if metrics else None
                return metrics

            strategy.configure_evaluate = asked  # type: ignore[method-assign, assignment]
            strategy.aggregate_evaluate = heard  # type: ignore[method-assign]
        return strategy

    def evaluate(self, round_: int, arrays: ArrayRecord) -> None:
        """A row for the record. Round 0, the first weights, is not scored."""
        if round_ == 0:
            return
        round_ += self.done
        started = perf_counter()
        if self.evaluator is None:
            seen, models = self.seen, None
            assert seen is not None
        else:
            self.arrays = unpack(arrays)
            models = np.atleast_2d(self.arrays).astype(np.float32, copy=False)
            if not np.isfinite(models).all():
                raise Diverged(f"round {round_}: the model is not finite")
            seen = self.evaluator(models)
        row = {
            "round": round_,
            "test_accuracy": seen.test_accuracy,
            "test_loss": seen.test_loss,
            "test_macro_f1": seen.test_macro_f1,
            "validation_accuracy": seen.validation_accuracy,
            "train_loss": self.train_loss,
        }
        self.outcome.seconds["evaluate_s"] += perf_counter() - started
        if seen.test_loss is not None and not np.isfinite(seen.test_loss):
            raise Diverged(f"round {round_}: the test loss is not finite")
        self.outcome.models, self.outcome.evaluation = models, seen
        self.outcome.rounds.append(row)
