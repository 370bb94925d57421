"""The server side of a run: the round loop, the server of a plain federation, and what comes of them.

    broadcast -> the cohort opens, trains, closes -> mean, or all updates -> the strategy's step -> score

`rounds` is the loop. It calls the public methods of a Flower strategy in the order of Flower's own `start`, so that any
Flower strategy runs in it, and ours in Flower's. `ServerSide` pickles and is called with the Grid that an engine
offers. A run may be stopped after any round and go on from its `Checkpoint`, with the bits of a run that was never
stopped.
"""

from __future__ import annotations

import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray

from experiments.engines.flower import Adapter, Post, arrays_in, arrays_record
from experiments.federation.seeds import Purpose, stream
from experiments.federation.transport import Diverged, OrderedGrid, who_is_who
from experiments.training.evaluation import Evaluation, Evaluator, Rows, from_metrics
from strategies.base import Federation, Letter, Memory, Prepared, Round, Strategy

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy as FlowerStrategy

    from experiments.config.spec import RunSpec


Score = Callable[[int, ArrayRecord, MetricRecord | None, MetricRecord | None], None]


def rounds(
    strategy: FlowerStrategy, grid: Grid, arrays: ArrayRecord, numbers: Iterable[int], score: Score,
    seconds: dict[str, float],
) -> None:  # fmt: skip
    """Train for the rounds of these numbers, and score each.

    Args:
        strategy: Flower's interface: ours in an `Adapter`, or one of Flower's own.
        grid: how the offices are reached.
        arrays: the model that the first round starts from.
        score: called at the end of a round with its number, the model, and the figures of training and evaluation.
        seconds: `aggregate_s` grows by what the server's step takes.

    Raises:
        RuntimeError: an aggregation returned nothing. Flower's loop would go on with the old model.
    """
    asked_to_train, asked_to_score = ConfigRecord(), ConfigRecord()
    for number in numbers:
        begin = getattr(grid, "begin", None)
        if begin is not None:  # our Grid draws the round's cohort
            begin(number)
        replies = grid.send_and_receive(strategy.configure_train(number, arrays, asked_to_train, grid))
        started = perf_counter()
        following, trained = strategy.aggregate_train(number, replies)
        seconds["aggregate_s"] += perf_counter() - started
        if following is None:
            raise RuntimeError(f"round {number}: {type(strategy).__name__} aggregated nothing")
        arrays = following
        replies = grid.send_and_receive(strategy.configure_evaluate(number, arrays, asked_to_score, grid))
        score(number, arrays, trained, strategy.aggregate_evaluate(number, replies))


