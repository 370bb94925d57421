"""Noise on integers: the law of the sampler, of its coin, and what a share, a grid and a slot must have."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, chisquare, kstest

from strategies.base import StrategyError
from strategies.privacy import discrete
from strategies.privacy.discrete import (
    LARGEST_NUMERATOR,
    discrete_gaussian,
    exponential_coins,
    grid_sensitivity,
    share_bound,
    share_variance,
)
from strategies.privacy.noise import NoiseStream, stream_of

MODEL = 80_582
GENERATED = settings(deadline=None, derandomize=True, max_examples=60)


def seeded(*path: int) -> NoiseStream:
    return stream_of(np.random.SeedSequence(11, spawn_key=path), secure=False)


class Given(NoiseStream):
    """A stream of chosen 64-bit words, and zeros behind them."""

    def __init__(self, *words: int) -> None:
        super().__init__(bytes(32))
        self.left = list(words)

    def fill(self, words: NDArray[np.uint32]) -> None:
        drawn = words.view(np.int64)
        drawn[:] = (self.left + [0] * len(drawn))[: len(drawn)]
        self.left = self.left[len(drawn) :]


def test_the_tail_behind_a_clamp_is_below_what_clamping_is_charged_with() -> None:
    """Against the weights, summed one by one."""
    for variance in (1, 2, 7, 100, 2_500):
        weights = [math.exp(-z * z / (2 * variance)) for z in range(16 * math.isqrt(variance) + 16)]
        tail = math.fsum(weights[share_bound(variance) + 1 :]) / (math.fsum(weights) - 0.5)
        assert 0 < tail < discrete.CLAMPED
    numbers, epsilon = 10**6, 10.0
    delta = 1e3 * (1 + math.exp(epsilon)) * discrete.CLAMPED * numbers
    assert discrete.clamps_show(epsilon, 0.99 * delta, numbers)
    assert not discrete.clamps_show(epsilon, 1.01 * delta, numbers)


# The sampler.


@pytest.mark.parametrize(
    "variance",
    [*map(Fraction, ("1/4", "3/7", "1/2", "1.99", "10/3", "3.0000000000001")), 1, 2, 4, 9, 100],
    ids=str,
)
def test_samples_have_the_enumerated_distribution(variance: Fraction | int) -> None:
    count = 100_000
    reach = math.ceil(12 * math.sqrt(variance)) + 2
    values = np.arange(-reach, reach + 1)
    weights = np.exp(-(values**2) / (2 * float(variance)))
    expected = count * weights / weights.sum()
    samples = discrete_gaussian(seeded(1, *Fraction(variance).as_integer_ratio()), count, variance)
    assert samples.dtype == np.int64
    assert np.abs(samples).max() <= reach
    found = np.bincount(samples + reach, minlength=len(values))
    often = expected >= 10
    groups = [np.append(counts[often], counts[~often].sum()) for counts in (found, expected)]
    assert chisquare(*groups).pvalue > 1e-3


@pytest.mark.parametrize("deviation", [1_000, 30_000, 300_000, math.isqrt(LARGEST_NUMERATOR)])
def test_large_samples_have_the_moments_and_the_shape_of_a_gaussian(deviation: int) -> None:
    count = 200_000
    samples = discrete_gaussian(seeded(2, deviation), count, deviation**2)
    z = samples / deviation
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(z**power) - expected) < 4 * math.sqrt(variance / count)
    assert kstest(z + (seeded(3).words(count) / 2**32 - 0.5) / deviation, "norm").pvalue > 1e-3
    assert binomtest(int((samples > 0).sum()), int((samples != 0).sum())).pvalue > 1e-3
    assert chisquare(np.bincount(samples % 256)).pvalue > 1e-3  # the low digits are there, and even


def test_the_seams_of_the_staircase_do_not_show() -> None:
    """|z| just below and just above each multiple of the step t = floor(sqrt(2) s) must be about as frequent."""
    deviation = 50
    samples = np.abs(discrete_gaussian(seeded(4), 1_000_000, deviation**2))
    t = math.isqrt(2 * deviation**2)
    values = np.arange(6 * deviation)
    weights = np.exp(-(values**2) / (2 * deviation**2)) * np.where(values == 0, 1, 2)
    shares = weights / weights.sum()
    for seam in (t, 2 * t, 3 * t):
        for low, high in ((seam - 5, seam), (seam, seam + 5)):
            found = int(((samples >= low) & (samples < high)).sum())
            assert binomtest(found, samples.size, shares[low:high].sum()).pvalue > 1e-3


def test_the_same_words_are_the_same_samples_however_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that runs out of words is drawn again from its own first one, so that long ones are not lost."""
    expected = discrete_gaussian(seeded(5), 1000, 9)
    assert np.array_equal(discrete_gaussian(seeded(5), 1000, 9), expected)
    assert np.array_equal(discrete_gaussian(seeded(5), 10, 9), expected[:10])
    for block in (1, 2, 7, 40, 1000):
        monkeypatch.setattr(discrete, "_BLOCK", block)
        assert np.array_equal(discrete_gaussian(seeded(5), 1000, 9), expected), block
    assert not np.array_equal(discrete_gaussian(seeded(6), 1000, 9), expected)
    system = stream_of(np.random.SeedSequence(11), secure=True)
    assert not np.array_equal(discrete_gaussian(system, 1000, 9), discrete_gaussian(system, 1000, 9))
    assert discrete_gaussian(seeded(5), 0, 9).shape == (0,)


