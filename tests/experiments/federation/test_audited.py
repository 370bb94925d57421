"""Audited runs: who is a canary, that who is out leaves no trace, and what the attack reports."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.__main__ import main
from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.federation import audit
from experiments.federation.audit import Canaries, attack, log_odds, plan, windows
from experiments.federation.run import RunData, deal_rows, prepare, resolved, run, run_models, set_up
from experiments.training.evaluation import Rows, row_losses
from partitions import Deal
from results.frame import _cells
from results.sections import Audit, Privacy
from strategies.privacy.audit import one_run_lower_bound
from tests.experiments.problems import SMALL, dataset, problem

CHEAP = "noise_multiplier=1, accountant=rdp"  # nothing to solve for
PERSON = {"strategy": "dp_sgd(epsilon=8, unit=person)", "batch_size": "full"}
CLIENT = {"strategy": "dp_fedavg(epsilon=8)", "clients": 8, "min_examples": 4}


def audited(overlap: int = 1, **options: Any) -> tuple[RunSpec, RunData]:
    spec, data = problem(**{"audit": True, **options})
    return spec, dataclasses.replace(data, about=dataclasses.replace(data.about, overlap=overlap))


def planned(spec: RunSpec, data: RunData) -> tuple[Canaries, Deal]:
    offices = deal_rows(spec, data)
    return plan(spec, data, offices), offices


# Who is a canary


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 3), st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_no_two_canaries_share_samples_and_all_that_do_with_one_are_idle(
    lengths: list[int], overlap: int, seed: int
) -> None:
    recording = np.repeat(np.arange(len(lengths)), lengths)
    canaries, idle = windows(recording, overlap, np.random.default_rng(seed))
    rows = np.arange(len(recording))
    near = np.abs(rows[:, None] - canaries) <= overlap
    near &= recording[:, None] == recording[canaries]
    assert (near[canaries].sum(1) == 1).all(), "only itself"
    np.testing.assert_array_equal(idle, np.setdiff1d(rows[near.any(1)], canaries))
    share = sum(math.ceil(round(length / 3) / (overlap + 1)) for length in lengths)
    assert len(canaries) == share


@pytest.mark.parametrize("options", [{}, {"partition": "by_person"}, {"partition": "one_person_per_client"}])
def test_canaries_are_rows_that_could_train(options: dict[str, Any]) -> None:
    canaries, offices = planned(*audited(**options))
    assert np.isin(canaries.units, np.concatenate(offices.train)).all()
    assert canaries.unit == "window"
    assert len(canaries.units) >= 20


def test_persons_who_validate_are_no_canaries() -> None:
    spec, data = audited(**PERSON)
    canaries, offices = planned(spec, data)
    np.testing.assert_array_equal(canaries.units, np.unique(data.train.person[np.concatenate(offices.train)]))
    assert not len(canaries.idle)


def test_a_plan_hangs_on_the_seed_and_not_on_labels_or_strategy() -> None:
    spec, data = audited()
    canaries, offices = planned(spec, data)
    again = plan(dataclasses.replace(spec, strategy=problem(strategy="dp_sgd(epsilon=1)")[0].strategy), data, offices)
    rng = np.random.default_rng(1)
    other_labels = dataclasses.replace(data, train=dataclasses.replace(data.train, y=rng.permutation(data.train.y)))
    for other in (again, plan(spec, other_labels, offices)):
        for field in ("units", "included", "idle"):
            np.testing.assert_array_equal(getattr(canaries, field), getattr(other, field))
    moved = plan(dataclasses.replace(spec, seed=1), data, offices)
    assert not np.array_equal(canaries.units, moved.units)


def test_coins_are_fair_and_know_nothing_of_each_other() -> None:
    spec, data = audited(**PERSON, validation=0)
    coins = np.stack([planned(dataclasses.replace(spec, seed=seed), data)[0].included for seed in range(400)])
    assert coins.shape == (400, 8)
    assert abs(coins.mean() - 0.5) < 4 * 0.5 / np.sqrt(coins.size)
    assert np.abs(np.corrcoef(coins.T)[np.triu_indices(8, 1)]).max() < 4 / np.sqrt(400)


def test_without_units_there_is_nothing_to_audit() -> None:
    spec, data = audited()
    alone = dataclasses.replace(data, recording=np.arange(len(data.recording)))
    with pytest.raises(UserError, match="--audit needs units to leave out, and found no window among"):
        run(spec, alone)


# Who is out leaves no trace


TRACELESS: dict[str, dict[str, Any]] = {
    "plain": {},
    "standardised": {"standardise": "pooled"},
    "pooled": {"strategy": "centralised"},
    "private": {"strategy": f"dp_sgd({CHEAP})"},
    "means": {"strategy": "dp_sgd(epsilon=8, means=true)", "batch_size": "full"},
    "persons": PERSON,
    "persons apart": {**PERSON, "partition": "by_person", "strategy": "dp_sgd(epsilon=8, unit=person, means=true)"},
    "clients": CLIENT,
    "both": {**CLIENT, "strategy": f"dp_fedavg(epsilon=8, inner=dp_sgd({CHEAP}, inner=fedavg(weighting=uniform)))"},
    "slow": {**CLIENT, "trainer": "reference"},
    "protected": {"strategy": "masked_sum(inner=fedavg())"},
    "shares": {**CLIENT, "strategy": "masked_sum(bits=24, inner=dp_fedavg(epsilon=8))"},
}


@pytest.mark.parametrize("options", TRACELESS.values(), ids=list(TRACELESS))
def test_rows_that_are_out_leave_no_trace_in_the_model(options: dict[str, Any]) -> None:
    """Whatever stands in them, and in the rows beside canaries, the model is the same; what is in shows."""
    spec, data = audited(**options)
    canaries, offices = planned(spec, data)
    out = canaries.units[~canaries.included]
    held = {"window": out, "person": np.flatnonzero(np.isin(data.train.person, out))}
    rows = held.get(canaries.unit)
    if rows is None:
        rows = np.concatenate([offices.train[k] for k in out])
    trained = np.setdiff1d(np.concatenate(offices.train), np.union1d(rows, canaries.idle))
    assert len(rows)
    assert len(trained)

    def model(changed: Any) -> Any:
        x = data.train.x.copy()
        x[changed] = 7.0
        record, models = run_models(spec, dataclasses.replace(data, train=dataclasses.replace(data.train, x=x)))
        assert record.status == "ok"
        return models

    np.testing.assert_array_equal(model(np.union1d(rows, canaries.idle)), model(rows[:0]))
    assert not np.array_equal(model(trained[:20]), model(rows[:0]))


def test_nothing_of_the_plan_knows_of_the_coins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling rate, noise, divisor and steps are those of all canaries in; only rows differ."""
    for options in ({"strategy": f"dp_sgd({CHEAP})"}, {**PERSON, "partition": "by_person"}):
        spec, data = audited(**options)
        canaries, offices = planned(spec, data)
        everyone = dataclasses.replace(canaries, included=np.ones_like(canaries.included))
        drawn = set_up(spec, data, offices).clients.workloads
        found = run(spec, data).privacy
        with monkeypatch.context() as patch:
            patch.setattr(audit, "plan", lambda *_: everyone)  # noqa: B023
            full = set_up(spec, data, offices).clients.workloads
            claimed = run(spec, data).privacy
        assert without_audit(found) == without_audit(claimed), "nor what is promised"
        assert sum(len(work.rows) for work in drawn) < sum(len(work.rows) for work in full)
        for one, all_ in zip(drawn, full, strict=True):
            assert dataclasses.replace(one.private, persons=None) == dataclasses.replace(all_.private, persons=None)
            assert one.steps == all_.steps


