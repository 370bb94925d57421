"""The server side of a run: Flower's own round loop over our Grid, and what comes of it.

`ServerSide` pickles and is called with the Grid that an engine offers. The loop is `Strategy.start` of Flower:
configure, send, aggregate, evaluate, for every round.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.engines.grid import Diverged, OrderedGrid, who_is_who
from experiments.seeds import Purpose, stream
from experiments.training.evaluation import Evaluation, Evaluator, Rows
from strategies import Federation
from strategies.wire import pack, unpack

if TYPE_CHECKING:
    from flwr.app import ArrayRecord
    from flwr.serverapp import Grid
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
        bytes_up, bytes_down, rejected: by client.
        seconds: by phase.
    """

    rounds: list[dict[str, Any]] = field(default_factory=list)
    models: NDArray[np.float32] | None = None
    evaluation: Evaluation | None = None
    diverged: str | None = None
    bytes_up: list[int] = field(default_factory=list)
    bytes_down: list[int] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ServerSide:
    """Everything the server of a run needs, and no training row.

    Attributes:
        spec: the run's options.
        first: first weights of the model, (d,).
        clients: number of clients.
        classes, shape: of the data.
        test: the common test rows, or None.
        validation: validation rows by office.
    """

    spec: RunSpec
    first: NDArray[np.float32]
    clients: int
    classes: int
    shape: tuple[int, ...]
    test: Rows | None
    validation: tuple[Rows, ...]

    def __call__(self, inner: Grid) -> Outcome:
        """Run all rounds."""
        spec = self.spec
        cohort = max(1, round(spec.fraction * self.clients))
        nodes = who_is_who(inner, self.clients)
        grid = OrderedGrid(inner, nodes, spec.seed, cohort, spec.reject_nonfinite)
        federation = Federation(self.clients, cohort, len(self.first), spec.seed)
        if spec.strategy.global_random:
            seed = int(stream(spec.seed, Purpose.STRATEGY).integers(2**32))
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
        watch = _Watch(self)
        strategy = watch.over(spec.strategy.server(grid, federation))
        try:
            strategy.start(
                grid,
                initial_arrays=pack(spec.strategy.initial(self.first, federation)),
                num_rounds=spec.rounds,
                evaluate_fn=watch.evaluate,
            )
        except Diverged as reason:
            watch.outcome.diverged = str(reason)
        outcome = watch.outcome
        outcome.bytes_up, outcome.bytes_down, outcome.rejected = grid.bytes_up, grid.bytes_down, grid.rejected
        outcome.seconds["train_s"] = grid.train_s
        return outcome


class _Watch:
    """Looks at every round: scores the models, times the phases, and does not let a silent failure pass."""

    def __init__(self, side: ServerSide) -> None:
        self.outcome = Outcome(seconds={"aggregate_s": 0.0, "evaluate_s": 0.0})
        self.train_loss: float | None = None
        self.evaluator = Evaluator(side.spec.model, side.classes, side.shape, side.test, side.validation)

    def over(self, strategy: FlowerStrategy) -> FlowerStrategy:
        """Time the aggregation; Flower's loop would keep the old model silently if it returned nothing."""
        aggregate = strategy.aggregate_train

        def checked(server_round: int, replies: Any) -> Any:
            started = perf_counter()
            arrays, metrics = aggregate(server_round, replies)
            self.outcome.seconds["aggregate_s"] += perf_counter() - started
            if arrays is None:
                raise RuntimeError(f"round {server_round}: {type(strategy).__name__} aggregated nothing")
            self.train_loss = float(str(metrics["train_loss"])) if metrics and "train_loss" in metrics else None
            return arrays, metrics

        strategy.aggregate_train = checked  # type: ignore[method-assign]
        return strategy

    def evaluate(self, round_: int, arrays: ArrayRecord) -> None:
        """A row for the record. Round 0, the first weights, is not scored."""
        if round_ == 0:
            return
        started = perf_counter()
        models = np.atleast_2d(unpack(arrays)).astype(np.float32, copy=False)
        if not np.isfinite(models).all():
            raise Diverged(f"round {round_}: the model is not finite")
        seen = self.evaluator(models)
        self.outcome.seconds["evaluate_s"] += perf_counter() - started
        if seen.test_loss is not None and not np.isfinite(seen.test_loss):
            raise Diverged(f"round {round_}: the test loss is not finite")
        self.outcome.models, self.outcome.evaluation = models, seen
        self.outcome.rounds.append(
            {
                "round": round_,
                "test_accuracy": seen.test_accuracy,
                "test_loss": seen.test_loss,
                "test_macro_f1": seen.test_macro_f1,
                "validation_accuracy": seen.validation_accuracy,
                "train_loss": self.train_loss,
            }
        )
