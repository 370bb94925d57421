"""What each strategy reduces to at the edge of its range."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.federation.run import run
from tests.experiments.problems import problem
from tests.strategies.least_squares import START, federate


def test_fedprox_without_mu_is_fedavg_bit_for_bit() -> None:
    assert np.array_equal(federate("fedprox(mu=0)")[0], federate("fedavg")[0])


@pytest.mark.parametrize("trainer", ["auto", "reference"])
@pytest.mark.parametrize("optimizer", ["sgd", "sgd(momentum=0.9)"])
def test_one_local_step_of_fedprox_is_fedavg_bit_for_bit(trainer: str, optimizer: str) -> None:
    options = {"local_steps": 1, "trainer": trainer, "optimizer": optimizer}
    prox, avg = (run(*problem(strategy=text, **options)) for text in ("fedprox(mu=1)", "fedavg"))
    assert (prox.rounds, prox.final) == (avg.rounds, avg.final)


def test_fedprox_pulls_towards_the_received_model() -> None:
    """More mu, less way: the squared term's pull grows with the distance, where a constant pull would overshoot."""
    start = federate("fedavg", rounds=1)[0]
    ways = [np.linalg.norm(federate(f"fedprox(mu={mu})", rounds=1)[0] - start) for mu in (0, 0.1, 1, 10)]
    assert ways == sorted(ways)
    assert ways[0] == 0


def test_momentum_at_the_server_of_none_is_fedavg() -> None:
    """To rounding: x + (mean - x) for the mean itself."""
    for weighting in ("examples", "uniform"):
        plain = federate(f"fedavg(weighting={weighting})")[0]
        np.testing.assert_allclose(federate(f"fedavgm(beta=0, weighting={weighting})")[0], plain, rtol=1e-13)


def test_server_lr_is_the_length_of_the_first_step() -> None:
    whole, half = (federate(f"fedavgm(beta=0.9, server_lr={lr})", rounds=1)[0] for lr in (1, 0.5))
    np.testing.assert_allclose(half - START, (whole - START) / 2, rtol=1e-12)
    assert not np.allclose(federate("fedavgm(beta=0.9)")[0], federate("fedavg")[0], rtol=1e-3)


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox(mu=1)"])
def test_one_client_a_round_is_that_clients_model(strategy: str) -> None:
    uniform, cohorts = federate(
        strategy.replace(")", ", weighting=uniform)") if "(" in strategy else "fedavg(weighting=uniform)", 1
    )
    weighted, same = federate(strategy, 1)
    assert cohorts == same
    np.testing.assert_allclose(uniform, weighted, rtol=1e-12)


def test_flowers_trimmed_mean_with_default_beta_cuts_nobody_of_three() -> None:
    """Flower 1.41: a fraction of 0.2 of three (or four) clients is no client, so its default is a plain mean."""
    trimmed, _ = federate("flower(path=flwr.serverapp.strategy.FedTrimmedAvg)")
    np.testing.assert_allclose(trimmed, federate("fedavg(weighting=uniform)")[0], rtol=1e-6)


def test_our_weighted_mean_has_the_bits_of_flowers() -> None:
    skewed = {"partition": "sizes([.55, .25, .15, .05])", "rounds": 4}
    ours, flowers = (
        run(*problem(strategy=text, **skewed)) for text in ("fedavg", "flower(path=flwr.serverapp.strategy.FedAvg)")
    )
    assert [row.test_loss for row in ours.rounds] == [row.test_loss for row in flowers.rounds]
    assert [row.train_loss for row in ours.rounds] == pytest.approx([row.train_loss for row in flowers.rounds])
