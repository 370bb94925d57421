"""Families of strategies against slow-but-obvious oracles, statsmodels, and limits that can be seen by eye."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests

from results.statistics import best_set, least_detectable, sign_flip, step_down
from results.statistics.values import Floats


def drawn(seeds: int, strategies: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0.3, 1, size=(seeds, strategies)) * np.arange(1, strategies + 1)


def step_down_by_definition(d: Floats) -> list[float]:
    """Every signing, scipy's t, and the maximum over the strategies not yet stepped over."""
    seen = np.abs(stats.ttest_1samp(d, 0).statistic)
    signed = [
        np.abs(stats.ttest_1samp(d * np.array(signs)[:, None], 0).statistic)
        for signs in itertools.product([1, -1], repeat=len(d))
    ]
    left, p, floor = set(range(d.shape[1])), {}, 0.0
    while left:
        first = max(left, key=lambda j: seen[j])
        reached = np.mean([max(t[j] for j in left) >= seen[first] - 1e-9 for t in signed])
        p[first] = floor = max(floor, float(reached))
        left.remove(first)
    return [p[j] for j in range(d.shape[1])]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_step_down_is_its_definition(seed: int) -> None:
    d = drawn(6, 4, seed)
    assert step_down(d).p == pytest.approx(step_down_by_definition(d))


def test_one_strategy_is_a_sign_flip_test() -> None:
    d = drawn(9, 1)
    found = step_down(d)
    assert found.p == found.exact == found.holm == pytest.approx(sign_flip(d))


def test_holm_beside_it_is_statsmodels() -> None:
    d = drawn(8, 5, seed=3)
    found = step_down(d)
    assert found.exact == pytest.approx([sign_flip(column) for column in d.T])
    assert found.holm == pytest.approx(multipletests([sign_flip(column) for column in d.T], method="holm")[1])
    assert found.holm.max() > found.exact.max()


def test_smallest_p_does_not_grow_with_strategies_but_holms_does() -> None:
    d = np.random.default_rng(0).normal(size=(10, 13))
    d[:, 4] = np.linspace(8, 9, 10)
    found = step_down(d)
    assert found.p[4] == 2 / 2**10
    assert found.holm[4] == 13 * 2 / 2**10


def test_many_seeds_take_random_signings_that_are_the_same_again() -> None:
    d = np.random.default_rng(5).normal([0.0, 0.45, 0.8], 1, size=(25, 3))
    found, again = step_down(d), step_down(d)
    assert found.p.tolist() == again.p.tolist()
    assert found.exact == pytest.approx([sign_flip(column, seed=7) for column in d.T], abs=0.006)
    assert found.p[2] >= 2 / 2**16


def test_no_difference_burdens_nobody() -> None:
    d = drawn(7, 3)
    found = step_down(np.column_stack([d, np.zeros(7)]))
    assert found.p.tolist() == [*step_down(d).p, 1.0]
    assert step_down(np.zeros((5, 2))).p.tolist() == [1, 1]


def test_rounding_is_no_difference() -> None:
    d = np.column_stack([drawn(7, 1), np.full(7, 1e-17)])
    assert step_down(d).p[1] == 1


def test_equal_differences_get_the_smallest_p_there_is() -> None:
    found = step_down(np.column_stack([np.full(6, 0.3), drawn(6, 2)]))
    assert found.p[0] == found.exact[0] == 2 / 2**6


def test_found_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        step_down(drawn(4, 2)).p[0] = 0


DIFFERENCES = arrays(np.float64, st.tuples(st.integers(2, 7), st.integers(1, 5)), elements=st.integers(-9, 9))


