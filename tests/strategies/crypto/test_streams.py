"""What is drawn from a secret: the laws of encodings, streams, tags and seals."""

from __future__ import annotations

import hashlib
import hmac
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from strategies.crypto.streams import (
    SEAL_BYTES,
    ProtectionError,
    check_tags,
    derive,
    encode,
    keystream,
    random_key,
    seal,
    tag,
    unseal,
)
from tests.strategies.protection.slots import integers

SECRET = bytes(range(32))
contexts = st.recursive(
    st.text(max_size=4) | st.binary(max_size=4) | st.integers(-300, 300),
    lambda part: st.lists(part, max_size=3).map(tuple),
    max_leaves=6,
)


@settings(deadline=None, derandomize=True)
@given(st.lists(contexts, max_size=4), st.lists(contexts, max_size=4))
def test_contexts_are_encoded_one_to_one(a: list, b: list) -> None:
    assert (encode(*a) == encode(*b)) == (a == b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (("a", "bc"), ("ab", "c")),
        (("1",), (1,)),
        (("1",), (b"1",)),
        (((1, 2),), (1, 2)),
        (((1,), 2), ((1, 2),)),
        ((1, 23), (12, 3)),
        ((), ("",)),
    ],
)
def test_no_two_contexts_look_alike(a: tuple, b: tuple) -> None:
    assert encode(*a) != encode(*b)


def test_an_office_number_from_numpy_is_the_same_context() -> None:
    assert encode("r", np.int64(3)) == encode("r", np.uint8(3)) == encode("r", 3)


@pytest.mark.parametrize("part", [True, 1.0, None, [1]])
def test_a_context_of_other_things_is_refused(part: object) -> None:
    with pytest.raises(TypeError, match="text, bytes, integers"):
        encode("a", part)


def test_derive_is_hkdf_as_rfc_5869_writes_it() -> None:
    """PRK = HMAC(salt, secret); T(1) = HMAC(PRK, info | 1)."""
    prk = hmac.digest(encode("run"), SECRET, hashlib.sha256)
    assert derive(SECRET, "run", "use", 7) == hmac.digest(prk, encode("use", 7) + b"\x01", hashlib.sha256)


def test_the_keystream_is_aes_256_in_counter_mode() -> None:
    """Zero key, counter 0 and 1: blocks published with the AES-256 known answers (all-zero key, all-zero block)."""
    assert keystream(bytes(32), 16).hex() == "dc95c078a2408989ad48a21492842087"
    assert keystream(SECRET, 100)[:33] == keystream(SECRET, 33)


@pytest.mark.parametrize("bits", range(8, 33))
def test_integers_have_exactly_their_bits(bits: int) -> None:
    drawn = integers(SECRET, 4096, bits)
    assert drawn.dtype == np.uint32
    assert drawn.shape == (4096,)
    assert int(drawn.max()) >> bits == 0
    ones = np.array([int((drawn >> np.uint32(bit) & 1).sum()) for bit in range(bits)])
    assert (np.abs(ones - 2048) < 6 * 32).all()  # six standard deviations of a fair bit's count


@pytest.mark.parametrize("bits", [8, 11, 16, 20, 32])
def test_integers_are_uniform(bits: int) -> None:
    low, high = integers(SECRET, 100_000, bits) & 255, integers(SECRET, 100_000, bits) >> (bits - 8)
    for byte in (low, high):
        assert chisquare(np.bincount(byte, minlength=256)).pvalue > 1e-6


def test_a_key_gives_one_stream_and_the_system_never_the_same() -> None:
    assert np.array_equal(integers(SECRET, 99, 12), integers(SECRET, 99, 12))
    assert not np.array_equal(integers(SECRET, 99, 12), integers(random_key(), 99, 12))
    assert not np.array_equal(integers(None, 99, 12), integers(None, 99, 12))


@pytest.mark.parametrize("bits", [-1, 0, 7, 33])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(ProtectionError, match=rf"\[8, 32\]; found {bits}"):
        integers(SECRET, 1, bits)


def test_keys_of_other_lengths_are_refused_and_not_shown() -> None:
    short = b"secret"
    calls = [
        lambda: derive(short, "run"),
        lambda: keystream(short, 2),
        lambda: tag(short, "run", 1, 0, 4),
        lambda: seal(short, b""),
        lambda: unseal(short, b""),
    ]
    for call in calls:
        with pytest.raises(ProtectionError, match="32 bytes; found 6") as error:
            call()
        assert "secret'" not in str(error.value)


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 2**32 - 1), st.integers(1, 1000), st.integers(0, 1000))
def test_tags_of_all_offices_never_carry(most: int, round_: int, office: int) -> None:
    """K times the largest tag stays below 2^64; more bits than that are not given away."""
    width = 64 - most.bit_length()
    assert most * ((1 << width) - 1) < 1 << 64
    assert 0 <= tag(SECRET, "run", round_, office, most) < 1 << width


