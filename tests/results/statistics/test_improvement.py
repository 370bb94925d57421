"""Probability of improvement against Mann and Whitney's U, as rliable takes it, and cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from results.statistics import paired_probability_of_improvement, probability_of_improvement

RUNS = st.lists(st.integers(-5, 5), min_size=1, max_size=8)


def test_by_hand() -> None:
    # 3 beats 1 and 2 and ties 3; 1 ties 1: (2 + 0.5 + 0.5) / 6.
    assert probability_of_improvement([3, 1], [1, 2, 3]).probability == pytest.approx(0.5)
    # 2 > 1, 2 = 2, 2 < 3
    assert paired_probability_of_improvement([2, 2, 2], [1, 2, 3]).probability == pytest.approx(0.5)
    assert paired_probability_of_improvement([2, 2, 4, 4], [1, 2, 3, 3]).probability == pytest.approx(3.5 / 4)


@given(RUNS, RUNS)
@settings(deadline=None, max_examples=50)
def test_unpaired_is_mann_and_whitneys_u(a: list[int], b: list[int]) -> None:
    found = probability_of_improvement(a, b)
    assert found.probability == pytest.approx(stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)))
    assert probability_of_improvement(b, a).probability == pytest.approx(1 - found.probability)
    assert 0 <= found.low <= found.high <= 1


def test_rliables_own_example() -> None:
    # Its test of the metric: four runs of X and three of Y on two tasks, one third.
    x, y = [[1, 2], [2, 2], [1, 1], [2, 1]], [[1, 1], [2, 2], [3, 3]]
    assert probability_of_improvement(x, y).probability == pytest.approx(1 / 3)


def test_over_cells_it_is_the_mean_of_the_cells() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, (6, 3)), rng.normal(0, 1, (8, 3))
    cells = [stats.mannwhitneyu(a[:, i], b[:, i]).statistic / 48 for i in range(3)]
    assert probability_of_improvement(a, b).probability == pytest.approx(np.mean(cells))


def test_the_two_part_where_seeds_vary_more_than_strategies() -> None:
    b = np.linspace(0, 100, 10)
    assert paired_probability_of_improvement(b + 1, b).probability == 1
    # Only a seed's own pair changes sides: (45 + 10) / 100.
    assert probability_of_improvement(b + 1, b).probability == pytest.approx(0.55)


def test_paired_interval_is_that_of_a_share() -> None:
    # 30 of 40 won: a resample wins Binomial(40, 0.75) / 40.
    found = paired_probability_of_improvement(np.r_[np.ones(30), np.zeros(10)], np.full(40, 0.5))
    assert (found.low, found.high) == pytest.approx(stats.binom.ppf([0.025, 0.975], 40, 0.75) / 40, abs=0.026)
    assert found.high - found.low > 0.2


def test_unpaired_interval_is_scipys_bootstrap() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.7, 1, 12), rng.normal(0, 1, 15)

    def statistic(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:  # type: ignore[type-arg]
        return np.asarray((x[..., :, None] > y[..., None, :]).mean(axis=(-1, -2)))

    expected = stats.bootstrap(
        (a, b), statistic, vectorized=True, n_resamples=9999, batch=2000, method="percentile", rng=rng
    ).confidence_interval
    found = probability_of_improvement(a, b)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert found == probability_of_improvement(a, b)


def test_always_better_is_marked() -> None:
    found = probability_of_improvement([2, 3], [0, 1])
    assert (found.probability, found.low, found.high, found.degenerate) == (1, 1, 1, True)
    assert not probability_of_improvement([2, 0], [0, 1]).degenerate


def test_refusals() -> None:
    with pytest.raises(ValueError, match="same cells of A and B; found 2 and 3"):
        probability_of_improvement(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"found \(3, 1\) and \(2, 1\)"):
        paired_probability_of_improvement([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="1 not finite"):
        probability_of_improvement([1, np.nan], [1])
    with pytest.raises(ValueError, match=r"found shape \(0,\)"):
        probability_of_improvement([], [1])
