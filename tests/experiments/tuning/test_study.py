"""A study alone: a generator that is answered in this process, without Ray, and what it makes of the answers."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import optuna
import pytest

from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.federation.run import RunData, advance, deal_rows, run, set_up
from experiments.sweep.plan import data_key
from experiments.tuning.search import storage_of
from experiments.tuning.study import FOLDS, SEED, Ask, Asking, Cell, Study, Terms, cells_of, several, value_at
from experiments.tuning.trials import tune
from experiments.tuning.winners import key_of
from results.tuned import tuned
from tests.experiments.problems import problem

SHORT = Terms(trials=10, rounds=2)


def small() -> tuple[Cell, RunData]:
    """A cell that ten trials of two rounds tune in a second."""
    spec, data = problem(strategy="fedprox(mu=0.01)", rounds=25, min_examples=4)
    [cell] = cells_of([spec, spec])
    return cell, data


def answered(asking: Asking, orders: list[Ask], data: RunData) -> tuple[list[int], tuned.Winner]:
    """Give a study, in this process and without Ray, what it asks for: how much that was, and its winner."""
    asked = []
    try:
        while True:
            asked.append(len(orders))
            orders = asking.send([advance(ask.spec, data, until=ask.until)[0] for ask in orders])
    except StopIteration as end:
        return asked, end.value


def test_a_study_is_told_the_answers_in_the_order_it_asked() -> None:
    """The values are those of the runs."""
    cell, data = small()
    spec, terms = cell.spec, SHORT
    study = Study(cell, terms, None)
    asking = study.run()
    asked, winner = answered(asking, next(asking), data)
    assert asked == [50, 25]
    assert study.asks == 75
    default = [run(cell.run(cell.space.default, terms, SEED + i), data) for i in range(FOLDS)]
    assert winner.trials[0].value == mean(value_at(record, 2) for record in default)
    assert winner.trials[0].params == cell.space.default
    assert "mu" in winner.importance
    assert winner.key == key_of(spec)


def test_an_arm_that_takes_fewer_steps_costs_fewer() -> None:
    """240 rows at two offices: eight batches of 16 each; the arm of one office's steps takes eight and not sixteen."""
    costs = {}
    for steps in ("all", "one"):
        spec, data = problem(strategy=f"centralised(steps={steps})", clients=2, validation=0)
        [cell] = cells_of([spec])
        record = run(spec, data)
        taken = [work.steps for work in set_up(spec, data, deal_rows(spec, data)).clients.workloads]
        costs[steps] = Study(cell, SHORT, None)._cost([record])
        assert costs[steps].gradient_steps == 3 * sum(taken)
    assert costs["all"].forward_passes == 3 * 240
    assert costs["one"].forward_passes == 3 * 120


def test_two_drivers_with_one_storage_come_to_the_winner_of_one() -> None:
    """On two machines, say, with a database between them: both make the runs, both tell, and nothing is spoilt."""
    cell, data = small()
    storage = optuna.storages.InMemoryStorage()
    first, second = (Study(cell, SHORT, storage).run() for _ in range(2))
    orders, same = next(first), next(second)
    assert orders == same
    _, winner = answered(first, orders, data)
    asked, other = answered(second, same, data)
    assert asked == [50, 25], "both were asked before either had told"
    assert other == winner
    third = Study(cell, SHORT, storage).run()
    asked, again = answered(third, next(third), data)
    assert (asked, again) == ([25], winner), "what the storage holds twice counts once"


def test_a_storage_that_stops_answering_is_told(tmp_path: Path) -> None:
    cell, data = small()
    asking = Study(cell, SHORT, storage_of(f"sqlite:///{tmp_path / 'studies.db'}")).run()
    orders = next(asking)
    (tmp_path / "studies.db").write_bytes(b"no database")
    with pytest.raises(UserError, match=r"does not answer .*the same command goes on"):
        answered(asking, orders, data)


def test_other_code_is_another_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another version of the trainer scored is no trial of this one."""
    cell, _ = small()
    before = Study(cell, SHORT, None).name
    assert Study(cell, SHORT, None).name == before
    monkeypatch.setattr("experiments.tuning.study.sources", lambda spec, engine: "of another commit")
    assert Study(cell, SHORT, None).name != before


def test_a_cell_has_one_default_and_says_what_it_leaves_out() -> None:
    specs = [problem(client_lr=rate, seed=seed)[0] for rate in (0.1, 0.2) for seed in (0, 1)]
    assert several(specs) == {"client_lr": ["0.1", "0.2"]}
    assert [cell.spec.client_lr for cell in cells_of(specs)] == [0.1]
    assert several([problem(partition=text)[0] for text in ("iid", "shards(2)")]) == {}


def test_rows_to_validate_on_are_needed() -> None:
    record = run(*problem(validation=0))
    with pytest.raises(UserError, match="no office has a validation row under 0"):
        value_at(record, 3)


def test_tuning_refuses_data_with_test_rows(tmp_path: Path) -> None:
    cell, data = small()
    with pytest.raises(ValueError, match="no test rows"):
        next(tune([cell], {data_key(cell.spec): data}, tmp_path, SHORT, None))


def test_a_run_that_diverged_is_worth_nothing_from_then_on() -> None:
    spec, data = problem(rounds=4, client_lr=1e6)
    record = run(spec, data)
    assert record.status == "diverged"
    assert value_at(record, 4) == 0.0


def test_other_defaults_and_other_terms_are_other_studies() -> None:
    spec, _ = problem()
    other, _ = problem(client_lr=0.3)

    def name(one: RunSpec, **terms: Any) -> str:
        [cell] = cells_of([one])
        return Study(cell, Terms(**terms), None).name

    assert name(spec) == name(spec, trials=120), "more trials go on with the same study"
    [fixed] = cells_of([spec], ("local_epochs",))
    names = {name(spec), name(other), name(spec, rounds=8), name(spec, seed=1), name(spec, halving=False)}
    assert len(names | {Study(fixed, Terms(), None).name}) == 6
    assert tuned.file_name(key_of(spec)) == tuned.file_name(key_of(other)), "but they tune the same cell"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 25}, "multiple of 10"),
        ({"trials": 0}, "multiple of 10"),
        ({"rounds": 0}, "at least 1"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_terms_that_make_no_sense(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Terms(**options)
