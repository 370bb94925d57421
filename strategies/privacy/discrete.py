"""Noise on integers: the discrete Gaussian N_Z(0, s^2), whose shares the offices add under encryption or masking.

    P(Z = z) ~ exp(-z^2 / (2 s^2)),    z = ..., -1, 0, 1, ...

Canonne, Kamath, Steinke: The Discrete Gaussian for Differential Privacy, NeurIPS 2020. A sum of K shares is not exactly
discrete Gaussian, and accounted as Kairouz, Liu, Steinke: The Distributed Discrete Gaussian Mechanism for Federated
Learning with Secure Aggregation, ICML 2021.

The sampler is exact: integers decide, and no float rounds. Its coin of probability exp(-a/b), a <= b, is their
Algorithm 1: toss coins of probability a / (b k), k = 1, 2, ..., until one fails; true if that was at an odd k. For
a > b it is coins of exp(-1), one for each whole, and one of what is left. A coin of probability a/b compares a uniform
integer below b with a, and that integer comes of 62 bits by rejection. Where they propose a discrete Laplace number
(Algorithms 2, 3), a staircase is proposed here, so that every exponent has the one denominator 2 s^2:

    k = 0, 1, ...   while coins of exp(-t^2 / (2 s^2)) are true, then kept if k (k - 1) more are
    u               uniform in 0 .. t-1, kept with exp(-u (2 t k + u) / (2 s^2))
    z = +-(t k + u), the sign by chance, -0 refused

    for k^2 t^2 + u (2 t k + u) = (t k + u)^2, whatever t; t = floor(sqrt(2) s) is about the fastest

**Range.** For s^2 = n / m with 1/4 <= s^2 and n <= 2^47 every number fits 63 bits, unless one coin runs to k = 2^14 or
one sample to step 2^14, which happens with a probability below 10^-10000. Outside of this range it is refused.

**Tail.** Under encryption a share is clamped to b = ceil(10 s), so that a slot never overflows into its neighbour. With
c = 10, P(|Z| > b) <= 2 exp(-c^2 / 2) / (c sqrt(2 pi)) = 1.54e-23: the weights of z > b sum to at most their integral
from b on, which is at most exp(-c^2 / 2) s / c, and all weights to at least sqrt(2 pi) s (Poisson summation). That any
share of a run is clamped has a probability of tau <= 5.0e-15 (80,582 slots, four offices, 1,000 rounds), and adds
(1 + e^epsilon) tau to delta: 1.5e-11 at epsilon 8, 4.4e-8 at 16. At 9 s it would be 15,000 times that. Where it would
be more than a thousandth of delta, nothing is promised (`clamps_show`).

How long a sample takes depends on its value, by some nanoseconds of the ten milliseconds of a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from strategies.base import StrategyError, check_choice, check_range
from strategies.privacy.noise import NoiseStream
from strategies.privacy.shares import LEAST_STD

LARGEST_NUMERATOR = 1 << 47
TAIL = 10  # standard deviations at which a share is clamped
CLAMPED = 2 * math.exp(-(TAIL**2) / 2) / (TAIL * math.sqrt(2 * math.pi))  # the probability of it is below this
LARGEST_GROWTH = 0.1  # of the sensitivity, by rounding
ROUNDINGS = ("nearest", "stochastic")

_UNIFORM = 62  # bits of a uniform integer
_ALL = (1 << _UNIFORM) - 1
_BLOCK = 1 << 14  # random integers drawn at once: they stay in the cache


def clamps_show(epsilon: float, delta: float, numbers: int) -> bool:
    """Whether clamping adds more than a thousandth to delta: (1 + e^epsilon) tau, of a run with so many numbers."""
    tau = CLAMPED * numbers
    return epsilon > 700 or (1 + math.exp(epsilon)) * tau > 1e-3 * delta


def discrete_gaussian(stream: NoiseStream, count: int, variance: Fraction | int) -> NDArray[np.int64]:
    """(count,) samples of N_Z(0, variance), a function of the stream's next words.

    It takes some 13 words of 64 bits a sample; what the last block has left is thrown away.

    Raises:
        StrategyError: the variance is below 1/4 or its numerator above 2^47.
    """
    n, m = variance.as_integer_ratio()
    if not (4 * n >= m and n <= LARGEST_NUMERATOR):
        raise StrategyError(
            f"the exact sampler needs a variance of at least 1/4 whose numerator is at most 2^47; found {variance}: "
            "round it up to an integer, or take a grid of other bits"
        )
    t = max(1, math.isqrt(2 * n // m))
    samples = np.empty(count, np.int64)
    _draw(stream, samples, 15, _samples, t, m, 2 * n)
    return samples


def exponential_coins(stream: NoiseStream, count: int, numerator: int, denominator: int) -> NDArray[np.bool_]:
    """(count,) coins of probability exp(-numerator / denominator), exactly: what the sampler is made of.

    Raises:
        StrategyError: the denominator is outside 1..2^48, or the numerator outside 0..2^14 times it.
    """
    check_range("denominator", denominator, 1, 2 * LARGEST_NUMERATOR)
    check_range("numerator", numerator, 0, denominator << 14)
    coins = np.empty(count, np.int64)
    _draw(stream, coins, 3, _exponentials, numerator, denominator)
    return coins.astype(np.bool_)


def share_variance(noise_multiplier: float, sensitivity: float, min_offices: int, curious: int) -> int:
    """Variance s^2 of one office's share, an integer: ceil(sigma^2 D^2 / (K_min - t)).

    Any K_min shares less those of t curious offices, who know their own, then have sigma^2 D^2 or more between them.

    Args:
        noise_multiplier: sigma.
        sensitivity: D, in units of the grid and after rounding (`grid_sensitivity`).
        min_offices: K_min: a round of fewer fails.
        curious: t.

    Raises:
        StrategyError: nobody's noise is left, or the grid is too coarse or too fine for it.
    """
    check_range("noise_multiplier", noise_multiplier, 0)
    check_range("sensitivity", sensitivity, 0)
    check_range("curious", curious, 0)
    if curious >= min_offices:
        raise StrategyError(
            f"curious must be below min_offices, the shares a sum has at least; found curious={curious} and "
            f"min_offices={min_offices}: no noise would be left that they do not know. Raise min_offices"
        )
    exact = (Fraction(noise_multiplier) * Fraction(sensitivity)) ** 2 / (min_offices - curious)
    if exact < LEAST_STD**2:
        more = "" if exact == 0 else f" {_doublings(LEAST_STD / math.sqrt(exact))} more would do"
        raise StrategyError(
            f"the grid is too coarse for the noise: a share must have a standard deviation of at least {LEAST_STD:g} "
            f"grid units; found {math.sqrt(exact):.3g}.{more or ' Give a noise multiplier and a sensitivity above 0'}"
        )
    if exact > LARGEST_NUMERATOR:
        raise StrategyError(
            f"a share's variance must be at most 2^47 in squared grid units; found {float(exact):.3g}: "
            f"take {_doublings(math.sqrt(exact / LARGEST_NUMERATOR))} fewer"
        )
    return math.ceil(exact)


def grid_sensitivity(sensitivity: float, dimension: int, rounding: str, alone: bool = True) -> float:
    """How far one unit can move the rounded integers in L2, in units of the grid.

    With D the same before rounding, d the dimension, x what is rounded with the unit and y without it: an entry of
    round(x) - x is at most 1/2 to nearest and below 1 by chance, hence sqrt(d) times that in L2.

        the unit is all that an office rounds (`alone`): y = 0 is on the grid,   D + sqrt(d) / 2 or D + sqrt(d)
        it is a part of a sum that is rounded: both x and y move,                D + sqrt(d)

    The second holds by chance too, where it would be twice that: who rounds both with the same chance c has
    |floor(x + c) - floor(y + c)| < |x - y| + 1, and a mixture over c is no easier to tell than its worst c.

    Args:
        sensitivity: D, in units of the grid.
        rounding: `nearest` or `stochastic`.

    Raises:
        StrategyError: rounding would add more than a tenth (at 80,582 weights and D = 2^(bits-1): below 12 bits).
    """
    check_range("sensitivity", sensitivity, 0)
    check_range("dimension", dimension, 1)
    check_choice("rounding", rounding, ROUNDINGS)
    added = math.sqrt(dimension) * (0.5 if alone and rounding == "nearest" else 1.0)
    if added > LARGEST_GROWTH * sensitivity:
        found = f"{added / sensitivity:.2g} of it" if sensitivity else "it to a sensitivity of 0"
        more = f"take {_doublings(added / (LARGEST_GROWTH * sensitivity))} more" if sensitivity else "raise the clip"
        raise StrategyError(
            f"the grid is too coarse: rounding {dimension} entries ({rounding}) may add at most {LARGEST_GROWTH:g} of "
            f"the sensitivity; found {added:.4g} grid units, {found}: {more}"
        )
    return sensitivity + added


def share_bound(variance: int) -> int:
    """ceil(10 s), where a share is clamped: what an office adds to it, so that no share is negative.

    Of a sum of K independent shares the same at K times the variance: its tail is no heavier.
    """
    return math.isqrt(TAIL**2 * variance - 1) + 1


def _doublings(factor: float) -> str:
    """Bits that make a grid finer by a factor."""
    count = max(1, math.ceil(math.log2(factor)))
    return f"{count} bit{'s' * (count > 1)}"


def _draw(stream: NoiseStream, out: NDArray[np.int64], each: int, compiled: Callable[..., Any], *numbers: int) -> None:
    """Fill `out` by compiled code that reads 64-bit words, some `each` of them an entry.

    Where it runs out of words within an entry, that entry is drawn again from its own first word on, with more behind
    it. To drop those words would favour what takes few.
    """
    denominator = numbers[-1]
    cells = np.array([(1 << _UNIFORM) // (denominator * k) for k in range(1, 33)], np.int64)
    words, kept, done = np.empty(min(_BLOCK, each * len(out) + 64), np.int64), 0, 0
    while done < len(out):
        stream.fill(words[kept:].view(np.uint32))
        made, read = compiled(words, out[done:], cells, *numbers)
        rest = words[read:]
        if not read:  # an entry longer than all words
            words = np.empty(2 * len(words), np.int64)
        words[: len(rest)] = rest
        done, kept = done + made, len(rest)


# Compiled, from the inside out. Each reads `words` from position `at` and returns where it stopped; beyond the end it
# returns False, and a position beyond the end, which its callers look at before they believe anything.
_i8, _flag = types.int64, types.boolean
_words = types.int64[::1]
_coin = types.Tuple((_flag, _i8))  # type: ignore[no-untyped-call]
_read = types.Tuple((_i8, _i8))  # type: ignore[no-untyped-call]


@njit([_coin(_words, _i8, _words, _i8, _i8)], cache=True, error_model="numpy")
def _below_one(words: Any, at: int, cells: Any, a: int, b: int) -> Any:
    """A coin of exp(-a/b), 0 <= a <= b: Algorithm 1. cells[k-1] = floor(2^62 / (b k))."""
    k, odd = 0, False
    while True:
        k, odd = k + 1, not odd
        cell = cells[k - 1] if k <= len(cells) else (1 << _UNIFORM) // (b * k)
        uniform = limit = cell * b * k
        while uniform >= limit:
            if at >= len(words):
                return False, at + 1
            uniform = words[at] & _ALL
            at += 1
        if uniform >= a * cell:  # the coin of a / (b k) fails
            return odd, at


@njit([_coin(_words, _i8, _words, _i8, _i8)], cache=True, error_model="numpy")
def _exponential(words: Any, at: int, cells: Any, a: int, b: int) -> Any:
    """A coin of exp(-a/b), a >= 0."""
    while a > b:
        true, at = _below_one(words, at, cells, b, b)
        if not true:
            return False, at
        a -= b
    return _below_one(words, at, cells, a, b)


@njit([_read(_words, _words, _words, _i8, _i8)], cache=True, error_model="numpy")
def _exponentials(words: Any, out: Any, cells: Any, a: int, b: int) -> Any:
    """How many coins (0 or 1) were written, and how many words they took."""
    at = 0
    for i in range(len(out)):
        true, stop = _exponential(words, at, cells, a, b)
        if stop > len(words):
            return i, at
        out[i] = 1 if true else 0
        at = stop
    return len(out), at


@njit([_read(_words, _words, _words, _i8, _i8, _i8)], cache=True, error_model="numpy")
def _samples(words: Any, out: Any, cells: Any, t: int, m: int, b: int) -> Any:
    """How many samples of variance b / (2 m) were written, and how many words they took."""
    step = t * t * m
    cell = (1 << _UNIFORM) // t
    at = 0
    for i in range(len(out)):
        start = at
        while True:
            if at >= len(words):
                return i, start
            k = 0
            true, at = _exponential(words, at, cells, step, b)
            while true:
                k += 1
                true, at = _exponential(words, at, cells, step, b)
            true = True
            for _ in range(k * (k - 1)):
                true, at = _exponential(words, at, cells, step, b)
                if not true:
                    break
            if not true:
                continue
            word, uniform = 0, cell * t
            while uniform >= cell * t and at < len(words):
                word = words[at]
                uniform = word & _ALL
                at += 1
            u = uniform // cell
            true, at = _exponential(words, at, cells, u * (2 * t * k + u) * m, b)
            if not true or at > len(words):
                continue
            z = t * k + u
            if word < 0:  # the top bit, which `uniform` has not
                if z == 0:
                    continue
                z = -z
            out[i] = z
            break
    return len(out), at
