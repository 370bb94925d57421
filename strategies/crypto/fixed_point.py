"""Updates as integers whose sum fits its slots exactly: the fixed point under every secure sum.

An office with weight share p_k (the shares of all K offices sum to at most 1) clips its update u to [-C, C] and sends

    v = o_k + clamp(round(u p_k Q / C), -o_k, o_k),    o_k = ceil(Q p_k),    Q = 2^(bits-1) - 1 - K

Each v lies in [0, 2 o_k], and sum_k 2 o_k <= 2 (Q + K) = 2^bits - 2: a sum over any of the offices stays below 2^bits,
so a slot is `bits` wide and needs no guard bit. Whoever opens the sum S of the offices that answered takes

    d = (S - sum o_k) C / (Q sum p_k)

which is their weighted mean update to within K C / (2 Q sum p_k), for rounding to nearest and nothing clipped:
Decode(Encode(a) + Encode(b)) = p_a a + p_b b, to the grid. The exponent C / Q is fixed before the round and alike for
all; one that followed each number would travel in clear and tell its magnitude.

Below 16 bits rounding to nearest loses every late, small update, with a bias. `feedback` keeps what was not sent and
adds it in the next round (Seide, Fu, Droppo, Li, Yu: 1-Bit Stochastic Gradient Descent, INTERSPEECH 2014); `stochastic`
rounds up with the probability of the remainder, which has no bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategies.crypto.streams import ProtectionError, check_bits

Floats = NDArray[np.float64]
ROUNDINGS = ("nearest", "feedback", "stochastic")


@dataclass(frozen=True)
class FixedPoint:
    """The grid of one federation.

    Attributes:
        bits: width of a slot, 8..32.
        offices: K, of all that may ever add to one sum; at most 2^(bits-1) / 16, so that the grid stays fine.
        margin: h, room for an office's noise in [-h, h] beside its v; it takes K h of the levels.

    Raises:
        ProtectionError: bits or offices out of range.
    """

    bits: int
    offices: int
    margin: int = 0

    def __post_init__(self) -> None:
        check_bits(self.bits)
        most = (1 << (self.bits - 1)) // 16
        if not 1 <= self.offices <= most:
            raise ProtectionError(
                f"{self.bits} bits carry sums of 1 to {most} offices; found {self.offices}. Give more bits"
            )
        if self.levels < 1:
            raise ProtectionError(f"{self.bits} bits have no room for noise of up to {self.margin}. Give more bits")

    @property
    def levels(self) -> int:
        """Q."""
        return (1 << (self.bits - 1)) - 1 - self.offices * (1 + self.margin)

    def offset(self, share: float) -> int:
        """o_k."""
        return math.ceil(self.levels * share)

    def encode(
        self, update: Floats, share: float, clip: Floats | float, rng: np.random.Generator | None = None
    ) -> tuple[NDArray[np.uint32], Floats, int]:
        """What an office sends for an update.

        Args:
            update: (d,), finite; with feedback, what was left of the last round is added already.
            share: p_k, in (0, 1].
            clip: C > 0, one number or (d,).
            rng: rounds by chance; None rounds to nearest.

        Returns:
            v (d,) in [0, 2 o_k]; what was not sent, update - (v - o_k) C / (Q p_k), (d,); how many values were clipped.
        """
        from strategies.numerics.vectors import to_grid  # compiled: what only lists strategies does without

        chance = None if rng is None else rng.random(update.shape)
        clips = np.full(update.shape, clip, np.float64)
        return to_grid(np.ascontiguousarray(update), clips, self.levels * share, self.offset(share), chance)

    def decode(self, total: NDArray[np.uint32], shares: Sequence[float], clip: Floats | float) -> Floats:
        """The weighted mean update (d,) of the offices with these shares, from the sum of what they sent.

        Raises:
            ProtectionError: a slot holds more than these offices can have sent.
        """
        offset = sum(self.offset(share) + self.margin for share in shares)
        if total.size and int(total.max()) > 2 * offset:
            # Without the number: what an office says may reach the server, which could shift a slot to learn it.
            raise ProtectionError(f"a slot of the sum holds more than {len(shares)} offices send. It is not their sum")
        return (total.astype(np.float64) - offset) * (np.asarray(clip, np.float64) / (self.levels * sum(shares)))

    def error_bound(self, shares: Sequence[float], clip: float, rounding: str = "nearest") -> float:
        """Largest error of the mean of a round, nothing clipped: K C / (2 Q sum p_k), and twice that by chance."""
        step = clip / (self.levels * sum(shares))
        return len(shares) * step * (1.0 if rounding == "stochastic" else 0.5)
