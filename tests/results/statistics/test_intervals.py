"""From twenty values up the interval is BCa; and the least detectable difference at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from results.statistics import least_detectable, mean_interval, prediction_interval, t_interval
from results.statistics.intervals import detectable_effect
from results.statistics.values import Floats

SKEWED = -np.random.default_rng(0).exponential(size=30)


def bca_by_definition(x: Floats) -> list[float]:
    """Efron 1987: quantiles of the resampled means, moved by their bias z0 and by the acceleration a."""
    n = x.size
    means = np.random.default_rng(9).choice(x, size=(100_000, n)).mean(axis=1)
    z0 = special.ndtri(np.mean(means < x.mean()))
    deviations = x.mean() - (x.sum() - x) / (n - 1)  # of the mean from the means without each value
    a = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    z = z0 + special.ndtri([0.025, 0.975])
    return [float(q) for q in np.quantile(means, special.ndtr(z0 + z / (1 - a * z)))]


def test_bca_is_its_definition() -> None:
    found = mean_interval(SKEWED)
    assert found.method == "bca"
    assert [found.low, found.high] == pytest.approx(bca_by_definition(SKEWED), abs=0.01)


def test_half_of_bca_is_its_longer_side() -> None:
    found = mean_interval(SKEWED)
    assert found.low is not None
    assert found.high is not None
    below, above = found.mean - found.low, found.high - found.mean
    assert below > 1.1 * above  # the tail is below
    assert found.half == below
    assert mean_interval(-SKEWED).half == pytest.approx(below, rel=0.02)


def test_bca_begins_at_twenty() -> None:
    assert mean_interval(SKEWED[:19]) == t_interval(SKEWED[:19])
    assert mean_interval(SKEWED[:19]).method == "t"
    assert mean_interval(SKEWED[:20]).method == "bca"
    assert mean_interval(SKEWED[:20]) == mean_interval(SKEWED[:20])
    assert prediction_interval(SKEWED).method == "t"


def test_many_equal_values_are_marked() -> None:
    found = mean_interval(np.full(25, 0.3))
    assert (found.degenerate, found.half, found.method) == (True, 0, "t")


def test_levels_are_chances() -> None:
    for x in ([1.0, 2.0], SKEWED):
        with pytest.raises(ValueError, match="level is a number between 0 and 1; found 95"):
            mean_interval(x, level=95)
    with pytest.raises(ValueError, match=r"power is a number between 0 and 1; found 1\.0"):
        least_detectable(1.0, 10, power=1.0)


def test_t_interval_of_any_number() -> None:
    found = t_interval(SKEWED)
    expected = stats.t.interval(0.95, 29, SKEWED.mean(), stats.sem(SKEWED))
    assert (found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize("critical", [0.0, 2.3, 60.0, 99.0])
def test_detectable_effect_has_its_power(critical: float) -> None:
    n, draws = 5, np.random.default_rng(0).normal(size=(40_000, 5))
    x = draws + detectable_effect(n, 0.8, critical)
    t = x.mean(axis=1) / (x.std(axis=1, ddof=1) / np.sqrt(n))
    assert np.mean(t > critical) == pytest.approx(0.8, abs=0.01)


def test_detectable_effect_far_out_goes_on_where_it_was() -> None:
    near, far = detectable_effect(5, 0.8, 100.0), detectable_effect(5, 0.8, 100.001)
    assert far == pytest.approx(near, rel=1e-3)
    assert detectable_effect(10, 0.8, float("inf")) == float("inf")
