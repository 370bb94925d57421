"""What a strategy may know of a run before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategies.errors import StrategyError

Vector = NDArray[np.float32]


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
class Setting:
    """What is asked of a run, as far as a strategy may know it before anything is trained.

    Attributes:
        workloads: of every client.
        rounds, cohort: of the run; a cohort is the number of clients that train in a round.
        lr: learning rate of round 1, 2, ...
        layout: makes the lengths of the model's layers.
        persons: (n,) person of every training row.
        seed: of the run.
        batch_size: rows of a minibatch, or `full`.
        local_epochs, local_steps: how long an office trains in a round; `local_steps` counts where it is not None.
        optimizer, loss: as built from the run's options.
        standardise: how features are standardised: auto, none or pooled.
        overlap: how many following rows share samples with a row.
        one_person: every client is one person.
        cohort_of: makes the client numbers of round 1, 2, ...; None where all are in every round.
        stream: makes the entropy of a strategy's own chance, from (purpose, round, client).
        first: makes the first weights (d,).
        protected: what offices send is added up where the server cannot read it.
        keys: of a protected run, or None.
        text: canonical notation of a strategy, for messages and reports.
    """

    workloads: tuple[Workload, ...]
    rounds: int
    cohort: int
    lr: Callable[[int], float]
    layout: Callable[[], tuple[int, ...]]
    persons: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    seed: int = 0
    batch_size: int | str = 32
    local_epochs: int = 1
    local_steps: int | None = None
    optimizer: Any = None
    loss: Any = None
    standardise: str = "none"
    overlap: int = 0
    one_person: bool = False
    cohort_of: Callable[[int], list[int]] | None = None
    stream: Callable[[str, int, int | None], np.random.SeedSequence] | None = None
    first: Callable[[], Vector] | None = None
    protected: bool = False
    keys: Any = None
    text: Callable[[Any], str] = repr

    @property
    def clients(self) -> int:
        """Number of clients in the federation."""
        return len(self.workloads)

    @property
    def momentum(self) -> float:
        """Of the local optimizer."""
        return float(getattr(self.optimizer, "momentum", 0.0))

    def members(self, number: int) -> list[int]:
        """Client numbers of a round's cohort."""
        return list(range(self.clients)) if self.cohort_of is None else self.cohort_of(number)

    def entropy(self, purpose: str, number: int, client: int | None = None) -> np.random.SeedSequence:
        """Of one use of chance, in one round, by one client or by the server.

        Raises:
            StrategyError: the setting has no stream.
        """
        if self.stream is None:
            raise StrategyError(
                "this plan draws noise: give its setting a stream, e.g. that of experiments.federation.seeds"
            )
        return self.stream(purpose, number, client)
