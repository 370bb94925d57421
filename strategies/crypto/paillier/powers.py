"""Powers modulo the square of an odd number M, by arithmetic modulo M: half as long, and with four at a time.

A number mod M^2 is a pair (t, r) of numbers below M, t + r M. A product of two is

    (t1 + r1 M) (t2 + r2 M) = t1 t2 + (t1 r2 + r1 t2) M = t + (t1 r2 + r1 t2 + k) M      where t1 t2 = t + k M

so that nothing longer than M is ever multiplied, and nothing longer than M^2 reduced. `lanes` does it, in its own form,
to four numbers at once. Two ways to use it:

    fixed_exponent    many bases and one exponent, as Paillier's decryption has
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

    Args:
        bases: integers >= 0 of any length. Four take as long as one.
        exponent: at least 1.
        modulus: M, odd, at least 3.

    Raises:
        ValueError: exponent or modulus are not such.
    """
    if exponent < 1:
        raise ValueError(f"the exponent must be at least 1; found {exponent}")
    root = _Root(modulus)
    width = _best_width(int(exponent.bit_length()))
    lanes = root.enter(bases)
    root.code.raise_all(lanes, root.y, _windows(exponent, width), 1 << (width - 1))
    return [(t, r) for r, t in (f_divmod(power, modulus) for power in root.leave(lanes, len(bases), root.inverse))]


def _best_width(bits: int) -> int:
    """Of sliding windows, for the fewest products: 2^(w-1) odd powers, and a window each w + 1 bits."""
    return min(range(1, 11), key=lambda w: 2 ** (w - 1) + bits / (w + 1))


def _windows(exponent: mpz, width: int) -> NDArray[np.int64]:
    """The steps of `lanes.raise_all`: sliding windows from the highest bit on (Handbook of Applied Cryptography,
    algorithm 14.85)."""
    bits = bin(exponent)[2:]
    steps: list[tuple[int, int]] = []
    squarings, i = 0, 0
    while i < len(bits):
        if bits[i] == "0":
            squarings, i = squarings + 1, i + 1
            continue
        window = bits[i : i + width].rstrip("0")
        steps.append((squarings + len(window), int(window, 2) >> 1))
        squarings, i = 0, i + len(window)
    return np.array([*steps, (squarings, -1)], np.int64)


