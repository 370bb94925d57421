"""Shamir's two laws: enough shares give the secret, fewer fit every secret."""

from __future__ import annotations

import itertools

import gmpy2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from strategies.crypto.shamir import PRIME, SHARE_BYTES, combine, split
from strategies.crypto.streams import ProtectionError

secrets_ = st.binary(min_size=32, max_size=32)
SECRET = bytes(range(32))


def lagrange(points: dict[int, int], at: int) -> int:
    """The slow, obvious oracle: the polynomial through the points, at `at`."""
    total = 0
    for x, y in points.items():
        term = y
        for other in points.keys() - {x}:
            term = term * (at - other) * pow(x - other, -1, PRIME) % PRIME
        total += term
    return total % PRIME


def numbers(shares: dict[int, bytes]) -> dict[int, int]:
    return {x: int.from_bytes(share, "big") for x, share in shares.items()}


def test_the_field_is_the_smallest_prime_one_that_holds_32_bytes() -> None:
    assert gmpy2.next_prime(2**256) == PRIME
    assert PRIME.bit_length() <= 8 * SHARE_BYTES


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data(), secrets_)
def test_any_threshold_of_shares_give_the_secret(data: st.DataObject, secret: bytes) -> None:
    ids = data.draw(st.lists(st.integers(1, 2**32 - 1), min_size=2, max_size=9, unique=True))
    threshold = data.draw(st.integers(2, len(ids)))
    shares = split(secret, threshold, ids)
    assert list(shares) == ids
    assert {len(share) for share in shares.values()} == {SHARE_BYTES}
    for size in range(threshold, len(ids) + 1):
        chosen = data.draw(st.permutations(ids))[:size]
        assert combine({x: shares[x] for x in chosen}, threshold) == secret
    assert lagrange(dict(itertools.islice(numbers(shares).items(), threshold)), 0) == int.from_bytes(secret, "big")


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_the_ends_of_the_range_are_secrets_like_others(secret: bytes) -> None:
    assert combine(split(secret, 3, [1, 2, 3, 4]), 3) == secret


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(2, 6), secrets_, secrets_)
def test_fewer_shares_fit_every_secret(threshold: int, secret: bytes, other: bytes) -> None:
    """To t - 1 shares of one secret there is a last share that makes it any other secret."""
    ids = list(range(1, threshold + 1))
    shares = split(secret, threshold, ids)
    known = {x: shares[x] for x in ids[:-1]}
    last = lagrange({0: int.from_bytes(other, "big")} | numbers(known), ids[-1])
    assert combine(known | {ids[-1]: last.to_bytes(SHARE_BYTES, "big")}, threshold) == other


def test_fewer_shares_are_uniform_whatever_the_secret() -> None:
    """Two of three needed: the joint distribution of top bytes of two shares is the same flat one for two secrets."""
    for secret in (bytes(32), b"\xff" * 32):
        drawn = [split(secret, 3, [1, 2, 3]) for _ in range(6000)]
        cells = [(shares[1][1] >> 4) * 16 + (shares[2][1] >> 4) for shares in drawn]
        assert chisquare(np.bincount(cells, minlength=256)).pvalue > 1e-9


def test_shares_are_drawn_anew() -> None:
    assert split(SECRET, 2, [1, 2]) != split(SECRET, 2, [1, 2])


def test_too_few_shares_are_refused() -> None:
    shares = split(SECRET, 3, [1, 2, 3, 4])
    with pytest.raises(ProtectionError, match=r"3 shares give the secret; found 2, of ids \[2, 4\]"):
        combine({x: shares[x] for x in (2, 4)}, 3)


@pytest.mark.parametrize(
    ("secret", "threshold", "ids", "match"),
    [
        (SECRET[:31], 2, [1, 2], "32 bytes; found 31"),
        (SECRET, 2, [1, 2, 1], r"distinct; found \[1, 1, 2\]"),
        (SECRET, 4, [1, 2, 3], r"\[2, 3\].*found 4"),
        (SECRET, 1, [1, 2, 3], r"\[2, 3\].*found 1"),
        (SECRET, 2, [0, 1, 2], r"found \[0\]"),  # the share of 0 would be the secret
        (SECRET, 2, [1, 2**32], r"found \[4294967296\]"),
    ],
)
def test_what_cannot_be_shared_is_refused(secret: bytes, threshold: int, ids: list[int], match: str) -> None:
    with pytest.raises(ProtectionError, match=match):
        split(secret, threshold, ids)


@pytest.mark.parametrize("share", [b"", bytes(32), bytes(34), PRIME.to_bytes(33, "big"), b"\xff" * 33])
def test_a_share_outside_of_the_field_is_refused(share: bytes) -> None:
    with pytest.raises(ProtectionError, match="share of id 2"):
        combine(split(SECRET, 2, [1, 2, 3]) | {2: share}, 2)


def test_the_share_of_id_0_is_refused() -> None:
    with pytest.raises(ProtectionError, match=r"found \[0\]"):
        combine({0: bytes(33), 1: bytes(33)}, 2)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 4), st.integers(1, PRIME - 1))
def test_a_wrong_share_among_more_than_needed_is_found(x: int, error: int) -> None:
    shares = split(SECRET, 3, [1, 2, 3, 4])
    wrong = (int.from_bytes(shares[x], "big") + error) % PRIME
    with pytest.raises(ProtectionError, match="not of one secret"):
        combine(shares | {x: wrong.to_bytes(SHARE_BYTES, "big")}, 3)


def test_shares_that_give_more_than_32_bytes_are_refused() -> None:
    """2^256 is an element of the field, but nobody's secret."""
    last = lagrange({0: 2**256, 1: 5}, 2)
    with pytest.raises(ProtectionError, match="give no 32 bytes"):
        combine({1: (5).to_bytes(33, "big"), 2: last.to_bytes(33, "big")}, 2)