def test_an_office_may_be_left_without_persons() -> None:
    """Two persons an office: of four, one in four is empty. It sends noise, and the others go on."""
    empty = 0
    for seed in range(4):
        options = {**PERSON, "partition": "by_person", "validation": 0, "seed": seed}
        spec, data = audited(**options)
        workloads = set_up(spec, data, deal_rows(spec, data)).clients.workloads
        empty += sum(not len(work.rows) for work in workloads)
        assert run(spec, data).status == "ok"
        for work in workloads:
            assert work.private.persons[-1] == len(work.rows)
    assert empty


def without_audit(found: Privacy) -> Privacy:
    return msgspec.structs.replace(found, audit=None)


# What the attack reports


@pytest.mark.parametrize(
    ("options", "unit", "mechanism"),
    [
        ({}, "window", "none"),
        ({"strategy": "local"}, "window", "none"),
        ({"strategy": "dp_sgd(epsilon=8)", "batch_size": "full"}, "window", "dp_sgd"),
        (PERSON, "person", "dp_sgd"),
        (CLIENT, "client", "dp_fedavg"),
        ({**CLIENT, "partition": "one_person_per_client"}, "person", "dp_fedavg"),
    ],
)
def test_a_record_says_what_was_found(options: dict[str, Any], unit: str, mechanism: str) -> None:
    record = run(*audited(**options))
    assert record.privacy is not None
    found = record.privacy.audit
    assert (found.unit, record.privacy.mechanism) == (unit, mechanism)
    assert (record.privacy.epsilon is None) == (mechanism == "none")
    assert 0 < found.included < found.canaries
    assert found.right <= found.guesses <= found.canaries
    assert 0 <= found.auc <= 1
    assert 0 <= found.lower_bound <= found.ceiling
    rest = (found.canaries, found.delta, found.confidence)
    assert found.lower_bound == one_run_lower_bound(found.right, found.guesses, *rest)
    assert "one run refutes little" in found.caveat
    without = run(*problem(**options)).privacy
    assert without is None or without.audit is None


