"""What scores prove of a privacy claim, held to mechanisms whose privacy is known."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray
from scipy import stats

from strategies.privacy.audit import (
    auc,
    one_run_ceiling,
    one_run_lower_bound,
    right_guesses,
    true_positive_rate,
)
from strategies.privacy.gaussian import gaussian_epsilon, gaussian_mu
from tests.strategies.protection.instruments import gaussian_lower_bound, variance_test

DELTA = 1e-5
RUNS = 2000
few_scores = some.lists(some.integers(-3, 3), min_size=1, max_size=12)  # integers, so that many are equal


def gaussian_runs(epsilon: float, runs: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of the best attack on a Gaussian mechanism that is exactly (epsilon, 1e-5) private."""
    rng = np.random.default_rng(seed)
    return rng.normal(gaussian_mu(epsilon, DELTA), 1, runs), rng.normal(size=runs)


# The attack described


@given(few_scores, few_scores)
def test_auc_is_the_share_of_pairs_won_and_half_the_ties(members: list[int], others: list[int]) -> None:
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    assert auc(members, others) == pytest.approx(np.mean(pairs))
    assert auc(others, members) == pytest.approx(1 - auc(members, others))


@given(few_scores, few_scores, some.sampled_from([0, 0.1, 0.25, 0.5, 0.99]))
def test_the_true_positive_rate_is_the_best_threshold_s(members: list[int], others: list[int], rate: float) -> None:
    thresholds = [t for t in range(-5, 6) if np.mean(np.array(others) > t) <= rate]
    best = max(np.mean(np.array(members) > t) for t in thresholds)
    assert true_positive_rate(members, others, rate) == pytest.approx(best)


def test_one_percent_of_a_hundred_others_is_one_and_of_ninety_nine_none() -> None:
    hundred, members = np.arange(100.0), [98.5, 99.5]
    assert true_positive_rate(members, hundred) == 1.0
    assert true_positive_rate(members, hundred[1:]) == 0.5
    assert true_positive_rate(members, hundred, 0.29) == true_positive_rate(members, hundred, 0.29 + 1e-12)


# One run


def test_guesses_are_made_from_both_ends_and_the_rest_is_abstained_from() -> None:
    scores, included = np.array([0.1, 0.9, 0.5, 0.2, 0.8]), np.array([False, True, True, True, False])
    assert right_guesses(scores, included, 1) == 1  # 0.9 in
    assert right_guesses(scores, included, 2) == 2  # 0.1 out
    assert right_guesses(scores, included, 3) == 2  # 0.8 in: wrong
    assert right_guesses(scores, included, 4) == 2  # 0.2 out: wrong
    assert right_guesses(scores, included, 5) == 3


def test_equal_scores_prove_nothing() -> None:
    included = np.random.default_rng(0).random(4000) < 0.5
    assert 900 < right_guesses(np.zeros(4000), included, 2000) < 1100
    assert one_run_lower_bound(1000, 2000, 4000, DELTA) == 0.0


@pytest.mark.parametrize(("guesses", "ceiling"), [(10, 1.05), (21, 1.87), (100, 3.49), (1000, 5.78), (7352, 7.60)])
def test_the_ceiling_by_guesses(guesses: int, ceiling: float) -> None:
    assert one_run_ceiling(guesses, guesses, DELTA) == pytest.approx(ceiling, abs=0.006)
    # Without delta all right has the probability q^r: epsilon is the log-odds of 0.05^(1 / r).
    q = 0.05 ** (1 / guesses)
    assert one_run_ceiling(guesses, guesses, 0.0) == pytest.approx(math.log(q / (1 - q)), abs=1e-8)


@pytest.mark.parametrize(
    ("right", "guesses", "canaries", "delta", "epsilon"),
    [(75, 100, 1000, 1e-4, 0.673), (1439, 1510, 100_000, 1e-5, 2.675)],
)
def test_the_bounds_printed_in_the_paper(right: int, guesses: int, canaries: int, delta: float, epsilon: float) -> None:
    assert one_run_lower_bound(right, guesses, canaries, delta) == pytest.approx(epsilon, abs=1e-3)


