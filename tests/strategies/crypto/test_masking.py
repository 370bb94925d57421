"""masked_sum: unmask(mask(a) + mask(b)) = a + b mod 2^bits, and from_wire(to_wire(v)) = v."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare

from strategies.crypto.masking import (
    Slots,
    fresh_nonce,
    from_wire,
    mask,
    pack,
    shift,
    to_wire,
    unmask,
    unpack,
)
from strategies.crypto.streams import ProtectionError, check_tags, random_key, tag
from tests.strategies.protection.slots import add, integers

SECRET = bytes(range(32))
BITS = range(8, 33)


def drawn(kind: str, rng: np.random.Generator, bits: int, count: int) -> NDArray[np.uint32]:
    """Inputs of one office: random, saturated or zero."""
    low, high = {"random": (0, 2**bits), "saturated": (2**bits - 1, 2**bits), "zero": (0, 1)}[kind]
    return rng.integers(low, high, count, dtype=np.uint64).astype(np.uint32)


def slots(values: NDArray[np.uint32] | list[int], bits: int = 16, check: int = 0) -> Slots:
    return Slots(np.array(values, np.uint32), check, bits)


def plain_sum(parts: list[Slots]) -> tuple[list[int], int]:
    """With Python's integers."""
    columns = zip(*(part.values.tolist() for part in parts), strict=True)
    return [sum(column) % 2 ** parts[0].bits for column in columns], sum(part.check for part in parts) % 2**64


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["random", "saturated", "zero"]),
    st.sampled_from(BITS),
    st.integers(1, 6),
    st.integers(0, 40),
)
def test_the_unmasked_sum_is_the_sum_bit_for_bit(seed: int, kind: str, bits: int, offices: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [
        Slots(drawn(kind, rng, bits, count), int(rng.integers(2**64, dtype=np.uint64)), bits) for _ in range(offices)
    ]
    nonces = [fresh_nonce() for _ in parts]
    sent = [mask(part, SECRET, "run", 1, k, nonces[k]) for k, part in enumerate(parts)]
    total = unmask(functools.reduce(add, sent), SECRET, "run", 1, list(enumerate(nonces)))
    assert (total.values.tolist(), total.check) == plain_sum(parts)


def test_any_subset_opens_and_its_tags_say_which_it_is() -> None:
    nonces = [fresh_nonce() for _ in range(4)]
    parts = [slots([k, 10 * k], check=tag(SECRET, "run", 7, k, 4)) for k in range(4)]
    sent = [mask(part, SECRET, "run", 7, k, nonces[k]) for k, part in enumerate(parts)]
    for some in ([0, 1, 2], [3, 1], [2], [0, 1, 2, 3]):
        total = unmask(functools.reduce(add, [sent[k] for k in some]), SECRET, "run", 7, [(k, nonces[k]) for k in some])
        assert total.values.tolist() == [sum(some), 10 * sum(some)]
        check_tags(total.check, SECRET, "run", 7, some, 4)


def test_a_sum_of_others_does_not_open() -> None:
    """A replayed round, an office added twice or left out, one message handed out as the sum, a wrong key."""
    nonces = [fresh_nonce() for _ in range(3)]
    sent = [mask(slots([k], check=tag(SECRET, "run", 7, k, 3)), SECRET, "run", 7, k, nonces[k]) for k in range(3)]
    every, everyone = functools.reduce(add, sent), list(enumerate(nonces))
    check_tags(unmask(every, SECRET, "run", 7, everyone).check, SECRET, "run", 7, [0, 1, 2], 3)
    attempts = [
        (every, SECRET, 8, everyone),
        (add(every, sent[1]), SECRET, 7, everyone),
        (add(sent[0], sent[1]), SECRET, 7, everyone),
        (sent[0], SECRET, 7, everyone),
        (every, bytes(32), 7, everyone),
        (every, SECRET, 7, [(0, nonces[1]), (1, nonces[0]), (2, nonces[2])]),
        (every, SECRET, 7, [(0, fresh_nonce()), *everyone[1:]]),  # the nonce of another attempt
    ]
    for total, secret, round_, contributors in attempts:
        opened = unmask(total, secret, "run", round_, contributors)
        with pytest.raises(ProtectionError, match="must not be used"):
            check_tags(opened.check, secret, "run", round_, [0, 1, 2], 3)


def test_contributors_count_once() -> None:
    nonce = fresh_nonce()
    for contributors in ([], [(1, nonce), (1, nonce)], [(1, nonce), (2, nonce), (1, fresh_nonce())]):
        with pytest.raises(ProtectionError, match="each once"):
            unmask(slots([0]), SECRET, "run", 1, contributors)


def test_no_two_messages_share_a_pad() -> None:
    """The pad depends on every part of its context, on the secret and on the form."""
    zero, nonce = slots(np.zeros(8, np.uint32)), fresh_nonce()
    pads = [
        mask(zero, SECRET, "run", 1, 2, nonce),
        mask(zero, bytes(32), "run", 1, 2, nonce),
        mask(zero, SECRET, "nur", 1, 2, nonce),
        mask(zero, SECRET, "run", 2, 1, nonce),
        mask(zero, SECRET, "run", 12, 2, nonce),
        mask(zero, SECRET, "run", 1, 3, nonce),
        mask(zero, SECRET, "run", 1, 2, fresh_nonce()),
        mask(slots(np.zeros(9, np.uint32)), SECRET, "run", 1, 2, nonce),
        mask(slots(np.zeros(8, np.uint32), bits=15), SECRET, "run", 1, 2, nonce),
    ]
    assert len({pad.check for pad in pads}) == len(pads)
    assert len({(pad.values[:8] & 255).tobytes() for pad in pads}) == len(pads)


def test_a_retry_draws_a_new_nonce() -> None:
    nonces = {fresh_nonce() for _ in range(1000)}
    assert len(nonces) == 1000
    assert {len(nonce) for nonce in nonces} == {12}
    with pytest.raises(ProtectionError, match="12 bytes; office 3 gave 11"):
        mask(slots([1]), SECRET, "run", 1, 3, bytes(11))


def test_a_masked_vector_looks_uniform_whatever_is_in_it() -> None:
    for values in (np.zeros(200_000, np.uint32), np.full(200_000, 4095, np.uint32)):
        sent = mask(slots(values, bits=12), SECRET, "run", 1, 0, bytes(12))
        assert chisquare(np.bincount(sent.values, minlength=4096)).pvalue > 1e-6


def test_the_check_slot_is_masked_too() -> None:
    bytes_ = [
        mask(slots([0], check=5), SECRET, "run", round_, 0, bytes(12)).check.to_bytes(8, "big")
        for round_ in range(2000)
    ]
    for position in range(8):
        column = np.array([number[position] for number in bytes_]) >> 4
        assert chisquare(np.bincount(column, minlength=16)).pvalue > 1e-6


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from(BITS))
def test_shifting_there_and_back_is_nothing(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    start = Slots(drawn("random", rng, bits, 17), int(rng.integers(2**64, dtype=np.uint64)), bits)
    before = start.values.copy()
    keys = [random_key() for _ in range(3)]
    there = shift(start, plus=keys[:2], minus=keys[2:])
    back = shift(there, plus=keys[2:], minus=keys[:2])
    assert np.array_equal(back.values, start.values)
    assert back.check == start.check
    assert np.array_equal(start.values, before)  # the argument is left alone
    assert not np.array_equal(there.values, start.values)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["random", "saturated", "zero"]), st.sampled_from(BITS))
