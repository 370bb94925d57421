"""Powers modulo a square, by arithmetic modulo its root, against Python's own."""

from __future__ import annotations

from math import gcd

import pytest
from gmpy2 import mpz, powmod
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.crypto.paillier.powers import FixedBase, _from_limbs, _limbs, best_window, fixed_exponent
from tests.strategies.crypto.committed_test_primes import committed_key


def _odd(bits: int) -> st.SearchStrategy[int]:
    """Odd numbers of so many bits: all ones, 10...01, a single zero, random."""
    top = 1 << (bits - 1)
    zero = st.integers(1, bits - 2).map(lambda i: 2 * top - 1 - (1 << i))
    return st.one_of(st.just(2 * top - 1), st.just(top + 1), zero, st.integers(top, 2 * top - 1).map(lambda p: p | 1))


def _check(bases: list[int], exponent: int, modulus: int) -> None:
    powers = fixed_exponent([mpz(base) for base in bases], mpz(exponent), mpz(modulus))
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
@given(bits=st.integers(401, 5000), exponent=st.integers(1, 2**40), data=st.data())
def test_pythons_powers_of_long_numbers(bits: int, exponent: int, data: st.DataObject) -> None:
    modulus = data.draw(_odd(bits))
    _check([modulus**2 - 1, modulus - 1, data.draw(st.integers(0, modulus**2))], exponent, modulus)


@pytest.mark.parametrize("modulus", [3, 5, 2**28 - 1, 2**28 + 1, 2**80 - 1, 2**81 - 1, 2**2208 - 1, 2**5000 - 1])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 7, 8, 9])
def test_any_number_of_bases(modulus: int, count: int) -> None:
    """2^80 - 1 fills four limbs, with the spare bits, 2^2208 - 1 the eighty after which carries are propagated."""
    _check([modulus**2 - 1 - 7 * i for i in range(count)], 11, modulus)


def test_every_short_exponent() -> None:
    for exponent in range(1, 301):
        _check([2, 2**64 + 1, 10**30], exponent, 2**61 - 1)


@pytest.mark.parametrize("bits", [64, 127, 512, 1024, 1536, 2048, 2208, 3072])
def test_whole_exponents(bits: int) -> None:
    modulus = mpz(2**bits - 2 ** (bits // 3) + 1)
    bases = [modulus**2 - 1, powmod(3, 10**9, modulus**2), mpz(2), mpz(0), mpz(2 ** (2 * bits + 9) - 1)]
    for exponent in (modulus - 1, mpz(2 ** (bits - 1))):
        assert [t + r * modulus for t, r in fixed_exponent(bases, exponent, modulus)] == [
            powmod(base, exponent, modulus**2) for base in bases
        ]


def test_a_primes_own_exponent() -> None:
    key = committed_key("safe-3072")
    for p in (key.p, key.q):
        bases = [powmod(3, 10**9 + i, p * p) for i in range(6)]
        powers = fixed_exponent(bases, p - 1, p)
        assert {t for t, _ in powers} == {1}  # Fermat
        assert [t + r * p for t, r in powers] == [powmod(base, p - 1, p * p) for base in bases]


@pytest.mark.parametrize(("exponent", "modulus"), [(0, 9), (-1, 9), (3, 8), (3, 1), (3, 0), (3, -3)])
def test_what_does_not_fit_is_refused(exponent: int, modulus: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        fixed_exponent([mpz(2)], mpz(exponent), mpz(modulus))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(n=st.sampled_from([4, 8, 56]), data=st.data())
def test_limbs_give_the_number_back(n: int, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, 2 ** (28 * n) - 1), min_size=1, max_size=5))
    limbs = _limbs([mpz(number) for number in numbers], n)
    assert limbs.max() <= 2**28 - 1
    assert [sum(int(limb) << 28 * i for i, limb in enumerate(row)) for row in limbs] == numbers
    assert _from_limbs(limbs) == numbers


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    modulus=st.integers(1, 2**80).map(lambda half: 2 * half + 1),
    base=st.integers(1, 2**160),
    bits=st.integers(1, 70),
    expected=st.integers(1, 5000),
    data=st.data(),
)
def test_tables_give_pythons_powers(modulus: int, base: int, bits: int, expected: int, data: st.DataObject) -> None:
    base %= modulus**2
    while gcd(base, modulus) != 1:
        base += 1
    exponents = [*data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=4)), 0, 2**bits - 1]
    table = FixedBase(mpz(base % modulus**2), mpz(modulus), bits, expected)
    assert table.powers(exponents) == [pow(base, e, modulus**2) for e in exponents]
    for bad in (-1, 2**bits):
        with pytest.raises(ValueError, match=f"exponents of {bits} bits"):
            table.powers([bad])


def test_windows_grow_with_the_work() -> None:
    """Up to 160,000 entries a table: 70 MB at 1536 bits."""
    for bits, widest in ((1535, 10), (449, 12), (256, 12), (5, 5)):
        widths = [best_window(bits, expected) for expected in (1, 100, 1_000, 10_000, 10**9)]
        assert widths == sorted(widths)
        assert widths[0] <= 2
        assert widths[-1] == widest
