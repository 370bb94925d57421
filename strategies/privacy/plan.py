"""What a private run needs before round 1: the noise that its budget buys each office, and what it may not do.

An office's noise multiplier is solved for the whole training: all its rounds and local steps, its own sampling rate,
and the release of its feature means if the strategy asks for that. Everything used here is public or declared so: the
number of units, rows and steps of each office, and which persons are in which offices.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from strategies.base import PrivateSteps, Setting, StrategyError, Workload
from strategies.privacy.accounting import Mechanism, check_delta, epsilon, noise_multiplier
from strategies.privacy.gaussian import gaussian_mu
from strategies.privacy.terms import CentralPrivacy, LocalPrivacy

if TYPE_CHECKING:
    from strategies.protection.options import ProtectionOptions
    from strategies.protection.shares import NoiseShares

MEANS_SHARE = 0.03  # of mu^2, for the feature means
MEANS_CLIP = 20.0  # largest L2 norm of a row, or of a person's mean row, in them
SINGLE = 1e-3  # of the clip: some times what single precision was seen to add to one unit's part of a sum of gradients

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PrivacyPlan:
    """What a private run was planned with.

    Attributes:
        setting: of the run.
        workloads: of every client, with private steps where local steps are private.
        local: makes local steps private, or None.
        central: makes the sums private, or None.
        noise_multiplier: of the sums.
        protection: whose sums hold shares of the noise, or None.
    """

    setting: Setting
    workloads: tuple[Workload, ...]
    local: LocalPrivacy | None = None
    central: CentralPrivacy | None = None
    noise_multiplier: float = 0.0
    protection: ProtectionOptions | None = None

    def entropy(self, number: int) -> np.random.SeedSequence:
        """Of the noise that the server adds to a round's sum."""
        return self.setting.entropy("STRATEGY", number)


def check_steps(ours: LocalPrivacy, setting: Setting) -> None:
    """Refuse options that leave something un-noised, or a delta that promises nothing.

    Raises:
        StrategyError: which, and what to set.
    """
    check_pooled(setting)
    check_delta(ours.delta, max(_units(ours, setting.persons), ours.simulate or 0))
    if getattr(setting.loss, "uses_counts", False):
        raise StrategyError(
            f"loss {setting.text(setting.loss)} puts an office's class counts into every gradient, which the clip does "
            "not bound: set --loss cross_entropy"
        )
    if ours.unit == "person" and setting.batch_size != "full":
        raise StrategyError(
            f"unit=person takes all rows of every person in every step: set --batch-size full; found "
            f"{setting.batch_size}"
        )
    if ours.noise == "own":
        return
    if not setting.protected:
        raise StrategyError(
            "noise=shared adds a share of the noise at each office, inside a sum that the server cannot read: write "
            f"masked_sum(inner={setting.text(ours)}), or another protection, or set noise=own"
        )
    if setting.local_steps != 1 and (setting.batch_size != "full" or setting.local_epochs != 1):
        raise StrategyError(
            "noise=shared is added to what an office sends, so that a round is one step: set --local-steps 1 "
            f"(found local_epochs={setting.local_epochs}, local_steps={setting.local_steps}, "
            f"batch_size={setting.batch_size})"
        )


def check_pooled(setting: Setting) -> None:
    """Refuse statistics of the rows that no epsilon pays for.

    Raises:
        StrategyError: they were asked for.
    """
    if setting.standardise == "pooled":
        raise StrategyError(
            "standardise=pooled shares means and variances of the training rows that no epsilon pays for; set "
            "--standardise none (dp_sgd(means=true) subtracts noised means, from its budget)"
        )


def private_workloads(ours: LocalPrivacy, setting: Setting, workloads: Sequence[Workload]) -> list[Workload]:
    """Workloads with their private steps.

    Raises:
        StrategyError: the options leave something un-noised, or no noise is enough.
    """
    check_steps(ours, setting)
    persons = setting.persons
    held = [_by_person(work, persons) if ours.unit == "person" else work for work in workloads]
    often = _appearances(held, persons) if ours.unit == "person" else 1
    private = [_private(setting, ours, work, often) for work in held]
    return _shared(private, often) if ours.noise == "shared" else private


def _units(ours: LocalPrivacy, persons: NDArray[np.int64]) -> int:
    """How many there are of what is protected."""
    return len(persons) if ours.unit == "window" else len(np.unique(persons))


def _by_person(work: Workload, persons: NDArray[np.int64]) -> Workload:
    """The rows with each person's side by side."""
    return dataclasses.replace(work, rows=work.rows[np.argsort(persons[work.rows], kind="stable")])