class PlainServer:
    """The server of a federation in the open: it holds the model and the strategy's state, and sees every update.

    Args:
        strategy: one of ours.
        federation: what it may know.
        until: the last round, after which offices score the models of their own, and send what `Strategy.after` says.
    """

    def __init__(self, strategy: Strategy, federation: Federation, until: int | None = None) -> None:
        self.strategy, self.federation, self.until = strategy, federation, until
        self.x: Any = None
        self.state: Mapping[str, Any] | None = None
        self.taken = [0] * federation.clients  # the last round in which each office's update was taken

    def begin(self, post: Post) -> None:
        """Before the first round, the sum of what all offices send once, where the strategy asks for it."""
        if self.state is None and self.strategy.overrides("before"):
            self.federation = replace(self.federation, before=self._total("before", {}, post))

    def _total(self, phase: str, arrays: Mapping[str, Any], post: Post) -> dict[str, Any]:
        """The sum, by name, of what all offices answer to a phase.

        Raises:
            RuntimeError: one did not answer.
        """
        answers = post.query({office: Letter({"phase": phase}, dict(arrays)) for office in post.everyone})
        if len(answers) < len(post.everyone):
            raise RuntimeError(f"{phase}: {len(answers)} of {len(post.everyone)} offices answered; all are needed")
        sent = [answers[office].arrays for office in sorted(answers)]
        return {name: sum(arrays[name].astype(np.float64) for arrays in sent) for name in sent[0]}

    def broadcast(self, number: int, x: Any, post: Post) -> Letter | Mapping[int, Letter]:
        """The model and what the strategy adds to it; to each office its own model where offices have such."""
        self.x = x
        if self.state is None:
            self.state = self.strategy.start(x, self.federation)
        if self.strategy.own_models:
            return {office: Letter(self._config(number, office), {"w": x[office]}) for office in post.cohort}
        arrays = {"w": x, **self.strategy.broadcast(self.state)}
        if self.strategy.overrides("close"):
            return {office: Letter(self._config(number, office), arrays) for office in post.cohort}
        return Letter({"server-round": number}, arrays)

    def _config(self, number: int, office: int) -> dict[str, Any]:
        """The round, and for strategies that remember, when the office's update was last taken: its memory is
        committed by that. Of the others it is told nothing: a promise may rest on nobody's knowing who takes part."""
        config = {"server-round": number}
        return config | ({"taken": self.taken[office]} if self.strategy.overrides("close") else {})

    def take(self, number: int, replies: list[tuple[int, Letter]], post: Post) -> tuple[Any, float | None]:
        """The strategy's step: from means where it makes do with them, else from every update."""
        strategy, sent = self.strategy, [letter.arrays for _, letter in replies]
        told = [letter.metrics for _, letter in replies]
        answered = self._round(number, [office for office, _ in replies], told)
        losses = [figures["train_loss"] for figures in told if "train_loss" in figures]
        for office in answered.offices:
            self.taken[office] = number
        state: Any = self.state
        if strategy.own_models:
            new = self.x.copy()
            for office, arrays in zip(answered.offices, sent, strict=True):
                new[office] = arrays["w"]
        elif strategy.overrides("aggregate"):
            new, state = strategy.aggregate(self.x, _stacked(sent, self.x), state, answered)
        elif not sent:
            raise RuntimeError(f"round {number}: no update is left")
        elif not strategy.overrides("server_step") and "w" in sent[0]:
            new = _mean([arrays["w"] for arrays in sent], answered.weights.tolist())
        else:
            new, state = strategy.server_step(self.x, self._means(sent, answered), state, answered)
        if new is None:
            raise RuntimeError(f"round {number}: {type(strategy).__name__} aggregated nothing")
        self.x, self.state = new.astype(self.x.dtype, copy=False), state
        if number == self.until and strategy.overrides("after"):
            total = self._total("after", {"w": self.x}, post)
            self.x = strategy.finish(self.x, total, state).astype(self.x.dtype, copy=False)
        if not losses or len(losses) < len(told):  # under differential privacy no office tells its loss
            return self.x, None
        if strategy.own_models:
            return self.x, sum(losses) / len(losses)
        return self.x, sum(p * loss for p, loss in zip(answered.weights.tolist(), losses, strict=True))

    def _round(self, number: int, offices: list[int], told: list[dict[str, Any]]) -> Round:
        examples = [int(figures.get("num-examples", 0)) for figures in told]
        steps = [int(figures.get("num-batches", 0)) for figures in told]
        weights = [self.strategy.weight(*counts) for counts in zip(examples, steps, strict=True)]
        total = sum(weights)
        shares = np.array([weight / total for weight in weights])
        federation = self.federation
        return Round(
            number, federation.clients, federation.cohort, offices, shares, np.array(examples), np.array(steps)
        )

    def _means(self, sent: list[dict[str, Any]], answered: Round) -> dict[str, Any]:
        """The weighted mean of all that was sent, by name; of models less the model that was sent out."""
        shares = answered.weights.tolist()
        means = {name: _mean([arrays[name] for arrays in sent], shares) for name in sent[0]}
        w = means.pop("update") if "update" in means else means.pop("w") - self.x
        return {"w": w, **means}

    def ask(self, number: int, post: Post) -> Mapping[int, Letter]:
        """After the last round every office scores the model of its own, where the strategy gives it one."""
        if number != self.until or not self.strategy.overrides("personal"):
            return {}
        arrays = {"w": self.x, **self.strategy.broadcast(self.state or {})}
        return {office: Letter(self._config(number, office), arrays) for office in post.everyone}

    def hear(self, number: int, replies: list[tuple[int, Letter]], post: Post) -> Mapping[str, Any] | None:
        """The accuracy of each office's own model, nan for an office without one."""
        if not replies:
            return None
        found = {office: letter.metrics["personal-accuracy"] for office, letter in replies}
        return {"personal-accuracy": [float(found.get(office, math.nan)) for office in range(self.federation.clients)]}


