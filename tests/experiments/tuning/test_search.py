"""What tuning asks for: a function of what finished, with nothing left to chance or to the order of arrival."""

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from experiments.config.errors import UserError
from experiments.config.notation import build, parse
from experiments.config.spec import STRATEGIES, RunSpec
from experiments.tuning.search import (
    BATCH,
    OWN,
    best,
    importance,
    options_of,
    propose,
    pruned_by_halving,
    rungs,
    space_of,
    storage_of,
    survivors,
    trial_of,
)
from experiments.tuning.winners import SHARED, untuned
from strategies.fedprox import FedProx

NOTATIONS = sorted({text for cls in STRATEGIES.values() for text in cls.examples})


def spec(**options: object) -> RunSpec:
    return RunSpec.from_options(options)


def finished(batches: int, strategy: str = "fedprox(mu=0.01)") -> list[FrozenTrial]:
    """So many random batches, each trial's value made of its parameters."""
    space, trials = space_of(spec(strategy=strategy)), []
    for batch in range(batches):
        for place, params in enumerate(propose(space, trials, 0, min(batch, 1))):
            value = float(1 / (1 + abs(np.log(params["client_lr"] / 0.1))))
            trials.append(trial_of(space, params, {3: value / 2, 8: value / 1.5, 15: value}, 15, batch, place))
    return trials


@pytest.mark.parametrize("strategy", NOTATIONS)
def test_every_strategy_can_be_tuned(strategy: str) -> None:
    default = spec(strategy=strategy)
    space = space_of(default)
    assert list(space.distributions) == [*SHARED, *space.own]
    assert len(space.own) <= OWN
    for params in propose(space, [], 0, 0):
        tuned = RunSpec.from_options({**default.options(), **options_of(default.strategy, params)})
        assert untuned(tuned.strategy) == untuned(default.strategy)
        assert (tuned.client_lr, tuned.optimizer.momentum) == (params["client_lr"], params["momentum"])
        for name in space.own:
            assert getattr(tuned.strategy, name) == params[name]
    same = RunSpec.from_options({**default.options(), **options_of(default.strategy, space.default)})
    assert same.run_id == default.run_id, "the default trial is the default run"


def test_the_default_is_the_first_trial_of_all() -> None:
    space = space_of(spec(client_lr=0.02, batch_size=48))
    first = propose(space, [], 0, 0)
    assert len(first) == BATCH
    assert first[0] == space.default
    assert first[0]["batch_size"] == 48
    assert space.default not in propose(space, [], 0, 1)


def test_the_space_is_stretched_to_hold_the_default() -> None:
    space = space_of(spec(client_lr=2, batch_size="full"))
    assert space.distributions["client_lr"] == FloatDistribution(5e-3, 2, log=True)
    assert space.distributions["batch_size"] == CategoricalDistribution(["full", 32, 64, 128])


def test_a_batch_depends_on_what_finished_before_it_and_on_its_seed_alone() -> None:
    space, before = space_of(spec(strategy="fedprox(mu=0.01)")), finished(3)
    asked = propose(space, before, 0, 3)
    assert asked == propose(space, before, 0, 3)
    assert asked != propose(space, before, 1, 3)
    assert asked != propose(space, before[:20], 0, 3)
    assert len({repr(params) for params in asked}) == BATCH


def test_parzen_estimators_search_where_the_values_are_high() -> None:
    rates = [np.log(params["client_lr"] / 0.1) for params in propose(space_of(spec()), finished(6, "fedavg"), 0, 6)]
    at_random = [np.log(trial.params["client_lr"] / 0.1) for trial in finished(6, "fedavg")]
    assert np.mean(np.abs(rates)) < np.mean(np.abs(at_random))


def test_halving_keeps_the_best_and_of_equals_the_first() -> None:
    assert best([0.2, 0.9, 0.9, 0.1], 2) == [1, 2]
    assert best([0.5, 0.5, 0.5], 2) == [0, 1]
    assert rungs(15) == [(3, 4), (8, 2)]
    assert rungs(8) == [(3, 4)]
    assert rungs(2) == []
    values = [{3: place / 10, 8: -place / 10, 15: 0.0} for place in range(10)]
    assert survivors(values, 15) == [6, 7]  # the best four after three rounds are 6 to 9, the best two of those 6 and 7


def test_how_often_halving_loses_the_best() -> None:
    late = [{3: -place, 8: float(place), 15: float(place)} for place in range(30)]  # the best begins worst
    assert pruned_by_halving(late, 15) == 1.0
    steady = [{3: float(place), 8: float(place), 15: float(place)} for place in range(30)]
    assert pruned_by_halving(steady, 15) == 0.0
    chance = [{3: float((7 * place) % 31), 8: float(place), 15: float(place)} for place in range(30)]
    assert 0 < pruned_by_halving(chance, 15) < 1


