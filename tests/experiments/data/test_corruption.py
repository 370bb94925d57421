"""Faulty offices: which rows a corruption spoils and which it leaves alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.config.errors import UserError
from experiments.config.spec import CORRUPTIONS, RunSpec
from experiments.data.corruption.label_noise import LabelNoise
from experiments.federation.run import advance, corrupted, deal_rows, run, set_up, sources
from experiments.sweep.plan import Loaded, check, data_key
from results.record import encode
from tests.experiments.problems import problem

CLASSES = 6


def spoilt(**options: Any) -> tuple[Any, Any, Any]:
    """The deal of a run, its labels before and its labels as they are trained on."""
    spec, data = problem(**options)
    offices = deal_rows(spec, data)
    return offices, data.train.y, set_up(spec, data, offices).clients.y


@pytest.mark.parametrize("text", [text for cls in CORRUPTIONS.values() for text in cls.examples])
def test_a_corruption_leaves_its_arguments_and_other_rows_alone(text: str) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(CLASSES, size=40)
    before, rows = (x.copy(), y.copy()), np.arange(5, 25)
    corruption = RunSpec.from_options({"corrupt": text}).corrupt
    assert corruption is not None
    after = corruption.corrupt(x, y, rows, CLASSES, np.random.default_rng(2))
    others = np.setdiff1d(np.arange(40), rows)
    for given, old, new in zip((x, y), before, after, strict=True):
        np.testing.assert_array_equal(given, old)
        np.testing.assert_array_equal(new[others], old[others])
        assert not np.shares_memory(given, new)
        assert new.dtype == given.dtype


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.9])
def test_labels_are_wrong_at_the_rate_and_each_other_class_is_as_likely(rate: float) -> None:
    n = 60_000
    x, y = np.zeros((n, 1), np.float32), np.arange(n) % CLASSES
    _, noisy = LabelNoise(0, rate).corrupt(x, y, np.arange(n), CLASSES, np.random.default_rng(3))
    wrong = noisy != y
    # Five standard deviations of a binomial count: by chance, less than one test in a million fails.
    assert abs(wrong.sum() - n * rate) < 5 * np.sqrt(n * rate * (1 - rate))
    steps = np.bincount((noisy - y)[wrong] % CLASSES, minlength=CLASSES)
    share = rate / (CLASSES - 1)
    assert steps[0] == 0
    assert np.abs(steps[1:] - n * share).max() < 5 * np.sqrt(n * share * (1 - share))


def test_the_limits_of_the_rate() -> None:
    x, y, rows = np.zeros((90, 1), np.float32), np.arange(90) % 3, np.arange(90)
    assert (LabelNoise(0, 0.0).corrupt(x, y, rows, 3, np.random.default_rng(4))[1] == y).all()
    assert (LabelNoise(0, 1.0).corrupt(x, y, rows, 3, np.random.default_rng(4))[1] != y).all()
    assert run(*problem(corrupt="label_noise(office=0, rate=0)")).rounds == run(*problem()).rounds


def test_only_the_training_rows_of_the_office_are_spoilt() -> None:
    offices, before, after = spoilt(corrupt="label_noise(office=1, rate=0.5)")
    changed = np.flatnonzero(before != after)
    assert len(changed)
    assert np.isin(changed, offices.train[1]).all()
    assert len(offices.validation[1]), "there were validation rows to leave alone"


def test_validation_rows_are_spoilt_where_that_is_asked_and_training_rows_are_the_same() -> None:
    plain = spoilt(corrupt="label_noise(office=1, rate=0.9)")[2]
    offices, before, after = spoilt(corrupt="label_noise(office=1, rate=0.9, validation=true)")
    changed = np.flatnonzero(before != after)
    own = np.concatenate([offices.train[1], offices.validation[1]])
    assert np.isin(changed, own).all()
    assert np.isin(changed, offices.validation[1]).any()
    np.testing.assert_array_equal(after[offices.train[1]], plain[offices.train[1]])


def test_the_server_validates_on_what_the_office_holds() -> None:
    spec, data = problem(corrupt="label_noise(office=1, rate=1, validation=true)")
    offices = deal_rows(spec, data)
    server = set_up(spec, data, offices).server
    for k, rows in enumerate(server.validation):
        same = rows.y == data.train.y[offices.validation[k]]
        assert not same.any() if k == 1 else same.all()
    assert server.test is not None
    assert data.test is not None
    np.testing.assert_array_equal(server.test.y, data.test.y)


def test_the_centralised_arm_trains_on_the_same_labels() -> None:
    noise = "label_noise(office=2, rate=0.5)"
    np.testing.assert_array_equal(spoilt(corrupt=noise)[2], spoilt(corrupt=noise, strategy="centralised")[2])


def test_the_noise_belongs_to_the_split() -> None:
    noise = "label_noise(office=0, rate=0.5)"
    fixed = [spoilt(corrupt=noise, partition_seed=7, seed=seed)[2] for seed in (0, 1)]
    np.testing.assert_array_equal(*fixed)
    varied = [spoilt(corrupt=noise, seed=seed)[2] for seed in (0, 1)]
    assert (varied[0] != varied[1]).any()


@pytest.mark.parametrize("engine", ["inprocess", pytest.param("simulation", marks=pytest.mark.slow)])
def test_the_same_spec_gives_the_same_bits_on_both_engines(engine: str) -> None:
    spec, data = problem(corrupt="label_noise(office=ISTAT, rate=0.4)")
    first, again = run(spec, data), run(spec, data, engine)
    assert (again.rounds, again.final, again.partition) == (first.rounds, first.final, first.partition)
    assert first.rounds != run(*problem()).rounds, "the noise is trained on"


def test_a_checkpoint_goes_on_with_the_same_labels() -> None:
    spec, data = problem(corrupt="label_noise(office=0, rate=0.4)")
    _, half = advance(spec, data, until=1)
    assert advance(spec, data, half)[0].rounds == run(spec, data).rounds


def test_a_record_counts_labels_as_they_were_dealt() -> None:
    plain, noisy = run(*problem()), run(*problem(corrupt="label_noise(office=0, rate=0.9)"))
    assert noisy.partition == plain.partition
    assert [office.class_counts for office in noisy.offices] == [office.class_counts for office in plain.offices]
    assert noisy.spec["corrupt"] == "label_noise(office=0, rate=0.9)"


def test_an_audit_scores_canaries_by_one_set_of_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference model is trained with another seed, which must not spoil the labels in another way."""
    from experiments.federation import audit
    from experiments.federation.clients import ClientSide

    seen: list[Any] = []
    known = audit._known

    def watched(clients: ClientSide, w: Any) -> Any:
        seen.append(clients.y)
        return known(clients, w)

    monkeypatch.setattr(audit, "_known", watched)
    spec, data = problem(corrupt="label_noise(office=0, rate=0.5)", audit="true")
    assert run(spec, data).status == "ok"
    assert len(seen) == 2
    np.testing.assert_array_equal(*seen)
    offices = deal_rows(spec, data)
    np.testing.assert_array_equal(seen[0], corrupted(spec, data, offices).train.y)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("label_noise(office=4, rate=0.1)", r"office 4.*4 offices: expected 0 to 3"),
        ("label_noise(office=17, rate=0.1)", "office 17"),
    ],
)
def test_an_office_that_the_run_does_not_have_is_refused_before_training(text: str, told: str) -> None:
    spec, data = problem(corrupt=text)
    with pytest.raises(UserError, match=told):
        check(Loaded([spec], {data_key(spec): data}))
    with pytest.raises(UserError, match=told):
        set_up(spec, data, deal_rows(spec, data))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("label_noise(office=-1, rate=0.1)", "label_noise: office must be a number from 0 or one of CBS"),
        ("label_noise(office=INSEE, rate=0.1)", "found 'INSEE'"),
        ("label_noise(office=true, rate=0.1)", "found True"),
        ("label_noise(office=0, rate=1.5)", r"rate must be in \[0, 1\]; found 1.5"),
        ("label_noise(office=0, rate=often)", "rate must be a number"),
        ("label_noise(office=0)", "option 'rate' is missing"),
        ("label_nose(office=0, rate=1)", "unknown corruption 'label_nose'; did you mean 'label_noise'"),
    ],
)
def test_mistakes_are_told(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        RunSpec.from_options({"corrupt": text})


def test_an_office_by_its_name_is_the_office_by_its_index() -> None:
    named = RunSpec.from_options({"corrupt": "label_noise(office=ONS, rate=0.4)"})
    assert named == RunSpec.from_options({"corrupt": "label_noise(2, rate=0.4)"})
    assert named.canonical_json() == '{"corrupt":"label_noise(office=2, rate=0.4)"}'
    assert RunSpec.from_options(json.loads(json.dumps(named.options()))) == named
    assert RunSpec.from_options({"corrupt": "none"}).canonical_json() == "{}"


def test_the_code_of_a_corruption_is_code_of_its_runs_alone() -> None:
    noisy = RunSpec.from_options({"corrupt": "label_noise(office=0, rate=0.4)"})
    assert sources(noisy, "inprocess") != sources(RunSpec.from_options({}), "inprocess")


def test_corruptions_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert "label_noise(office=, rate=, validation=False)" in capsys.readouterr().out
    assert main(["list", "label-noise"]) == 0
    assert "chance of each label" in capsys.readouterr().out


def test_a_record_reads_back() -> None:
    record = run(*problem(corrupt="label_noise(office=0, rate=0.4)"))
    assert json.loads(encode(record))["spec"]["corrupt"] == "label_noise(office=0, rate=0.4)"