def _mean(vectors: list[Any], shares: list[float]) -> Any:
    """sum_k p_k v_k of vectors, other arrays, or numbers."""
    from strategies.numerics.vectors import weighted_mean  # compiled: what only plans a sweep does without

    if vectors[0].ndim == 1:
        return weighted_mean(vectors, shares)
    total = sum(p * vector for p, vector in zip(shares, vectors, strict=True))
    return float(total) if vectors[0].ndim == 0 else total


def _stacked(sent: list[dict[str, Any]], x: Any) -> dict[str, Any]:
    """Every office's own, by name, (K, ...); `w` holds changes in float64, whatever was sent."""
    if not sent:
        return {"w": np.zeros((0, len(x)))}
    rows = {name: np.stack([arrays[name] for arrays in sent]) for name in sent[0]}
    w = rows.pop("update").astype(np.float64) if "update" in rows else rows.pop("w").astype(np.float64) - x
    return {"w": w, **rows}


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
        personal: accuracy of each client's own model on its own validation rows; empty where there are none.
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
    meters: list[Any] = field(default_factory=list)
    personal: list[float | None] = field(default_factory=list)

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
        server: attributes of the server.
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
        prepared: the strategy with its plan, without the plan's reports.
        first: first weights of the model, (d,); empty under protection, where the offices make them.
        clients: number of clients.
        classes, shape: of the data.
        test: the common test rows, or None.
        validation: validation rows by office.
    """

    spec: RunSpec
    prepared: Prepared
    first: NDArray[np.float32]
    clients: int
    classes: int
    shape: tuple[int, ...]
    test: Rows | None
    validation: tuple[Rows, ...]

    def __call__(self, inner: Grid) -> Outcome:
        """Run all rounds."""
        return self.advance(inner, None, self.spec.rounds)[0]

    def grid(self, inner: Grid, first_round: int = 1) -> OrderedGrid:
        """Our Grid over an engine's."""
        spec, prepared = self.spec, self.prepared
        return OrderedGrid(
            inner,
            who_is_who(inner, self.clients),
            spec.seed,
            spec.cohort(self.clients),
            spec.reject_nonfinite and prepared.rejects,
            first_round=first_round,
            dropout=spec.dropout,
            protected=prepared.strategy.protected,
            poisson=prepared.poisson,
        )

    def strategy(self) -> FlowerStrategy:
        """The Flower strategy that runs the rounds."""
        federation = Federation(self.clients, self.spec.cohort(self.clients), self.spec.seed)
        prepared = self.prepared

        def adapted(strategy: Strategy) -> FlowerStrategy:
            return Adapter(PlainServer(strategy, federation, self.spec.rounds))

        if prepared.flower is not None:
            found: FlowerStrategy = prepared.flower(federation, adapted)
            return found
        if prepared.server is not None:
            return Adapter(prepared.server(federation, until=self.spec.rounds))
        return adapted(prepared.strategy)

    def arrays(self) -> ArrayRecord:
        """The model, or models, that the first round starts from; nothing under protection."""
        strategy, federation = self.prepared.strategy, Federation(self.clients, self.spec.cohort(self.clients))
        return ArrayRecord() if strategy.protected else arrays_record({"w": strategy.initial(self.first, federation)})

    def advance(self, inner: Grid, start: Checkpoint | None, until: int) -> tuple[Outcome, Checkpoint | None]:
        """Run from a checkpoint, or from the first weights, to the end of round `until`.

        Returns:
            the outcome, that of earlier rounds included, and a checkpoint without the offices' memories, which are
            the engine's; None where the run diverged.
        """
        spec, done = self.spec, start.round if start else 0
        grid = self.grid(inner, done + 1)
        drawing = self.prepared.strategy.global_random
        if drawing:
            seed = int(stream(spec.seed, Purpose.STRATEGY).integers(2**32))
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
        strategy, arrays, watch = self.strategy(), self.arrays(), _Watch(self)
        held = vars(strategy.server if isinstance(strategy, Adapter) else strategy)
        if start:
            watch.outcome = copy.deepcopy(start.outcome)
            arrays = arrays if self.prepared.strategy.protected else arrays_record({"w": start.arrays})
            held.update(copy.deepcopy(start.server))
            if start.generators:
                random.setstate(start.generators[0])
                np.random.set_state(start.generators[1])  # noqa: NPY002
        outcome = watch.outcome
        try:
            rounds(strategy, grid, arrays, range(done + 1, until + 1), watch.score, outcome.seconds)
        except Diverged as reason:
            outcome.diverged = str(reason)
        outcome.add(grid)
        if "meter" in held:  # a checkpoint has carried it on; those of the clients stay beside it
            outcome.meters[:1] = [held["meter"]]
        if outcome.diverged:
            return outcome, None
        generators = (random.getstate(), np.random.get_state()) if drawing else None  # noqa: NPY002
        passing = ("strategy", "federation", "until", "post")  # each part of a run is given its own
        kept = {
            name: value
            for name, value in held.items()
            if not callable(value) and not isinstance(value, Grid) and name not in passing
        }
        return outcome, Checkpoint(outcome, watch.arrays, kept, {}, generators)


