"""What a private run claims: epsilon as it was spent, for whom, against whom, and what it rests on.

Where both sums and steps are noised, the promise of the sums is the record's, and that of the steps stands in it as
`local`. A claim counts what was asked of offices, whether or not the run came to its end.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from strategies.base import Workload
from strategies.privacy.accounting import Mechanism, epsilon, group, orders_text
from strategies.privacy.plan import PrivacyPlan, noise_shares, participation
from strategies.privacy.shares import shared_noise
from strategies.privacy.terms import Budget, CentralPrivacy, LocalPrivacy
from strategies.protection.sees import SERVER, WITH_ONE

if TYPE_CHECKING:
    from strategies.protection.options import ProtectionOptions

FEW = 4  # clients, which are offices and no crowd to hide in
PUBLIC = ("rows of each office", "persons of each office", "local steps", "which persons are in which offices")
UPDATE_OR_NONE = "a client's update or none, who takes part being public"  # its share of the noise goes with it


def claim(plan: PrivacyPlan, outcome: Any) -> dict[str, Any]:
    """The record's section on privacy.

    Args:
        outcome: with `rounds` that ended, `trained` rounds of each client, and why it `diverged`, or None.
    """
    found = _local(plan, plan.local, outcome.trained) if plan.local else None
    if plan.central is None:
        assert found is not None
        return found
    sums = len(outcome.rounds) + (outcome.diverged is not None)  # the last was formed, and not scored
    whole = _central(plan, plan.central, min(sums, plan.setting.rounds))
    return whole if found is None else whole | {"local": found}


def _central(plan: PrivacyPlan, ours: CentralPrivacy, rounds: int) -> dict[str, Any]:
    """Of the sums."""
    setting, protection = plan.setting, plan.protection
    rate, counted = participation(ours, setting, rounds)
    history = (Mechanism(plan.noise_multiplier, rate, counted),)
    found = (
        _claim(plan, ours, _Spent.of(history, ours))
        | {
            "mechanism": "dp_fedavg",
            "unit": _client(plan),
            "units": setting.clients,
            "observer": _of_shares(protection, ours.curious)
            if protection
            else "other offices, reader of the model; the server sees clipped updates without noise"
            + "; nobody of them learns who takes part" * (ours.sampling == "poisson"),
            "noise": "shared" if protection else "server",
            "sampling": "all" if setting.cohort == setting.clients else ours.sampling,
            "public": ["number of offices", "who takes part in a round"] if ours.sampling == "fixed" else [],
            "noise_multiplier": plan.noise_multiplier,
            "sampling_rate": rate,
            "steps": counted,
        }
        # Cohorts of a fixed size are drawn from a public number of clients, so that nobody comes or goes unseen.
        | ({"relation": UPDATE_OR_NONE} if ours.sampling == "fixed" or protection else {})
    )
    if protection:
        _under_shares(found, plan, counted)
    return found


def _under_shares(claim: dict[str, Any], plan: PrivacyPlan, steps: int) -> None:
    """Hold a claim whose noise comes in shares, in place, to what is proved for integers: nothing in it is below that,
    and where clamped shares would show in delta nothing is promised."""
    from strategies.privacy.discrete import clamps_show

    count = sum(plan.setting.layout())
    numbers = count * len(plan.workloads) * plan.setting.rounds
    proved = claim["epsilon_integers"] = _of_integers(plan, count, steps, claim["delta"])
    least = max(claim["epsilon"], proved or 0.0)
    groups = (claim[name] for name in ("group_person", "group_signal") if name in claim)
    for one in (claim, *claim.get("offices", ()), *groups):
        one["epsilon"] = max(one["epsilon"], least)
        if math.isfinite(one["epsilon"]) and clamps_show(one["epsilon"], claim["delta"], numbers):
            one |= dict.fromkeys({"epsilon", "epsilon_rdp"} & one.keys(), math.inf)


def _of_integers(plan: PrivacyPlan, count: int, steps: int, delta: float) -> float | None:
    """Epsilon that is proved for the discrete Gaussians in sums of so many rounds: a little above the Gaussian's own
    (`strategies.privacy.shares`). None where there is no noise, a unit is not in every step, or the noise is that of a
    simulated crowd."""
    strategy, setting = plan.protection, plan.setting
    assert strategy is not None
    shares, privates = noise_shares(strategy, setting, plan, count), [work.private for work in plan.workloads]
    if shares is None or any(private and (private.rate < 1 or private.scale < 1) for private in privates):
        return None
    means = [math.sqrt(private.spread) / private.means for private in privates if private and private.means]
    found = []
    for round_ in (1, setting.rounds):  # between the two the grid is no coarser
        clip = strategy.fixed_clip or shares.clip(round_, count)
        grid = shares.grid(strategy.bits, len(plan.workloads), count, clip, round_, strategy.rounds_by)
        carried, std = strategy.min_offices - shares.curious, math.sqrt(grid.variance)
        found.append(shared_noise(carried, std, grid.sensitivity, count, steps, delta, max(means, default=0.0)))
    return max(found)


def _client(plan: PrivacyPlan) -> str:
    """What a client is, in words: four offices are no crowd to hide in, and are called by their name."""
    if plan.setting.one_person:
        return "person"
    return "office" if plan.setting.clients <= FEW else "client"


def _of_shares(strategy: ProtectionOptions, curious: int) -> str:
    """Whom shares of noise hold against: not a server that sees updates, each under one share alone; not an office,
    which knows its own share, unless that is counted out; and an office together with the server only where the
    protocol keeps updates from the two."""
    parties = [] if strategy.sees[SERVER].updates else ["server"]
    alone = WITH_ONE in strategy.sees and not strategy.sees[WITH_ONE].updates
    if curious:
        parties.append("other offices")
    text = ", ".join([*parties, "reader of the model"])
    if curious and parties[0] == "server":
        text += f"; {curious} of the offices may pool what they know" + " with the server" * alone
    return text


def _claim(plan: PrivacyPlan, ours: LocalPrivacy | CentralPrivacy, spent: _Spent) -> dict[str, Any]:
    """What every claim has to name."""
    return {
        "inner": plan.setting.text((ours.inner.local_dp or ours).inner),
        "target_epsilon": ours.epsilon,
        "epsilon": spent.epsilon,
        "epsilon_rdp": spent.rdp,
        "delta": ours.delta,
        "accountant": ours.accountant,
        "orders": orders_text,
        "relation": "add or remove one",
        "noise_source": "os" if ours.secure_rng else "reproducible",
        "clip_norm": ours.clip_norm,
    }


def _local(plan: PrivacyPlan, ours: LocalPrivacy, trained: Sequence[int]) -> dict[str, Any]:
    """Of the offices' steps.

    Args:
        trained: rounds that each client was asked to train in.
    """
    workloads = plan.workloads
    histories = [_history(work, rounds) for work, rounds in zip(workloads, trained, strict=True)]
    by_person = _by_persons(workloads, plan.setting.persons)
    together = ours.noise == "shared"  # a step of all offices has one noise, whose shares add up
    if ours.unit == "person":
        worst = _Spent.worst((_composed([histories[k] for k, _ in held], together) for held in by_person), ours)
        grouped = {}
    else:
        worst = _Spent.worst(map(tuple, histories), ours)
        whole = (_whole([(histories[k], rows) for k, rows in held], together) for held in by_person)
        most = max(sum(rows for _, rows in held) for held in by_person)
        beside = 2 * plan.setting.overlap + 1  # windows that share samples with a window, itself counted
        touched = (tuple(group(history, beside)) for history in histories)
        grouped = {
            name: {"windows": size, "epsilon": spent, "delta": ours.delta, "accountant": "prv"}
            for name, size, spent in (
                ("group_person", most, _Spent.worst(whole, ours, "prv").epsilon),
                ("group_signal", beside, _Spent.worst(touched, ours, "prv").epsilon),
            )
        }
    works = [(work, work.private) for work in workloads if work.private]
    found = (
        _claim(plan, ours, worst)
        | {
            "mechanism": "dp_sgd",
            "unit": ours.unit,
            "units": len(by_person) if ours.unit == "person" else sum(len(work.rows) for work in workloads),
            "simulated_units": ours.simulate,
            "observer": _of_shares(plan.protection, ours.curious)
            if together and plan.protection
            else "server, other offices, reader of the model",
            "noise": ours.noise,
            "sampling": "poisson" if any(private.rate < 1 for _, private in works) else "all",
            "public": list(PUBLIC),
            "offices": [
                {
                    "epsilon": spent.epsilon,
                    "epsilon_rdp": spent.rdp,
                    "noise_multiplier": history[0].noise_multiplier,
                    "sampling_rate": private.rate,
                    "steps": history[0].steps,
                    "units": len(work.rows) if private.persons is None else len(private.persons) - 1,
                }
                for (work, private), history in zip(works, histories, strict=True)
                for spent in [_Spent.of(tuple(history), ours)]
            ],
        }
        | grouped
    )
    if together:
        _under_shares(found, plan, max(one[0].steps for one in histories))
    return found


def _history(work: Workload, rounds: int) -> list[Mechanism]:
    """All that an office has noised: its steps first."""
    private = work.private
    assert private is not None
    history = [Mechanism(private.shared or private.noise_multiplier, private.rate, rounds * work.steps)]
    return history if private.means is None else [*history, Mechanism(private.means, 1.0, 1)]


def _composed(histories: Sequence[Sequence[Mechanism]], together: bool) -> tuple[Mechanism, ...]:
    """What several offices spend of one person's budget.

    Under one noise for all of them a round of n of the person's K offices shifts the sum by n / K of what was
    accounted for, squared at most that share, so that over all rounds it is no more than the busiest office's rounds.
    """
    if not together:
        return tuple(one for history in histories for one in history)
    busiest = max((history[0] for history in histories), key=lambda one: one.steps)
    return (busiest, *(one for history in histories for one in history[1:]))


def _by_persons(workloads: Sequence[Workload], persons: NDArray[np.int64]) -> list[tuple[tuple[int, int], ...]]:
    """Of every person: (office, rows in it), for all offices that hold some."""
    held: dict[int, list[tuple[int, int]]] = {}
    for office, work in enumerate(workloads):
        for person, rows in Counter(persons[work.rows].tolist()).items():
            held.setdefault(person, []).append((office, rows))
    return [tuple(offices) for offices in held.values()]


def _whole(held: Sequence[tuple[Sequence[Mechanism], int]], together: bool) -> tuple[Mechanism, ...]:
    """For neighbours that differ in all rows of a person, so many in each office: as if all were in every step, which
    can only tell more. Under one noise the shifts of several offices add up."""
    steps = [(history[0], rows) for history, rows in held]
    if together:
        busiest = max((one for one, _ in steps), key=lambda one: one.steps)
        steps = [(busiest, sum(rows for _, rows in held))]
    means = [(one, rows) for history, rows in held for one in history[1:]]
    return tuple(Mechanism(one.noise_multiplier / rows, 1.0, one.steps) for one, rows in [*steps, *means])


@dataclass(frozen=True)
class _Spent:
    """Epsilon by the run's accountant, and by RDP beside it; infinite where there is no noise."""

    epsilon: float
    rdp: float

    @classmethod
    def of(cls, history: tuple[Mechanism, ...], ours: Budget, accountant: str | None = None) -> _Spent:
        if any(one.noise_multiplier == 0 for one in history if one.steps):
            return cls(math.inf, math.inf)
        by_rdp = math.inf if accountant else epsilon(history, ours.delta, "rdp")
        chosen = accountant or ours.accountant
        return cls(by_rdp if chosen == "rdp" else epsilon(history, ours.delta, chosen), by_rdp)

    @classmethod
    def worst(
        cls,
        histories: Iterable[tuple[Mechanism, ...]],
        ours: LocalPrivacy | CentralPrivacy,
        accountant: str | None = None,
    ) -> _Spent:
        return max((cls.of(history, ours, accountant) for history in set(histories)), key=lambda spent: spent.epsilon)
