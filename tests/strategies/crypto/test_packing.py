"""Packing: sums of packs are packs of sums, whatever the widths."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategies import StrategyError
from strategies.crypto.paillier.packing import Packing

layouts = st.builds(Packing, st.integers(1, 60), st.integers(8, 32), st.integers(64, 300))
property_test = settings(max_examples=100, deadline=None, derandomize=True)


def by_hand(values: NDArray[np.uint32], tag: int, slots: Packing) -> list[int]:
    """The formula, one value at a time."""
    plaintexts, position = [tag], 64
    for value in values.tolist():
        if position + slots.bits > slots.capacity:
            plaintexts.append(0)
            position = 0
        plaintexts[-1] += value << position
        position += slots.bits
    return plaintexts


@property_test
@given(slots=layouts, offices=st.integers(1, 6), data=st.data())
def test_unpack_of_a_sum_of_packs_is_the_sum(slots: Packing, offices: int, data: st.DataObject) -> None:
    """On random values, on none, and on sums that fill every slot to its last bit."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    fill = data.draw(st.sampled_from(["random", "none", "all"]))
    top, high = 2**slots.bits - 1, 2**64 - 1
    total = {
        "random": rng.integers(0, top, slots.count, np.uint64, endpoint=True),
        "none": np.zeros(slots.count, np.uint64),
        "all": np.full(slots.count, top, np.uint64),
    }[fill]
    tag = {"random": int(rng.integers(0, high, dtype=np.uint64)), "none": 0, "all": high}[fill]
    cuts = np.sort(rng.integers(0, total, (offices - 1, slots.count), np.uint64, endpoint=True), axis=0)
    parts = np.diff(np.vstack([np.zeros_like(total), cuts, total]), axis=0)
    tags = [b - a for a, b in pairwise([0, *sorted(int(tag * x) for x in rng.random(offices - 1)), tag])]
    assert min(tags) >= 0
    packs = [slots.pack(part, one) for part, one in zip(parts, tags, strict=True)]
    assert all(len(pack) == slots.plaintexts for pack in packs)
    assert all(0 <= m < 2**slots.capacity for pack in packs for m in pack)
    values, found = slots.unpack([sum(column, mpz(0)) for column in zip(*packs, strict=True)])
    assert values.dtype == np.uint32
    np.testing.assert_array_equal(values, total)
    assert found == tag


@property_test
@given(slots=layouts, seed=st.integers(0, 2**32))
def test_the_layout_is_the_formulas(slots: Packing, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**slots.bits, slots.count).astype(np.uint32)
    assert slots.pack(values, 2**64 - 3) == by_hand(values, 2**64 - 3, slots)


def test_an_update_of_the_benchmarks_network() -> None:
    """80,582 weights and n of 3072 bits: 1.01 of float32's bytes at 16 bits, 0.76 at 12."""
    assert Packing(80_582, 16, 3071).plaintexts == 422
    assert Packing(80_582, 12, 3071).plaintexts == 317
    ratios = [ciphertexts * 768 / (80_582 * 4) for ciphertexts in (422, 317)]
    assert ratios == pytest.approx([1.0055, 0.7553], abs=1e-4)


def test_what_cannot_be_packed_is_refused() -> None:
    slots = Packing(5, 10, 128)
    for bad in (np.zeros(4, np.uint32), np.zeros((5, 1), np.uint32), np.zeros(5, np.int64), np.zeros(5, np.float32)):
        with pytest.raises(StrategyError, match="5 unsigned integers"):
            slots.pack(bad, 0)
    with pytest.raises(StrategyError, match="holds 10 bits; found a value of 1024"):
        slots.pack(np.array([0, 1024, 0, 0, 0], np.uint64), 0)
    for tag in (-1, 2**64):
        with pytest.raises(StrategyError, match="tag"):
            slots.pack(np.zeros(5, np.uint32), tag)
    for count, bits, capacity in ((0, 16, 128), (5, 7, 128), (5, 33, 128), (5, 16, 63)):
        with pytest.raises(StrategyError, match="must be"):
            Packing(count, bits, capacity)


def test_what_is_no_sum_of_packs_is_noticed() -> None:
    slots = Packing(9, 16, 100)  # 2 values beside the tag, 6, and 1 in the last plaintext
    good = slots.pack(np.full(9, 2**16 - 1, np.uint32), 0)
    with pytest.raises(StrategyError, match="expected 3 plaintexts; found 2"):
        slots.unpack(good[:2])
    with pytest.raises(StrategyError, match="exceeds 100 bits"):
        slots.unpack([*good[:2], mpz(2) ** 100])
    with pytest.raises(StrategyError, match="exceeds 100 bits"):
        slots.unpack([*good[:2], mpz(-1)])
    with pytest.raises(StrategyError, match=r"3 of 3 plaintexts have bits outside .* overflowed"):
        slots.unpack([m + m for m in good])  # every slot at the top carries
    with pytest.raises(StrategyError, match="1 of 3 plaintexts"):
        slots.unpack([*good[:2], good[2] + 2**16])