class _Watch:
    """Scores the model of every round, and does not let one that is not finite pass."""

    def __init__(self, side: ServerSide) -> None:
        self.outcome = Outcome(seconds={"train_s": 0.0, "aggregate_s": 0.0, "evaluate_s": 0.0})
        self.arrays: NDArray[Any] = side.first
        self.classes = side.classes
        self.evaluator = None
        if not side.prepared.strategy.protected:
            self.evaluator = Evaluator(side.spec.model, side.classes, side.shape, side.test, side.validation)

    def score(self, number: int, arrays: ArrayRecord, trained: MetricRecord | None, heard: MetricRecord | None) -> None:
        """A row for the record, from the model, or under protection from what an office says of it."""
        started = perf_counter()
        models = None
        if self.evaluator is None:
            assert heard is not None
            seen = from_metrics(heard, self.classes)
        else:
            self.arrays = next(iter(arrays_in(arrays).values()))
            models = np.atleast_2d(self.arrays).astype(np.float32, copy=False)
            if not np.isfinite(models).all():
                raise Diverged(f"round {number}: the model is not finite")
            seen = self.evaluator(models)
        row = {
            "round": number,
            "test_accuracy": seen.test_accuracy,
            "test_loss": seen.test_loss,
            "test_macro_f1": seen.test_macro_f1,
            "validation_accuracy": seen.validation_accuracy,
            "train_loss": float(str(trained["train_loss"])) if trained and "train_loss" in trained else None,
        }
        self.outcome.seconds["evaluate_s"] += perf_counter() - started
        if seen.test_loss is not None and not np.isfinite(seen.test_loss):
            raise Diverged(f"round {number}: the test loss is not finite")
        if heard is not None and "personal-accuracy" in heard:
            told: Any = heard["personal-accuracy"]
            self.outcome.personal = [None if math.isnan(value) else value for value in told]
        self.outcome.models, self.outcome.evaluation = models, seen
        self.outcome.rounds.append(row)
