"""Fixed point: Decode(Encode(a) + Encode(b)) = p_a a + p_b b to the grid, and no sum ever leaves its slot."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.crypto.fixed_point import FixedPoint, Floats
from strategies.crypto.streams import ProtectionError

lawful = settings(max_examples=80, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)
BITS = st.integers(8, 32)
KINDS = ("random", "saturated", "extreme", "tiny", "zero", "edge")


@st.composite
def federations(draw: Any) -> tuple[FixedPoint, list[float]]:
    """A grid and the shares of all its offices, as n_k / N of sizes from alike to absurdly unequal."""
    bits = draw(BITS)
    offices = draw(st.integers(1, min(40, 2 ** (bits - 1) // 16)))
    sizes = draw(st.lists(st.floats(1e-9, 1e9), min_size=offices, max_size=offices))
    if draw(st.booleans()):
        sizes = [1.0] * offices
    shares = np.array(sizes) / np.array(sizes).sum()  # as the offices normalise
    return FixedPoint(bits, offices), shares.tolist()


def updates(kind: str, rng: np.random.Generator, clip: float, count: int = 30) -> Floats:
    """One office's update."""
    signs = rng.choice([-1.0, 1.0], count)
    return {
        "random": rng.uniform(-clip, clip, count),
        "saturated": signs * clip * rng.uniform(1, 10, count),
        "extreme": signs * np.finfo(np.float64).max,
        "tiny": signs * np.finfo(np.float64).tiny,
        "zero": np.zeros(count),
        "edge": signs * clip,
    }[kind]


def encoded(
    grid: FixedPoint, shares: Sequence[float], parts: Sequence[Floats], clip: float, rng: np.random.Generator | None
) -> list[list[int]]:
    """What each office sends, as Python's integers, which no sum overflows."""
    return [grid.encode(part, share, clip, rng)[0].tolist() for part, share in zip(parts, shares, strict=True)]


def summed(sent: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*sent, strict=True)]


@lawful
@given(federations(), SEEDS, st.lists(st.sampled_from(KINDS), min_size=40, max_size=40), st.booleans())
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_sum_over_all_offices_fits_its_slot_whatever_they_send(
    federation: tuple[FixedPoint, list[float]], seed: int, kinds: list[str], by_chance: bool
) -> None:
    (grid, shares), rng = federation, np.random.default_rng(seed)
    assert 2 * sum(map(grid.offset, shares)) <= 2**grid.bits - 2
    parts = [updates(kind, rng, 0.25) for kind, _ in zip(kinds, shares, strict=False)]
    sent = encoded(grid, shares, parts, 0.25, rng if by_chance else None)
    for values, share in zip(sent, shares, strict=True):
        assert 0 <= min(values) <= max(values) <= 2 * grid.offset(share)
    assert max(summed(sent)) < 2**grid.bits


