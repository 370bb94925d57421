"""What a strategy is: a frozen dataclass of hyper-parameters with a server part and a client part.

The server part is a Flower strategy, so that Flower's round loop drives it and anyone can lift it into a ServerApp.
The client part is three pure functions, so that the same file serves one office over TLS and a whole cohort in one
batched pass:

    open(message, memory) -> Job            read what the server sent
    drift(w_t, memory) -> (a, b)            add a (w - w_t) + b to the gradient of every local step
    gradient(g, w, w_t, memory) -> g        change it in any other way; arrays are stacked, (K, d)
    close(update, memory) -> reply, memory  write what the server gets, and what the office keeps for the next round

What the server makes of the mean update is one more, `server_step`; under protection (encryption, masking) the offices
make it, alike, because the model lives with them.

Everything has FedAvg's behaviour as its default: a strategy overrides only what differs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from flwr.app import Message, RecordDict
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy as FlowerStrategy

    from strategies.dp_fedavg import DpFedAvg
    from strategies.dp_sgd import DpSgd

Vector = NDArray[np.float32]
Memory = dict[str, NDArray[Any]]  # what an office keeps between rounds, by name


class StrategyError(ValueError):
    """A hyper-parameter out of its range, or a combination that makes no sense: what was found, what is expected."""


@dataclass(frozen=True)
class Federation:
    """What a server may know before round 1.

    Attributes:
        clients: number of clients it will see.
        cohort: number of clients that train in a round.
        weights: length d of the flat model.
        seed: for strategies that draw at the server; every draw takes its own stream from it.
        measured: rounds that a protected run computes as it would in earnest; None is all of them. In the others its
            integers travel in clear, which no result can tell (see `strategies.protection`).
        noise_multiplier: of central differential privacy, as solved for the run's budget.
    """

    clients: int
    cohort: int
    weights: int
    seed: int
    measured: frozenset[int] | None = None
    noise_multiplier: float = 0.0


class OfficeGrid(Protocol):
    """What our Grid tells a strategy beyond Flower's: who is who among the nodes of the round."""

    @property
    def offices(self) -> Mapping[int, int]:
        """Node id -> office index of this round's cohort, in office order."""

    @property
    def everyone(self) -> Mapping[int, int]:
        """Node id -> office index of all clients, whoever's turn it is."""

    def reject(self, node: int, reason: str) -> None:
        """Count (and log) that a node's update was left out of this round's sum."""


@dataclass(frozen=True)
class PrivateSteps:
    """How a client's local steps are made private: the gradient of a step is (sum of clipped + noise) / divisor.

    Attributes:
        persons: (units + 1,) where the rows of each person begin in the client's rows, for person-level privacy, where
            a unit is a person and all are in every step; None where a unit is a row.
        clip_norm: C, largest L2 norm of a unit's gradient; None leaves gradients as they are.
        noise_multiplier: the noise has the standard deviation `noise_multiplier * clip_norm` in every coordinate.
        rate: chance of a unit to be in a step (Poisson sampling); 1 takes all.
        divisor: a public number, never that of the units drawn.
        limit: steps that the budget pays for, over all rounds.
        shared: noise multiplier of the whole sum, where offices add shares of one noise to it and none to their steps.
        spread: in how many offices one unit is, at most.
        scale: noise drawn over noise accounted for: below 1 in simulations of a larger federation, and no other.
        means: noise multiplier of the release of the client's feature means; None where they are not released.
        secure_rng: noise and coins from the operating system's generator, not from the run's seed.
    """

    persons: NDArray[np.int64] | None
    clip_norm: float | None
    noise_multiplier: float
    rate: float
    divisor: float
    limit: int
    shared: float = 0.0
    spread: int = 1
    scale: float = 1.0
    means: float | None = None
    secure_rng: bool = False


@dataclass(frozen=True)
class Workload:
    """What one client trains on in every round: its rows, and how many steps it takes."""

    rows: NDArray[np.int64]  # (n,) row numbers of the training data, ascending; by person under person-level privacy
    steps: int  # minibatch steps a round
    private: PrivateSteps | None = None


@dataclass(frozen=True)
class Job:
    """One client's work in one round, as `open` read it from the server's message."""

    w: Vector  # (d,) received model
    round: int  # 1, 2, ...
    memory: Memory = field(default_factory=dict)  # what `drift` and `gradient` need, each (d,) or a number


@dataclass(frozen=True)
class Update:
    """What local training made of a job."""

    job: Job
    w: Vector | NDArray[np.float64]  # (d,) trained model; to more digits where shares of noise are added to its change
    num_examples: int
    num_batches: int  # local steps taken
    train_loss: float | None  # mean over the round's minibatches, each at the weights of its step; None is not sent


class Client(Protocol):
    """A strategy as an office runs it."""

    def open(self, message: Message, memory: Memory) -> Job: ...

    def close(self, update: Update, memory: Memory) -> tuple[RecordDict, Memory]: ...


