"""What a strategy is: a frozen dataclass of hyper-parameters, and functions that say how updates are made and combined.

    at an office
        weight(num_examples, num_steps)      what the office counts in a mean
        open(received, memory)               the job, or jobs, that it trains
        drift(job)                           (a, b): every local step adds a (w - w_t) + b to the gradient
        gradient(g, w, job)                  any other change of the gradient
        probe(w, g, job)                     a second point, at which the gradient is taken
        close(update, memory)                what it sends, and what it remembers
        personal(memory)                     a model of the office's own, if it has one
        before(counts), after(w, rows)       one sum over all offices before round 1, or after the last round
    at the server
        start(x, federation)                 the first state
        broadcast(state)                     what every office is sent beside the model
        server_step(x, mean, state, round)   the next model, from the weighted mean of all that was sent; or
        aggregate(x, updates, state, round)  the same from every office's own update
        finish(x, total, state)              the final model, from the sum of what `after` sent
    before anything is trained
        check(setting)                       refuse an optimizer, a loss, a cohort
        prepare(setting)                     what a run needs of a privacy or protection wrapper

Everything has FedAvg's behaviour as its default: a strategy overrides only what differs. A strategy is *linear*, and so
runs on encrypted sums, unless it overrides `aggregate`; nothing declares it. Functions return new values and never
modify an argument. Vectors are NumPy arrays (d,); a strategy knows nothing of Flower, files or other offices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from strategies.errors import StrategyError, check_choice, check_range
from strategies.setting import PrivateSteps, Setting, Vector, Workload

__all__ = [
    "Change", "Federation", "Job", "Letter", "Memory", "Named", "Part", "Prepared", "PrivateSteps", "Received", "Round",
    "Setting", "State", "Strategy", "StrategyError", "Update", "Vector", "Workload", "check_choice",
    "check_plain_sgd", "check_range",
]  # fmt: skip

Named = Mapping[str, Any]  # vectors (d,), other arrays, or numbers (float), by name
Memory = dict[str, NDArray[Any]]  # what an office keeps between rounds, by name
State = Mapping[str, NDArray[Any]]  # what the server keeps between rounds, by name


@dataclass(frozen=True)
class Federation:
    """What a server may know before round 1.

    Attributes:
        clients: number of clients in the federation.
        cohort: number of clients that train in a round.
        seed: for strategies that draw at the server; every draw takes its own stream from it.
        before: the sum over all offices of what `Strategy.before` sent, by name; empty where nothing was asked for.
    """

    clients: int
    cohort: int
    seed: int = 0
    before: Named = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """What the server knows of the K offices whose updates it takes.

    Attributes:
        number: 1, 2, ...
        clients: number of clients in the federation, m.
        cohort: number of clients that were asked, or that a Poisson cohort has on average.
        offices: numbers of the K offices, ascending.
        weights: (K,) what each counts, summing to 1.
        num_examples: (K,) rows that each trained on.
        num_steps: (K,) local steps that each took.
    """

    number: int
    clients: int
    cohort: int
    offices: Sequence[int]
    weights: NDArray[np.float64]
    num_examples: NDArray[np.int64]
    num_steps: NDArray[np.int64]

    @property
    def share(self) -> float:
        """|S| / m: the share of all clients whose updates are taken, which dropouts lower."""
        return len(self.offices) / self.clients


@dataclass(frozen=True)
class Received:
    """What an office has at the start of a round: the model, what the strategy broadcasts, and how it is to train.

    `received["w"]` is the model (d,), `received["c"]` a further vector by its name.

    Attributes:
        named: vectors and numbers by name.
        round: 1, 2, ...
        lr: learning rate of this round.
        steps: minibatch steps that the office takes in a round.
        momentum: of the local optimizer.
        layout: lengths of the model's layers, which sum to d.
        office: number of the office, from 0.
        config: further settings that a server of Flower's own sent.
    """

    named: Named
    round: int
    lr: float
    steps: int
    momentum: float = 0.0
    layout: tuple[int, ...] = ()
    office: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.named[name]

    def job(self, w: Any = None, **memory: Any) -> Job:
        """A training from `w` (d,), by default from the received model.

        Args:
            memory: what `drift` and `gradient` will need, by name; each (d,) or a number.
        """
        start = self.named["w"] if w is None else w
        return Job(start, self.round, memory, self.lr, self.steps, self.momentum)


@dataclass(frozen=True)
class Part:
    """A part of a model that is trained alone, the rest of it frozen.

    Attributes:
        mask: (d,) of bool, the weights that are trained.
        steps: minibatch steps.
    """

    mask: NDArray[np.bool_]
    steps: int


@dataclass(frozen=True)
class Job:
    """One training of one office in one round; `Received.job` makes it.

    Attributes:
        w: (d,) where it starts.
        round: 1, 2, ...
        memory: what `drift` and `gradient` need, by name; each (d,) or a number.
        lr: learning rate.
        steps: minibatch steps.
        momentum: of the local optimizer.
        parts: of the model, trained one after the other in the place of `steps`; none trains all of it.
        wants_loss: whether `Update.start_loss` is asked for, which costs a pass over the office's rows.
    """

    w: Any
    round: int
    memory: Named = field(default_factory=dict)
    lr: float = 0.0
    steps: int = 0
    momentum: float = 0.0
    parts: tuple[Part, ...] = ()
    wants_loss: bool = False


@dataclass(frozen=True)
class Update:
    """What local training made of a job.

    Attributes:
        job: the job.
        w: (d,) trained model; in float64 where shares of noise are added to its change.
        num_examples: rows that the office trains on.
        steps: local steps taken.
        train_loss: mean over the round's minibatches, each at the weights of its step; None where nobody may know it.
        start_loss: mean loss of the model that training started from, over the office's rows; None if not asked for.
        others: updates of the further jobs that `open` returned, in their order.
    """

    job: Job
    w: Any
    num_examples: int
    steps: int
    train_loss: float | None
    start_loss: float | None = None
    others: tuple[Update, ...] = ()


@dataclass(frozen=True)
class Change:
    """Marks what `close` sends under `w` as a change, w - x, and not a model.

    Example:
        >>> Change(np.array([0.5, -1.0])).vector.tolist()
        [0.5, -1.0]
    """

    vector: Any  # (d,)


@dataclass
class Letter:
    """What travels in one message; an engine puts it into records of its own.

    Attributes:
        config: settings by name: numbers, texts, lists of either.
        arrays: by name.
        metrics: figures by name.
    """

    config: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """What a run needs of its strategy before round 1; of a plain one the strategy alone.

    Attributes:
        strategy: with its plan, where it has one.
        workloads: of every client, with private steps where the strategy's are private.
        shift: makes what is subtracted from every row before training, from all rows and the workloads; or None.
        rejects: whether bad updates may be left out; not where that would depend on the others' private updates.
        poisson: every client is in a round by a coin of its own.
        flower: makes the Flower strategy in the place of ours; None for ours.
        server, offices: make the two sides of a federation whose model lives with the offices; None for a plain one.
        unresumable: why a run cannot go on in parts, or None.
        privacy, protection: the plans of wrappers, which make a section of the record each; or None.
    """

    strategy: Strategy
    workloads: tuple[Workload, ...]
    shift: Callable[[Vector, Sequence[Workload]], Vector | None] | None = None
    rejects: bool = True
    poisson: bool = False
    flower: Callable[..., Any] | None = None
    server: Callable[..., Any] | None = None
    offices: Callable[..., Any] | None = None
    unresumable: str | None = None
    privacy: Any = None
    protection: Any = None

    def report(self, outcome: Any, cost: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What wrappers say after a run: sections of the record by name, and costs that they know better.

        Args:
            outcome: what the federation left behind.
            cost: of the run, by name, as far as the harness measured it.
        """
        sections, costs = {}, dict(cost)
        for name, plan in (("protection", self.protection), ("privacy", self.privacy)):
            if plan is not None:
                sections[name], changed = plan.report(outcome, costs)
                costs |= changed
        return sections, costs