@pytest.mark.parametrize("bits", range(8, 33))
def test_a_slot_is_full_to_the_last_few_numbers(bits: int) -> None:
    """No guard bit is wasted: everybody at +C comes within 4 K of the top."""
    for offices in {1, 3, 2 ** (bits - 1) // 16 if bits < 13 else 100}:
        grid, clip = FixedPoint(bits, offices), 1.0
        sent = encoded(grid, [1 / offices] * offices, [np.array([clip])] * offices, clip, None)
        assert 2**bits - 4 * offices - 2 <= summed(sent)[0] < 2**bits


@lawful
@given(federations(), SEEDS, st.floats(1e-12, 1e6), st.sampled_from(["nearest", "stochastic"]), st.data())
def test_the_mean_of_those_who_answered_is_within_the_bound(
    federation: tuple[FixedPoint, list[float]], seed: int, clip: float, rounding: str, data: st.DataObject
) -> None:
    (grid, shares), rng = federation, np.random.default_rng(seed)
    answered = data.draw(st.lists(st.sampled_from(range(len(shares))), min_size=1, unique=True))
    shares = [shares[k] for k in answered]
    parts = [updates("random", rng, clip) for _ in answered]
    total = np.array(summed(encoded(grid, shares, parts, clip, rng if rounding == "stochastic" else None)), np.uint32)
    mean = sum(share * part for share, part in zip(shares, parts, strict=True)) / sum(shares)
    bound = grid.error_bound(shares, clip, rounding)
    assert np.abs(grid.decode(total, shares, clip) - mean).max() <= bound * (1 + 1e-9) + 1e-12 * clip


def test_the_bound_is_reached() -> None:
    """Every office half a step off, on the same side: a smaller bound would be false."""
    grid, shares = FixedPoint(10, 4), [0.25] * 4
    step = 1.0 / (grid.levels * 0.25)  # of one office, in units of its update
    part = np.array([0.4999999 * step])
    total = np.array(summed(encoded(grid, shares, [part] * 4, 1.0, None)), np.uint32)
    assert grid.decode(total, shares, 1.0)[0] == 0
    assert part[0] == pytest.approx(grid.error_bound(shares, 1.0), rel=1e-6)


@lawful
@given(BITS, SEEDS, st.floats(0.05, 0.95), st.floats(1e-6, 1e3))
def test_decode_of_the_sum_is_the_sum_of_what_was_encoded(bits: int, seed: int, share: float, clip: float) -> None:
    """Decode(Encode(a) + Encode(b)) = p_a a + p_b b, exactly, where a and b are on the grid."""
    grid, rng = FixedPoint(bits, 2), np.random.default_rng(seed)
    shares = [share, 1 - share]
    whole = [rng.integers(-int(grid.levels * p), int(grid.levels * p) + 1, 30) for p in shares]
    on_grid = [q * (clip / (grid.levels * p)) for q, p in zip(whole, shares, strict=True)]
    sent = encoded(grid, shares, on_grid, clip, None)
    assert sent == [(q + grid.offset(p)).tolist() for q, p in zip(whole, shares, strict=True)]
    decoded = grid.decode(np.array(summed(sent), np.uint32), shares, clip)
    exact = [(int(a) + int(b)) * Fraction(clip) / grid.levels for a, b in zip(*whole, strict=True)]
    np.testing.assert_allclose(decoded, [float(value) for value in exact], rtol=1e-14, atol=0)


@lawful
@given(BITS, SEEDS, st.sampled_from(KINDS), st.floats(1e-9, 1), st.floats(1e-6, 1e3), st.booleans())
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_what_was_sent_and_what_is_left_are_the_update(
    bits: int, seed: int, kind: str, share: float, clip: float, by_chance: bool
) -> None:
    grid, rng = FixedPoint(bits, 1), np.random.default_rng(seed)
    update = updates(kind, rng, clip)
    update.flags.writeable = False  # an argument is left alone
    sent, left, clipped = grid.encode(update, share, clip, rng if by_chance else None)
    step = clip / (grid.levels * share)
    way = (sent.astype(np.float64) - grid.offset(share)) * step
    np.testing.assert_allclose(way + left, update, rtol=1e-12, atol=1e-14 * clip)
    assert clipped == np.count_nonzero(np.abs(update) > clip)
    if not clipped:
        assert np.abs(left).max() <= step * (1.0 if by_chance else 0.5) * (1 + 1e-9)


@lawful
@given(BITS, SEEDS, st.floats(0.01, 1))
def test_feedback_loses_nothing_in_the_long_run(bits: int, seed: int, share: float) -> None:
    """Whatever was sent in T rounds is the sum of T updates, but for what is left: half a step at most."""
    grid, rng, clip = FixedPoint(bits, 2), np.random.default_rng(seed), 1.0
    step = clip / (grid.levels * share)
    left, way, wanted = np.zeros(20), np.zeros(20), np.zeros(20)
    for _ in range(30):
        update = rng.uniform(-0.4, 0.4, 20) * min(1.0, 3 * step)
        sent, left, _ = grid.encode(update + left, share, clip)
        way += (sent.astype(np.float64) - grid.offset(share)) * step
        wanted += update
    np.testing.assert_allclose(way + left, wanted, rtol=1e-9, atol=1e-12)
    assert np.abs(way - wanted).max() <= step / 2 * (1 + 1e-9)


def test_small_updates_survive_feedback_and_chance_and_not_nearest() -> None:
    grid, share, rounds = FixedPoint(12, 4), 0.25, 400
    small = np.full(50, 0.3 / (grid.levels * share))  # 0.3 of a step, in every round
    nearest = grid.encode(small, share, 1.0)[0].astype(int) - grid.offset(share)
    assert not nearest.any()
    left, fed, lucky, rng = np.zeros(50), np.zeros(50), np.zeros(50), np.random.default_rng(0)
    for _ in range(rounds):
        sent, left, _ = grid.encode(small + left, share, 1.0)
        fed += sent.astype(int) - grid.offset(share)
        lucky += grid.encode(small, share, 1.0, rng)[0].astype(int) - grid.offset(share)
    assert np.abs(fed - 0.3 * rounds).max() <= 0.5
    assert np.abs(lucky - 0.3 * rounds).max() < 5 * np.sqrt(rounds * 0.3 * 0.7)


def test_chance_has_no_bias_and_takes_a_neighbour() -> None:
    grid, share, draws = FixedPoint(9, 3), 1 / 3, 20_000
    step = 1.0 / (grid.levels * share)
    for part in (0.0, 0.1, 0.5, 0.9, -0.25, 7.75, -7.75):
        sent, _, clipped = grid.encode(np.full(draws, part * step), share, 1.0, np.random.default_rng(1))
        q = sent.astype(int) - grid.offset(share)
        assert set(np.unique(q)) <= {int(np.floor(part)), int(np.ceil(part))}
        spread = np.sqrt(max(part % 1 * (1 - part % 1), 1e-12) / draws)
        assert abs(q.mean() - part) <= 5 * spread + 1e-9
        assert clipped == 0


def test_a_value_at_the_clip_is_not_clipped() -> None:
    rng = np.random.default_rng(0)
    for clip, share in zip(rng.uniform(1e-3, 2, 300), rng.uniform(1e-2, 1, 300), strict=True):
        edge = np.array([clip, -clip, np.nextafter(clip, 3)])
        assert FixedPoint(16, 4).encode(edge, share, clip)[2] == 1


def test_a_layer_has_its_own_clip() -> None:
    grid, clip = FixedPoint(16, 3), np.array([1.0, 1.0, 1e-3, 1e-3])
    update = np.array([0.5, 2.0, 5e-4, -1.0])
    sent, left, clipped = grid.encode(update, 1 / 3, clip)
    assert clipped == 2
    back = grid.decode(sent, [1 / 3], clip)
    np.testing.assert_allclose(back, [0.5, 1.0, 5e-4, -1e-3], rtol=2e-4)
    np.testing.assert_allclose(back + left, update, rtol=1e-12)


def test_a_sum_that_these_offices_cannot_have_sent_is_refused() -> None:
    grid, shares = FixedPoint(16, 4), [0.3, 0.2]
    most = 2 * sum(map(grid.offset, shares))
    assert grid.decode(np.array([0, most], np.uint32), shares, 1.0) == pytest.approx([-1.0, 1.0], abs=1e-3)
    with pytest.raises(ProtectionError, match="holds more than 2 offices send") as refusal:
        grid.decode(np.array([0, most + 1], np.uint32), shares, 1.0)
    assert str(most + 1) not in str(refusal.value), "the server may read it: no opened number"
    with pytest.raises(ProtectionError, match="not their sum"):
        grid.decode(np.array([most], np.uint32), shares[:1], 1.0)


@pytest.mark.parametrize(("bits", "most"), [(8, 8), (12, 128), (16, 2048), (32, 2**27)])
def test_so_few_bits_carry_so_many_offices(bits: int, most: int) -> None:
    assert FixedPoint(bits, most).levels >= 15 * most - 1, "the grid stays fine"
    for offices in (0, most + 1):
        with pytest.raises(ProtectionError, match=rf"{bits} bits carry sums of 1 to {most} offices; found {offices}"):
            FixedPoint(bits, offices)


@pytest.mark.parametrize("bits", [7, 33, 0, -1])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(ProtectionError, match=rf"\[8, 32\]; found {bits}"):
        FixedPoint(bits, 1)


def test_an_empty_update_is_one() -> None:
    grid, none = FixedPoint(16, 3), np.empty(0)
    sent, left, clipped = grid.encode(none, 0.5, 1.0)
    assert (sent.size, left.size, clipped) == (0, 0, 0)
    assert grid.decode(sent, [0.5], 1.0).size == 0


@pytest.mark.parametrize("by_chance", [False, True])
def test_the_compiled_pass_has_the_bits_of_the_formula(by_chance: bool) -> None:
    rng = np.random.default_rng(4)
    update = rng.normal(size=5000) * 10.0 ** rng.integers(-9, 9, 5000)
    update[:6] = [0.0, -0.0, 0.25, -0.25, 1e300, -1e300]
    clip, grid, share = np.where(rng.random(5000) < 0.5, 0.25, 3.0), FixedPoint(12, 5), 0.37
    values, left, clipped = grid.encode(update, share, clip, np.random.default_rng(9) if by_chance else None)
    limit, offset = grid.levels * share, grid.offset(share)
    scaled = np.clip(update * (limit / clip), -limit, limit)
    whole = np.floor(scaled + np.random.default_rng(9).random(5000)) if by_chance else np.rint(scaled)
    whole = np.clip(whole, -offset, offset)
    assert np.array_equal(values, (whole + offset).astype(np.uint32))
    assert np.array_equal(left, update - whole * (clip / limit))
    assert clipped == np.count_nonzero(np.abs(update) > clip)
