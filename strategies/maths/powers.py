"""Powers modulo the square of a number M, by arithmetic modulo M: half as long, and faster for it.

A number mod M^2 is a pair (t, r) of numbers below M, t + r M. A product of two is

    (t1 + r1 M) (t2 + r2 M) = t1 t2 + (t1 r2 + r1 t2) M = t + (t1 r2 + r1 t2 + k) M      where t1 t2 = t + k M

so that nothing longer than M is ever multiplied, and nothing longer than M^2 reduced. Two ways to use it:

    fixed_exponent    many bases and one exponent, as Paillier's decryption has (done in `lanes`)
    FixedBase         one base and many exponents, as its obfuscators have

Neither takes constant time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gmpy2 import f_divmod, invert, mpz, powmod
from numpy.typing import NDArray


def fixed_exponent(bases: Sequence[mpz], exponent: mpz, modulus: mpz) -> list[tuple[mpz, mpz]]:
    """(t, r) of base^exponent = t + r M mod M^2, for each base.

    Odd moduli of up to `lanes.LARGEST` bits, as the primes of a key, take four bases at a time in compiled code; for
    others it is gmpy2's powmod.

    Args:
        bases: integers >= 0.
        exponent: at least 1.
        modulus: M, at least 2.
    """
    from strategies.maths import lanes  # numba's half second and 100 MB are for those who decrypt

    if modulus % 2 and modulus.bit_length() <= lanes.LARGEST:
        return lanes.powers(bases, exponent, modulus)
    square = modulus**2
    return [(t, r) for r, t in (f_divmod(powmod(base, exponent, square), modulus) for base in bases)]


class FixedBase:
    """base^e mod M^2 for one base and many exponents e, from tables of numbers below M alone.

    Every unit mod M^2 is t (1 + M s) with t and s in [0, M), and products are

        t1 (1 + M s1) t2 (1 + M s2) = t (1 + M (s1 + s2 + k / t))    where t1 t2 = t + k M

    With e = sum_j d_j 2^(w j) and base^(d 2^(w j)) = t_jd (1 + M s_jd) in tables,

        base^e = (prod_j t_jd_j mod M^2) (1 + M sum_j s_jd_j)

    so a step is one product by a number half as long as the modulus and an addition, and nothing is ever squared
    (windows of a fixed base: Brickell, Gordon, McCurley, Wilson, EUROCRYPT 1992). The s_jd have to be stored: only
    without the reductions mod M would they be multiples of each other.

    Args:
        base: a unit mod M^2.
        modulus: M.
        bits: length of the exponents.
        expected: how many powers the tables are made for; chooses the window w.
    """

    def __init__(self, base: mpz, modulus: mpz, bits: int, expected: int) -> None:
        self._modulus, self._square, self._bits = modulus, modulus**2, bits
        self.window = best_window(bits, expected)
        rows = -(-bits // self.window)
        self._size = -(-int(modulus.bit_length()) // 32) * 4  # bytes of a number below M
        self._t: list[list[mpz]] = []
        self._s = np.empty((rows, 1 << self.window, self._size // 4), "<u4")  # in 32-bit limbs, lowest first
        r, t = f_divmod(base, modulus)
        inverse = invert(t, modulus)  # base = t + r M = t (1 + M r / t)
        s = r * inverse % modulus
        for row in range(rows):
            t, s, inverse = self._fill(row, t, s, inverse)

    def powers(self, exponents: Sequence[int]) -> list[mpz]:
        """base^e mod M^2 of exponents in [0, 2^bits)."""
        modulus, square = self._modulus, self._square
        digits = self._split(exponents)
        # All exponents go through a row together, two rows at a time: a row stays in the cache, and x (t u) costs two
        # products and one reduction instead of two and two.
        products = [mpz(1)] * len(exponents)
        for row in range(0, len(digits) - 1, 2):
            ts, us, choices = self._t[row], self._t[row + 1], digits[row : row + 2].T.tolist()
            products = [ts[d] * us[e] * x % square for x, (d, e) in zip(products, choices, strict=True)]
        if len(digits) % 2:
            products = [self._t[-1][d] * x % square for x, d in zip(products, digits[-1].tolist(), strict=True)]
        sums = np.zeros((len(exponents), self._size // 4), np.uint64)  # each limb stays below 2^32 rows
        for ss, chosen in zip(self._s, digits, strict=True):
            sums += ss[chosen]
        found = []
        for x, s in zip(products, self._numbers(sums), strict=True):
            power = x + modulus * (x * s % modulus)  # x (1 + M s) mod M^2
            found.append(power - square if power >= square else power)
        return found

    def _fill(self, row: int, t: mpz, s: mpz, inverse: mpz) -> tuple[mpz, mpz, mpz]:
        """A row b^0 ... b^(2^w - 1) of b = t (1 + M s), inverse = 1 / t; the same three of b^(2^w)."""
        modulus, size = self._modulus, self._size
        ts, ss = [], memoryview(self._s[row]).cast("B")
        u, sigma, over = mpz(1), mpz(0), mpz(1)
        for start in range(0, len(ss), size):
            ts.append(u)  # nothing else is kept on the heap, so that a row's numbers lie side by side
            ss[start : start + size] = sigma.to_bytes(size, "little")
            k, u = f_divmod(u * t, modulus)
            over = over * inverse % modulus  # 1 / u
            sigma = (sigma + s + k * over) % modulus
        self._t.append(ts)
        return u, sigma, over

    def _numbers(self, limbs: NDArray[np.uint64]) -> list[mpz]:
        """Integers of limbs that count 2^32 each but may hold more."""
        low, high = (limbs & 0xFFFFFFFF).astype("<u4"), (limbs >> np.uint64(32)).astype("<u4")
        number = mpz.from_bytes
        return [
            number(a.tobytes(), "little") + (number(b.tobytes(), "little") << 32)
            for a, b in zip(low, high, strict=True)
        ]

    def _split(self, exponents: Sequence[int]) -> NDArray[np.uint16]:
        """Digits base 2^w, one row a place, lowest first, and one column an exponent."""
        if any(not 0 <= e < 1 << self._bits for e in exponents):
            raise ValueError(f"these tables are for exponents of {self._bits} bits, none negative")
        places, w = len(self._t), self.window
        size = -(-places * w // 8)
        octets = np.frombuffer(b"".join(int(e).to_bytes(size, "little") for e in exponents), np.uint8)
        bits = np.unpackbits(octets.reshape(-1, size), axis=1, bitorder="little")[:, : places * w]
        digits = bits.reshape(-1, places, w) @ (1 << np.arange(w, dtype=np.uint16))
        return np.ascontiguousarray(digits.T)


def best_window(bits: int, expected: int) -> int:
    """Width w of the least work: ceil(bits / w) rows, each 2^w entries to make and a step for every power."""

    def rows(w: int) -> int:
        return -(-bits // w)

    fitting = [w for w in range(1, 1 + min(bits, 16)) if rows(w) << w <= _LARGEST]
    return min(fitting, key=lambda w: rows(w) * (_ENTRY_STEPS * 2**w + expected))


_ENTRY_STEPS = 2.5  # an entry costs as much as so many steps: measured
_LARGEST = 160_000  # entries in a table: 70 MB for a prime of 1536 bits
