"""The chance in private steps: which units a step takes, and the noise it adds.

Every office has two streams of its own in every round, of coins and of noise, and reads on in them from step to step,
so that no two offices, rounds or steps share a number. A published seed gives no privacy: it is for simulations, and
records say so; `secure_rng` keys both streams from the operating system.

Both trainers draw here, in the same order, so that the slow one is the oracle of the fast one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments.federation.seeds import Purpose, sequence
from experiments.training.kernels import ghost
from strategies.privacy.noise import NoiseStream, stream_of, words_for

if TYPE_CHECKING:
    from experiments.config.spec import RunSpec
    from experiments.training.kernels.fused import FusedTrainer
    from strategies.base import Workload

Floats = NDArray[np.float32]
NO_BOUNDS, NO_WORDS = np.empty(0, np.int64), np.empty(0, np.uint32)


@dataclass(frozen=True)
class Chance:
    """Coins and noise of one client in one round."""

    coins: NoiseStream
    noise: NoiseStream

    @classmethod
    def of(cls, spec: RunSpec, work: Workload, round_: int, client: int) -> Chance:
        """The streams of a round."""
        return cls(*(noise_stream(spec, work, use, round_, client) for use in (Purpose.SAMPLING, Purpose.NOISE)))

    def words(self, count: int) -> NDArray[np.uint32]:
        """What the noise of so many weights is made of."""
        return self.noise.words(words_for(count))

    def rows(self, work: Workload) -> NDArray[np.int64]:
        """The rows of the next step, by a coin for each; all of them at rate 1."""
        assert work.private is not None
        if work.private.rate >= 1:
            return work.rows
        return work.rows[self.coins.coins(len(work.rows), work.private.rate)]


def noise_stream(spec: RunSpec, work: Workload, purpose: Purpose, round_: int, client: int) -> NoiseStream:
    """A stream of a client's own; round 0 is before the first."""
    assert work.private is not None
    return stream_of(sequence(spec.seed, purpose, round_, client), work.private.secure_rng)


class PrivateStep:
    """The private steps of a client's round, one at each call."""

    def __init__(self, trainer: FusedTrainer, work: Workload, round_: int, client: int) -> None:
        assert work.private is not None
        self.trainer, self.work, self.private = trainer, work, work.private
        self.chance = Chance.of(trainer.spec, work, round_, client)
        self.bounds = NO_BOUNDS if self.private.persons is None else self.private.persons

    def __call__(
        self, w: Floats, v: Floats, drift: tuple[Floats, Floats], lr: float, momentum: float, decay: float, a: float
    ) -> None:
        """`ghost.step`, of the units that are drawn and under the noise that is drawn."""
        private, trainer = self.private, self.trainer
        clip, sigma = private.clip_norm or 0.0, private.scale * private.noise_multiplier * (private.clip_norm or 0.0)
        rows = self.chance.rows(self.work)
        words = self.chance.words(len(w)) if sigma else NO_WORDS
        data = (trainer.widths, trainer.x, trainer.y, trainer.lengths, rows, self.bounds, words)
        ghost.step(w, v, *drift, *data, clip, sigma, private.divisor, lr, momentum, decay, a)