def person_bounds(rows: NDArray[np.int64], persons: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each person's rows begin, (persons + 1,), of rows that stand person by person."""
    return np.append(0, np.cumsum(np.unique(persons[rows], return_counts=True)[1])).astype(np.int64)


def _appearances(workloads: Sequence[Workload], persons: NDArray[np.int64]) -> int:
    """In how many offices the most widespread person is: all of them spend of one budget."""
    counts = Counter(person for work in workloads for person in np.unique(persons[work.rows]).tolist())
    return max(counts.values())


def _private(setting: Setting, ours: LocalPrivacy, work: Workload, often: int) -> Workload:
    """A workload with its private steps."""
    persons = setting.persons
    bounds = person_bounds(work.rows, persons) if ours.unit == "person" else None
    size = len(work.rows) if setting.batch_size == "full" else min(int(setting.batch_size), len(work.rows))
    rate = size / len(work.rows)
    steps = setting.rounds * work.steps
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
    scale = 1.0 if ours.simulate is None else _units(ours, persons) / ours.simulate
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


def noise_shares(strategy: ProtectionOptions, setting: Setting, plan: PrivacyPlan, count: int) -> NoiseShares | None:
    """How the offices of a run whose sums hold shares of noise draw them; None where the noise is none.

    Args:
        plan: of the private strategy inside.
        count: length of the model, d.

    Raises:
        StrategyError: the grid has no room for the noise, or so much epsilon that clamped shares would show.
    """
    from strategies.protection.shares import NoiseShares  # compiled: what sends no noise does without

    offices, private = len(plan.workloads), plan.workloads[0].private
    if plan.central:
        central, clip = plan.central, plan.central.clip_norm
        shares = NoiseShares(
            plan.noise_multiplier, lambda _: clip, 1, lambda _: clip, True, strategy.min_offices, central.curious
        )
    else:
        assert plan.local is not None
        assert private is not None
        step, divisor = plan.local.clip_norm or 0.0, private.divisor  # without a clip there is no noise either
        shares = NoiseShares(
            private.shared * private.scale,
            lambda round_: setting.lr(round_) * step * (1 + SINGLE) / divisor,
            private.spread,
            lambda round_: setting.lr(round_) * step,
            False,
            strategy.min_offices,
            plan.local.curious,
        )
    if not shares.noise_multiplier:
        return None
    _check_clamps(plan, offices * count * setting.rounds)
    given = strategy.fixed_clip
    for round_ in (1, setting.rounds):  # the largest learning rate, and the smallest: there the grid is coarsest
        clip_of = given or shares.clip(round_, count)
        shares.grid(strategy.bits, offices, count, clip_of, round_, strategy.rounds_by)
    return shares


def _check_clamps(plan: PrivacyPlan, numbers: int) -> None:
    """Refuse to promise an epsilon so large that the clamping of shares would show in delta."""
    from strategies.privacy.discrete import clamps_show

    ours = plan.central or plan.local
    # What is proved for integers is a little above what was asked for.
    if ours and ours.epsilon is not None and clamps_show(1.01 * ours.epsilon, ours.delta, numbers):
        raise StrategyError(
            f"shares of noise are clamped ten standard deviations out, which at epsilon={ours.epsilon:g} and {numbers} "
            f"noisy numbers would show in delta={ours.delta:g}: ask for a smaller epsilon, or take noise without shares"
        )


def _means(mu: float, share: float) -> float:
    """The noise multiplier of a release that takes a share of mu^2."""
    return 1.0 / (mu * math.sqrt(share))


def private_means(setting: Setting, x: Floats, workloads: Sequence[Workload]) -> Floats:
    """The mean row of all offices, each office's released once under noise of its own.

    An office sends (sum of clipped rows + noise) / n_k; with n_k public, the mean over offices is by rows. At person
    level a person's mean row stands for the person's rows.

    Args:
        x: (n, ...) all training rows.
    """
    total, count = np.zeros(x[0].size), 0
    for client, work in enumerate(workloads):
        private = work.private
        assert private is not None
        assert private.means is not None
        if not len(work.rows):  # all its persons are left out, by an audit
            continue
        rows = x[work.rows].reshape(len(work.rows), -1).astype(np.float64)
        if private.persons is not None:
            rows = np.stack([part.mean(0) for part in np.split(rows, private.persons[1:-1])])
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        summed = (rows * np.minimum(1.0, MEANS_CLIP / np.maximum(norms, 1e-12))).sum(0)
        if private.means:
            from strategies.privacy.noise import stream_of  # compiled: what trains in the open does without

            stream = stream_of(setting.entropy("NOISE", 0, client), private.secure_rng)
            summed = summed + stream.normals(summed.size, private.means * private.scale * MEANS_CLIP)
        total += summed / len(rows) * len(work.rows)
        count += len(work.rows)
    return (total / count).astype(np.float32).reshape(x[0].shape)


def central_noise(ours: CentralPrivacy, setting: Setting) -> float:
    """The noise multiplier of the sums.

    Raises:
        StrategyError: no noise is enough.
    """
    check_delta(ours.delta, setting.clients)
    if ours.noise_multiplier is not None:
        return ours.noise_multiplier
    assert ours.epsilon is not None
    rate, rounds = participation(ours, setting, setting.rounds)
    return noise_multiplier(ours.epsilon, ours.delta, rate, rounds, ours.accountant)


def participation(ours: CentralPrivacy, setting: Setting, rounds: int) -> tuple[float, int]:
    """The chance of a client to be in a round, and the rounds that count: for cohorts of a fixed size, which amplify
    nothing, those of the client who is in most."""
    if ours.sampling == "poisson":
        return setting.cohort / setting.clients, rounds
    counts = Counter(k for number in range(1, rounds + 1) for k in setting.members(number))
    return 1.0, max(counts.values(), default=0)
