"""Where noise and coins come from: one stream of words a key, and normal numbers of these words.

    words     AES-256 in counter mode, as `crypto.streams` has it: Dworkin, NIST SP 800-38A. Words of 32 bits.
    normals   Box, Muller: A Note on the Generation of Random Normal Deviates, Annals of Mathematical Statistics 29
              (1958): of u in (0, 1) and an angle, two independent normal numbers

                  r = sqrt(-2 ln u),    z_1 = r cos(angle),    z_2 = r sin(angle)

    coins     word < round(p 2^32)

A key comes from the operating system, or from a seed where a simulation must be repeatable. Noise whose seed anybody
knows protects nobody: records tell the two apart as `noise_source`. A stream belongs to one office, round, step and
purpose; two that share a key are one, and the difference of two replies then has no noise in it.

Two words make two normals. Of their 64 bits u takes 38, the angle within its quadrant 24, and two are the signs:

    u = (k + 1/2) / 2^38,    z_1, z_2 = +-sqrt(-ln u) (cos psi -+ sin psi),    psi uniform in (-pi/4, pi/4)

since cos(pi/4 + psi) = (cos psi - sin psi) / sqrt(2), and with a plus the sine. No quadrant has to be looked up. The
largest radius is sqrt(-2 ln 2^-39) = 7.35. A u of 32 bits would end at 6.76, and what one of two neighbours reaches
beyond the end of the other would cost some 2e-6 of delta in 1,000 full-batch steps of 80,582 numbers at epsilon 8; now
it is 64 times less.

The logarithm is a polynomial in s = f / (2 + f), with 1 + f what is left of u after its exponent; sine and cosine are
polynomials on (-pi/4, pi/4). There is no branch and no call, so that eight pairs are computed side by side. The numbers
are those of the formula to within 1.2e-6 sigma, and the same bits on every machine.

They are floats, hence no exact Gaussian: their last digits can tell more than the accounting knows (Mironov: On
Significance of the Least Significant Bits for Differential Privacy, CCS 2012). Who has to rule that out adds integers:
`privacy.discrete`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numba import njit, types
from numpy.typing import NDArray

from strategies.base import StrategyError, check_range
from strategies.crypto.streams import KEY_BYTES, random_key

WORD_BITS = 32
LARGEST = math.sqrt(2 * 39 * math.log(2))  # no normal number is beyond, in sigmas
_ZEROS = memoryview(bytes(1 << 20))  # encrypted, it is the stream


class NoiseStream:
    """The words of one key, each given out once, in order: words(3), words(5) are words(8).

    A stream remembers where it is, as a generator does. It must not be carried into a second process by a fork.

    Raises:
        StrategyError: the key has not 32 bytes.
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:  # its content is never shown
            raise StrategyError(f"the key of a noise stream must have {KEY_BYTES} bytes; found {len(key)}")
        self._cipher = Cipher(AES(key), CTR(bytes(16))).encryptor()

    def fill(self, words: NDArray[np.uint32]) -> None:
        """Overwrite an array (n,) with the next n words: what `words` does, in memory that is there already."""
        octets = words.view(np.uint8).data
        for start in range(0, len(octets), len(_ZEROS)):
            part = octets[start : start + len(_ZEROS)]
            self._cipher.update_into(_ZEROS[: len(part)], part)

    def words(self, count: int) -> NDArray[np.uint32]:
        """(count,) uniform words of 32 bits."""
        words = np.empty(count, np.uint32)
        self.fill(words)
        return words

    def normals(self, count: int, scale: float = 1.0) -> NDArray[np.float32]:
        """(count,) numbers of N(0, scale^2). An odd count takes a word more than it has numbers.

        Raises:
            StrategyError: the scale is negative or not finite.
        """
        check_range("scale", scale, 0)
        normals = np.zeros(count, np.float32)
        add_normals(normals, self.words(words_for(count)), scale)
        return normals

    def coins(self, count: int, probability: float) -> NDArray[np.bool_]:
        """(count,) coins, true with the probability to within 2^-33; 1 is always.

        Raises:
            StrategyError: the probability is outside [0, 1].
        """
        check_range("probability", probability, 0, 1)
        coins: NDArray[np.bool_] = self.words(count) < round(probability * 2**WORD_BITS)
        return coins


