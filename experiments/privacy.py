"""Differential privacy of a run: the noise that its budget buys each office, before any training, and what was spent.

An office's noise multiplier is solved for the whole training: all its rounds and local steps, its own sampling rate,
and the release of its feature means if the strategy asks for that. Everything used here is public or declared so: the
number of units, rows and steps of each office, and which persons are in which offices.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments.engines.grid import cohort_of
from experiments.errors import UserError
from experiments.notation import canonical
from experiments.seeds import Purpose
from experiments.spec import RunSpec
from experiments.training.schedule import batch_size, learning_rate
from strategies import PrivateSteps, StrategyError, Workload
from strategies.privacy.accounting import Mechanism, check_delta, epsilon, noise_multiplier
from strategies.privacy.gaussian import gaussian_mu
from strategies.protection.base import AUTO, Protected

if TYPE_CHECKING:
    from experiments.run import RunData
    from strategies.dp_fedavg import DpFedAvg
    from strategies.dp_sgd import DpSgd
    from strategies.protection.shares import NoiseShares

MEANS_SHARE = 0.03  # of mu^2, for the feature means
MEANS_CLIP = 20.0  # largest L2 norm of a row, or of a person's mean row, in them
SINGLE = 1e-3  # of the clip: some times what single precision was seen to add to one unit's part of a sum of gradients

Floats = NDArray[np.float32]


def private_workloads(spec: RunSpec, data: RunData, workloads: Sequence[Workload]) -> list[Workload]:
    """Workloads with their private steps, where the strategy's are private; as they are where not.

    Raises:
        UserError, StrategyError: the options leave something un-noised, or no noise is enough.
    """
    _check(spec, data)
    ours = spec.strategy.local_dp
    if ours is None:
        return list(workloads)
    persons = data.train.person
    units = _units(ours, persons)
    held = [_by_person(work, persons) if ours.unit == "person" else work for work in workloads]
    often = _appearances(held, persons) if ours.unit == "person" else 1
    private = [_private(spec, ours, work, persons, often, units) for work in held]
    return _shared(private, often) if ours.noise == "shared" else private


def check(spec: RunSpec, data: RunData, workloads: Sequence[Workload]) -> None:
    """Refuse, before anything trains, what a run would: all but the noise of `noise=own` is solved for.

    Args:
        workloads: rows of each office, as dealt, and steps a round.

    Raises:
        UserError, StrategyError: the options leave something un-noised, or no noise is enough, or it has no room.
    """
    _check(spec, data)
    central_noise(spec, len(workloads))
    if isinstance(spec.strategy, Protected) and spec.strategy.noised:
        layout = spec.model.layout(data.train.x.shape[1:], len(data.about.classes))
        noise_shares(spec, private_workloads(spec, data, workloads), sum(layout))


def _units(ours: DpSgd, persons: NDArray[np.int64]) -> int:
    """How many there are of what is protected."""
    return len(persons) if ours.unit == "window" else len(np.unique(persons))


def _check(spec: RunSpec, data: RunData) -> None:
    ours = spec.strategy.local_dp
    if (ours or spec.strategy.central_dp) and spec.standardise == "pooled":
        raise UserError(
            "standardise=pooled shares means and variances of the training rows that no epsilon pays for; set "
            "--standardise none (dp_sgd(means=true) subtracts noised means, from its budget)"
        )
    if ours is None:
        return
    check_delta(ours.delta, max(_units(ours, data.train.person), ours.simulate or 0))
    if ours.unit == "person" and spec.batch_size != "full":
        raise UserError(
            f"unit=person takes all rows of every person in every step: set --batch-size full; found {spec.batch_size}"
        )
    if ours.noise == "own":
        return
    if not isinstance(spec.strategy, Protected):
        raise UserError(
            "noise=shared adds a share of the noise at each office, inside a sum that the server cannot read: write "
            f"masked_sum(inner={canonical(ours)}), or another protection, or set noise=own"
        )
    if spec.local_steps != 1 and not (spec.batch_size == "full" and spec.local_epochs == 1):
        raise UserError(
            "noise=shared is added to what an office sends, so that a round is one step: set --local-steps 1 "
            f"(found local_epochs={spec.local_epochs}, local_steps={spec.local_steps}, batch_size={spec.batch_size})"
        )


def _by_person(work: Workload, persons: NDArray[np.int64]) -> Workload:
    """The rows with each person's side by side."""
    return dataclasses.replace(work, rows=work.rows[np.argsort(persons[work.rows], kind="stable")])