@given(DIFFERENCES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_step_down_laws(d: Floats, random: object) -> None:
    found = step_down(d)
    assert (found.p >= found.exact - 1e-12).all()
    assert (found.holm >= found.exact - 1e-12).all()
    assert (found.exact >= 2 / 2 ** len(d)).all()
    assert (found.p <= 1).all()
    # Direction, unit of a strategy, order of seeds and of strategies say nothing.
    assert step_down(-d).p == pytest.approx(found.p)
    assert step_down(d * np.arange(1, 1 + d.shape[1])).p == pytest.approx(found.p)
    assert step_down(d[::-1]).p == pytest.approx(found.p)
    assert step_down(d[:, ::-1]).p == pytest.approx(found.p[::-1])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1.0, 2.0], r"found shape \(2,\)"),
        ([[1.0, 2.0]], "2 or more seeds by 1 or more strategies"),
        ([[1.0], [np.nan]], "1 of 2 are not finite"),
    ],
)
def test_step_down_wants_a_table(bad: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        step_down(bad)


# ---- the best


def test_a_clear_winner_stands_alone() -> None:
    x = np.random.default_rng(1).normal([50, 50, 70, 50], 1, size=(10, 4))
    found = best_set(x)
    assert found.in_best.tolist() == [False, False, True, False]
    assert found.low[2] == 0
    assert (found.high[[0, 1, 3]] == 0).all()
    assert found.low[0] < -19
    assert found.high[2] > 19
    assert not found.no_difference
    assert not found.within_margin.any()


def test_twins_are_both_best_and_within_a_point_of_each_other() -> None:
    leader = np.random.default_rng(2).normal(80, 5, size=10)
    found = best_set(np.column_stack([leader, leader, leader - 20]))
    assert found.in_best.tolist() == [True, True, False]
    assert found.difference.tolist() == pytest.approx([0, 0, -20])
    assert (found.low[:2] == 0).all()
    assert (found.high[:2] == 0).all()
    assert found.within_margin.tolist() == [True, True, False]
    assert best_set(np.column_stack([leader, leader - 0.5]), margin=0.4).within_margin.tolist() == [False, False]
    assert best_set(np.column_stack([leader, leader - 0.5]), margin=0.6).within_margin.tolist() == [True, True]


def test_noise_says_nothing_and_says_how_little() -> None:
    x = np.random.default_rng(3).normal(0, 4, size=(10, 6))
    found = best_set(x)
    assert found.no_difference
    assert not found.within_margin.any()
    # Above a single paired t test's at 5 %, two-sided: five comparisons share the level.
    leader = x.mean(axis=0).argmax()
    spreads = [float((x[:, leader] - x[:, j]).std(ddof=1)) for j in range(6) if j != leader]
    single = float(least_detectable(np.median(spreads), 10))
    assert single < found.least_detectable < 2 * single


def test_two_strategies_are_a_one_sided_sign_flip_test() -> None:
    d = np.array([1.0, 2, 3, 4, 5, -1.5, 2.5])  # 1.5 is the one that went the wrong way
    signed = [np.dot(signs, np.abs(d)) for signs in itertools.product([1, -1], repeat=7)]
    p = np.mean(np.array(signed) >= d.sum() - 1e-9)
    scores = np.column_stack([d, np.zeros(7)])
    assert best_set(scores, level=1 - 1.01 * p).in_best.tolist() == [True, False]
    assert best_set(scores, level=1 - 0.99 * p).in_best.tolist() == [True, True]


def test_under_five_seeds_nothing_is_told_apart() -> None:
    found = best_set([[1.0, 50], [2, 51], [1, 52], [3, 52]])
    assert found.in_best.all()
    assert found.low.tolist() == [-np.inf, -np.inf]
    assert found.high.tolist() == [np.inf, np.inf]
    assert found.least_detectable == np.inf


@given(arrays(np.float64, st.tuples(st.integers(2, 8), st.integers(2, 5)), elements=st.integers(-30, 30)))
@settings(deadline=None, max_examples=50)
def test_best_set_laws(x: Floats) -> None:
    found = best_set(x)
    assert found.in_best[x.mean(axis=0).argmax()]
    assert (found.low <= 0).all()
    assert (found.high >= 0).all()
    assert (found.high[~found.in_best] == 0).all()
    assert (found.low - 1e-9 <= found.difference).all()
    assert (found.difference <= found.high + 1e-9).all()
    backwards = best_set(x[::-1, ::-1] + 7)
    assert backwards.in_best.tolist() == found.in_best[::-1].tolist()
    assert backwards.low == pytest.approx(found.low[::-1])
    assert backwards.high == pytest.approx(found.high[::-1])


def test_best_set_wants_a_table_and_a_margin() -> None:
    with pytest.raises(ValueError, match="2 or more strategies; found shape"):
        best_set(np.zeros((5, 1)))
    with pytest.raises(ValueError, match=r"margin is 0 or more.*found -1"):
        best_set(np.zeros((5, 2)), margin=-1)
    with pytest.raises(ValueError, match="level is a number between 0 and 1; found 95"):
        best_set(np.zeros((5, 2)), level=95)