def overfitted(seed: int = 0, **options: Any) -> tuple[RunSpec, RunData]:
    """Labels by chance, and features enough to learn them by heart."""
    rng = np.random.default_rng(seed)
    made = dataset(rows_each=120)
    n = len(made)
    x, y = rng.normal(size=(n, 60)).astype(np.float32), rng.integers(3, size=n)
    data = prepare(dataclasses.replace(made, x=x, y=y, hash="by-heart"), "official")
    given = {**SMALL, "dataset": "watch", "model": "mlp(hidden=[64])", "audit": True, "seed": seed, **options}
    return resolved(RunSpec.from_options(given), data), data


def spread(found: Audit) -> float:
    """Standard deviation of the AUC of scores that tell nothing."""
    n, k = found.included, found.canaries - found.included
    return math.sqrt((n + k + 1) / (12 * n * k))


def test_what_was_learnt_by_heart_is_found_and_noise_hides_it() -> None:
    """The same steps with and without noise: clipped gradients learn by heart, noised ones do not."""
    long = {"rounds": 10, "local_epochs": 5}
    cases = {
        "plain": overfitted(**long, client_lr=0.1),
        "clipped": overfitted(**long, client_lr=0.5, strategy="dp_sgd(noise_multiplier=0)"),
        "noised": overfitted(**long, client_lr=0.5, strategy="dp_sgd(noise_multiplier=10, accountant=rdp)"),
    }
    claims = {name: run(*case).privacy for name, case in cases.items()}
    plain, clipped, noised = (claims[name].audit for name in cases)
    for found in (plain, clipped):
        assert found.auc > 0.6
        assert found.auc > 0.5 + 5 * spread(found)
        assert 0 < found.lower_bound < found.ceiling
    assert noised.canaries == plain.canaries
    assert abs(noised.auc - 0.5) < 3 * spread(noised)
    assert noised.lower_bound <= claims["noised"].epsilon < 2


def test_every_guess_right_is_the_ceiling() -> None:
    included = np.random.default_rng(0).integers(2, size=200).astype(bool)
    found = attack(np.where(included, 1.0, -1.0), included, 1e-5)
    assert found["lower_bound"] == found["ceiling"] > 3
    assert (found["guesses"], found["auc"], found["tpr_at_1pct"]) == (100, 1.0, 1.0)
    alike = attack(np.arange(7.0), np.ones(7, bool), 1e-5)
    assert (alike["guesses"], alike["auc"], alike["tpr_at_1pct"]) == (7, None, None)


def test_log_odds_are_of_the_label() -> None:
    p = np.array([0.1, 0.5, 0.999])
    np.testing.assert_allclose(log_odds(-np.log(p)), np.log(p / (1 - p)))
    extreme = log_odds(np.array([0.0, 1e4, np.inf, np.nan]))
    assert np.isfinite(extreme).all()
    assert extreme[0] > 10 > -1e3 > extreme[1] > extreme[2] == extreme[3]


@pytest.mark.parametrize(("form", "model"), [("features", "mlp(hidden=[8])"), ("raw", "cnn1d(channels=[4])")])
def test_losses_of_rows_are_those_the_evaluator_averages(form: str, model: str) -> None:
    from experiments.training.evaluation import by_module

    spec, data = problem(form=form, model=model)
    shape = data.train.x.shape[1:]
    w = spec.model.first_weights(shape, 3, np.random.default_rng(0))
    rows = Rows(
        *(np.tile(part, (2, *[1] * (part.ndim - 1))) for part in (data.train.x, data.train.y, data.train.person))
    )
    found = row_losses(spec.model, shape, 3)(w, rows)
    assert found.shape == (len(rows),)
    assert found.mean() == pytest.approx(by_module(spec.model, shape, 3)(w, rows)[1], rel=1e-5)


# On the command line, in hashes and tables


def test_the_command_line_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["run", "--dataset", "watch", "--rounds", "1", "--results", str(tmp_path)]
    assert main([*options, "--audit", "--strategy", "dp_sgd(epsilon=8)", "--batch-size", "full"]) == 0
    out = capsys.readouterr().out
    assert "audit by window, epsilon 8 is promised: " in out
    assert "one run refutes little" in out
    assert "so few guesses could not refute epsilon 8, even all right" in out
    assert main([*options, "--audit", "false", "--no-store"]) == 0
    assert "audit" not in capsys.readouterr().out


def test_a_spec_without_has_the_hash_it_had() -> None:
    assert RunSpec.from_options({"audit": "false"}).run_id == RunSpec.from_options({}).run_id
    assert RunSpec.from_options({"audit": True}).canonical_json() == '{"audit":true}'


def test_older_records_are_of_the_same_cell() -> None:
    spec = pd.DataFrame([{"clients": 4, "audit": False}, {"clients": 4, "audit": None}, {"clients": 4, "audit": True}])
    first, older, with_audit = _cells(spec, pd.Series(["a", "a", "a"]))
    assert first == older != with_audit


def test_protection_leaves_no_model_in_other_processes() -> None:
    spec, data = audited(strategy="masked_sum(inner=fedavg())")
    with pytest.raises(UserError, match="engine simulation leaves none under protection: set --engine inprocess"):
        run(spec, data, "simulation")