def test_a_tag_is_of_its_run_round_office_and_secret_alone() -> None:
    ours = tag(SECRET, "run", 1, 2, 4)
    assert ours == tag(SECRET, "run", 1, 2, 4)
    others = [
        tag(bytes(32), "run", 1, 2, 4),
        tag(SECRET, "nur", 1, 2, 4),
        tag(SECRET, "run", 2, 1, 4),
        tag(SECRET, "run", 12, 2, 4),
        tag(SECRET, "run", 1, 12, 4),
    ]
    assert len({ours, *others}) == 6


def test_tags_spread_over_their_whole_width() -> None:
    top = np.array([tag(SECRET, "run", round_, 0, 4) >> 53 for round_ in range(4096)])  # highest byte of 61 bits
    assert chisquare(np.bincount(top, minlength=256)).pvalue > 1e-6


def test_a_sum_is_bound_to_its_round_and_contributors() -> None:
    tags = {office: tag(SECRET, "run", 3, office, 5) for office in range(5)}
    check_tags(tags[0] + tags[2] + tags[4], SECRET, "run", 3, [4, 0, 2], 5)

    def refused(total: int, offices: list[int], match: str, round_: int = 3, secret: bytes = SECRET) -> None:
        with pytest.raises(ProtectionError, match=match):
            check_tags(total, secret, "run", round_, offices, 5)

    every = sum(tags.values())
    refused(every, [0, 1, 2, 3, 4], "another round", round_=4)  # a replayed round
    refused(every + tags[1], [0, 1, 2, 3, 4], "other contributors")  # an office added twice
    refused(every - tags[1], [0, 1, 2, 3, 4], "other contributors")  # one left out
    refused(tags[1], [0, 1, 2, 3, 4], "other contributors")  # a single message handed out as the sum
    refused(every, [0, 1, 2, 3, 4], "another key", secret=bytes(32))
    refused(tags[1] * 2, [1, 1], "counts once")
    refused(every, [0, 1, 2, 3, 4, 5], "6 contributors of at most 5")


@pytest.mark.parametrize("most", [0, 2**32])
def test_no_number_of_contributors_beyond_the_slot(most: int) -> None:
    with pytest.raises(ProtectionError, match="contributors_max"):
        tag(SECRET, "run", 1, 0, most)


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.lists(contexts, max_size=3))
def test_what_is_sealed_opens_under_its_context(content: bytes, context: list) -> None:
    sealed = seal(SECRET, content, *context)
    assert len(sealed) == len(content) + SEAL_BYTES
    assert unseal(SECRET, sealed, *context) == content


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.data())
def test_any_changed_bit_is_found(data: st.DataObject) -> None:
    sealed = bytearray(seal(SECRET, b"shares", "run", 1))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtectionError, match="changed on the way"):
        unseal(SECRET, bytes(sealed), "run", 1)


def test_another_key_context_or_length_does_not_open() -> None:
    sealed = seal(SECRET, b"shares", "run", 1, 2, 3)
    assert sealed != seal(SECRET, b"shares", "run", 1, 2, 3)  # a fresh nonce
    attempts = [
        (bytes(32), sealed, ("run", 1, 2, 3)),
        (SECRET, sealed, ("run", 1, 3, 2)),  # the way back
        (SECRET, sealed, ("run", 2, 2, 3)),  # another round
        (SECRET, sealed[:-1], ("run", 1, 2, 3)),
        (SECRET, sealed[:5], ("run", 1, 2, 3)),
        (SECRET, b"", ("run", 1, 2, 3)),
    ]
    for key, found, context in attempts:
        with pytest.raises(ProtectionError, match="do not open"):
            unseal(key, found, *context)


def test_nothing_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and nonces come from the operating system: NumPy's seed has no say."""
    asked: list[int] = []
    real = os.urandom
    monkeypatch.setattr(os, "urandom", lambda size: asked.append(size) or real(size))
    keys = set()
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        keys.add(random_key() + seal(SECRET, b""))
    assert len(keys) == 2
    assert asked == [32, 12, 32, 12]
