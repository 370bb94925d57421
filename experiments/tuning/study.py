"""A study: what tuning one cell asks for, and what it makes of the answers. A generator of runs; none is made here.

A trial is five runs: seed 1000 + i on the i-th of five folds of the training persons; its value is the mean of their
validation accuracies over the last five rounds. The five best trials run again on five fresh seeds, and the best of
those wins: a maximum over sixty noisy means is too high. No reported run has these seeds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.federation import provenance
from experiments.federation.run import LAST_ROUNDS, sources
from experiments.training.schedule import steps_a_round
from experiments.tuning import search
from experiments.tuning.winners import key_of
from results.record import RunRecord
from results.tuned import tuned
from strategies import Workload

FOLDS = 5  # of the training persons; a trial is a run a fold
SEED, FRESH_SEED = 1000, 1005  # of the first run of a trial, and of a finalist; never reported
FINALISTS = 5


@dataclass(frozen=True)
class Terms:
    """What every study is given alike.

    Attributes:
        trials: a multiple of the batch.
        rounds: of a run that is not stopped.
        seed: of the study.
        halving: stop the worse trials of a batch early; without it, how often that would have cost the best is known.
    """

    trials: int = 60
    rounds: int = 15
    seed: int = 0
    halving: bool = True

    def __post_init__(self) -> None:
        if self.trials < search.BATCH or self.trials % search.BATCH:
            raise UserError(f"--trials must be a multiple of {search.BATCH} (a batch); found {self.trials}")
        if self.rounds < 1:
            raise UserError(f"--rounds must be at least 1; found {self.rounds}")
        if self.seed < 0:
            raise UserError(f"--seed must be at least 0; found {self.seed}")


@dataclass(frozen=True)
class Cell:
    """What is tuned.

    Attributes:
        key: as winners are filed.
        spec: a run of it with the default values, resolved.
        space: what is searched.
    """

    key: dict[str, Any]
    spec: RunSpec
    space: search.Space

    def run(self, params: Mapping[str, Any], terms: Terms, seed: int) -> RunSpec:
        """The run of a trial or a finalist with this seed: it validates on the fold that belongs to it."""
        fixed = {"seed": seed, "validation": f"fold({(seed - SEED) % FOLDS}, of={FOLDS})", "rounds": terms.rounds}
        tuned_options = search.options_of(self.spec.strategy, params)
        return RunSpec.from_options({**self.spec.options(), **tuned_options, **fixed})


def cells_of(specs: Iterable[RunSpec], fixed: Sequence[str] = ()) -> list[Cell]:
    """The cells of a grid's (resolved) runs, each once; `fixed` parameters are not searched."""
    found: dict[str, Cell] = {}
    for spec in specs:
        key = key_of(spec)
        found.setdefault(tuned.file_name(key), Cell(key, spec, search.space_of(spec, fixed)))
    return list(found.values())


def several(specs: Iterable[RunSpec]) -> dict[str, list[str]]:
    """Options in which (resolved) runs of one cell differ though they name no cell: the first is trial 0's."""
    values: dict[str, dict[str, dict[str, None]]] = {}
    for spec in specs:
        own = values.setdefault(tuned.file_name(key_of(spec)), {})
        for name, value in spec.options().items():
            if name not in _NO_DEFAULT:
                own.setdefault(name, {})[str(value)] = None
    return {name: list(found) for own in values.values() for name, found in own.items() if len(found) > 1}


_NO_DEFAULT = ("seed", "validation", "rounds")  # a study's own, whatever the grid says


def runs_to_check(cells: Iterable[Cell], terms: Terms) -> list[RunSpec]:
    """One run of every deal that tuning will make."""
    seeds = range(SEED, FRESH_SEED + FOLDS)
    return [cell.run(cell.space.default, terms, seed) for cell in cells for seed in seeds]


@dataclass(frozen=True)
class Ask:
    """A run that a study wants trained to the end of round `until`."""

    spec: RunSpec
    until: int


Asking = Generator[list[Ask], list[RunRecord], tuned.Winner]