@given(some.integers(1, 60), some.integers(0, 60), some.integers(0, 500), some.sampled_from([0, 1e-5, 1e-3]))
def test_more_right_refutes_more_and_delta_canaries_and_confidence_less(
    guesses: int, right: int, abstained: int, delta: float
) -> None:
    right, canaries = min(right, guesses), guesses + abstained
    bound = one_run_lower_bound(right, guesses, canaries, delta)
    assert 0 <= bound <= one_run_ceiling(guesses, canaries, delta)
    for weaker in (
        one_run_lower_bound(max(right - 1, 0), guesses, canaries, delta),
        one_run_lower_bound(right, guesses, canaries + 100, delta),
        one_run_lower_bound(right, guesses, canaries, 2 * delta + 1e-4),
        one_run_lower_bound(right, guesses, canaries, delta, 0.99),
    ):
        assert weaker <= bound + 1e-6


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_randomised_response_is_refuted_at_most_as_often_as_the_confidence_allows(epsilon: float) -> None:
    """Each canary's bit is told truly with probability e^epsilon / (1 + e^epsilon): (epsilon, 0), nothing to spare."""
    rng, canaries, guesses, audits = np.random.default_rng(3), 200, 120, 3000
    bound = functools.cache(functools.partial(one_run_lower_bound, guesses=guesses, canaries=canaries, delta=0.0))
    bounds = []
    for _ in range(audits):
        included = rng.random(canaries) < 0.5
        told = included ^ (rng.random(canaries) < 1 / (1 + math.exp(epsilon)))
        bounds.append(bound(right_guesses(told, included, guesses)))
    above = np.mean(np.array(bounds) > epsilon)
    assert above <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / audits)
    assert above >= 0.02  # the bound is not far below where it may be


def test_delta_covers_the_run_that_gives_all_away() -> None:
    """With probability delta all bits are published, else as above: (epsilon, delta) private."""
    rng, canaries, epsilon, delta, audits = np.random.default_rng(4), 60, 1.0, 0.04, 5000
    right = rng.binomial(canaries, 1 / (1 + math.exp(-epsilon)), audits)
    right[rng.random(audits) < delta] = canaries
    above = {}
    for claimed in (0.0, delta):
        by_right = np.array([one_run_lower_bound(v, canaries, canaries, claimed) for v in range(canaries + 1)])
        above[claimed] = np.mean(by_right[right] > epsilon)
    assert above[delta] <= 0.05
    assert above[0.0] > 0.06  # leaving delta out would refute what is true


def test_one_run_of_gaussian_noise_stays_below_its_claim_and_its_ceiling() -> None:
    rng, canaries, guesses = np.random.default_rng(5), 1000, 100
    for epsilon in (1, 2, 8):
        bounds = []
        for _ in range(100):
            included = rng.random(canaries) < 0.5
            scores = rng.normal(gaussian_mu(epsilon, DELTA) * included, 1)
            bounds.append(one_run_lower_bound(right_guesses(scores, included, guesses), guesses, canaries, DELTA))
        assert np.mean(np.array(bounds) > epsilon) <= 0.05
        assert max(bounds) <= one_run_ceiling(guesses, canaries, DELTA)
        assert np.median(bounds) > 0.1 * epsilon


# Many runs


def test_of_200_right_mechanisms_at_claim_8_none_is_refuted_and_the_bound_is_near() -> None:
    bounds = [gaussian_lower_bound(*gaussian_runs(8, RUNS, seed), DELTA) for seed in range(200)]
    assert max(bounds) < 8
    assert min(bounds) > 0.55 * 8
    assert np.mean(bounds) == pytest.approx(6.8, abs=0.15)


@pytest.mark.parametrize("epsilon", [0.5, 2, 4, 16])
def test_no_right_mechanism_is_refuted_at_other_claims(epsilon: float) -> None:
    assert max(gaussian_lower_bound(*gaussian_runs(epsilon, RUNS, seed), DELTA) for seed in range(50)) < epsilon


def test_at_low_confidence_the_bound_errs_no_more_often_than_it_says() -> None:
    above = np.mean([gaussian_lower_bound(*gaussian_runs(8, 200, seed), DELTA, 0.5) > 8 for seed in range(1000)])
    assert 0.01 < above < 0.5


def test_more_runs_come_nearer() -> None:
    bounds = [gaussian_lower_bound(*gaussian_runs(8, runs, 0), DELTA) for runs in (200, 2000, 20_000, 200_000)]
    assert bounds == sorted(bounds)
    assert 7.8 < bounds[-1] < 8


def test_a_mechanism_that_is_wrong_by_a_half_is_refuted() -> None:
    with_unit, without = gaussian_runs(12, RUNS, 0)
    assert gaussian_lower_bound(with_unit, without, DELTA) > 8


def test_without_noise_the_bound_is_the_most_that_the_runs_can_say() -> None:
    separated = gaussian_lower_bound(np.ones(RUNS), np.zeros(RUNS), DELTA)
    assert separated == pytest.approx(35.2, abs=0.1)
    # No error among n runs: both rates are at most 1 - a^(1 / n), here with a = 0.001 / 8 for four thresholds.
    rate = 1 - (0.001 / 8) ** (1 / RUNS)
    assert separated == pytest.approx(gaussian_epsilon(-2 * stats.norm.ppf(rate), DELTA), rel=1e-9)
    assert gaussian_lower_bound(np.full(RUNS, np.inf), np.full(RUNS, -np.inf), DELTA) == separated
    assert gaussian_lower_bound([1.0], [0.0], DELTA) == 0.0


