"""Options: the defaults that were promised, what is hashed, and how a mistake is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from experiments.config.errors import UserError
from experiments.config.spec import RunSpec

# The contract. A default never changes: a new meaning gets a new name.
DEFAULTS = {
    "dataset": "uci-har",
    "form": "features",
    "test_persons": "official",
    "partition": "iid",
    "partition_seed": None,
    "strategy": "fedavg",
    "clients": 4,
    "fraction": 1.0,
    "rounds": 25,
    "local_epochs": 1,
    "local_steps": None,
    "batch_size": 32,
    "client_lr": 0.05,
    "lr_schedule": "constant",
    "optimizer": "sgd",
    "loss": "cross_entropy",
    "model": "mlp",
    "validation": 0.2,
    "standardise": "auto",
    "min_examples": 64,
    "row_order": "shuffled",
    "dropout": None,
    "corrupt": None,
    "reject_nonfinite": True,
    "trainer": "auto",
    "audit": False,
    "seed": 0,
    "data_hash": "",
}


def test_defaults() -> None:
    assert RunSpec.from_options({}).options() == DEFAULTS
    assert RunSpec.from_options({}).model.hidden == (128, 64)
    assert RunSpec.from_options({}).canonical_json() == "{}"


def test_the_hash_is_of_the_canonical_json() -> None:
    """Golden: if this changes, every stored run is lost."""
    spec = RunSpec.from_options(
        {"strategy": "fedprox(1)", "seed": 3, "client_lr": "1e-3", "partition": "dirichlet(.5)"}
    )
    assert (
        spec.canonical_json()
        == '{"client_lr":0.001,"partition":"dirichlet(alpha=0.5)","seed":3,"strategy":"fedprox(mu=1.0)"}'
    )
    assert spec.run_id == "3cf251e08055b58d"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"strategy": "fedprox(0.01)"}, {"strategy": "fedprox"}),
        ({"batch-size": "32"}, {"batch_size": 32}),
        ({"model": "mlp(hidden=[128,64])"}, {}),
        ({"fraction": 1}, {"fraction": "1.0"}),
        ({"validation": "0.20"}, {}),
        ({"reject_nonfinite": "True"}, {"reject-nonfinite": True}),
        ({"dataset": "uci_har"}, {"dataset": "uci-har"}),
    ],
)
def test_two_ways_of_writing_are_one_run(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert RunSpec.from_options(one).run_id == RunSpec.from_options(other).run_id


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"strategy": "fedavg(uniform)"},
        {"validation": 0},
        {"validation": "fold(0, of=5)"},
        {"row_order": "file"},
    ],
)
def test_every_option_is_hashed(changed: dict[str, Any]) -> None:
    assert RunSpec.from_options(changed).run_id != RunSpec.from_options({}).run_id


@pytest.mark.parametrize(
    "changed", [{"validation": "fold(1, of=5)"}, {"test_persons": "fold(0, of=6)"}, {"batch_size": "full"}]
)
def test_options_read_back(changed: dict[str, Any]) -> None:
    spec = RunSpec.from_options(changed)
    assert RunSpec.from_options(json.loads(json.dumps(spec.options()))) == spec


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"stratgy": "fedavg"}, "did you mean 'strategy'"),
        ({"rounds": 0}, "rounds must be at least 1; found 0"),
        ({"rounds": "many"}, "rounds must be a whole number; found 'many'"),
        ({"rounds": 2.5}, "rounds must be a whole number; found 2.5"),
        ({"fraction": 0}, r"fraction must be in \(0, 1\]; found 0"),
        ({"fraction": 1.5}, "fraction must be in"),
        ({"fraction": "nan"}, "fraction must be in"),
        ({"client_lr": -1}, "client_lr must be in"),
        ({"client_lr": "fast"}, "client_lr must be a number; found 'fast'"),
        ({"batch_size": "ful"}, "whole number"),
        ({"lr_schedule": "cosin"}, "did you mean 'cosine'"),
        ({"form": "pixels"}, "form must be one of features, extracted, raw"),
        ({"validation": 1}, "validation must be below 1"),
        ({"validation": -0.1}, "validation"),
        ({"validation": "fold(5, of=5)"}, "0 to 4"),
        ({"test_persons": "some"}, "test_persons must be official or fold"),
        ({"reject_nonfinite": "maybe"}, "true or false"),
        ({"partition": "dirichlet(alpha=0)"}, "alpha"),
        ({"partition": "dirichlet"}, "option 'alpha' is missing"),
        ({"partition": "diriclet(1)"}, "did you mean 'dirichlet'"),
        ({"dataset": "mnist"}, "unknown data set 'mnist'"),
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; known: sgd"),
        ({"optimizer": "sgd(momentum=1)"}, r"momentum must be in \[0, 1\)"),
        ({"standardise": "office"}, "standardise must be one of auto, none, pooled"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises((UserError, ValueError), match=told):
        RunSpec.from_options(options)
