"""The examples run as they stand, and what they lift has the scores of the same run in the harness."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord

from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.data import load
from experiments.engines import flower
from experiments.engines.flower import Adapter, InProcessGrid
from experiments.federation.rounds import PlainServer
from experiments.federation.run import prepare, resolved, run, run_models
from experiments.lift import Lifted, lift, make_keys
from strategies import Federation, StrategyError
from strategies.crypto.streams import ProtectionError
from tests.experiments.problems import SMALL, dataset

ROOT = Path(__file__).parents[1]


def accuracies(strategy: str) -> list[float | None]:
    """Of the example's federation, run by the harness."""
    watch = load("watch")
    data = prepare(replace(watch, x=np.clip(watch.x, -1, 1)), "official")
    options = {"strategy": strategy, "dataset": "watch", "model": "mlp(hidden=[32])", "rounds": 5, "client_lr": 0.1}
    whole = {"partition": "one_person_per_client", "validation": 0, "standardise": "none"}
    return [row.test_accuracy for row in run(resolved(RunSpec.from_options(options | whole), data), data).rounds]


@pytest.mark.parametrize(
    ("arguments", "twin"),
    [
        pytest.param([], "fedprox(mu=0.01)", marks=pytest.mark.slow),
        pytest.param(["dp_sgd(epsilon=8)"], "dp_sgd(epsilon=8)", marks=pytest.mark.slow),
        (["masked_sum"], "quantised"),  # masks taken off leave its bits
    ],
    ids=["fedprox", "dp_sgd", "masked_sum"],
)
def test_the_flower_app_scores_as_the_harness_does(arguments: list[str], twin: str) -> None:
    command = [sys.executable, "-m", "examples.flower_app", *arguments]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    assert re.findall(r"round \d: accuracy (.*)", child.stdout) == [f"{value:.4f}" for value in accuracies(twin)]
    granted = re.findall(r"epsilon (\S+) at delta 1e-05, of one window", child.stdout)
    assert granted == (["8.00"] if twin.startswith("dp_") else [])


# In process, on made-up rows: 8 persons train, each an office.


def small(strategy: Any, **options: Any) -> Lifted:
    made = dataset()
    train = ~made.official_test
    offices = [np.flatnonzero(train & (made.person == person)) for person in range(8)]
    own = {name: SMALL[name] for name in ("model", "rounds", "batch_size", "client_lr")}
    test = (made.x[~train], made.y[~train])
    return lift(strategy, made.x, made.y, offices, test=test, **(own | options))


def grid_of(plan: Lifted) -> InProcessGrid:
    flower.quiet()
    flower.identify()
    return InProcessGrid(plan.sides.clients.start().answer, plan.spec.clients)


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


@pytest.mark.parametrize("strategy", ["fedprox(mu=0.01)", "scaffold", "dp_sgd(epsilon=8)", "dp_fedavg(epsilon=8)"])
@pytest.mark.parametrize("model", [SMALL["model"], network], ids=["notation", "module"])
def test_a_lifted_model_has_the_bits_of_a_run(strategy: str, model: Any) -> None:
    """A module of the user's trains in the plain loop, as `--trainer reference` does."""
    data = prepare(dataset(), "official")
    options = {"partition": "one_person_per_client", "validation": 0, "dataset": "watch", "strategy": strategy}
    trainer = "reference" if model is network else "auto"
    spec = resolved(RunSpec.from_options({**SMALL, **options, "trainer": trainer, "standardise": "none"}), data)
    record, models = run_models(spec, data)
    plan = small(strategy, model=model)
    result = plan.start(grid_of(plan))
    assert models is not None
    np.testing.assert_array_equal(result.arrays["w"].numpy(), models[0])
    assert plan.accuracies(result) == [row.test_accuracy for row in record.rounds]
    if record.privacy is not None:
        assert plan.privacy is not None
        assert plan.privacy["epsilon"] == record.privacy.epsilon
    logits = plan.module(result.arrays)(torch.from_numpy(dataset().x[dataset().official_test]))
    right = (logits.argmax(1).numpy() == dataset().y[dataset().official_test]).mean()
    assert right == pytest.approx(plan.accuracies(result)[-1])


def test_a_plan_scores_by_the_users_own_function_where_there_is_one() -> None:
    plan, seen = small("fedavg"), []

    def note(number: int, arrays: ArrayRecord) -> None:
        seen.append((number, arrays["w"].numpy().shape))

    assert plan.accuracies(plan.start(grid_of(plan), note)) == []
    assert [number for number, _ in seen] == [0, 1, 2, 3]


@pytest.mark.parametrize("strategy", ["dp_sgd(epsilon=8)", "masked_sum"])
def test_without_the_plan_both_sides_raise(strategy: str, tmp_path: Path) -> None:
    make_keys(strategy, 8, tmp_path / "keys")
    plan = small(strategy, keys=tmp_path / "keys")
    bare = plan.spec.strategy
    sides = replace(plan.sides.clients, prepared=replace(plan.sides.clients.prepared, strategy=bare))
    adapter = Adapter(PlainServer(bare, Federation(8, 8)))
    first = ArrayRecord([np.zeros(83, np.float32)])
    with pytest.raises(StrategyError, match=r"needs its plan .* call prepare"):
        adapter.start(grid_of(plan), first, num_rounds=1)
    unplanned = replace(plan, sides=replace(plan.sides, clients=sides))
    with pytest.raises(StrategyError, match=r"needs its plan .* call prepare"):
        unplanned.start(grid_of(unplanned))


def test_a_protected_sum_without_keys_is_refused() -> None:
    with pytest.raises(ProtectionError, match="wants keys"):
        small("masked_sum")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"corrupt": "label_noise(office=1, rate=0.1)"}, "corrupt is no option of a lifted strategy"),
        ({"offices": [[0, 1], [1, 2]]}, "office 1 holds rows that stand twice"),
        ({"offices": [[0], [999]]}, "office 1 holds 1 rows; expected some, numbered 0 to 299"),
        ({"persons": [1, 2]}, "x, y and persons are of 300, 300 and 2 rows"),
    ],
)
def test_rows_and_options_that_do_not_fit_are_refused(options: dict[str, Any], said: str) -> None:
    made = dataset()
    rows = options.pop("offices", [[0, 1], [2, 3]])
    with pytest.raises(UserError, match=said):
        lift("fedavg", made.x, made.y, rows, model="mlp(hidden=[])", **options)