def value_at(record: RunRecord, after: int) -> float:
    """Mean validation accuracy of the last five rounds up to `after`; 0 where the run diverged before.

    Raises:
        UserError: there was nothing to validate on.
    """
    if len(record.rounds) < after:
        return 0.0
    accuracies = [row.validation_accuracy for row in record.rounds[max(0, after - LAST_ROUNDS) : after]]
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    if not known:
        raise UserError(
            f"{record.spec['partition']}: no office has a validation row under {record.spec['validation']}, so a trial "
            "has no value; choose another partition"
        )
    return mean(known)


class Study:
    """One cell's search, as a generator of what it wants run.

    Args:
        storage: Optuna's; the study's name there is `name`.
    """

    def __init__(self, cell: Cell, terms: Terms, storage: Any) -> None:
        self.cell, self.terms = cell, terms
        self.name = f"{tuned.file_name(cell.key)}-{self._digest()}"
        with self._storage_answers():
            self.study = optuna.create_study(
                storage=storage, study_name=self.name, direction="maximize", load_if_exists=True
            )

    def _digest(self) -> str:
        """Of what else decides the values: another default, space, length, data or code is another study."""
        terms, spec = self.terms, self.cell.spec
        own = {
            **spec.options(), "rounds": terms.rounds, "seed": terms.seed, "validation": "", "halving": terms.halving,
            "space": {name: repr(one) for name, one in self.cell.space.distributions.items()},
            "sources": sources(spec, "inprocess"),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def asks(self) -> int:
        """How many runs it will ask for, those that go on counted anew."""
        batches = self.terms.trials // search.BATCH
        whole = min(search.RANDOM_BATCHES, batches) if self.terms.halving else batches
        halved = search.BATCH + sum(kept for _, kept in search.rungs(self.terms.rounds))
        return FOLDS * (whole * search.BATCH + (batches - whole) * halved + FINALISTS)

    def run(self) -> Asking:
        """Ask for runs, tell Optuna, return the winner."""
        finished: list[FrozenTrial] = []
        for batch in range(self.terms.trials // search.BATCH):
            params = search.propose(self.cell.space, finished, self.terms.seed, batch)
            told = self._told(batch, params)
            if len(told) < len(params):
                values = yield from self._values(params, batch)
                for place in range(len(told), len(params)):
                    trial = search.trial_of(
                        self.cell.space, params[place], values[place], self.terms.rounds, batch, place
                    )
                    with self._storage_answers():
                        self.study.add_trial(trial)
                told = self._told(batch, params)
            finished += told
        return (yield from self._winner(finished))

    def _told(self, batch: int, params: Sequence[Mapping[str, Any]]) -> list[FrozenTrial]:
        """The trials of a batch that the storage holds, in order.

        Raises:
            UserError: they are not those that this batch asks for, or the storage does not answer.
        """
        with self._storage_answers():
            every = self.study.get_trials(deepcopy=False)
        # A driver on another machine, with the same storage, tells the same trials once more: the first stand.
        first: dict[int, FrozenTrial] = {}
        for trial in every:
            if trial.user_attrs.get("batch") == batch:
                first.setdefault(trial.user_attrs["place"], trial)
        trials = [first[place] for place in sorted(first)]
        if [trial.params for trial in trials] != list(params[: len(trials)]):
            raise UserError(
                f"study {self.name} holds other trials than this code asks for (another version of Optuna?); give "
                "another --storage, or remove the study"
            )
        return trials

    @contextmanager
    def _storage_answers(self) -> Iterator[None]:
        """Around all that is asked of the storage, which may be a server that is gone or a disk that is full.

        Raises:
            UserError: it does not answer.
        """
        try:
            yield
        except Exception as error:  # Optuna's, SQLAlchemy's, the system's
            raise UserError(
                f"study {self.name}: its --storage does not answer ({search.reason(error)}); finished runs are kept, "
                "and the same command goes on"
            ) from None

    def _values(
        self, params: Sequence[Mapping[str, Any]], batch: int
    ) -> Generator[list[Ask], list[RunRecord], list[dict[int, float]]]:
        """Each trial's value at every rung that it reached."""
        rounds = self.terms.rounds
        rungs = [*search.rungs(rounds), (rounds, search.BATCH)]
        values: list[dict[int, float]] = [{} for _ in params]
        if batch < search.RANDOM_BATCHES or not self.terms.halving:
            found = yield from self._trials(params, range(len(params)), rounds)
            for place, records in found.items():
                values[place] = {after: mean(value_at(record, after) for record in records) for after, _ in rungs}
            return values
        alive = list(range(len(params)))
        for after, kept in rungs:
            found = yield from self._trials(params, alive, after)
            for place, records in found.items():
                values[place][after] = mean(value_at(record, after) for record in records)
            alive = [alive[place] for place in search.best([values[place][after] for place in alive], kept)]
        return values

    def _trials(
        self, params: Sequence[Mapping[str, Any]], places: Iterable[int], until: int, seed: int = SEED
    ) -> Generator[list[Ask], list[RunRecord], dict[int, list[RunRecord]]]:
        """The five records of each trial, by place."""
        wanted = list(places)
        records = yield [
            Ask(self.cell.run(params[place], self.terms, seed + i), until) for place in wanted for i in range(FOLDS)
        ]
        return {place: records[FOLDS * n : FOLDS * (n + 1)] for n, place in enumerate(wanted)}

    def _winner(self, finished: Sequence[FrozenTrial]) -> Asking:
        """Run the best again and choose."""
        rounds = self.terms.rounds
        complete = [n for n, trial in enumerate(finished) if trial.state == TrialState.COMPLETE]
        best = [complete[place] for place in search.best([_value(finished[n]) for n in complete], FINALISTS)]
        params = [trial.params for trial in finished]
        runs = yield from self._trials(params, best, rounds, FRESH_SEED)
        finalists = [
            tuned.Finalist(
                number=number,
                value=_value(finished[number]),
                fresh=mean(value_at(record, rounds) for record in records),
            )
            for number, records in runs.items()
        ]
        finalists.sort(key=lambda one: (-one.fresh, -one.value, one.number))
        won, whole = finalists[0].number, not self.terms.halving
        values = [dict(trial.intermediate_values) for trial in finished]
        return tuned.Winner(
            key=self.cell.key,
            options=search.options_of(self.cell.spec.strategy, params[won]),
            finalists=tuple(finalists),
            cost=self._cost(runs[won]),
            importance=search.importance(finished, self.cell.space.default),
            study=self._about(),
            trials=tuple(
                tuned.Trial(
                    number=number,
                    batch=trial.user_attrs["batch"],
                    state="complete" if trial.state == TrialState.COMPLETE else "pruned",
                    rounds=max(values[number]),
                    value=_value(trial),
                    params=trial.params,
                )
                for number, trial in enumerate(finished)
            ),
            halving_loses=search.pruned_by_halving(values, rounds) if whole and search.rungs(rounds) else None,
        )

    def _about(self) -> dict[str, Any]:
        """How the cell was tuned, beside its key."""
        terms, spec = self.terms, self.cell.spec
        return {
            "name": self.name,
            "trials": terms.trials,
            "rounds": terms.rounds,
            "halving": terms.halving,
            "seed": terms.seed,
            "seeds": [SEED + i for i in range(FOLDS)],
            "fresh_seeds": [FRESH_SEED + i for i in range(FOLDS)],
            "validation": f"fold(i, of={FOLDS})",
            "data_hash": spec.data_hash,
            "commit": provenance.commit(),
            "sources_hash": sources(spec, "inprocess"),
            "versions": provenance.versions(),
        }

    def _cost(self, records: Sequence[RunRecord]) -> tuned.Cost:
        """Mean over the winner's fresh runs."""
        steps, passes = [], []
        for record in records:
            spec = RunSpec.from_options(record.spec)
            sizes = [office.num_examples for office in record.offices]
            dealt = [Workload(np.arange(size), steps_a_round(spec, size)) for size in sizes]
            asked = sum(work.steps for work in dealt)
            taken = sum(work.steps for work in spec.strategy.regroup(dealt))  # the centralised arm may take fewer
            steps.append(spec.rounds * taken)
            passes.append(spec.rounds * spec.local_epochs * sum(sizes) * taken // asked)
        travelled = [record.cost.bytes_up + record.cost.bytes_down for record in records]
        return tuned.Cost(
            rounds=self.terms.rounds, gradient_steps=mean(steps), forward_passes=mean(passes), bytes=mean(travelled)
        )


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value
