"""Epsilon, delta and mu of Gaussian noise, held to their definition in many digits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from strategies import StrategyError
from strategies.privacy.gaussian import gaussian_delta, gaussian_epsilon, gaussian_mu

mus = some.floats(-3, 3).map(lambda power: 10.0**power)
deltas = some.floats(-12, -0.05).map(lambda power: 10.0**power)


@given(mus, deltas)
def test_each_is_the_inverse_of_the_others(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)
    if epsilon == 0:
        assert math.erf(mu / math.sqrt(8)) <= delta * (1 + 1e-9)  # the total variation distance
        return
    assert gaussian_delta(mu, epsilon) == pytest.approx(delta, rel=1e-8)
    assert gaussian_mu(epsilon, delta) == pytest.approx(mu, rel=1e-8)


@given(mus, deltas)
def test_more_noise_and_more_delta_are_more_private(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)
    assert gaussian_epsilon(mu * 1.01, delta) >= epsilon >= gaussian_epsilon(mu, min(delta * 1.01, 0.99))
    assert gaussian_mu(epsilon + 0.01, delta) > gaussian_mu(epsilon, delta)


@pytest.mark.parametrize(  # the definition evaluated in 60 decimal digits
    ("mu", "epsilon", "delta"),
    [
        (1e-3, 1e-3, 8.3357132125208494e-5),
        (0.03, 0.1, 3.5343760495111441e-6),
        (1, 1, 0.12693673750664395),
        (1.666, 8, 9.9953643070308681e-6),
        (1e3, 505_000, 2.8517225044359631e-7),
    ],
)
def test_delta_in_many_digits(mu: float, epsilon: float, delta: float) -> None:
    assert gaussian_delta(mu, epsilon) == pytest.approx(delta, rel=1e-10)


@pytest.mark.parametrize(
    ("mu", "epsilon"), [(1e-3, 0.00193872496986011), (1, 4.3771780956812246), (30, 577.01197368801)]
)
def test_epsilon_in_many_digits(mu: float, epsilon: float) -> None:
    assert gaussian_epsilon(mu, 1e-5) == pytest.approx(epsilon, rel=1e-9)


def test_delta_is_what_the_best_event_leaves_beyond_e_to_the_epsilon() -> None:
    """delta = integral of max(0, p - e^epsilon q) over the two normal densities."""
    x = np.linspace(-12, 14, 400_001)
    for mu, epsilon in ((0.5, 0.2), (1.5, 2.0), (2.0, 0.0)):
        p, q = (np.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (mu, 0.0))
        delta = np.trapezoid(np.maximum(p - math.exp(epsilon) * q, 0), x)
        assert gaussian_delta(mu, epsilon) == pytest.approx(delta, rel=1e-6)


def test_the_limits() -> None:
    assert gaussian_delta(0, 0) == gaussian_delta(0, 1) == gaussian_epsilon(0, 1e-5) == 0  # nothing is released
    assert gaussian_delta(1e3, 0) == 1
    assert gaussian_delta(1e-3, 100) == 0
    assert gaussian_epsilon(1e-6, 1e-5) == 0
    assert gaussian_delta(gaussian_mu(0, 1e-5), 0) == pytest.approx(1e-5, rel=1e-9)
    assert gaussian_epsilon(1e17, 1e-5) == pytest.approx(5e33)


def test_a_persons_409_windows_at_full_batch() -> None:
    """As a group they have 409 times the mu of one: epsilon 8 becomes 2.4e5 and 0.5 becomes 1,939."""
    assert gaussian_epsilon(409 * gaussian_mu(8, 1e-5), 1e-5) == pytest.approx(2.35e5, rel=0.02)
    assert gaussian_epsilon(409 * gaussian_mu(0.5, 1e-5), 1e-5) == pytest.approx(1939, rel=0.005)


def test_what_is_out_of_range_is_refused() -> None:
    for bad in (-1, math.nan):
        for wrong in (lambda: gaussian_delta(bad, 1), lambda: gaussian_epsilon(bad, 1e-5)):  # noqa: B023
            with pytest.raises(StrategyError, match=r"mu .*must be at least 0"):
                wrong()
        with pytest.raises(StrategyError, match="epsilon must be at least 0"):
            gaussian_delta(1, bad)
        with pytest.raises(StrategyError, match="epsilon must be at least 0"):
            gaussian_mu(bad, 1e-5)
    for bad in (0, 1, -1, math.nan):
        with pytest.raises(StrategyError, match="delta must lie between 0 and 1"):
            gaussian_epsilon(1, bad)
        with pytest.raises(StrategyError, match="delta must lie between 0 and 1"):
            gaussian_mu(1, bad)
    assert gaussian_delta(math.inf, 1) == 1, "no noise at all"
    assert gaussian_epsilon(math.inf, 1e-5) == math.inf
