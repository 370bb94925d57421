"""Rules: a strategy and a loss in one text, on the command line, in grids, in tuning and in what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.__main__ import parser
from experiments.config.errors import UserError
from experiments.config.grid import load_grid
from experiments.config.notation import terms
from experiments.config.spec import RunSpec
from experiments.federation.describe import describe
from experiments.federation.run import run, sources
from experiments.tuning.study import cells_of
from experiments.tuning.winners import arms, key_of
from results.rules import LOSS, rule
from results.tuned import tuned
from tests.experiments.problems import problem
from tests.experiments.tuning.test_winners import TUNE, winner

LOSSY = "fedavg + logit_adjusted"
NOISE = "label_noise(office=0, rate=0.4)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fedavg", ["fedavg"]),
        ("fedavg+logit_adjusted", ["fedavg", "logit_adjusted"]),
        (" fedprox(mu=1e+3)  +  logit_adjusted(tau=2) ", ["fedprox(mu=1e+3)", "logit_adjusted(tau=2)"]),
        ("flower(path='a)+b', x=[1+2]) + c", ["flower(path='a)+b', x=[1+2])", "c"]),
        (r"""f(a='it\'s + "') + c""", [r"""f(a='it\'s + "')""", "c"]),
        ("fedavg +", ["fedavg", ""]),
    ],
)
def test_terms_are_split_outside_of_parentheses_and_quotes(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_a_rule_is_a_strategy_and_a_loss() -> None:
    written = RunSpec.from_options({"strategy": "fedprox(0.1) + logit_adjusted(2)"})
    apart = RunSpec.from_options({"strategy": "fedprox(0.1)", "loss": "logit_adjusted(2)"})
    assert written == apart
    assert written.run_id == apart.run_id
    assert written.canonical_json() == '{"loss":"logit_adjusted(tau=2.0)","strategy":"fedprox(mu=0.1)"}'
    assert written.rule == "fedprox(mu=0.1) + logit_adjusted(tau=2.0)"
    assert RunSpec.from_options({"strategy": written.rule}) == written
    assert RunSpec.from_options(json.loads(json.dumps(written.options()))) == written


def test_the_default_loss_is_left_out_of_a_rule() -> None:
    spec = RunSpec.from_options({"strategy": "fedavg + cross_entropy"})
    assert spec.canonical_json() == "{}"
    assert spec.rule == "fedavg" == rule("fedavg") == rule("fedavg", "cross_entropy")
    assert LOSS == tuned.OPTIONAL["loss"] == RunSpec.from_options({}).options()["loss"]


def test_the_same_loss_may_be_said_twice() -> None:
    assert (
        RunSpec.from_options({"strategy": "fedavg + logit_adjusted", "loss": "logit_adjusted(tau=1)"}).rule
        == "fedavg + logit_adjusted"
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"strategy": "fedavg + logit_adjustd"},
            r"unknown loss 'logit_adjustd'; did you mean 'logit_adjusted'\?, in the rule 'fedavg \+",
        ),
        ({"strategy": "fedavg + fedprox"}, "unknown loss 'fedprox'"),
        ({"strategy": "logit_adjusted + cross_entropy"}, "unknown strategy 'logit_adjusted'"),
        (
            {"strategy": "fedavg + logit_adjusted + cross_entropy"},
            "found 2 losses in the rule .*; expected a strategy and one loss",
        ),
        ({"strategy": "fedavg + logit_adjusted + logit_adjusted"}, "found 2 losses"),
        ({"strategy": "fedavg +"}, "found 0 losses in the rule"),
        ({"strategy": "+ logit_adjusted"}, "expected a strategy and one loss"),
        ({"strategy": "fedavg + logit_adjusted(tau=much)"}, "tau must be a number, found much, in the rule"),
        (
            {"strategy": "fedavg + logit_adjusted", "loss": "logit_adjusted(2)"},
            r"loss=logit_adjusted\(2\) name two losses; expected one",
        ),
        ({"strategy": "fedavg + logit_adjusted", "loss": "logit_adjusted(tau=2)"}, "two losses"),
        ({"strategy": "fedavg + logit_adjusted", "loss": "cross_entropy"}, "two losses"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        RunSpec.from_options(options)


def test_the_command_line_takes_a_rule_and_a_corruption() -> None:
    given = parser().parse_args(
        ["run", "--strategy", "fedavg + logit_adjusted(2)", "--corrupt", "label_noise(ONS, rate=.1)"]
    )
    spec = RunSpec.from_options({"strategy": given.strategy, "corrupt": given.corrupt})
    assert (spec.rule, spec.options()["corrupt"]) == (
        "fedavg + logit_adjusted(tau=2.0)",
        "label_noise(office=2, rate=0.1)",
    )


def test_a_grid_takes_rules_and_corruptions(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"strategy: [fedavg, {LOSSY}, {LOSSY}(tau=2)]\ncorrupt: [none, '{NOISE}']\nseed: [0, 1]\n")
    specs = load_grid(str(path)).specs()
    assert len(specs) == 12
    assert {spec.rule for spec in specs} == {"fedavg", "fedavg + logit_adjusted", "fedavg + logit_adjusted(tau=2.0)"}
    assert {spec.options()["corrupt"] for spec in specs} == {None, NOISE}
    narrowed = load_grid(
        str(path), ["strategy=fedavg + logit_adjusted(2.0)", "corrupt=label_noise(CBS, rate=.4)"]
    ).specs()
    assert {(spec.rule, spec.options()["corrupt"]) for spec in narrowed} == {
        ("fedavg + logit_adjusted(tau=2.0)", NOISE)
    }
    # A rule is not the strategy alone: each is kept by its own text.
    assert {spec.rule for spec in load_grid(str(path), ["strategy=fedavg"]).specs()} == {"fedavg"}


def test_a_rule_runs() -> None:
    spec, data = problem(strategy="fedavg + cross_entropy", corrupt=NOISE)
    record = run(spec, data)
    assert record.run_id == problem(corrupt=NOISE)[0].run_id
    lines = describe(record).splitlines()
    assert lines[0].startswith(f"run {record.run_id}: fedavg on made-up rows, iid, ok")
    assert lines[1] == f"corrupted: {NOISE}"


def test_the_code_of_a_loss_is_code_of_its_runs() -> None:
    """An edited loss makes its runs anew, and those of no other."""
    found = {text: sources(RunSpec.from_options({"strategy": text}), "inprocess") for text in ("fedavg", LOSSY)}
    assert found["fedavg"] != found[LOSSY]


def test_the_key_of_a_cell_leaves_defaults_out() -> None:
    plain, _ = problem()
    assert set(key_of(plain)) == set(tuned.KEY)
    spec, _ = problem(strategy="fedprox(mu=0.3) + logit_adjusted", corrupt=NOISE)
    assert key_of(spec) == key_of(problem(strategy="fedprox")[0]) | {"loss": "logit_adjusted", "corrupt": NOISE}
    names = {tuned.file_name(key_of(one)) for one in (plain, spec, problem(corrupt=NOISE)[0])}
    assert len(names) == 3
    assert any("-iid-fedprox-logit-adjusted-label-noise-office-0-rate-0.4-" in name for name in names)
    assert tuned.file_name({**key_of(plain), "loss": "cross_entropy", "corrupt": None}) == tuned.file_name(
        key_of(plain)
    )


def test_every_rule_and_corruption_is_a_cell_of_tuning() -> None:
    specs = [
        problem(strategy=text, corrupt=noise)[0]
        for text in ("fedavg", "fedavg + logit_adjusted")
        for noise in (None, NOISE)
    ]
    cells = cells_of(specs)
    assert len(cells) == 4
    params = cells[3].space.default
    from experiments.tuning.study import Terms

    trial = cells[3].run(params, Terms(), 1000)
    assert (trial.rule, trial.options()["corrupt"]) == ("fedavg + logit_adjusted", NOISE)


def test_a_run_takes_the_winner_of_its_rule_and_corruption(tmp_path: Path) -> None:
    rates = {("fedavg", None): 0.1, ("fedavg + logit_adjusted", None): 0.2, ("fedavg", NOISE): 0.3}
    specs = [problem(strategy=text, corrupt=noise, seed=9)[0] for text, noise in rates]
    for spec, rate in zip(specs, rates.values(), strict=True):
        path = tuned.write(tmp_path, winner(spec, strategy="fedavg", client_lr=rate))
        assert tuned.read(path).key == key_of(spec)
    found = arms(specs, "yes", tmp_path, {}, TUNE).specs
    assert [spec.client_lr for spec in found] == list(rates.values())
    assert [(spec.rule, spec.options()["corrupt"]) for spec in found] == list(rates)
    assert len(tuned.everything(tmp_path)) == 3


def test_a_missing_winner_is_named_by_its_rule(tmp_path: Path) -> None:
    specs = [problem(strategy="fedavg + logit_adjusted", corrupt=NOISE)[0]]
    with pytest.raises(UserError) as told:
        arms(specs, "yes", tmp_path, {}, TUNE)
    assert f"  fedavg + logit_adjusted on watch, iid, {NOISE}\n" in str(told.value)


def test_a_corrupt_cell_borrows_from_the_clean_one_and_no_rule_from_another(tmp_path: Path) -> None:
    tuned.write(tmp_path, winner(problem()[0]))
    found = arms([problem(corrupt=NOISE)[0]], "yes", tmp_path, {"corrupt": "none"}, TUNE)
    assert list(found.origins.values()) == ["tuned on clean rows"]
    with pytest.raises(UserError, match="'loss' names no cell of the same strategy"):
        arms([problem(strategy="fedavg + logit_adjusted")[0]], "yes", tmp_path, {"loss": "cross_entropy"}, TUNE)
