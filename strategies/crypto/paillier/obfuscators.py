"""Obfuscators: the n-th residues mod n^2 that hide Paillier's plaintexts, made from tables instead of powers.

For gcd(n, (p-1)(q-1)) = 1 the n-th residues mod p^2 are a cyclic group of order p - 1, one for each unit mod p (the
Teichmueller lifts x^p mod p^2), alike mod q^2; textbook's o = r^n with r uniform over the units mod n is uniform over
both and independent between them. Four ways to make them:

    textbook    r^n mod n^2, the slow reference
    full        g_p^e mod p^2 and g_q^f mod q^2 from tables, combined by the Chinese remainder theorem; e and f
                independent, each uniform over the whole order of its g: exactly textbook's distribution (below)
    short       h_s^e, h_s = (-x^2)^n mod n^2 for a random x, e of 256 bits, mod p^2 and mod q^2 likewise
    djn         h_s^e mod n^2 with the public key alone, e of |n| / 2 bits
                (Damgard, Jurik, Nielsen: A generalization of Paillier's public-key system with applications to
                electronic voting, International Journal of Information Security 9, 2010)

`full` is textbook's distribution under four conditions, checked when its tables are made: gcd(n, (p-1)(q-1)) = 1;
the order of g is p - 1, which takes the factors of p - 1; e and f are independent (a common exponent reaches half of
the group at most, since both orders are even); each is uniform below its order. With a subgroup key the orders are 2a
and 2b: `full` is then uniform over the whole of a subgroup instead.

`short` has Jacobi symbol +1 always, as has djn; of textbook's obfuscators half have -1.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from gmpy2 import gcd, invert, is_prime, mpz, powmod, powmod_base_list

from strategies.base import check_choice
from strategies.crypto.paillier.cryptosystem import PaillierError, PrivateKey, PublicKey
from strategies.crypto.paillier.powers import FixedBase

OBFUSCATORS = ("full", "djn", "short", "textbook")
SHORT_BITS = 256  # twice the security level of a 3072-bit modulus
EXPECTED = 2_000  # obfuscators that tables are made for, unless told: some five updates of the benchmark

_ASSUMPTIONS = {
    "full": "decisional composite residuosity; exactly textbook's distribution",
    "djn": "decisional composite residuosity, and factoring (half-length exponents)",
    "short": "decisional composite residuosity, and discrete logarithms of 256 bits mod n^2 (best attack known: 2^128)",
    "textbook": "decisional composite residuosity",
    "subgroup": "decisional composite residuosity in a hidden subgroup with primes of 448 bits in its order mod p and "
    "mod q (best attack known: factoring n)",
}


def assumption(obfuscator: str, kind: str = "safe") -> str:
    """What the secrecy of plaintexts rests on, in one line for tables."""
    check_choice("obfuscator", obfuscator, OBFUSCATORS)
    return _ASSUMPTIONS["subgroup" if (obfuscator, kind) == ("full", "subgroup") else obfuscator]


Make = Callable[[int], list[mpz]]  # so many new obfuscators, in [1, n^2); no two calls give related ones


def build(name: str, key: PrivateKey, expected: int = EXPECTED) -> Make:
    """Make tables for `expected` obfuscators (more work now, less for each), or refuse what the key does not fit."""
    check_fit(name, key)
    if name == "full":
        return Full(key, expected).make
    if name == "short":
        return Short(key, expected).make
    n, square = key.public.n, key.public.square
    if name == "textbook":
        return lambda count: list(powmod_base_list([_unit(n) for _ in range(count)], n, square))
    bits = -(-n.bit_length() // 2)
    table = FixedBase(_residue(key.public), n, bits, expected)
    return lambda count: table.powers([secrets.randbits(bits) for _ in range(count)])


def check_fit(name: str, key: PrivateKey) -> None:
    """Refuse an obfuscator that needs more than this key gives, or less than its kind promises."""
    check_choice("obfuscator", name, OBFUSCATORS)
    if name == "full" and key.kind == "plain":
        raise PaillierError(
            "full obfuscators need the factors of p - 1 and q - 1, to verify that their bases reach the whole group: "
            "make a safe or subgroup key, or take djn or textbook"
        )
    if name in ("short", "djn") and key.kind == "subgroup":
        raise PaillierError(
            f"{name} obfuscators leave the subgroup that keeps a subgroup key's decryption short: "
            "take full, or a safe key"
        )
    if name == "short" and key.kind != "safe":
        raise PaillierError("short obfuscators need safe primes, so that no small factor of an order leaks exponents")
    if name == "djn" and (key.p % 4, key.q % 4, gcd(key.p - 1, key.q - 1)) != (3, 3, 2):
        raise PaillierError("djn obfuscators need p = q = 3 mod 4 and gcd(p - 1, q - 1) = 2: make a safe key")


class ByFactors(ABC):
    """Powers mod p^2 and mod q^2 from tables, combined."""

    def __init__(self, key: PrivateKey, bases: tuple[mpz, mpz], bits: tuple[int, int], expected: int) -> None:
        self._tables = [
            FixedBase(base, prime, size, expected)
            for base, prime, size in zip(bases, (key.p, key.q), bits, strict=True)
        ]
        self._p2, self._q2 = key.p**2, key.q**2
        self._inverse = invert(self._p2, self._q2)

    def at(self, exponents: tuple[Sequence[int], Sequence[int]]) -> list[mpz]:
        """The obfuscators of given exponents, mod p^2 and mod q^2."""
        at_p, at_q = (table.powers(some) for table, some in zip(self._tables, exponents, strict=True))
        p2, q2, inverse = self._p2, self._q2, self._inverse
        return [a + p2 * ((b - a) * inverse % q2) for a, b in zip(at_p, at_q, strict=True)]

    def make(self, count: int) -> list[mpz]:
        return self.at(self.draw(count))

    @abstractmethod
    def draw(self, count: int) -> tuple[list[int], list[int]]:
        """Exponents for so many obfuscators."""


class Full(ByFactors):
    """Uniform over all obfuscators of a safe key, or over those of a subgroup key's subgroup."""

    def __init__(self, key: PrivateKey, expected: int) -> None:
        self._orders = key.obfuscator_orders
        if gcd(key.public.n, (key.p - 1) * (key.q - 1)) != 1:  # (1)
            raise PaillierError("gcd(n, (p-1)(q-1)) must be 1, or n-th powers are not one to one")
        bases = (_generator(key.p, self._orders[0]), _generator(key.q, self._orders[1]))
        bits = (int(self._orders[0].bit_length()), int(self._orders[1].bit_length()))
        super().__init__(key, bases, bits, expected)

    def draw(self, count: int) -> tuple[list[int], list[int]]:
        """(3), (4): two independent exponents for each, each uniform below its order."""
        e, f = ([secrets.randbelow(int(order)) for _ in range(count)] for order in self._orders)
        return e, f