NO_PROMISE = "refused: it does not say that it acts after the noise"


class Strategy:
    """Base of every strategy's dataclass.

    What a strategy may be combined with follows from what it overrides; the rest is said by class attributes:
        dp: `after_noise` if its extra terms act after a noised gradient, else the reason why local DP is refused. It
            holds for the class that writes it, and for no subclass.
        federated: False for the reference arms, which send nothing (their bytes are 0).
        own_models: every office trains a model of its own and nothing is combined, so that the model is (K, d).
        protected: the model lives with the offices and the server sees no update in clear (`strategies.protection`).
        phases: messages of a round at which an office may be lost, in order.
        global_random: its server draws from Python's and NumPy's global generators, which a run seeds for it.
        twin: a strategy that has the same bits, as tests hold it to; regression baselines repeat the twin alone.
        private: local steps are clipped and noised, which takes a trainer of its own.
        examples: notations that show it, run by the law tests.
    """

    dp: ClassVar[str] = NO_PROMISE
    federated: ClassVar[bool] = True
    own_models: ClassVar[bool] = False
    protected: ClassVar[bool] = False
    phases: ClassVar[tuple[str, ...]] = ("update",)
    global_random: ClassVar[bool] = False
    twin: ClassVar[str | None] = None
    private: ClassVar[bool] = False
    examples: ClassVar[Sequence[str]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "dp" not in vars(cls):
            cls.dp = NO_PROMISE
        for name, value in vars(cls).items():
            if callable(value) and not name.startswith("_"):
                _check_hook(cls, name)

    # At an office.

    def weight(self, num_examples: int, num_steps: int) -> float:
        """What an office counts in a mean, before weights are made to sum to 1: its examples by default.

        Plain and protected runs ask nothing else.
        """
        return float(num_examples)

    def open(self, received: Received, memory: Memory) -> Job | Sequence[Job]:
        """What the office trains: one job from the received model by default; the first of several is the update."""
        return received.job()

    def drift(self, job: Job) -> tuple[float, Any]:
        """What every local step adds to the loss's gradient, as (a, b): a (w - w_t) + b, with w_t = job.w and b (d,)
        or None.

        Almost every client-side term of the literature has this form; in it, it costs the fast paths next to nothing.
        """
        return 0.0, None

    def gradient(self, g: Any, w: Any, job: Job) -> Any:
        """Any other change of the loss's gradient (d,) at w (d,), before the drift; NumPy arrays."""
        return g

    def probe(self, w: Any, g: Any, job: Job) -> Any:
        """A second point (d,), from the gradient g at w: the step takes the gradient of the same rows there."""
        return w

    def close(self, update: Update, memory: Memory) -> tuple[Named, Memory]:
        """What is sent by name, and what the office remembers if the server takes it.

        Under `w` stands the trained model, or a `Change`; further vectors and numbers have names of their own.
        """
        return {"w": update.w}, memory

    def personal(self, memory: Memory) -> Any:
        """A model (d,) of the office's own, to be scored on its own rows; None for none."""
        return None

    def before(self, counts: NDArray[np.int64]) -> Named:
        """What the office sends once before round 1, from its class counts (classes,); all offices' are summed."""
        return {}

    def after(self, w: Any, rows: Any) -> Named:
        """What the office sends once after the last round, from the final model and its rows; all are summed.

        Args:
            rows: an object with `x` (n, ...), `y` (n,), and `gradient(w)` of the mean loss, (d,).
        """
        return {}

    # At the server.

    def initial(self, w: Vector, federation: Federation) -> Vector:
        """First weights as the server holds them, from the model's own `w` (d,)."""
        return w

    def start(self, x: Any, federation: Federation) -> State:
        """The server's first state, from the first model x (d,)."""
        return {}

    def broadcast(self, state: State) -> Named:
        """Vectors and numbers that every office is sent beside the model."""
        return {}

    def server_step(self, x: Any, mean: Named, state: State, round: Round) -> tuple[Any, State]:
        """The next model (d,) and state, from the weighted mean of all that was sent; x + mean["w"] by default.

        Args:
            x: the model, (d,).
            mean: by name; `w` is the mean update, mean(models) - x.
            state: of the last step.
            round: who answered.
        """
        return x + mean["w"], state

    def aggregate(self, x: Any, updates: Named, state: State, round: Round) -> tuple[Any, State]:
        """The next model (d,) and state from every office's own: overridden by rules that must see all updates.

        Args:
            updates: by name, (K, ...), in the order of `round.offices`; `w` holds changes w_k - x in float64, (K, d).
        """
        raise NotImplementedError("a strategy without `aggregate` of its own is given means")

    def finish(self, x: Any, total: Named, state: State) -> Any:
        """The final model, from the sum over all offices of what `after` sent."""
        return x

    def regroup(self, workloads: Sequence[Workload]) -> list[Workload]:
        """Who trains on what; only the centralised arm changes it."""
        return list(workloads)

    # Before anything is trained.

    def check(self, setting: Setting) -> None:
        """Refuse what the strategy cannot run with.

        Raises:
            StrategyError: an optimizer, loss, schedule or cohort; what was found, and what to set.
        """

    def prepare(self, setting: Setting) -> Prepared:
        """What a run needs of the strategy before round 1."""
        return Prepared(self, setting.workloads)

    def search_space(self) -> dict[str, Any]:
        """Hyper-parameters to tune, at most two: name -> (low, high) on a log scale, or a list of choices.

        What all strategies share (`experiments.tuning.search.SHARED`) is tuned anyway; a rule that forbids a part of it
        names it to narrow it, as {"momentum": [0.0]}.
        """
        return {}

    # What follows from what is overridden.

    def overrides(self, *hooks: str) -> bool:
        """Whether the strategy has one of these hooks of its own."""
        return any(getattr(type(self), hook) is not getattr(Strategy, hook) for hook in hooks)

    @property
    def linear(self) -> bool:
        """Whether the server makes do with weighted means of what offices send."""
        return self.federated and not self.overrides("aggregate")

    @property
    def local_dp(self) -> Any:
        """The wrapper that makes local steps private, if there is one."""
        return None

    @property
    def central_dp(self) -> Any:
        """The wrapper that makes the sum of a round private, if there is one."""
        return None

    @property
    def protects(self) -> str | None:
        """Whose privacy is promised: window, person or client; None where nothing is promised."""
        return None

    @property
    def weighs_alike(self) -> bool:
        """Whether every client counts alike, whatever it holds and does."""
        return self.weight(1, 1) == self.weight(2, 3)


HOOKS = frozenset(name for name in vars(Strategy) if not name.startswith("_"))


def _check_hook(cls: type[Strategy], name: str) -> None:
    """Refuse a method that looks like a hook and is none: it would never be called.

    Raises:
        StrategyError: which, and what it may have been meant to be.
    """
    if name in HOOKS or any(name in vars(base) for base in cls.__mro__[1:]):
        return
    near = (
        "close, server_step or aggregate"
        if name == "server"
        else next(iter(get_close_matches(name, HOOKS, 1, 0.8)), "")
    )
    if near:
        raise StrategyError(
            f"{cls.__name__}.{name} is no hook of a strategy and would never be called; did you mean {near}?"
        )


def check_plain_sgd(strategy: Strategy, setting: Setting) -> None:
    """Refuse local steps that are not w - lr g: momentum, weight decay, adaptive optimizers.

    Raises:
        StrategyError: the optimizer that was found.
    """
    if setting.optimizer is not None and not getattr(setting.optimizer, "plain", False):
        raise StrategyError(
            f"{type(strategy).__name__} counts on local steps w - lr g, without momentum, weight decay or step sizes "
            f"of their own; found {setting.text(setting.optimizer)}: set --optimizer sgd"
        )
