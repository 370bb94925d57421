"""Where noise and coins come from: known bytes, the formula in float64, the distribution, and independence."""

from __future__ import annotations

import math
import pickle
import time
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray
from scipy.stats import binomtest, kstest, norm

from strategies.base import StrategyError
from strategies.crypto.streams import keystream
from strategies.privacy.noise import LARGEST, NoiseStream, add_normals, stream_of, words_for

KEY = bytes(range(32))
MODEL = 80_582  # weights of the MLP 561-128-64-6


def seeded(*path: int) -> NoiseStream:
    return stream_of(np.random.SeedSequence(7, spawn_key=path), secure=False)


def from_system() -> NoiseStream:
    return stream_of(np.random.SeedSequence(7), secure=True)


def in_float64(words: NDArray[np.uint32], count: int) -> NDArray[np.float64]:
    """The formula as the module states it, by the library's logarithm, sine and cosine."""
    half = (count + 1) // 2
    k, j = words[:half].astype(np.int64), words[half : 2 * half].astype(np.int64)
    upper = k >= 1 << 31
    v = ((np.where(upper, (1 << 32) - 1 - k, k) << 6) + (j & 63) + 0.5) / 2**38
    r = np.sqrt(np.where(upper, -np.log1p(-v), -np.log(v)))
    turn = (j >> 6) & 0xFFFFFF
    psi = (np.where(turn >= 1 << 23, turn - (1 << 24), turn) + 0.5) * (math.pi / 2) / 2**24
    z_1 = r * (np.cos(psi) - np.sin(psi)) * np.where(j >> 30 & 1, -1, 1)
    z_2 = r * (np.cos(psi) + np.sin(psi)) * np.where(j >> 31 & 1, -1, 1)
    return np.concatenate([z_1, z_2])[:count]


def test_the_words_are_aes_256_in_counter_mode() -> None:
    # McGrew, Viega: GCM test cases 13 and 14, key 0: H, the block of counter 1, and the one of counter 2.
    blocks = "dc95c078a2408989ad48a21492842087 530f8afbc74536b9a963b4f1c4cb738b cea7403d4d606b6e074ec5d3baf39d18"
    assert NoiseStream(bytes(32)).words(12).tobytes() == bytes.fromhex(blocks)


@pytest.mark.parametrize("parts", [(1, 2, 5), (3, 300_000), (262_144, 262_145), (0, 7)])
def test_a_stream_goes_on_where_it_stopped(parts: tuple[int, ...]) -> None:
    stream = NoiseStream(KEY)
    words = np.concatenate([stream.words(part) for part in parts])
    assert words.tobytes() == keystream(KEY, 4 * sum(parts))
    given = np.full(5, 9, np.uint32)
    stream.fill(given)
    assert given.tobytes() == keystream(KEY, 4 * sum(parts) + 20)[-20:]


def test_a_seed_repeats_its_stream_and_the_system_never_does() -> None:
    assert np.array_equal(seeded(1, 2).normals(99), seeded(1, 2).normals(99))
    assert not np.array_equal(seeded(1, 2).words(9), seeded(2, 1).words(9))
    assert not np.array_equal(from_system().words(9), from_system().words(9))


def test_a_stream_cannot_be_stored_and_shows_no_key() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(from_system())
    with pytest.raises(StrategyError, match=r"32 bytes; found 6$") as refused:
        NoiseStream(b"secret")
    assert "secret" not in str(refused.value)


def test_normals_are_the_formula_in_float64() -> None:
    count = 400_000
    words = seeded(3).words(words_for(count))
    edges = np.arange(200, dtype=np.uint32)
    for where, start in enumerate((0, 2**31 - 100, 2**32 - 200, int(2**32 * 0.7071) - 100, int(2**32 * 0.2929) - 100)):
        words[200 * where : 200 * (where + 1)] = start + edges  # the tail, the middle, radius 0, and both seams
    normals = np.zeros(count, np.float32)
    add_normals(normals, words, 1.0)
    expected = in_float64(words, count)
    assert np.abs(expected).max() > 6
    assert np.abs(normals - expected).max() < 1.2e-6
    radius = np.hypot(*expected.reshape(2, -1))
    small = np.tile(radius < 0.01, 2)  # near 0, where 1 - u has lost its digits, they must be those of v
    assert small.sum() > 400
    assert np.abs(normals - expected)[small].max() < 2e-9


@pytest.mark.parametrize(("k", "j", "sign_1", "sign_2"), [(0, 0, 1, 1), (0, 2**30, -1, 1), (0, 2**31, 1, -1)])
def test_the_largest_normal_and_the_signs(k: int, j: int, sign_1: int, sign_2: int) -> None:
    pair = np.zeros(2, np.float32)
    add_normals(pair, np.array([k, j], np.uint32), 1.0)
    assert pair == pytest.approx([sign_1 * LARGEST / math.sqrt(2), sign_2 * LARGEST / math.sqrt(2)], rel=1e-6)


def test_the_same_bits_side_by_side_and_one_by_one() -> None:
    words = seeded(4).words(1000)
    together, alone = np.zeros(1000, np.float32), np.zeros((500, 2), np.float32)
    add_normals(together, words, 0.3)
    for i in range(500):
        add_normals(alone[i], words[[i, 500 + i]], 0.3)
    assert together.tobytes() == alone.T.tobytes()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17, 1001])