def test_what_shows_nothing_or_the_opposite_refutes_nothing() -> None:
    with_unit, without = gaussian_runs(8, RUNS, 0)
    assert gaussian_lower_bound(without, with_unit, DELTA) == 0.0
    assert gaussian_lower_bound(without, without, DELTA) == 0.0
    assert gaussian_lower_bound(np.zeros(RUNS), np.zeros(RUNS), DELTA) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_only_ranks_count(seed: int) -> None:
    with_unit, without = (np.round(4 * runs) for runs in gaussian_runs(16, 100, seed))
    bound = gaussian_lower_bound(with_unit, without, DELTA, 0.9)
    assert bound > 0
    assert bound == gaussian_lower_bound(np.exp(with_unit), np.exp(without), DELTA, 0.9)
    shuffled = np.random.default_rng(seed).permutation(with_unit)
    assert bound == gaussian_lower_bound(shuffled, without[::-1], DELTA, 0.9)


# Variance


def test_the_variance_test_is_standard_normal_for_right_noise() -> None:
    rng = np.random.default_rng(0)
    for d in (50, 1000):
        zs = [variance_test(rng.normal(0, 3, d), 3) for _ in range(2000)]
        assert stats.kstest(zs, "norm").pvalue > 1e-3


@pytest.mark.parametrize(("d", "error"), [(10, 0.1), (100, 0.01), (80_582, 1e-4)])
def test_the_variance_test_is_the_tail_of_chi_square(d: int, error: float) -> None:
    for z in (-3.29, -1.0, 0.0, 2.0, 3.29):
        squares = stats.chi2.isf(stats.norm.sf(z), d)
        assert variance_test(np.full(d, math.sqrt(squares / d)), 1) == pytest.approx(z, abs=error)


def test_one_percent_shows_at_80582_coordinates_and_a_missing_share_at_a_thousand() -> None:
    rng = np.random.default_rng(1)
    assert abs(variance_test(rng.normal(0, 0.5, 80_582), 0.5)) < 3.29
    for off in (0.99, 1.01):
        z = np.mean([variance_test(rng.normal(0, off, 80_582), 1) for _ in range(20)])
        assert z == pytest.approx(100 * (off - 1) * 4.0, abs=0.8)
    assert variance_test(rng.normal(0, math.sqrt(3 / 4), 1000), 1) < -3.29  # one office of four sent none
    assert variance_test(np.zeros(80_582), 1) < -500  # no noise at all
    assert variance_test(rng.normal(0.2, 1, 80_582), 1) > 3.29  # shifted


# Refusals


def test_scores_that_say_nothing_are_refused() -> None:
    for function in (auc, true_positive_rate, lambda a, b: gaussian_lower_bound(a, b, DELTA)):
        with pytest.raises(ValueError, match="at least one; found the shape"):
            function([], [1.0])
        with pytest.raises(ValueError, match=r"found the shape \(1, 1\)"):
            function([1.0], [[1.0]])
        with pytest.raises(ValueError, match="1 scores that are not a number"):
            function([1.0], [1.0, math.nan])


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="false_positive_rate must be at least 0 and below 1; found 1"):
        true_positive_rate([1], [1], 1)
    with pytest.raises(ValueError, match=r"one bool for each of 2 scores; found int64 \(2,\)"):
        right_guesses([1, 2], [0, 1], 1)
    with pytest.raises(ValueError, match=r"one bool for each of 2 scores; found bool \(1,\)"):
        right_guesses([1, 2], [True], 1)
    with pytest.raises(ValueError, match="found 0, 3 and 2"):
        right_guesses([1, 2], [True, False], 3)
    for counts in ((-1, 5, 5), (6, 5, 5), (0, 0, 5), (1, 6, 5)):
        with pytest.raises(ValueError, match="right <= guesses <= canaries"):
            one_run_lower_bound(*counts, DELTA)
    for confidence in (0, 1, math.nan):
        with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
            one_run_ceiling(5, 5, DELTA, confidence)
        with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
            gaussian_lower_bound([1], [0], DELTA, confidence)
    with pytest.raises(ValueError, match="delta must be at least 0 and below 1; found -1"):
        one_run_ceiling(5, 5, -1)
    with pytest.raises(ValueError, match="delta must lie between 0 and 1"):
        gaussian_lower_bound([1], [0], 0)
    with pytest.raises(ValueError, match="at least 10 samples"):
        variance_test(np.ones(9), 1)
    with pytest.raises(ValueError, match="found 1 samples that are not"):
        variance_test([*range(10), math.inf], 1)
    for sigma in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match="expected_std must be positive and finite"):
            variance_test(np.ones(10), sigma)
