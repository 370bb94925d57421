"""Label noise: an office records some of its labels wrongly, each as one of the other classes.

Symmetric noise as in Patrini et al. 2017, Making Deep Neural Networks Robust to Label Noise, arXiv:1609.03683. A rate
of 0 leaves all labels as they are; at (C - 1) / C the labels say nothing about the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from experiments.config.errors import UserError
from experiments.data.corruption.base import Corruption, Features, Ints


@dataclass(frozen=True)
class LabelNoise(Corruption):
    """See the module.

    Args:
        rate: chance of each label to be replaced by another class, in [0, 1].
    """

    examples: ClassVar[tuple[str, ...]] = ("label_noise(office=0, rate=0.4)",)

    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rate <= 1:
            raise UserError(f"rate must be in [0, 1]; found {self.rate!r}")

    def corrupt(
        self, x: Features, y: Ints, rows: Ints, classes: int, rng: np.random.Generator
    ) -> tuple[Features, Ints]:
        y = y.copy()
        wrong = rows[rng.random(len(rows)) < self.rate]
        # A step of 1 to C - 1 around the circle of classes reaches each other class with the same chance.
        y[wrong] = (y[wrong] + rng.integers(1, classes, size=len(wrong))) % classes
        return x.copy(), y