class Short(ByFactors):
    """h_s^e for e of 256 bits, the same e on both sides: what djn's formula gives with a short exponent."""

    def __init__(self, key: PrivateKey, expected: int) -> None:
        while True:
            base = _residue(key.public)
            if all(base * base % prime != 1 for prime in (key.p, key.q)):  # -x^2 has order 2p' mod p, unless x = +-1
                break
        super().__init__(key, (base % key.p**2, base % key.q**2), (SHORT_BITS, SHORT_BITS), expected)

    def draw(self, count: int) -> tuple[list[int], list[int]]:
        exponents = [secrets.randbits(SHORT_BITS) for _ in range(count)]
        return exponents, exponents


def _generator(p: mpz, order: mpz) -> mpz:
    """An n-th residue mod p^2 of order exactly 2a, a prime, p = 3 mod 4; a = p' = (p-1)/2 for safe primes.

    -y^((p-1)/a) mod p has order 2a, unless y^((p-1)/a) = 1. Its lift g^p mod p^2 has the same order.
    """
    a = order // 2
    y = mpz(2)
    while (g := p - powmod(y, (p - 1) // a, p)) == p - 1:
        y += 1
    lift, square = powmod(g, p, p * p), p * p
    whole = powmod(lift, order, square) == 1 and 1 not in (powmod(lift, 2, square), powmod(lift, a, square))
    if not (whole and is_prime(a)):  # (2)
        raise PaillierError("no base of the whole order was found: the factors of p - 1 are not what the key says")
    return lift


def _residue(key: PublicKey) -> mpz:
    """h_s = (-x^2)^n mod n^2 for a random unit x."""
    return powmod(-(_unit(key.n) ** 2) % key.n, key.n, key.square)


def _unit(n: mpz) -> mpz:
    while True:
        r = mpz(secrets.randbelow(int(n)))
        if gcd(r, n) == 1:
            return r
