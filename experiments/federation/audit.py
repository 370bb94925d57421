"""The attack beside the promise: units are put into the training by coins, and the final model is asked which were in.

A unit with a coin is a *canary*. Which units are canaries, and the coins, come from a stream of their own, before
anything is trained, and nothing else knows of them:

    window    of every recording a stretch of a third at a random place, and in it every second window (of data whose
              windows overlap; else every row). The windows that share samples with a canary never train: what they
              tell of it would pass for a member's trace. Of UCI HAR's 7,352 rows 1,414 are canaries, 1,897 never
              train, and some 4,750 do; as many canaries apart from each other would cost two neighbours each
    person    every person
    client    every client, where whole clients are protected; one that is out sends no change

What noise and sampling are made for counts the canaries that are out as well: neither rate, divisor nor number of
steps knows of the coins. (The weights of offices do, through their numbers of rows, which are declared public.)

The score of a canary compares two models by the log-odds that they give its label (Carlini, Chien, Nasr, Song, Terzis,
Tramer: Membership Inference Attacks From First Principles, IEEE S&P 2022, section IV), mean over its rows:

    score = mean phi(final model) - mean phi(reference),    phi = ln(p / (1 - p)),    p = e^-loss

The reference says how hard the canary is for a model that has not seen it. For windows it is the model of a second
training, by plain FedAvg from the same first weights on the rows that are no canaries: clipped alike where the run
clips, without noise and protection, and with an order and coins of its own. Where every unit is a canary, it is the
first model. Guesses, bound and ceiling are those of `strategies.privacy.audit` for one run: Steinke, Nasr, Jagielski,
NeurIPS 2023. All of it is the harness's own: no office and no server sees a coin or a score.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.config.errors import UserError
from experiments.engines import inprocess
from experiments.federation.seeds import Purpose, stream
from experiments.training.evaluation import Rows, row_losses
from strategies import Workload
from strategies.dp_sgd import DpSgd
from strategies.fedavg import FedAvg
from strategies.privacy.plan import person_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.config.spec import RunSpec
    from experiments.federation.clients import ClientSide
    from experiments.federation.rounds import Outcome
    from experiments.federation.run import RunData, Sides
    from partitions import Deal
    from strategies import Strategy

STRETCH = 1 / 3  # of every recording
GUESSED, FEW = 0.25, 100  # a guess for this share of the canaries, and for all where they are few; fixed before any run
CONFIDENCE = 0.95
DELTA = 1e-5  # of the bound where nothing is promised
LOSSES = (1e-6, 1e6)  # of a row, that are told apart: single precision has few below
ANOTHER = 2**40  # from a run's seed to that of its reference
CAVEAT = "one run refutes little: a bound below the claim is no evidence for it"

Ints = NDArray[np.int64]
Models = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Canaries:
    """Units with a coin.

    Attributes:
        unit: window, person or client.
        units: (m,) row numbers, person ids or client numbers, ascending.
        included: (m,) of bool, the coins: who trains.
        idle: rows that never train, since they share samples with a canary.
    """

    unit: str
    units: Ints
    included: NDArray[np.bool_]
    idle: Ints

    def planned(self, rows: Ints) -> Ints:
        """An office's rows as noise and sampling are planned for: all but those that never train."""
        return rows[~np.isin(rows, self.idle)]

    def drawn(self, workloads: Sequence[Workload], persons: Ints) -> tuple[Workload, ...]:
        """Planned workloads without the canaries that are out; all else of their plan stays.

        Args:
            persons: person of every training row.
        """
        out = self.units[~self.included]
        if self.unit == "client":
            return tuple(dataclasses.replace(work, steps=0) if k in out else work for k, work in enumerate(workloads))
        named = persons if self.unit == "person" else np.arange(len(persons))
        return tuple(_keep(work, ~np.isin(named[work.rows], out), persons) for work in workloads)