class _Root:
    """M as `lanes` takes it, and the ways there and back."""

    def __init__(self, modulus: mpz) -> None:
        from strategies.crypto.paillier import lanes  # numba: half a second and 70 MB

        if not (modulus > 2 and modulus % 2):
            raise ValueError("the modulus must be odd and at least 3")  # which is a secret: not shown
        self.code = lanes
        self.square = modulus**2
        size = int(modulus.bit_length()) + lanes.BITS + 4  # so that R >= 16 big
        self.n = -(-size // (4 * lanes.BITS)) * 4  # limbs are taken in fours
        self.r = mpz(1) << lanes.BITS * self.n
        self.inverse = invert(self.r, self.square)
        self.big = modulus * (-invert(modulus, 1 << lanes.BITS) % (1 << lanes.BITS))  # the M of `lanes`
        self.y = np.repeat(_limbs([(self.big + 1) >> lanes.BITS], self.n).T, lanes.LANES, axis=1)

    def enter(self, numbers: Sequence[mpz]) -> NDArray[np.uint64]:
        """Pairs of numbers times R, side by side."""
        width, n = self.code.LANES, self.n
        pairs = [f_divmod(number * self.r % self.big**2, self.big) for number in numbers]
        lanes = np.zeros((-(-len(pairs) // width) * width, 2 * n), np.uint64)
        lanes[: len(pairs), :n] = _limbs([t for _, t in pairs], n)
        lanes[: len(pairs), n:] = _limbs([-q % self.big for q, _ in pairs], n)
        return np.ascontiguousarray(lanes.reshape(-1, width, 2 * n).transpose(0, 2, 1)).reshape(-1, width)

    def leave(self, lanes: NDArray[np.uint64], count: int, factor: mpz) -> list[mpz]:
        """The first `count` pairs as numbers, times a factor, in [0, M^2)."""
        n = self.n
        limbs = lanes.reshape(-1, 2 * n, self.code.LANES).transpose(0, 2, 1).reshape(-1, 2 * n)[:count]
        pairs = zip(_from_limbs(limbs[:, :n]), _from_limbs(limbs[:, n:]), strict=True)
        return [(t - s * self.big) * factor % self.square for t, s in pairs]


def _limbs(numbers: Sequence[mpz], n: int) -> NDArray[np.uint64]:
    """Limbs (len(numbers), n) of 28 bits, as `lanes` has them, lowest first, of numbers in [0, 2^(28 n)); n is even."""
    octets = np.zeros((len(numbers), n // 2, 8), np.uint8)  # two limbs are seven bytes
    joined = b"".join(number.to_bytes(n // 2 * 7, "little") for number in numbers)
    octets[..., :7] = np.frombuffer(joined, np.uint8).reshape(-1, n // 2, 7)
    two = octets.view("<u8")  # (len(numbers), n / 2, 1)
    return np.concatenate([two & np.uint64(2**28 - 1), two >> np.uint64(28)], axis=2).reshape(-1, n)


def _from_limbs(limbs: NDArray[np.uint64]) -> list[mpz]:
    """The inverse of `_limbs`."""
    two = limbs[:, ::2] | limbs[:, 1::2] << np.uint64(28)
    octets = np.ascontiguousarray(two.astype("<u8", copy=False)).view(np.uint8).reshape(*two.shape, 8)[..., :7]
    return [mpz.from_bytes(number.tobytes(), "little") for number in octets]


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
        modulus: M, odd, at least 3.
        bits: length of the exponents.
        expected: how many powers the tables are made for; chooses the window w.
    """

    def __init__(self, base: mpz, modulus: mpz, bits: int, expected: int) -> None:
        self._modulus, self._square, self._bits = modulus, modulus**2, bits
        self.window = best_window(bits, expected)
        rows = -(-bits // self.window)
        self._size = -(-int(modulus.bit_length()) // 32) * 4  # bytes of a number below M
        self._root = _Root(modulus)
        self._t = np.empty((rows, 1 << self.window, self._root.n), np.uint32)  # in limbs, as `lanes` has them
        self._s = np.empty((rows, 1 << self.window, self._size // 4), "<u4")  # in 32-bit limbs, lowest first
        self._start = powmod(self._root.r, rows - 1, self._square)  # a row divides by R, `enter` has multiplied by it
        r, t = f_divmod(base, modulus)
        inverse = invert(t, modulus)  # base = t + r M = t (1 + M r / t)
        s = r * inverse % modulus
        for row in range(rows):
            t, s, inverse = self._fill(row, t, s, inverse)

    def powers(self, exponents: Sequence[int]) -> list[mpz]:
        """base^e mod M^2 of exponents in [0, 2^bits)."""
        modulus, square, root = self._modulus, self._square, self._root
        digits = self._split(exponents)
        products = root.enter([self._start] * len(exponents))
        chosen = np.zeros((len(digits), products.size // (2 * root.n)), np.uint16)
        chosen[:, : len(exponents)] = digits
        root.code.multiply_chosen(products, root.y, self._t, chosen)
        sums = np.zeros((len(exponents), self._size // 4), np.uint64)  # each limb stays below 2^32 rows
        for ss, row in zip(self._s, digits, strict=True):
            sums += ss[row]
        found = []
        for x, s in zip(root.leave(products, len(exponents), mpz(1)), self._numbers(sums), strict=True):
            power = x + modulus * (x * s % modulus)  # x (1 + M s) mod M^2
            found.append(power - square if power >= square else power)
        return found

    def _fill(self, row: int, t: mpz, s: mpz, inverse: mpz) -> tuple[mpz, mpz, mpz]:
        """A row b^0 ... b^(2^w - 1) of b = t (1 + M s), inverse = 1 / t; the same three of b^(2^w)."""
        modulus, size = self._modulus, self._size
        ts, ss = [], memoryview(self._s[row]).cast("B")
        u, sigma, over = mpz(1), mpz(0), mpz(1)
        for start in range(0, len(ss), size):
            ts.append(u)
            ss[start : start + size] = sigma.to_bytes(size, "little")
            k, u = f_divmod(u * t, modulus)
            over = over * inverse % modulus  # 1 / u
            sigma = (sigma + s + k * over) % modulus
        self._t[row] = _limbs(ts, self._root.n)
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


_ENTRY_STEPS = 7  # an entry costs as much as so many steps: measured
_LARGEST = 160_000  # entries in a table: 70 MB for a prime of 1536 bits