def person_bounds(rows: NDArray[np.int64], persons: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each person's rows begin, (persons + 1,), of rows in the order of `_by_person`."""
    return np.append(0, np.cumsum(np.unique(persons[rows], return_counts=True)[1])).astype(np.int64)


def _appearances(workloads: Sequence[Workload], persons: NDArray[np.int64]) -> int:
    """In how many offices the most widespread person is: all of them spend of one budget."""
    counts = Counter(person for work in workloads for person in np.unique(persons[work.rows]).tolist())
    return max(counts.values())


def _private(
    spec: RunSpec, ours: DpSgd, work: Workload, persons: NDArray[np.int64], often: int, units: int
) -> Workload:
    """A workload with its private steps."""
    bounds = person_bounds(work.rows, persons) if ours.unit == "person" else None
    size = batch_size(spec, len(work.rows))
    rate = size / len(work.rows)
    steps = spec.rounds * work.steps
    drawn = steps if ours.noise == "shared" else often * steps  # one noise for all offices, or one in each
    sigma, means = ours.noise_multiplier, None
    if sigma is None:
        assert ours.epsilon is not None
        if ours.means:
            means = _means(gaussian_mu(ours.epsilon, ours.delta), MEANS_SHARE / often)
        besides = () if means is None else (Mechanism(means, 1.0, often),)
        sigma = noise_multiplier(ours.epsilon, ours.delta, rate, drawn, ours.accountant, besides)
    elif ours.means:  # the share that training leaves is as large
        spent = epsilon([Mechanism(sigma, rate, drawn)], ours.delta, ours.accountant) if sigma else math.inf
        means = _means(gaussian_mu(spent, ours.delta), MEANS_SHARE / (1 - MEANS_SHARE) / often) if sigma else 0.0
    divisor = float(size if bounds is None else len(bounds) - 1)
    scale = 1.0 if ours.simulate is None else units / ours.simulate
    private = PrivateSteps(
        bounds, ours.clip_norm, sigma, rate, divisor, steps, scale=scale, means=means, secure_rng=ours.secure_rng
    )
    return dataclasses.replace(work, private=private)


def _shared(workloads: Sequence[Workload], often: int) -> list[Workload]:
    """With shares of one noise in the place of each office's: the largest, and one divisor for all, so that a unit
    moves the mean alike wherever it is."""
    held = [(work, work.private) for work in workloads if work.private]
    sigma = max(private.noise_multiplier for _, private in held)
    divisor = sum(private.divisor for _, private in held) / len(held)
    return [
        dataclasses.replace(
            work,
            private=dataclasses.replace(private, noise_multiplier=0.0, shared=sigma, spread=often, divisor=divisor),
        )
        for work, private in held
    ]


def noise_shares(spec: RunSpec, workloads: Sequence[Workload], count: int) -> NoiseShares | None:
    """How the offices of a protected run noise their sums; None where they do not.

    Args:
        count: length of the model, d.

    Raises:
        StrategyError: the grid has no room for the noise, or so much epsilon that clamped shares would show.
    """
    strategy = spec.strategy
    if not isinstance(strategy, Protected) or not strategy.noised:
        return None
    from strategies.protection.shares import NoiseShares  # compiled: what sends no noise does without

    offices, private, central, ours = len(workloads), workloads[0].private, strategy.central_dp, strategy.local_dp
    if central:
        sigma, clip = central_noise(spec, offices), central.clip_norm
        shares = NoiseShares(sigma, lambda _: clip, 1, lambda _: clip, True, strategy.min_offices, central.curious)
    else:
        assert ours is not None
        assert private is not None
        step, divisor = ours.clip_norm or 0.0, private.divisor  # without a clip there is no noise either
        shares = NoiseShares(
            private.shared * private.scale,
            lambda round_: learning_rate(spec, round_) * step * (1 + SINGLE) / divisor,
            private.spread,
            lambda round_: learning_rate(spec, round_) * step,
            False,
            strategy.min_offices,
            ours.curious,
        )
    if not shares.noise_multiplier:
        return None
    _check_clamps(spec, offices * count * spec.rounds)
    given = None if strategy.clip == AUTO else float(strategy.clip)
    for round_ in (1, spec.rounds):  # the largest learning rate, and the smallest: there the grid is coarsest
        clip_of = given or shares.clip(round_, count)
        shares.grid(strategy.bits, offices, count, clip_of, round_, strategy.rounds_by)
    return shares


def _check_clamps(spec: RunSpec, numbers: int) -> None:
    """Refuse to promise an epsilon so large that the clamping of shares would show in delta."""
    from strategies.privacy.discrete import clamps_show

    ours = spec.strategy.central_dp or spec.strategy.local_dp
    # What is proved for integers is a little above what was asked for.
    if ours and ours.epsilon is not None and clamps_show(1.01 * ours.epsilon, ours.delta, numbers):
        raise StrategyError(
            f"shares of noise are clamped ten standard deviations out, which at epsilon={ours.epsilon:g} and {numbers} "
            f"noisy numbers would show in delta={ours.delta:g}: ask for a smaller epsilon, or take noise without shares"
        )


def _means(mu: float, share: float) -> float:
    """The noise multiplier of a release that takes a share of mu^2."""
    return 1.0 / (mu * math.sqrt(share))


def private_means(spec: RunSpec, workloads: Sequence[Workload], x: Floats) -> Floats | None:
    """The mean row of all offices, each office's released once under noise of its own; None where none is asked for.

    An office sends (sum of clipped rows + noise) / n_k; with n_k public, the mean over offices is by rows. At person
    level a person's mean row stands for the person's rows.
    """
    total, count = np.zeros(x[0].size), 0
    for client, work in enumerate(workloads):
        private = work.private
        if private is None or private.means is None:
            return None
        if not len(work.rows):  # all its persons are left out, by an audit
            continue
        rows = x[work.rows].reshape(len(work.rows), -1).astype(np.float64)
        if private.persons is not None:
            rows = np.stack([part.mean(0) for part in np.split(rows, private.persons[1:-1])])
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        summed = (rows * np.minimum(1.0, MEANS_CLIP / np.maximum(norms, 1e-12))).sum(0)
        if private.means:
            from experiments.training.private import noise_stream  # compiled: what trains in the open does without

            stream = noise_stream(spec, work, Purpose.NOISE, 0, client)
            summed = summed + stream.normals(summed.size, private.means * private.scale * MEANS_CLIP)
        total += summed / len(rows) * len(work.rows)
        count += len(work.rows)
    return (total / count).astype(np.float32).reshape(x[0].shape)


def central_noise(spec: RunSpec, clients: int) -> float:
    """The noise multiplier of the sums, where the strategy noises them; 0 where not.

    Raises:
        StrategyError: no noise is enough.
    """
    ours = spec.strategy.central_dp
    if ours is None:
        return 0.0
    check_delta(ours.delta, clients)
    if ours.noise_multiplier is not None:
        return ours.noise_multiplier
    assert ours.epsilon is not None
    rate, rounds = participation(spec, ours, clients, spec.rounds)
    return noise_multiplier(ours.epsilon, ours.delta, rate, rounds, ours.accountant)


def participation(spec: RunSpec, ours: DpFedAvg, clients: int, rounds: int) -> tuple[float, int]:
    """The chance of a client to be in a round, and the rounds that count: for cohorts of a fixed size, which amplify
    nothing, those of the client who is in most."""
    cohort = spec.cohort(clients)
    if ours.sampling == "poisson":
        return cohort / clients, rounds
    counts = Counter(k for round_ in range(1, rounds + 1) for k in cohort_of(spec.seed, round_, clients, cohort))
    return 1.0, max(counts.values(), default=0)
