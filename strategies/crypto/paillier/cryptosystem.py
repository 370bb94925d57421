"""Paillier's cryptosystem: keys, ciphertexts and their sums.

Paillier: Public-Key Cryptosystems Based on Composite Degree Residuosity Classes, EUROCRYPT 1999, with g = 1 + n:

    n = p q,   c = (1 + n m) o mod n^2,   o = r^n mod n^2              encryption of m in [0, n)
    c1 c2 mod n^2 decrypts to m1 + m2 mod n                            addition
    m = L(c^(p-1) mod p^2) / L((1+n)^(p-1) mod p^2) mod p,   L(u) = (u - 1) / p       decryption mod p, alike mod q

What hides m is the obfuscator o, an n-th residue mod n^2: `strategies.crypto.paillier.obfuscators` makes them, and
`strategies.crypto.paillier.cryptor` spreads the work over processes. Keys are of one of three kinds:

    safe        p = 2 p' + 1, q = 2 q' + 1, all prime
    subgroup    p = 2 a p' + 1, q = 2 b q' + 1, all prime (Ma, Han, Lei 2021; `primes.py`). Obfuscators
                have order 2a mod p^2 and 2b mod q^2, so that the exponent 2a of 449 bits removes them on decryption
    plain       any other primes with gcd(n, (p-1)(q-1)) = 1, such as phe's

Every key decrypts every ciphertext of its n, whoever made it: where the short exponent leaves an obfuscator of full
order in place (that shows), the long one follows. phe is the reference: it opens all that is made here, and reads
the key files. No operation here takes constant time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NoReturn

import numpy as np
from gmpy2 import f_divmod, gcd, invert, is_prime, mpz, powmod
from numpy.typing import NDArray
from phe import PaillierPrivateKey, PaillierPublicKey
from phe.util import base64_to_int, int_to_base64

from strategies.base import StrategyError, check_choice
from strategies.crypto.paillier.powers import fixed_exponent
from strategies.crypto.paillier.primes import SUBGROUP_BITS, prime_pair
from strategies.crypto.streams import ProtectionError

Payload = NDArray[np.uint8]  # (ciphertexts, ciphertext_bytes), little-endian, as it travels in a Flower record
Kind = Literal["safe", "subgroup", "plain"]

MINIMUM_BITS, DEFAULT_BITS = 2048, 3072  # 112 and 128 bits of security (NIST SP 800-57, part 1, table 2)
_ROUNDS = 25  # Miller-Rabin rounds for primes that were tested when they were made

# SHA-256 of the moduli whose primes are committed with the tests, for all to read.
_COMMITTED = frozenset(
    {
        "ddb38014127c94e33bb0f7994b1d9bfa5b087fae22cf233fd053cb0c9ab83908",
        "15a85adaafa43e602a3e475dc522471a2d59e4f97631492f33ed655783549f66",
        "de5df3727e7e7f9b10c38ebb3e0ed6d99bb579f8f43bc2c876ad9400a7391f92",
    }
)


class PaillierError(StrategyError, ProtectionError):
    """A key or plaintext that cannot be used: what was found, what is expected."""


class CiphertextError(PaillierError):
    """A payload that is no update: wrong shape, or a number that is no ciphertext of this key."""


@dataclass(frozen=True)
class PublicKey:
    """What the server holds: n, and with it the right to add.

    Args:
        n: the modulus, at least 2048 bits.
        test_only: allows shorter moduli and the committed test primes.
    """

    n: mpz
    test_only: bool = field(default=False, compare=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n.bit_length()} bits, {self.key_id})"

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", mpz(self.n))
        if self.test_only:
            return
        if self.n.bit_length() < MINIMUM_BITS:
            raise PaillierError(
                f"a modulus needs at least {MINIMUM_BITS} bits (default {DEFAULT_BITS}); found {self.n.bit_length()}"
            )
        if self._digest in _COMMITTED:
            raise PaillierError("the primes of this modulus are committed with the tests, for all to read: make a key")

    @cached_property
    def square(self) -> mpz:
        """n^2, the modulus of ciphertexts."""
        return self.n**2

    @property
    def capacity(self) -> int:
        """Bits of a plaintext that may always be used: every number of so many bits is below n."""
        return int(self.n.bit_length()) - 1

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of a ciphertext on the wire."""
        return (int(self.square.bit_length()) + 7) // 8

    @property
    def key_id(self) -> str:
        """Sixteen hexadecimal digits that name this key in messages and logs."""
        return self._digest[:16]

    def check(self, payload: Payload, count: int) -> None:
        """Refuse what is not `count` ciphertexts: shape, type, 0 < c < n^2, gcd(c, n) = 1.

        One bad ciphertext would destroy the sum, or the decryptor's division. Passing says nothing about content.
        """
        if not isinstance(payload, np.ndarray) or payload.dtype != np.uint8:
            raise CiphertextError(f"ciphertexts travel as uint8; found {getattr(payload, 'dtype', type(payload))}")
        if payload.shape != (count, self.ciphertext_bytes):
            raise CiphertextError(
                f"expected {count} ciphertexts of {self.ciphertext_bytes} bytes; found shape {payload.shape}"
            )
        numbers = self.numbers(payload)
        product = mpz(1)
        for i, c in enumerate(numbers):
            if not 0 < c < self.square:
                raise CiphertextError(f"ciphertext {i} is outside of (0, n^2)")
            product = product * c % self.n
        if gcd(product, self.n) != 1:  # n has two prime factors: all are units if their product is one
            bad = next(i for i, c in enumerate(numbers) if gcd(c, self.n) != 1)
            raise CiphertextError(f"ciphertext {bad} has a factor in common with n")

    def add(self, total: Payload, payload: Payload) -> Payload:
        """The payload that decrypts to the sums of the plaintexts of two checked ones, position by position."""
        if total.shape != payload.shape:
            raise CiphertextError(f"cannot add ciphertexts of shapes {total.shape} and {payload.shape}")
        summed = np.empty_like(total)
        for row, *pair in zip(summed, total, payload, strict=True):  # one at a time: it takes the memory of the sum
            a, b = (self.numbers(one[None])[0] for one in pair)
            row[:] = self.payload([a * b % self.square])[0]
        return summed

    def numbers(self, payload: Payload) -> list[mpz]:
        """The ciphertexts of a payload as integers."""
        octets, size = payload.tobytes(), payload.shape[1]
        return [mpz.from_bytes(octets[i : i + size], "little") for i in range(0, len(octets), size)]

    def payload(self, numbers: Iterable[mpz]) -> Payload:
        """The payload of ciphertexts in [0, n^2)."""
        octets = b"".join(c.to_bytes(self.ciphertext_bytes, "little") for c in numbers)
        return np.frombuffer(octets, np.uint8).reshape(-1, self.ciphertext_bytes)

    def jwk(self) -> str:
        """JSON Web Key, as phe's command line writes it."""
        return json.dumps(self.members())

    @classmethod
    def from_jwk(cls, text: str, test_only: bool = False) -> PublicKey:
        """The key that `jwk`, or phe's `pheutil extract`, wrote."""
        return cls(_integer(_members(text), "n"), test_only)

    def members(self) -> dict[str, Any]:
        """Of the JSON Web Key."""
        return {
            "kty": "DAJ",
            "alg": "PAI-GN1",
            "key_ops": ["encrypt"],
            "n": int_to_base64(int(self.n)),
            "kid": f"Paillier public key {self.key_id}",
        }

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.n.to_bytes((self.n.bit_length() + 7) // 8, "big")).hexdigest()


@dataclass(frozen=True)
class PrivateKey:
    """What the offices share: the primes. Construction verifies them.

    Args:
        p: prime.
        q: another prime, with gcd(n, (p-1)(q-1)) = 1, without which r -> r^n is not one to one and nothing decrypts.
        orders: primes a and b with p = 2 a p' + 1 and q = 2 b q' + 1, p' and q' prime too: makes a subgroup key.
        test_only: as of the public key.
    """

    p: mpz
    q: mpz
    orders: tuple[mpz, mpz] | None = None
    test_only: bool = field(default=False, compare=False)
    public: PublicKey = field(init=False)

    def __repr__(self) -> str:  # what is secret stays out of logs
        return f"{type(self).__name__}({self.public!r})"

    def __post_init__(self) -> None:
        p, q = mpz(self.p), mpz(self.q)
        orders = None if self.orders is None else (mpz(self.orders[0]), mpz(self.orders[1]))
        for name, value in (("p", p), ("q", q), ("orders", orders), ("public", PublicKey(p * q, self.test_only))):
            object.__setattr__(self, name, value)
        if p == q or not _prime(p) or not _prime(q):
            raise PaillierError("p and q must be two different primes; this key's are not")
        if gcd(p * q, (p - 1) * (q - 1)) != 1:
            raise PaillierError("gcd(n, (p-1)(q-1)) must be 1, or n-th powers are not one to one: make another key")
        if orders is not None:
            self._check_orders(orders)

    def _check_orders(self, orders: tuple[mpz, mpz]) -> None:
        for prime, order in zip((self.p, self.q), orders, strict=True):
            cofactor, rest = f_divmod(prime - 1, 2 * order)
            if rest or not _prime(order) or not _prime(cofactor) or gcd(self.p - 1, self.q - 1) != 2:
                raise PaillierError(
                    "orders must be primes a, b with p = 2 a p' + 1, q = 2 b q' + 1, p' and q' prime, no two alike"
                )
            if order.bit_length() < SUBGROUP_BITS and not self.test_only:
                raise PaillierError(f"orders need at least {SUBGROUP_BITS} bits; found {order.bit_length()}")

    @cached_property
    def kind(self) -> Kind:
        """`safe`, `subgroup` or `plain`; what obfuscators it takes depends on it."""
        if self.orders is not None:
            return "subgroup"
        return "safe" if _prime((self.p - 1) // 2) and _prime((self.q - 1) // 2) else "plain"

    @cached_property
    def obfuscator_orders(self) -> tuple[mpz, mpz]:
        """Order of the group of obfuscators mod p^2 and mod q^2: 2a and 2b of a subgroup key, else p - 1 and q - 1."""
        if self.orders is not None:
            return 2 * self.orders[0], 2 * self.orders[1]
        return self.p - 1, self.q - 1

    def decrypt(self, payload: Payload) -> list[mpz]:
        """The plaintexts, in [0, n), of a payload that `public.check` let pass."""
        numbers = self.public.numbers(payload)
        p, q = self.p, self.q
        at_p = _residues(numbers, p, self.obfuscator_orders[0], q)
        at_q = _residues(numbers, q, self.obfuscator_orders[1], p)
        inverse = invert(p, q)
        return [a + p * ((b - a) * inverse % q) for a, b in zip(at_p, at_q, strict=True)]

    def phe(self) -> tuple[PaillierPublicKey, PaillierPrivateKey]:
        """The same key as phe's objects: the reference."""
        public = PaillierPublicKey(int(self.public.n))
        return public, PaillierPrivateKey(public, int(self.p), int(self.q))

    def jwk(self) -> str:
        """JSON Web Key, p and q in clear, as phe's command line writes it; with a and b, which phe skips, if known."""
        members = {
            "kty": "DAJ",
            "key_ops": ["decrypt"],
            "p": int_to_base64(int(self.p)),
            "q": int_to_base64(int(self.q)),
            "pub": self.public.members(),
            "kid": f"Paillier private key {self.public.key_id}",
        }
        if self.orders is not None:
            members |= {name: int_to_base64(int(order)) for name, order in zip("ab", self.orders, strict=True)}
        return json.dumps(members)

    @classmethod
    def from_jwk(cls, text: str, test_only: bool = False) -> PrivateKey:
        """The key that `jwk`, or phe's `pheutil genpkey`, wrote."""
        members = _members(text)
        orders = (_integer(members, "a"), _integer(members, "b")) if "a" in members else None
        key = cls(_integer(members, "p"), _integer(members, "q"), orders, test_only)
        if _integer(members.get("pub", {}), "n") != key.public.n:
            raise PaillierError("the public part of this key file has another n than p q: the file is damaged")
        return key

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is never pickled, lest it land in a store or a log: send jwk(), through a pipe")


def generate(bits: int = DEFAULT_BITS, kind: Kind = "safe", processes: int = 1, test_only: bool = False) -> PrivateKey:
    """A new key with n of `bits` bits, of kind `safe` or `subgroup`, its primes sought by so many processes."""
    check_choice("kind", kind, ("safe", "subgroup"))
    if bits < MINIMUM_BITS and not test_only:
        raise PaillierError(f"a key needs at least {MINIMUM_BITS} bits (default {DEFAULT_BITS}); found {bits}")
    (p, a), (q, b) = prime_pair(bits, kind == "subgroup", processes)
    return PrivateKey(p, q, (a, b) if kind == "subgroup" else None, test_only)


def _residues(numbers: list[mpz], p: mpz, order: mpz, q: mpz) -> list[mpz]:
    """m mod p of ciphertexts mod n^2 = p^2 q^2 whose obfuscators have this order mod p^2, or any order."""
    square = p * p
    powers = fixed_exponent([c % square for c in numbers], order, p)
    factor = invert(order * q, p)  # L((1+n)^order mod p^2) = order q mod p
    rest = (p - 1) // order
    plain = []
    for one, quotient in powers:
        if one == 1:  # the obfuscator is gone
            plain.append(quotient * factor % p)
            continue
        quotient, one = f_divmod(powmod(one + quotient * p, rest, square), p)  # c^(p-1): it goes in any case
        if one != 1:
            raise CiphertextError("a ciphertext has a factor in common with n: check payloads before decrypting")
        plain.append(quotient * factor * invert(rest, p) % p)
    return plain


def _prime(number: mpz) -> bool:
    return bool(is_prime(number, _ROUNDS))


def _members(text: str) -> dict[str, Any]:
    """Members of a JSON Web Key of Paillier's."""
    try:
        members = json.loads(text)
    except ValueError:
        members = None
    if not isinstance(members, dict) or members.get("kty") != "DAJ":
        raise PaillierError("this is no Paillier key: expected a JSON Web Key with kty DAJ, as phe writes")
    return members


def _integer(members: dict[str, Any], name: str) -> mpz:
    try:
        return mpz(base64_to_int(members[name]))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PaillierError(f"this is no Paillier key: expected a base64url integer as its member {name!r}") from None
