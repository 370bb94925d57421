"""Statistics against published and hand-made answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from results.statistics import (
    half_width,
    hedges_factor,
    least_detectable,
    mean_interval,
    paired,
    prediction_interval,
    sign_flip,
)

# Student 1908, the additional hours of sleep of Cushny and Peebles' ten patients under two drugs.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_mean_interval_of_students_sleep_data() -> None:
    found = mean_interval(np.subtract(SLEEP_2, SLEEP_1))
    # R's t.test(sleep): mean 1.58, 95 % interval 0.7001142 to 2.4598858
    assert found.mean == pytest.approx(1.58)
    assert found.low == pytest.approx(0.7001142, abs=1e-7)
    assert found.high == pytest.approx(2.4598858, abs=1e-7)
    assert not found.degenerate


def test_prediction_interval_is_wider_by_root_n_plus_one() -> None:
    x = [1.0, 2.0, 3.0, 4.0, 5.0]
    # t_{0.975, 4} = 2.7764451, s = sqrt(2.5): half = 2.7764451 * 1.5811388 * sqrt(1.2)
    found = prediction_interval(x)
    assert found.half == pytest.approx(2.7764451 * 1.5811388 * 1.0954451, rel=1e-6)
    assert found.half == pytest.approx(np.sqrt(6) * mean_interval(x).half)  # type: ignore[operator]


def test_prediction_interval_covers_a_new_run_as_often_as_it_says() -> None:
    draws = np.random.default_rng(3).normal(size=(4000, 6))
    inside = [
        found.low <= row[5] <= found.high  # type: ignore[operator]
        for row in draws
        for found in [prediction_interval(row[:5])]
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.012)


def test_one_value_has_no_interval() -> None:
    found = mean_interval([0.9])
    assert (found.n, found.mean, found.low, found.high, found.half, found.sd) == (1, 0.9, None, None, None, None)
    assert not found.degenerate


def test_equal_values_are_marked() -> None:
    found = mean_interval([0.1 + 0.2, 0.3, 0.3])  # equal but for rounding
    assert found.degenerate
    assert found.half == 0


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")], [float("inf")]])
def test_values_must_be_there_and_finite(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="expected one or more finite values"):
        mean_interval(bad)


def test_half_width_by_element() -> None:
    x = np.random.default_rng(0).normal(size=(3, 7))
    found = half_width(x.std(axis=1, ddof=1), [7, 7, 7])
    assert found == pytest.approx([mean_interval(row).half for row in x])
    assert np.isnan(half_width([1.0], [1])).all()


def test_least_detectable_difference() -> None:
    # In units of sd; the next test holds the first of them against drawn samples.
    assert least_detectable(1.0, [5, 10, 20, 30]) == pytest.approx([1.6820, 0.9960, 0.6604, 0.5292], abs=1e-4)
    assert least_detectable([2.0, 0.0], [10, 10]) == pytest.approx([1.9920, 0.0], abs=1e-4)
    assert np.isnan(least_detectable(1.0, 1))
    assert least_detectable(1.0, 2) == pytest.approx(11.55, abs=0.01)


def test_least_detectable_difference_is_found_four_times_in_five() -> None:
    n = 5
    draws = np.random.default_rng(7).normal(float(least_detectable(1.0, n)), 1.0, size=(40_000, n))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / np.sqrt(n))
    assert np.mean(t > stats.t.ppf(0.975, n - 1)) == pytest.approx(0.8, abs=0.006)


def test_paired_on_students_sleep_data() -> None:
    found = paired(SLEEP_2, SLEEP_1)
    assert found.difference.mean == pytest.approx(1.58)
    # All differences but one, which is 0, are positive: only the 2 x 2 signings of the same mean reach it, of 1024.
    assert found.p_sign_flip == pytest.approx(4 / 1024)
    assert found.p_wilcoxon == pytest.approx(4 / 1024)
    assert found.exact
    d = np.subtract(SLEEP_2, SLEEP_1)
    assert found.d_z == pytest.approx(hedges_factor(9) * d.mean() / d.std(ddof=1))
    assert found.least_detectable == pytest.approx(0.9960 * d.std(ddof=1), rel=1e-3)


def test_sign_flip_is_the_enumeration() -> None:
    d = np.array([0.3, -0.1, 0.4, 0.15, 0.9, -0.26])
    means = [abs(np.mean(np.multiply(signs, d))) for signs in itertools.product([1, -1], repeat=6)]
    assert sign_flip(d) == pytest.approx(np.mean(np.array(means) >= abs(d.mean()) - 1e-12))


@given(st.lists(st.integers(-30, 30).filter(bool), min_size=2, max_size=9, unique_by=abs))
def test_wilcoxon_is_scipys_exact_one_without_ties(d: list[int]) -> None:
    expected = stats.wilcoxon(d, method="exact").pvalue
    assert paired(d, np.zeros(len(d))).p_wilcoxon == pytest.approx(expected)


def test_wilcoxon_with_ties_is_the_enumeration() -> None:
    ranks = np.array([2.0, -2.0, 2.0, 4.0, 5.0])  # of |d| = 1, 1, 1, 2, 3
    sums = [abs(np.dot(signs, np.abs(ranks))) for signs in itertools.product([1, -1], repeat=5)]
    found = paired([1, -1, 1, 2, 3], np.zeros(5)).p_wilcoxon
    assert found == pytest.approx(np.mean(np.array(sums) >= abs(ranks.sum())))


def test_ties_survive_rounding() -> None:
    # 0.3 - 0.1, 0.4 - 0.2 and 0.9 - 0.7 differ in their last bits.
    a, b = np.array([0.3, 0.4, 0.9, 0.1]), np.array([0.1, 0.2, 0.7, 0.3])
    assert paired(a, b).p_wilcoxon == paired([2, 2, 2, -2], [0, 0, 0, 0]).p_wilcoxon


def test_no_difference_is_no_evidence() -> None:
    found = paired([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    assert (found.p_sign_flip, found.p_wilcoxon, found.d_z) == (1.0, 1.0, None)
    assert found.difference.degenerate


def test_one_pair_has_a_difference_and_nothing_else() -> None:
    found = paired([0.9], [0.8])
    assert found.difference.mean == pytest.approx(0.1)
    assert (found.p_sign_flip, found.p_wilcoxon, found.d_z, found.least_detectable) == (None, None, None, None)


def test_five_pairs_never_reach_five_per_cent() -> None:
    assert paired([1, 2, 3, 4, 5], np.zeros(5)).p_sign_flip == pytest.approx(2 / 2**5)


def test_many_pairs_take_random_signings_that_are_the_same_again() -> None:
    d = np.random.default_rng(2).normal(0.4, 1, size=25)
    found, again = paired(d, np.zeros(25)), paired(d, np.zeros(25))
    assert not found.exact
    assert found == again
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, abs=0.01)


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="found 3 and 2"):
        paired([1, 2, 3], [1, 2])


def test_hedges_factor() -> None:
    # By hand at 4: Gamma(2) / (sqrt(2) Gamma(3/2)) = sqrt(2 / pi). Near 1 - 3 / (4 df - 1), Hedges' own approximation.
    assert hedges_factor(4) == pytest.approx(np.sqrt(2 / np.pi))
    assert hedges_factor(50) == pytest.approx(1 - 3 / 199, abs=1e-4)
    assert [hedges_factor(df) for df in (4, 9, 50)] == pytest.approx([0.7979, 0.9139, 0.9849], abs=1e-4)
    assert hedges_factor(1) == 0


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12), st.floats(-1e3, 1e3))
def test_intervals_move_with_the_values(x: list[float], shift: float) -> None:
    found, moved = mean_interval(x), mean_interval(np.array(x) + shift)
    assert moved.mean == pytest.approx(found.mean + shift, abs=1e-6)
    assert moved.half == pytest.approx(found.half, abs=1e-6)
