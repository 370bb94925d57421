"""Powers in lanes against Python's own, and the compiled columns against whole numbers, where carries are longest."""

from __future__ import annotations

import numpy as np
import pytest
from gmpy2 import mpz, powmod
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.maths import lanes
from tests.strategies.committed_test_primes import committed_key

ONES = 2**28 - 1


def _odd(bits: int) -> st.SearchStrategy[int]:
    """Odd numbers of so many bits: all ones, 10...01, a single zero, random."""
    top = 1 << (bits - 1)
    zero = st.integers(1, bits - 2).map(lambda i: 2 * top - 1 - (1 << i))
    return st.one_of(st.just(2 * top - 1), st.just(top + 1), zero, st.integers(top, 2 * top - 1).map(lambda p: p | 1))


def _check(bases: list[int], exponent: int, modulus: int) -> None:
    powers = lanes.powers([mpz(base) for base in bases], mpz(exponent), mpz(modulus))
    assert all(0 <= t < modulus and 0 <= r < modulus for t, r in powers)
    assert [t + r * modulus for t, r in powers] == [pow(base, exponent, modulus**2) for base in bases]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(bits=st.integers(3, 400), data=st.data())
def test_pythons_powers(bits: int, data: st.DataObject) -> None:
    modulus = data.draw(_odd(bits))
    square = modulus**2
    extreme = [0, 1, modulus - 1, modulus, square - modulus, square - 1, square, 2 ** (3 * bits) - 1]
    base = st.sampled_from(extreme) | st.integers(0, square - 1)
    bases = data.draw(st.lists(base, max_size=9))
    _check(bases, data.draw(st.integers(1, 300) | st.integers(1, 2**bits)), modulus)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(bits=st.integers(401, lanes.LARGEST), exponent=st.integers(1, 2**40), data=st.data())
def test_pythons_powers_of_long_numbers(bits: int, exponent: int, data: st.DataObject) -> None:
    modulus = data.draw(_odd(bits))
    _check([modulus**2 - 1, modulus - 1, data.draw(st.integers(0, modulus**2))], exponent, modulus)


@pytest.mark.parametrize("modulus", [3, 5, 2**28 - 1, 2**28 + 1, 2**80 - 1, 2**81 - 1, 2**lanes.LARGEST - 1])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 7, 8, 9])
def test_any_number_of_bases(modulus: int, count: int) -> None:
    """2^80 - 1 fills the limbs that four make, beside the spare bits; 2^81 - 1 needs the next four."""
    _check([modulus**2 - 1 - 7 * i for i in range(count)], 11, modulus)


def test_every_short_exponent() -> None:
    for exponent in range(1, 301):
        _check([2, 2**64 + 1, 10**30], exponent, 2**61 - 1)


@pytest.mark.parametrize("bits", [64, 127, 512, 1024, 1536, 2048, lanes.LARGEST])
def test_whole_exponents(bits: int) -> None:
    modulus = mpz(2**bits - 2 ** (bits // 3) + 1)
    bases = [modulus**2 - 1, powmod(3, 10**9, modulus**2), mpz(2), mpz(0), mpz(2 ** (2 * bits + 9) - 1)]
    for exponent in (modulus - 1, mpz(2**bits - 1), mpz(2 ** (bits - 1))):
        assert [t + r * modulus for t, r in lanes.powers(bases, exponent, modulus)] == [
            powmod(base, exponent, modulus**2) for base in bases
        ]


def test_a_primes_own_exponent() -> None:
    key = committed_key("safe-3072")
    for p in (key.p, key.q):
        bases = [powmod(3, 10**9 + i, p * p) for i in range(6)]
        powers = lanes.powers(bases, p - 1, p)
        assert {t for t, _ in powers} == {1}  # Fermat
        assert [t + r * p for t, r in powers] == [powmod(base, p - 1, p * p) for base in bases]


@pytest.mark.parametrize(
    ("exponent", "modulus"), [(0, 9), (-1, 9), (3, 8), (3, 1), (3, 0), (3, -3), (3, 2**lanes.LARGEST + 1)]
)
def test_what_does_not_fit_is_refused(exponent: int, modulus: int) -> None:
    with pytest.raises(ValueError, match=f"odd modulus of 2 to {lanes.LARGEST} bits and an exponent of at least 1"):
        lanes.powers([mpz(2)], mpz(exponent), mpz(modulus))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(n=st.sampled_from([4, 8, 56]), data=st.data())
def test_limbs_give_the_number_back(n: int, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, 2 ** (28 * n) - 1), min_size=1, max_size=5))
    limbs = lanes._limbs([mpz(number) for number in numbers], n)
    assert limbs.max() <= ONES
    assert [sum(int(limb) << 28 * i for i, limb in enumerate(row)) for row in limbs] == numbers
    assert lanes._numbers(limbs) == numbers


@settings(max_examples=60, deadline=None, derandomize=True)
@given(n=st.sampled_from([4, 8, 56, 84]), seed=st.integers(0, 2**32), square=st.booleans())
def test_columns_hold_the_largest_sums(n: int, seed: int, square: bool) -> None:
    """Limbs all ones, or nearly, as no pair of a modulus has them: sums come within a fraction of 2^64 at 84 limbs."""
    rng = np.random.default_rng(seed)

    def limbs(lanes: int = 4) -> np.ndarray:
        ones = rng.random((2 * n, lanes)) < rng.choice([1.0, 0.97, 0.5])
        return np.where(ones, ONES, rng.integers(0, ONES + 1, (2 * n, lanes))).astype(np.uint64)

    def number(column: np.ndarray) -> int:
        return sum(int(limb) << 28 * i for i, limb in enumerate(column))

    w = np.zeros((9 * n, 4), np.uint64)
    w[: n - 1] = limbs(1)[: n - 1]
    w[5 * n : 7 * n], w[7 * n :] = limbs(), limbs()
    before = w.copy()
    if square:
        lanes._square(w, 5 * n, n)
    else:
        lanes._multiply(w, 5 * n, 7 * n, n)
    big, whole = (number(w[:n, 0]) << 28) - 1, 1 << 28 * n
    for lane in range(4):
        t1, s1, t2, s2 = (number(before[i * n : (i + 1) * n, lane]) for i in (5, 6, 7, 8))
        if square:
            t2, s2 = t1, s1
        m = t1 * t2 * pow(-big, -1, whole) % whole
        cross = t1 * s2 + t2 * s1 + m
        assert number(w[5 * n : 6 * n, lane]) == (t1 * t2 + m * big) // whole % whole
        m = cross * pow(-big, -1, whole) % whole
        assert number(w[6 * n : 7 * n, lane]) == (cross + m * big) // whole % whole
