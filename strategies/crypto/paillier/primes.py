"""Primes p whose p - 1 has a known factorisation: safe primes and subgroup primes.

    safe        p = 2 p' + 1
    subgroup    p = 2 a p' + 1,  a prime of 448 bits     (Ma, Han, Lei: Optimized Paillier's Cryptosystem with Fast
                                                          Encryption and Decryption, ACSAC 2021)

with p' prime, so that the order of every element mod p can be verified. Both are pairs (x, m x + 1) of primes, m = 2
or 2a, as rare as the square of their length in bits L. A sieve strikes out, from a window of L^2 / 2 odd x at a random
place, those where x or m x + 1 has a factor below 2 L^2; what is left is tried in random order, so that a prime after
a long gap is hardly likelier than its neighbours.

Public implementations of the paper (PrimiHub's `opt_paillier`, a variant of ZenGo-X's `kzen-paillier`) ask for primes
p = 2 a p' + 1, q = 2 b q' + 1 with a, b, p', q' pairwise coprime, and take a and b of twice the security level: 224
bits each for 112, 256 for 128, against square-root attacks on the order 2a. Here a and b have 448 bits (2^224 steps,
far more than factoring n takes), and a, b, p', q' are four primes.
"""

from __future__ import annotations

import multiprocessing
import secrets
from collections.abc import Generator
from contextlib import closing
from functools import cache
from itertools import chain

import numpy as np
from gmpy2 import gcd, invert, is_prime, mpz, powmod
from numpy.typing import NDArray

from strategies.base import StrategyError

SUBGROUP_BITS = 448
_ROUNDS = 40  # Miller-Rabin rounds of a final test

Found = tuple[int, int]  # p, and the odd prime factor of p - 1 that serves: p' of a safe prime, a of a subgroup prime


def prime_pair(bits: int, subgroup: bool, processes: int = 1) -> tuple[Found, Found]:
    """Two primes of bits / 2 bits whose product has `bits` bits, each with the prime factor a of its p - 1.

    a is p' = (p - 1) / 2 for safe primes, and has 448 bits for subgroup primes. Seconds vary like a waiting time:
    the search has no memory. With several processes each searches for itself, and the first two primes are taken.
    """
    if bits % 2 or bits < 128:
        raise StrategyError(f"a modulus needs an even number of bits, at least 128; found {bits}")
    if subgroup and bits // 2 < SUBGROUP_BITS + 64:
        raise StrategyError(f"subgroup primes need a modulus of at least {2 * SUBGROUP_BITS + 128} bits; found {bits}")
    with closing(_searches(bits // 2, subgroup, processes)) as searches:
        first, second = next(searches), next(searches)
        while not _go_together(first[0], second[0], bits):
            second = next(searches)
    return first, second


def _go_together(p: int, q: int, bits: int) -> bool:
    """No odd factor in common, and too far apart for Fermat's method (FIPS 186-5, A.1.3)."""
    return gcd(p - 1, q - 1) == 2 and abs(p - q) > 1 << max(0, bits // 2 - 100)


def safe_prime(bits: int) -> Found:
    """(p, p'): p = 2 p' + 1 of `bits` bits, both prime; the top two bits are set."""
    high = mpz(1) << (bits - 1)
    p, _ = _search(high // 4 * 3, high, mpz(2))
    return int(p), int(p) // 2


def subgroup_prime(bits: int) -> Found:
    """(p, a): p = 2 a p' + 1 of `bits` bits, a of 448 bits, all three prime; the top two bits of p are set."""
    while True:
        a = mpz(secrets.randbits(SUBGROUP_BITS)) | 3 << (SUBGROUP_BITS - 2) | 1
        if is_prime(a, _ROUNDS):
            break
    high = mpz(1) << bits
    p, _ = _search(high // 4 * 3 // (2 * a) + 1, (high - 1) // (2 * a), 2 * a)
    return int(p), int(a)


def _searches(bits: int, subgroup: bool, processes: int) -> Generator[Found]:
    """Primes without end, in the order in which the processes find them."""
    if processes == 1:
        while True:
            yield _task((bits, subgroup))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:  # leaving it ends searches under way
        while True:
            yield from pool.imap_unordered(_task, [(bits, subgroup)] * max(8, processes))


def _task(what: tuple[int, bool]) -> Found:
    bits, subgroup = what
    return subgroup_prime(bits) if subgroup else safe_prime(bits)


def _search(low: mpz, high: mpz, m: mpz) -> tuple[mpz, mpz]:
    """(m x + 1, x), both prime, for an odd x in [low, high)."""
    while True:
        for x in _candidates(low, high, m):
            p = m * x + 1
            if powmod(2, x - 1, x) == 1 == powmod(2, p - 1, p) and is_prime(x, _ROUNDS) and is_prime(p, _ROUNDS):
                return p, x


def _candidates(low: mpz, high: mpz, m: mpz) -> list[mpz]:
    """Odd x of one random window of [low, high), in random order: neither x nor m x + 1 has a small factor."""
    length = int((m * high).bit_length())
    odd = min(length**2 // 2, int(high - low) // 4)
    x = (low + secrets.randbelow(int(high - low) - 2 * odd)) | 1  # the window is x, x + 2, ..., all below high
    primes = _odd_primes(int(min(2 * length**2, low - 1)))
    residue = np.array([int(x % q) for q in primes.tolist()])
    inverse = np.array([int(invert(m, q)) if m % q else 0 for q in primes.tolist()])
    half = (primes + 1) // 2  # 1/2 mod q
    keep = np.ones(odd, np.bool_)
    for wanted, of in ((0, primes > 0), (-inverse, inverse > 0)):  # q | x + 2i,  and  x + 2i = -1/m mod q
        start = (wanted - residue) % primes * half % primes
        often = of & (primes < odd)
        for i, q in zip(start[often].tolist(), primes[often].tolist(), strict=True):
            keep[i::q] = False
        keep[start[of & (start < odd)]] = False  # what is longer than the window strikes once at most
    left = np.flatnonzero(keep).tolist()
    secrets.SystemRandom().shuffle(left)
    return [x + 2 * i for i in left]


@cache
def _odd_primes(limit: int) -> NDArray[np.int64]:
    """Odd primes up to `limit`, ascending (Eratosthenes)."""
    prime = np.ones(limit + 1, np.bool_)
    prime[:2] = False
    for q in chain([2], range(3, int(limit**0.5) + 1, 2)):
        if prime[q]:
            prime[q * q :: q] = False
    return np.flatnonzero(prime)[1:]