def _keep(work: Workload, kept: NDArray[np.bool_], persons: Ints) -> Workload:
    rows, private = work.rows[kept], work.private
    if private is not None and private.persons is not None:
        private = dataclasses.replace(private, persons=person_bounds(rows, persons))
    return dataclasses.replace(work, rows=rows, private=private)


def unit_of(spec: RunSpec) -> str:
    """Whose membership is guessed: the unit of the promise, a window where nothing is promised."""
    return spec.strategy.protects or "window"


def plan(spec: RunSpec, data: RunData, offices: Deal) -> Canaries:
    """Who is a canary, and who of them is in. Depends on data, partition, seed and unit, and not on labels.

    Raises:
        UserError: there is no unit to put in or leave out.
    """
    rng, unit = stream(spec.seed, Purpose.AUDIT), unit_of(spec)
    dealt, idle = np.concatenate(offices.train), np.empty(0, np.int64)
    if unit == "window":
        units, idle = windows(data.recording, data.about.overlap, rng)
    elif unit == "person":
        units = np.unique(data.train.person)
    else:
        units = np.arange(len(offices.train))
    included = rng.integers(2, size=len(units)).astype(np.bool_)  # of validation rows as well: the others' stay
    if unit != "client":
        trains = np.isin(units, dealt if unit == "window" else data.train.person[dealt])
        units, included = units[trains], included[trains]
    if not len(units):
        raise UserError(f"--audit needs units to leave out, and found no {unit} among {len(dealt)} training rows")
    return Canaries(unit, units, included, idle)