def stream_of(entropy: np.random.SeedSequence, secure: bool) -> NoiseStream:
    """The operating system's stream, which nobody can draw again, if it is to be secure, else that of the seed.

    Simulations are to be repeated and take the seed's: give each stream a spawn key of its own.
    """
    return NoiseStream(random_key() if secure else entropy.generate_state(KEY_BYTES // 4).astype("<u4").tobytes())


def words_for(count: int) -> int:
    """Words that `count` normals take: the next even number."""
    return count + count % 2


_f4, _i4 = types.float32, types.int32
_two_f4 = types.UniTuple(_f4, 2)  # type: ignore[no-untyped-call]
_words = types.Array(types.uint32, 1, "C", readonly=True)
_one, _two = np.float32(1), np.float32(2)
_coarse, _fine, _half = np.float32(2.0**-32), np.float32(2.0**-38), np.float32(2.0**-39)  # of u
_turn = np.float32(math.pi / 4 * 2.0**-24)  # of psi, whose 24 bits are odd multiples of it
_sqrt_half, _top = np.int32(0x3F3504F3), np.int32(-(1 << 31))  # bits of sqrt(1/2) as a float, and the sign's bit
_ln2 = np.float32(math.log(2))
# Least largest errors: of ln((1 + s) / (1 - s)) 8e-10 s on |s| <= 0.1716; on |psi| <= pi/4 2e-9 and 3e-8.
_l0, _l1, _l2 = np.float32(0.66666776), np.float32(0.39977542), np.float32(0.29871728)
_s0, _s1, _s2 = np.float32(-0.16666651), np.float32(0.00833198), np.float32(-0.00019496)
_c0, _c1, _c2 = np.float32(-0.49999895), np.float32(0.04165629), np.float32(-0.00135978)


@njit([_i4(_f4)], cache=True)
def _bits(number: Any) -> Any:
    return np.float32(number).view(np.int32)


@njit([_f4(_i4)], cache=True)
def _float(bits: Any) -> Any:
    return np.int32(bits).view(np.float32)


@njit([_two_f4(types.uint32, types.uint32, _f4)], cache=True, error_model="numpy")
def _pair(first: Any, second: Any, scale: Any) -> Any:
    """Two normals of two words. Integers are cast after every operation: numba would widen them to 64 bits, and half
    as many would fit side by side."""
    k, j = np.int32(first), np.int32(second)
    # v in (0, 1/2), and u = v or 1 - v, whichever the top bit says: 1 - v alone would lose what is left of a small v
    v = np.float32(np.int32(k ^ np.int32(k >> 31))) * _coarse + (np.float32(np.int32(j & 63)) * _fine + _half)
    u = _one - v if k < 0 else v
    # u = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)): ln u = e ln 2 + ln((1 + s) / (1 - s)), s = f / (2 + f)
    bits = _bits(u)
    e = np.int32(np.int32(bits - _sqrt_half) >> 23)
    mantissa = _float(np.int32(bits - np.int32(e << 23)))
    f = mantissa - _one if e else -v
    s = f / (_two + f)
    z = s * s
    log = np.float32(e) * _ln2 + s * (_two + z * (_l0 + z * (_l1 + z * _l2)))
    r = scale * np.float32(math.sqrt(-log))
    psi = np.float32(np.int32(np.int32(np.int32(j << 2) >> 7) | 1)) * _turn
    p = psi * psi
    sin = psi + psi * p * (_s0 + p * (_s1 + p * _s2))
    cos = _one + p * (_c0 + p * (_c1 + p * _c2))
    z_1 = _float(np.int32(_bits(r * (cos - sin)) ^ np.int32(np.int32(j << 1) & _top)))
    z_2 = _float(np.int32(_bits(r * (cos + sin)) ^ np.int32(j & _top)))
    return z_1, z_2


@njit([types.void(types.float32[::1], _words, types.float64)], cache=True, error_model="numpy")
def add_normals(target: Any, words: Any, scale: float) -> None:
    """target += N(0, scale^2) in place, for target (n,) and at least `words_for(n)` words, in one pass.

    Compiled code may call it. Of the h = words_for(n) / 2 pairs, pair i has words i and h + i and makes entries i and
    h + i, so that neighbours are read and written together.
    """
    half = (len(target) + 1) // 2
    if len(words) < 2 * half:
        raise ValueError("add_normals needs a word for every number, rounded up to an even count; found fewer words")
    rest = len(target) - half
    low, high, ks, js = target[:half], target[half:], words[:half], words[half : 2 * half]
    factor = np.float32(scale)
    for i in range(rest):
        z_1, z_2 = _pair(ks[i], js[i], factor)
        low[i] += z_1
        high[i] += z_2
    if rest < half:
        low[rest] += _pair(ks[rest], js[rest], factor)[0]