def test_values_survive_the_wire(seed: int, kind: str, bits: int) -> None:
    rng = np.random.default_rng(seed)
    for count in range(18):  # every filling of two groups of eight
        values = drawn(kind, rng, bits, count)
        wire = to_wire(values, bits)
        assert wire.dtype == np.uint8
        assert wire.shape == (-(-count * bits // 8),)
        back = from_wire(wire, count, bits)
        assert back.dtype == np.uint32
        assert np.array_equal(back, values)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=20), st.sampled_from(BITS))
def test_the_wire_is_one_long_little_endian_number(numbers: list[int], bits: int) -> None:
    values = [number % 2**bits for number in numbers]
    whole = sum(value << (i * bits) for i, value in enumerate(values))
    expected = whole.to_bytes(-(-len(values) * bits // 8), "little")
    assert to_wire(np.array(values, np.uint32), bits).tobytes() == expected


@pytest.mark.parametrize(("bits", "of_float32"), [(8, 0.25), (12, 0.375), (16, 0.5), (20, 0.625), (32, 1.0)])
def test_a_message_takes_no_more_bytes_than_its_bits(bits: int, of_float32: float) -> None:
    wire = pack(Slots(integers(None, 80_582, bits), 0, bits))
    assert wire.nbytes - 8 == -(-80_582 * bits // 8)
    assert wire.nbytes / (4 * 80_582) == pytest.approx(of_float32, rel=1e-4)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**64 - 1), st.sampled_from(BITS), st.integers(0, 20))
def test_slots_survive_the_wire(check: int, bits: int, count: int) -> None:
    sent = Slots(integers(None, count, bits), check, bits)
    back = unpack(pack(sent), count, bits)
    assert (back.check, back.bits, back.values.tolist()) == (check, bits, sent.values.tolist())


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros(5, np.uint8), r"are 6 bytes; found an array \(5,\)"),
        (np.zeros(7, np.uint8), r"are 6 bytes; found an array \(7,\)"),
        (np.zeros((2, 3), np.uint8), r"\(2, 3\)"),
        (np.zeros(6, np.float32), "of float32"),
        (np.full(6, 255, np.uint8), "last 3 bits behind 5 values"),
    ],
)
def test_other_arrays_are_refused(array: NDArray[np.uint8], match: str) -> None:
    with pytest.raises(ProtectionError, match=match):
        from_wire(array, 5, 9)


@pytest.mark.parametrize("array", [np.zeros((), np.uint8), np.zeros(3, np.uint8), np.zeros((2, 9), np.uint8)])
def test_other_messages_are_refused(array: NDArray[np.uint8]) -> None:
    with pytest.raises(ProtectionError, match="found"):
        unpack(array, 5, 9)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"bits": 7}, r"\[8, 32\]; found 7"),
        ({"values": np.array([1, 256], np.uint32)}, "below 256; found 256"),
        ({"values": np.array([1, 2], np.int64)}, "of int64"),
        ({"values": np.ones((1, 2), np.uint32)}, r"\(1, 2\)"),
        ({"check": -1}, "found -1"),
        ({"check": 2**64}, "found 18446744073709551616"),
    ],
)
def test_what_does_not_fit_a_slot_is_refused(change: dict, match: str) -> None:
    with pytest.raises(ProtectionError, match=match):
        dataclasses.replace(slots([1, 255], bits=8), **change)
