"""Powers modulo a square, by arithmetic modulo its root, against Python's own."""

from __future__ import annotations

from math import gcd

import pytest
from gmpy2 import mpz, powmod
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.maths.lanes import LARGEST
from strategies.maths.powers import FixedBase, best_window, fixed_exponent
from tests.strategies.committed_test_primes import committed_key


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    modulus=st.integers(2, 2**80),
    bases=st.lists(st.integers(0, 2**200), max_size=4),
    exponent=st.integers(1, 2**90),
)
def test_one_exponent_gives_pythons_powers(modulus: int, bases: list[int], exponent: int) -> None:
    """Bases with factors in common with the modulus too, and longer than its square."""
    powers = fixed_exponent([mpz(base) for base in bases], mpz(exponent), mpz(modulus))
    assert all(0 <= t < modulus and 0 <= r < modulus for t, r in powers)
    assert [t + r * modulus for t, r in powers] == [pow(base, exponent, modulus**2) for base in bases]


@pytest.mark.parametrize("modulus", [2, 1 << 70, 3 << 2500, (1 << LARGEST) + 1])
def test_what_lanes_do_not_take_gives_pythons_powers(modulus: int) -> None:
    bases = [0, 1, modulus - 1, modulus**2 - 1, modulus**2 + 5]
    for exponent in (1, 2, 97):
        powers = fixed_exponent([mpz(base) for base in bases], mpz(exponent), mpz(modulus))
        assert all(0 <= t < modulus and 0 <= r < modulus for t, r in powers)
        assert [t + r * modulus for t, r in powers] == [pow(base, exponent, modulus**2) for base in bases]


def test_one_exponent_at_full_size() -> None:
    key = committed_key("safe-3072")
    for p in (key.p, key.q):
        base = powmod(3, 10**9, p * p)
        ((t, r),) = fixed_exponent([base], p - 1, p)
        assert t == 1  # Fermat
        assert t + r * p == powmod(base, p - 1, p * p)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    modulus=st.integers(3, 2**80),
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
