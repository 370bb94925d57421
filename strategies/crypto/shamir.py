"""A secret in shares: any `threshold` of them give it back, fewer say nothing about it.

Shamir: How to Share a Secret, Communications of the ACM 22(11), 1979:

    q(x) = secret + a_1 x + ... + a_(t-1) x^(t-1) mod P,    share of x = q(x),    secret = q(0)

with a_i uniform in [0, P). P = 2^256 + 297 is the smallest prime above 2^256, so that every string of 32 bytes is an
element of the field: X25519 keys and seeds are shared as they are, without a hash or a second element. An element
takes 257 bits and a share 33 bytes.

The laws: `combine` of any t or more of `split`'s shares is the secret; to any t - 1 shares and *any* secret there is
exactly one polynomial, so that t - 1 shares fit every secret equally well.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache

from strategies.crypto.streams import KEY_BYTES, ProtectionError

PRIME = 2**256 + 297
SHARE_BYTES = 33


def split(secret: bytes, threshold: int, ids: Sequence[int]) -> dict[int, bytes]:
    """Share a secret of 32 bytes: id -> share of 33 bytes, big-endian.

    Args:
        secret: 32 bytes, any.
        threshold: t, how many shares give it back, in [2, number of ids].
        ids: the points x, distinct, in [1, 2^32). Never 0, where the polynomial is the secret itself.

    Raises:
        ProtectionError: an argument outside of these ranges, or an id twice.
    """
    if len(secret) != KEY_BYTES:
        raise ProtectionError(f"a shared secret must have {KEY_BYTES} bytes; found {len(secret)}")
    if len(set(ids)) != len(ids):
        raise ProtectionError(f"ids of shares must be distinct; found {sorted(ids)}")
    if not 2 <= threshold <= len(ids):
        raise ProtectionError(f"threshold must be in [2, {len(ids)}], the number of ids; found {threshold}")
    _check_ids(ids)
    # Uniform over the whole field, 0 too: a leading coefficient forced to differ from 0 would rule out one secret for
    # every t - 1 shares.
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {x: _evaluate(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in ids}


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret of `split`, from at least `threshold` shares by id.

    Shares beyond the threshold are not ignored: they must lie on the same polynomial.

    Raises:
        ProtectionError: too few shares, one that is no element of the field, or shares that do not belong together.
    """
    if len(shares) < threshold:
        raise ProtectionError(f"{threshold} shares give the secret; found {len(shares)}, of ids {sorted(shares)}")
    _check_ids(shares)
    values = {x: _element(x, shares[x]) for x in sorted(shares)}
    base = tuple(values)[:threshold]
    ordinates = [values[x] for x in base]
    for x in tuple(values)[threshold:]:
        if _interpolate(base, ordinates, x) != values[x]:
            raise ProtectionError(f"the shares of ids {sorted(shares)} are not of one secret: one of them is wrong")
    secret = _interpolate(base, ordinates, 0)
    if secret >> (8 * KEY_BYTES):
        raise ProtectionError(f"the shares of ids {sorted(shares)} give no {KEY_BYTES} bytes: one of them is wrong")
    return secret.to_bytes(KEY_BYTES, "big")


def _evaluate(coefficients: Sequence[int], x: int) -> int:
    """q(x) mod P by Horner's rule, coefficients in ascending order."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


def _interpolate(ids: tuple[int, ...], values: Sequence[int], at: int) -> int:
    """q(at) = sum_i q(x_i) l_i(at) mod P."""
    return sum(value * weight for value, weight in zip(values, _lagrange(ids, at), strict=True)) % PRIME


@lru_cache(maxsize=256)
def _lagrange(ids: tuple[int, ...], at: int) -> tuple[int, ...]:
    """l_i(at) = prod over j != i of (at - x_j) / (x_i - x_j) mod P: the same for all secrets of a round."""
    weights = []
    for x in ids:
        above = below = 1
        for other in ids:
            if other != x:
                above = above * (at - other) % PRIME
                below = below * (x - other) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)


def _check_ids(ids: Sequence[int] | Mapping[int, bytes]) -> None:
    if bad := [x for x in ids if not 1 <= x < 2**32]:
        raise ProtectionError(f"ids of shares must be in [1, 2^32); found {bad}")


def _element(x: int, share: bytes) -> int:
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise ProtectionError(
            f"the share of id {x} must be {SHARE_BYTES} bytes below 2^256 + 297; it has {len(share)} bytes"
            + (" and is not below" if value >= PRIME else "")
        )
    return value
