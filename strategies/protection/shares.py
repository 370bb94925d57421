"""Noise that the offices of a sum add in shares, so that nobody ever sees the sum without it.

An office rounds its update to the grid and adds an integer from a discrete Gaussian of variance

    s^2 = ceil(sigma^2 D^2 / (K_min - t))

so that the shares of any K_min offices, less those of t curious ones who know theirs, hold noise of standard deviation
sigma D or more; fewer than K_min fail the round. D is what one unit can move the integers of one office, rounding
included (`strategies.privacy.discrete`). Shares are clamped ten standard deviations out, which is as good as never, and
the grid keeps room for them: with margin h = ceil(10 s) an office sends o_k + h + v + z in [0, 2 (o_k + h)].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategies.base import StrategyError
from strategies.crypto.fixed_point import FixedPoint
from strategies.crypto.streams import ProtectionError
from strategies.privacy.discrete import (
    LARGEST_NUMERATOR,
    TAIL,
    discrete_gaussian,
    grid_sensitivity,
    share_bound,
    share_variance,
)
from strategies.privacy.noise import NoiseStream

ROOM = 4.0  # a unit's bound over the grid's clip: entries are rarely longer than a quarter of a long vector
LONG = 256  # entries; a shorter vector may lie in one of them, and gets the whole bound


@dataclass(frozen=True)
class NoiseShares:
    """What decides the noise of a run's sums.

    Attributes:
        noise_multiplier: sigma.
        bound: how far one unit can move one office's update, L2, by round.
        spread: in how many offices' updates one unit is.
        reach: how far an entry of an office's update may be expected to reach, by round.
        alone: whether the unit is all of the office's update (client-level privacy), or one of the many in it.
        min_offices: K_min.
        curious: t.
    """

    noise_multiplier: float
    bound: Callable[[int], float]
    spread: int
    reach: Callable[[int], float]
    alone: bool
    min_offices: int
    curious: int

    def clip(self, round_: int, dimension: int) -> float:
        """C of the grid in a round, unless one is given."""
        return self.reach(round_) / (ROOM if dimension >= LONG else 1.0)

    def grid(self, bits: int, offices: int, dimension: int, clip: float, round_: int, rounding: str) -> NoisyGrid:
        """The grid of a round whose slots hold updates and noise.

        Raises:
            StrategyError: too few bits for this noise.
        """
        rest = (offices, dimension, clip, round_, rounding)
        found = self._fitted(bits, *rest)
        if isinstance(found, NoisyGrid):
            return found
        enough = next((more for more in range(bits + 1, 33) if isinstance(self._fitted(more, *rest), NoisyGrid)), None)
        remedy = f"set bits={enough}" if enough else "even 32 are too few: take fewer offices, or less noise"
        raise StrategyError(f"bits={bits} carry no noise of this size ({str(found).partition('. ')[0]}); {remedy}")

    def _fitted(
        self, bits: int, offices: int, dimension: int, clip: float, round_: int, rounding: str
    ) -> NoisyGrid | ValueError:
        """The grid, or what it has no room for."""
        ratio, room = self.bound(round_) / clip, (1 << (bits - 1)) - 1 - offices

        def noise(levels: int) -> tuple[int, float]:
            """s^2 and D, if the grid had so many levels."""
            sensitivity = self.spread * grid_sensitivity(ratio * levels / offices, dimension, rounding, self.alone)
            return share_variance(self.noise_multiplier, sensitivity, self.min_offices, self.curious), sensitivity

        # Noise takes of the levels that it is measured in, levels + K h(levels) = room, with h = 10 s to rounding; and
        # the sampler is exact up to a largest s.
        each = TAIL * self.noise_multiplier * self.spread / math.sqrt(max(1, self.min_offices - self.curious))
        added = math.sqrt(dimension) * (0.5 if self.alone and rounding == "nearest" else 1.0)
        fit = (room - offices * each * added) / (1 + each * ratio)
        finest = 0.999 * (TAIL * math.sqrt(LARGEST_NUMERATOR) / each - added) * offices / ratio
        levels = max(1, math.ceil(min(fit, finest)))
        try:
            for _ in range(3):  # rounding up may want a level more
                variance, sensitivity = noise(levels)
                margin = max(share_bound(variance), -(-(room - levels) // offices))
                if room - offices * share_bound(variance) <= levels or fit > finest:
                    break
                levels += offices
            return NoisyGrid(FixedPoint(bits, offices, margin), variance, sensitivity)
        except ValueError as error:
            return error


@dataclass(frozen=True)
class NoisyGrid:
    """A fixed point with room for noise.

    Attributes:
        fixed: the fixed point.
        variance: s^2 of a share, in squared units of the grid.
        sensitivity: D, in units of the grid.
    """

    fixed: FixedPoint
    variance: int
    sensitivity: float

    def share(self, stream: NoiseStream, count: int) -> NDArray[np.int64]:
        """An office's noise (count,), clamped to the margin."""
        margin = self.fixed.margin
        return np.clip(discrete_gaussian(stream, count, self.variance), -margin, margin)

    def check(self, values: NDArray[np.uint32], share: float) -> None:
        """Refuse an office's integers that are longer than D: what the noise is made for is checked, not believed.

        Raises:
            ProtectionError: they are.
        """
        whole = values.astype(np.int64) - self.fixed.offset(share)
        high, low = whole >> 16, whole & 0xFFFF  # exact: their products stay below 2^63
        squared = (int(high @ high) << 32) + (int(high @ low) << 17) + int(low @ low)
        if squared > self.sensitivity**2:
            raise ProtectionError("its update is longer than the noise is made for, and is not sent")