class Strategy(ABC):
    """Base of every strategy's dataclass.

    Class attributes say what a strategy may be combined with; law tests hold them over every file of this folder:
        linear: the server forms only weighted sums of updates, so it can run under encryption, masking and central DP.
        dp: `after_noise` if its extra terms act after a noised gradient, else the reason why local DP is refused.
        federated: False for the reference arms, which send nothing (their bytes are 0).
        own_models: every office keeps a model of its own, so that the state is (K, d).
        protected: the model lives with the offices and the server sees no update in clear (`strategies.protection`).
        phases: messages of a round at which an office may be lost, in order.
        global_random: its server draws from Python's and NumPy's global generators, which a run seeds for it.
        twin: a strategy that has the same bits, as tests hold it to; regression baselines repeat the twin alone.
        examples: notations that show it, run by the law tests.
    """

    linear: ClassVar[bool] = False
    dp: ClassVar[str] = "refused: not shown to act after the noise"
    federated: ClassVar[bool] = True
    own_models: ClassVar[bool] = False
    protected: ClassVar[bool] = False
    phases: ClassVar[tuple[str, ...]] = ("update",)
    global_random: ClassVar[bool] = False
    twin: ClassVar[str | None] = None
    examples: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def server(self, grid: Grid, federation: Federation) -> FlowerStrategy:
        """The Flower strategy that runs the rounds. Every client that `grid` shows takes part in the round."""

    def initial(self, w: Vector, federation: Federation) -> Vector:
        """First weights as the server sends them, from the model's own `w` (d,)."""
        return w

    def regroup(self, workloads: Sequence[Workload]) -> list[Workload]:
        """Who trains on what; only the centralised arm changes it."""
        return list(workloads)

    def open(self, message: Message, memory: Memory) -> Job:
        """Read the server's message; the default takes the model and the round."""
        from strategies import wire

        content = message.content
        round_ = cast(int, wire.config_of(content)["server-round"])
        return Job(w=wire.unpack(wire.arrays_of(content)), round=round_, memory=memory)

    def drift(self, w_t: Vector, memory: Memory) -> tuple[float, Vector | None]:
        """What a local step adds to the loss's gradient, as (a, b): a (w - w_t) + b, with b (d,) or None.

        Almost every client-side term of the literature has this form; in it, it costs the fast paths next to nothing.
        """
        return 0.0, None

    def gradient(self, g: Any, w: Any, w_t: Any, memory: Mapping[str, Any]) -> Any:
        """Any other change of the loss's gradient, before the drift; arrays are (K, d), one row a client."""
        return g

    def close(self, update: Update, memory: Memory) -> tuple[RecordDict, Memory]:
        """The reply, and what the office remembers; the default sends the trained model and its counts."""
        from strategies import wire

        return wire.reply(update), memory

    def server_step(self, x: Any, d: Any, state: Memory) -> tuple[Any, Memory]:
        """The next model (d,) of a linear strategy from the model `x` and the offices' mean update `d`, with the state
        of earlier steps (empty at first) and that of this one; x + d by default."""
        return x + d, state

    def weight(self, num_examples: int, num_batches: int) -> float:
        """What an office counts in the mean of a linear strategy, before normalisation: its examples by default."""
        return float(num_examples)

    def search_space(self) -> dict[str, Any]:
        """Hyper-parameters to tune, at most two: name -> (low, high) on a log scale, or a list of choices.

        What all strategies share (`experiments.search.SHARED`) is tuned anyway; a rule that forbids a part of it names
        it to narrow it, as {"momentum": [0.0]}.
        """
        return {}

    @property
    def local_dp(self) -> DpSgd | None:
        """What makes local steps private, if anything does."""
        return None

    @property
    def central_dp(self) -> DpFedAvg | None:
        """What makes the sum of a round private, if anything does."""
        return None

    @property
    def changes_gradient(self) -> bool:
        """Whether local steps need the `gradient` hook (the fast paths skip it otherwise)."""
        return type(self).gradient is not Strategy.gradient


class Wrapper(Strategy):
    """A strategy around another, `inner`: what it does not say itself, the inner one says; who serves it must."""

    inner: Strategy

    def initial(self, w: Vector, federation: Federation) -> Vector:
        return self.inner.initial(w, federation)

    def regroup(self, workloads: Sequence[Workload]) -> list[Workload]:
        return self.inner.regroup(workloads)

    def drift(self, w_t: Vector, memory: Memory) -> tuple[float, Vector | None]:
        return self.inner.drift(w_t, memory)

    def gradient(self, g: Any, w: Any, w_t: Any, memory: Mapping[str, Any]) -> Any:
        return self.inner.gradient(g, w, w_t, memory)

    @property
    def changes_gradient(self) -> bool:
        return self.inner.changes_gradient

    @property
    def local_dp(self) -> DpSgd | None:
        return self.inner.local_dp

    @property
    def central_dp(self) -> DpFedAvg | None:
        return self.inner.central_dp

    def server_step(self, x: Any, d: Any, state: Memory) -> tuple[Any, Memory]:
        return self.inner.server_step(x, d, state)

    def weight(self, num_examples: int, num_batches: int) -> float:
        return self.inner.weight(num_examples, num_batches)

    def check_inner(self) -> None:
        """Refuse a name in the place of a strategy."""
        if not isinstance(self.inner, Strategy):
            raise StrategyError(f"inner must be a strategy, e.g. inner=fedprox(mu=0.1); found {self.inner!r}")

    @property
    def inner_sends_more(self) -> bool:
        """Whether the inner strategy's messages hold more than a model and its update."""
        return type(self.inner).open is not Strategy.open or type(self.inner).close is not Strategy.close

    @property
    def inner_weighs_alike(self) -> bool:
        """Whether the inner strategy counts every client alike, whatever it holds and does."""
        return self.inner.weight(1, 1) == self.inner.weight(2, 3)


Weighting = Literal["uniform", "examples", "batches"]


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise StrategyError(f"{name} must be one of {', '.join(choices)}; found {value!r}")


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Refuse a number outside [low, high] (NaN is outside of everything)."""
    if not (math.isfinite(value) and low <= value <= high):
        wanted = f"in [{low:g}, {high:g}]" if high < float("inf") else f"at least {low:g}"
        raise StrategyError(f"{name} must be {wanted}; found {value!r}")