def test_a_trial_cut_short_is_pruned_with_its_value() -> None:
    space = space_of(spec())
    whole = trial_of(space, space.default, {3: 0.1, 8: 0.2, 15: 0.3}, 15, 2, 0)
    cut = trial_of(space, space.default, {3: 0.1, 8: 0.2}, 15, 2, 1)
    assert (whole.state, whole.value) == (TrialState.COMPLETE, 0.3)
    assert (cut.state, cut.value, cut.intermediate_values) == (TrialState.PRUNED, 0.2, {3: 0.1, 8: 0.2})


def test_importance_is_of_the_parameter_that_matters() -> None:
    found = importance(finished(6, "fedavg"), space_of(spec()).default)
    assert list(found) == list(SHARED)
    assert found["client_lr"] > 0.5
    assert sum(found.values()) == pytest.approx(1)
    assert importance(finished(1)[:2], space_of(spec()).default) == {}, "two trials say nothing"


def test_steps_cannot_be_tuned_beside_epochs() -> None:
    with pytest.raises(UserError, match="local_steps"):
        space_of(spec(local_steps=5))


@pytest.mark.parametrize("url", ["postgresql+psycopg://nobody@localhost:1/x", "mysterious:", "journal:/no/such/place"])
def test_a_storage_that_cannot_be_opened_is_told(url: str) -> None:
    with pytest.raises(UserError, match=r"--storage .* cannot be opened"):
        storage_of(url)


def test_a_password_is_not_told() -> None:
    with pytest.raises(UserError, match=r"//me:\*\*\*@127\.0\.0\.1:1/x") as error:
        storage_of("postgresql+psycopg://me:geheim@127.0.0.1:1/x")
    assert "geheim" not in str(error.value)


def test_a_journal_goes_on_where_power_was_lost(tmp_path: Path) -> None:
    """Half a line at the end would take with it what is appended to it, and the whole file after that."""
    path = tmp_path / "studies.journal"
    optuna.create_study(storage=storage_of(f"journal:{path}"), study_name="a")
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2].replace(b"\n", b""))
    optuna.create_study(storage=storage_of(f"journal:{path}"), study_name="b")
    assert optuna.get_all_study_names(storage_of(f"journal:{path}")) == ["a", "b"]
    assert path.read_bytes().startswith(whole)


def test_a_strategy_may_narrow_what_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that forbids momentum at the clients is tuned without it, and that is no parameter of its own."""
    monkeypatch.setattr(FedProx, "search_space", lambda self: {"mu": (1e-3, 1.0), "momentum": [0.0]})
    one = spec(strategy="fedprox(mu=0.3)")
    space = space_of(one)
    assert list(space.distributions) == [*SHARED, "mu"]
    assert space.own == ("mu",)
    asked = [params for batch in range(3) for params in propose(space, finished(2), 0, batch)]
    assert {params["momentum"] for params in asked} == {0.0}
    assert options_of(one.strategy, asked[3])["optimizer"].startswith("sgd(momentum=0.0")
    assert untuned(one.strategy) == "fedprox"


def test_what_is_fixed_stays_at_its_default() -> None:
    """As many trials, and epochs that no winner can buy itself more steps with."""
    space = space_of(spec(strategy="fedprox", local_epochs=2), ("local_epochs",))
    assert list(space.distributions) == [*SHARED, "mu"]
    told: list[FrozenTrial] = []
    for batch in range(3):
        for place, params in enumerate(propose(space, told[: BATCH * batch], 0, batch)):
            told.append(trial_of(space, params, {15: 1 / (batch + place + 1)}, 15, batch, place))
    assert {trial.params["local_epochs"] for trial in told} == {2}
    assert len({trial.params["client_lr"] for trial in told}) == 3 * BATCH
    assert importance(told, space.default)["local_epochs"] == 0


def test_three_parameters_of_its_own_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FedProx, "search_space", lambda self: dict.fromkeys("abc", (0.1, 1.0)))
    with pytest.raises(UserError, match=r"fedprox wants 3 parameters tuned; at most 2"):
        space_of(spec(strategy="fedprox"))


def test_strategies_take_back_the_notation_they_are_filed_under() -> None:
    assert untuned(build(parse("fedprox(mu=0.3)"), STRATEGIES, "strategy")) == "fedprox"
    assert untuned(build(parse("fedprox(mu=0.3, weighting=uniform)"), STRATEGIES, "strategy")) == (
        "fedprox(weighting=uniform)"
    )