# The coin.


@pytest.mark.parametrize(
    ("numerator", "denominator"),
    [(1, 1), (1, 2), (2, 3), (7, 3), (1, 1000), (999, 1000), (5, 1), (2**47, 2**48), (2**48 - 1, 2**48), (3, 2**48)],
)
def test_coins_have_the_probability_of_the_exponential(numerator: int, denominator: int) -> None:
    coins = exponential_coins(seeded(7, numerator, denominator), 400_000, numerator, denominator)
    assert binomtest(int(coins.sum()), coins.size, math.exp(-numerator / denominator)).pvalue > 1e-3


def test_a_coin_of_0_is_certain() -> None:
    assert exponential_coins(seeded(8), 10_000, 0, 7).all()


def test_a_coin_follows_algorithm_1_to_the_word() -> None:
    """exp(-1/3): integers of 62 bits, in cells of floor(2^62 / 3 k); the first cell is heads at toss k."""
    cells = [2**62 // (3 * k) for k in range(1, 60)]
    heads, tails = [cell - 1 for cell in cells], cells
    for failed in range(1, 60):  # beyond the table of 32, too
        [coin] = exponential_coins(Given(*heads[: failed - 1], tails[failed - 1]), 1, 1, 3)
        assert coin == (failed % 2 == 1), failed
    refused = 3 * cells[0]  # the one value that no whole cell holds: drawn again
    assert refused == 2**62 - 1
    for second, expected in ((tails[0], True), (heads[0], False)):
        [coin] = exponential_coins(Given(refused, second, tails[1]), 1, 1, 3)
        assert coin == expected
    top = -(1 << 63)  # bits 62 and 63 do not count
    assert exponential_coins(Given(tails[0] + top), 1, 1, 3) == [True]


# Shares, grids, slots.


@GENERATED
@given(st.floats(0.01, 100), st.floats(100, 1e5), st.integers(1, 30), st.integers(0, 29))
def test_the_shares_that_are_not_known_have_the_variance_together(
    noise_multiplier: float, sensitivity: float, min_offices: int, curious: int
) -> None:
    needed = (Fraction(noise_multiplier) * Fraction(sensitivity)) ** 2
    honest = min_offices - curious
    if honest <= 0:
        with pytest.raises(StrategyError, match="curious must be below min_offices"):
            share_variance(noise_multiplier, sensitivity, min_offices, curious)
    elif needed < 4 * honest:
        with pytest.raises(StrategyError, match="too coarse"):
            share_variance(noise_multiplier, sensitivity, min_offices, curious)
    else:
        variance = share_variance(noise_multiplier, sensitivity, min_offices, curious)
        assert honest * variance >= needed > honest * (variance - 1)


def test_default_shares_carry_twice_the_variance_of_four_offices_that_all_answer() -> None:
    assert share_variance(1.5, 32_000, 3, 1) == 2 * share_variance(1.5, 32_000, 4, 0)


def test_a_sum_of_shares_has_the_variance_it_is_accounted_with() -> None:
    variance = share_variance(2.0, 8_000, 4, 0)
    total = sum(discrete_gaussian(seeded(9, office), MODEL, variance) for office in range(4))
    ratio = np.mean(np.square(total.astype(np.float64))) / 16_000**2
    assert abs(ratio - 1) < 4 * math.sqrt(2 / MODEL)  # a share that is missing would take a quarter


def test_a_refused_grid_says_which_would_do() -> None:
    with pytest.raises(StrategyError, match=r"at least 2 grid units; found 0\.5\. 2 bits more would do"):
        share_variance(1 / 128, 64, 1, 0)
    assert share_variance(1 / 128, 64 * 2**2, 1, 0) == 4
    with pytest.raises(StrategyError, match="multiplier and a sensitivity above 0"):
        share_variance(0, 50, 1, 0)
    with pytest.raises(StrategyError, match=r"at most 2\^47.*take 7 bits fewer"):
        share_variance(10, 1e8, 1, 0)
    assert share_variance(10, 1e8 / 2**7, 1, 0) <= LARGEST_NUMERATOR
    for variance in (Fraction(6, 25), 0, -1, LARGEST_NUMERATOR + 1, Fraction(LARGEST_NUMERATOR + 1, 2)):
        with pytest.raises(StrategyError, match=r"at least 1/4 whose numerator is at most 2\^47"):
            discrete_gaussian(seeded(0), 1, variance)
    for numerator, denominator in ((-1, 2), (1, 0), (2**15, 1), (1, 2**48 + 1)):
        with pytest.raises(StrategyError, match=r"numerator|denominator"):
            exponential_coins(seeded(0), 1, numerator, denominator)
    for curious in (-1, 3):
        with pytest.raises(StrategyError, match="curious"):
            share_variance(1.0, 1e4, 3, curious)


@GENERATED
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_rounding_moves_no_unit_further_than_the_sensitivity(seed: int, dimension: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, 300, (2, dimension))
    x[rng.random(dimension) < 0.5] = np.round(x[0]) + 0.5  # the worst that rounding to nearest can meet
    chance = rng.random(dimension)
    for rounding in ("nearest", "stochastic"):
        rounded, other = (np.rint(v) if rounding == "nearest" else np.floor(v + chance) for v in (x, y))
        length, apart = float(np.linalg.norm(x)), float(np.linalg.norm(x - y))
        for alone, before, after in ((True, length, rounded), (False, apart, rounded - other)):
            if before > 10 * math.sqrt(dimension):
                assert np.linalg.norm(after) <= grid_sensitivity(before, dimension, rounding, alone) + 1e-9


def test_what_rounding_costs() -> None:
    """At 80,582 weights and D = 2^(bits-1) - 5: 0.4 % at 16 bits, 7 % at 12, refused at 11."""
    assert grid_sensitivity(2**15 - 5, MODEL, "nearest") / (2**15 - 5) == pytest.approx(1.0043, abs=1e-4)
    assert grid_sensitivity(2**11 - 5, MODEL, "nearest") / (2**11 - 5) == pytest.approx(1.0695, abs=1e-4)
    nearest = grid_sensitivity(2**15, MODEL, "nearest") - 2**15
    for rounding, alone in (("stochastic", True), ("stochastic", False), ("nearest", False)):
        assert grid_sensitivity(2**15, MODEL, rounding, alone) - 2**15 == pytest.approx(2 * nearest)
    with pytest.raises(StrategyError, match=r"too coarse.*0\.14 of it: take 1 bit more"):
        grid_sensitivity(2**10 - 5, MODEL, "nearest")
    with pytest.raises(StrategyError, match="raise the clip"):
        grid_sensitivity(0, 3, "nearest")
    with pytest.raises(StrategyError, match="rounding must be one of nearest, stochastic; found 'up'"):
        grid_sensitivity(1e4, 3, "up")
    with pytest.raises(StrategyError, match="dimension"):
        grid_sensitivity(1e4, 0, "nearest")


@GENERATED
@given(st.integers(1, LARGEST_NUMERATOR))
def test_the_bound_of_a_share_is_ten_deviations_rounded_up(variance: int) -> None:
    assert (share_bound(variance) - 1) ** 2 < 100 * variance <= share_bound(variance) ** 2


def test_noise_of_a_model_takes_some_ten_milliseconds() -> None:
    stream, seconds = seeded(10), []
    for deviation in (30_000, 300_000, 30_000, 300_000):
        start = time.thread_time()
        discrete_gaussian(stream, MODEL, deviation**2)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.06