def windows(recording: Ints, overlap: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Canary rows, and the rows beside them that share samples with one; both ascending.

    Args:
        recording: (n,) of every row; rows of one follow each other in time.
        overlap: how many following rows share samples with a row.
    """
    canaries, beside = [], []
    for one in np.unique(recording):
        rows = np.flatnonzero(recording == one)
        length = round(STRETCH * len(rows))
        start = int(rng.integers(len(rows) - length + 1))
        at = np.arange(start, start + length, overlap + 1)
        near = (at[:, None] + np.arange(-overlap, overlap + 1)).ravel()
        canaries.append(rows[at])
        beside.append(rows[np.setdiff1d(near[(near >= 0) & (near < len(rows))], at)])
    return np.sort(np.concatenate(canaries)), np.sort(np.concatenate(beside))


def attack(scores: Floats, included: NDArray[np.bool_], delta: float) -> dict[str, Any]:
    """What the scores (m,) of canaries in the order of `Canaries.units` give away of the coins (m,).

    Half of the guesses say that the highest scores were in, half that the lowest were out.
    `auc` and `tpr_at_1pct` are None where all coins fell alike.
    """
    from strategies.privacy.audit import (  # its statistics take half a second to import
        auc,
        one_run_ceiling,
        one_run_lower_bound,
        right_guesses,
        true_positive_rate,
    )

    m = len(scores)
    guesses = max(min(m, FEW), round(GUESSED * m))
    right = right_guesses(scores, included, guesses)
    groups = (scores[included], scores[~included])
    both = all(map(len, groups))
    return {
        "canaries": m,
        "included": int(included.sum()),
        "guesses": guesses,
        "right": right,
        "auc": auc(*groups) if both else None,
        "tpr_at_1pct": true_positive_rate(*groups, 0.01) if both else None,
        "lower_bound": one_run_lower_bound(right, guesses, m, delta, CONFIDENCE),
        "ceiling": one_run_ceiling(guesses, m, delta, CONFIDENCE),
        "confidence": CONFIDENCE,
        "delta": delta,
    }


def log_odds(losses: Floats) -> Floats:
    """phi = ln(p / (1 - p)) of rows with these cross-entropies; a loss that is not a number is an infinite one."""
    kept = np.clip(np.nan_to_num(losses, nan=np.inf), *LOSSES)
    return np.asarray(-kept - np.log(-np.expm1(-kept)))  # ln p - ln(1 - p)


def scores_of(
    canaries: Canaries, offices: Deal, clients: ClientSide, persons: Ints, models: Models, reference: Floats
) -> Floats:
    """(m,) how much better the final model knows each canary than the reference does, mean over its rows.

    Args:
        persons: person of every training row.
        models: (M, d) final models, M = 1 or one an office: then the model of the office that holds the row.
        reference: log-odds of all training rows under the reference.
    """
    rows = canaries.units if canaries.unit == "window" else np.concatenate(offices.train)
    holder = np.empty(len(persons), np.int64)
    for k, own in enumerate(offices.train):
        holder[own] = k
    named = {"window": np.arange(len(persons)), "person": persons, "client": holder}[canaries.unit][rows]
    known = np.empty(len(rows))
    for number, w in enumerate(models):
        own = np.full(len(rows), True) if len(models) == 1 else holder[rows] == number
        known[own] = _known(clients, w)[rows[own]]
    at = np.searchsorted(canaries.units, named)
    return np.asarray(np.bincount(at, known - reference[rows]) / np.bincount(at))


def _known(clients: ClientSide, w: Models) -> Floats:
    """Log-odds of all training rows under a model."""
    losses = row_losses(clients.spec.model, clients.x.shape[1:], clients.classes)
    return log_odds(losses(w, Rows(clients.x, clients.y, np.zeros_like(clients.y))))


def reference(spec: RunSpec, data: RunData, offices: Deal, canaries: Canaries, first: Models) -> Floats | None:
    """Log-odds of all training rows under a model that no canary trained; None where all are canaries, or where that
    training diverges.

    Args:
        first: first weights of the run, (d,), which nobody has to hide.
    """
    if canaries.unit != "window":
        return None
    from experiments.federation.run import corrupted, set_up  # which reaches this module

    ours = spec.strategy.local_dp
    plain: Strategy = FedAvg()
    if ours is not None:
        plain = DpSgd(inner=plain, noise_multiplier=0.0, clip_norm=ours.clip_norm, delta=ours.delta)
    # The canaries are scored by the labels that the run trained on, which another seed would spoil in another way.
    data = corrupted(spec, data, offices)
    spec = dataclasses.replace(spec, strategy=plain, audit=False, dropout=None, corrupt=None, seed=spec.seed + ANOTHER)
    never = np.union1d(canaries.units, canaries.idle)
    offices = dataclasses.replace(
        offices,
        train=tuple(rows[~np.isin(rows, never)] for rows in offices.train),
        validation=tuple(rows[:0] for rows in offices.validation),
    )
    sides = set_up(spec, dataclasses.replace(data, test=None), offices)
    server, clients = dataclasses.replace(sides.server, first=first), sides.clients
    outcome = inprocess.run(server, clients, len(clients.workloads))
    return None if outcome.diverged or outcome.models is None else _known(clients, outcome.models[0])


def check(spec: RunSpec, engine: str) -> None:
    """Refuse what ends without a model to look at.

    Raises:
        UserError: the final model stays in processes that are gone.
    """
    if spec.audit and spec.strategy.protected and engine != "inprocess":
        raise UserError(
            f"--audit looks at the final model, and engine {engine} leaves none under protection: "
            "set --engine inprocess"
        )


def add_audit(
    record: dict[str, Any], spec: RunSpec, data: RunData, offices: Deal, sides: Sides, outcome: Outcome
) -> None:
    """Under the record's `privacy`, what an attack on the final model found. A run that did not end has none."""
    if not spec.audit or record["status"] != "ok" or outcome.models is None:
        return
    canaries = plan(spec, data, offices)
    clients, first = sides.clients, sides.first()
    known = reference(spec, data, offices, canaries, first)
    if known is None:
        known = _known(clients, first)
    scores = scores_of(canaries, offices, clients, data.train.person, outcome.models, known)
    claim = record.get("privacy") or {"mechanism": "none", "unit": canaries.unit, "epsilon": None, "delta": DELTA}
    found = {"unit": claim["unit"]} | attack(scores, canaries.included, claim["delta"]) | {"caveat": CAVEAT}
    record["privacy"] = claim | {"audit": found}