def test_odd_counts_drop_the_last_number_alone(count: int) -> None:
    even = count + count % 2
    assert seeded(5).normals(count).tobytes() == seeded(5).normals(even)[:count].tobytes()
    one, other = seeded(5), seeded(5)
    one.normals(count)
    other.words(even)
    assert np.array_equal(one.words(3), other.words(3))


def test_noise_is_added_and_scaled_and_compiled_code_may_call_it() -> None:
    @njit
    def twice(target: Any, words: Any) -> None:
        add_normals(target, words, 0.5)
        add_normals(target, words, 0.5)

    words = seeded(6).words(100)
    unit, target = np.zeros(99, np.float32), np.full(99, 8, np.float32)
    add_normals(unit, words, 1.0)
    twice(target, words)
    assert target == pytest.approx(8 + unit, abs=1e-5)
    assert seeded(6).normals(99, 2.0) == pytest.approx(2 * unit, rel=1e-6)
    assert not seeded(6).normals(99, 0.0).any()


def test_the_distribution_is_normal() -> None:
    count = 4_000_000
    z = seeded(8).normals(count).astype(np.float64)
    assert kstest(z[:400_000], "norm").pvalue > 1e-3
    moments = [np.mean(z**power) for power in (1, 2, 3, 4, 6)]
    spread = [1, 2, 15, 96, 10_170]  # variances of z, z^2, z^3, z^4, z^6
    for moment, expected, variance in zip(moments, (0, 1, 0, 3, 15), spread, strict=True):
        assert abs(moment - expected) < 4 * math.sqrt(variance / count)
    for sigma in (3, 4, 5):
        for beyond in (z > sigma, z < -sigma):
            assert binomtest(int(beyond.sum()), count, norm.sf(sigma)).pvalue > 1e-3
    assert np.abs(z).max() < LARGEST


def test_the_two_of_a_pair_are_independent() -> None:
    a, b = seeded(9).normals(1_000_000).reshape(2, -1).astype(np.float64)
    bound = 4 / math.sqrt(len(a))
    for f in (lambda z: z, np.square, np.abs, np.sign):
        for g in (lambda z: z, np.square, np.abs, np.sign):
            assert abs(np.corrcoef(f(a), g(b))[0, 1]) < bound
    assert kstest(np.arctan2(b, a), "uniform", (-math.pi, 2 * math.pi)).pvalue > 1e-3


def test_no_two_vectors_correlate() -> None:
    length = 20_000
    offices = [[seeded(office, round_) for round_ in range(8)] for office in range(4)]
    streams = [stream for office in offices for stream in office]
    vectors = [stream.normals(length) for stream in streams for _ in range(2)]  # 64: steps of one stream, too
    correlations = np.abs(np.corrcoef(vectors) - np.eye(len(vectors)))
    assert correlations.max() < 5 / math.sqrt(length)
    [same] = np.corrcoef(seeded(0, 0).normals(length), seeded(0, 0).normals(length))[:1, 1]
    assert same == pytest.approx(1)  # what the bound is there to find


@pytest.mark.parametrize("probability", [1e-4, 1 / 33, 0.5, 0.999])
def test_coins_have_their_rate(probability: float) -> None:
    coins = seeded(10).coins(1_000_000, probability)
    assert coins.dtype == np.bool_
    assert binomtest(int(coins.sum()), coins.size, probability).pvalue > 1e-3
    assert np.array_equal(coins, seeded(10).words(1_000_000) < round(probability * 2**32))


class Given(NoiseStream):
    """A stream of one word."""

    word = 0

    def fill(self, words: NDArray[np.uint32]) -> None:
        words[:] = self.word


def test_a_coin_is_decided_to_the_word() -> None:
    stream = Given(KEY)
    for probability, below in ((0.0, 0), (2.0**-32, 1), (1 / 33, round(2**32 / 33)), (0.5, 2**31), (1.0, 2**32)):
        for word in {0, max(0, below - 1), min(below, 2**32 - 1), 2**32 - 1}:
            stream.word = word
            assert stream.coins(1, probability) == [word < below], (probability, word)


def test_refusals() -> None:
    for probability in (-0.1, 1.1, math.nan):
        with pytest.raises(StrategyError, match="probability"):
            seeded(0).coins(1, probability)
    for scale in (-1.0, math.inf, math.nan):
        with pytest.raises(StrategyError, match="scale"):
            seeded(0).normals(1, scale)
    with pytest.raises(ValueError, match="fewer words"):
        add_normals(np.zeros(3, np.float32), np.zeros(3, np.uint32), 1.0)


def test_noise_of_a_model_takes_a_fraction_of_a_step() -> None:
    stream, words, target = seeded(12), np.empty(MODEL, np.uint32), np.zeros(MODEL, np.float32)
    seconds = []
    for _ in range(50):
        start = time.thread_time()
        stream.fill(words)
        add_normals(target, words, 1.0)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.6e-3  # 0.11 ms where eight pairs are computed at once, 0.7 where one is
