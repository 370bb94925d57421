"""Krum: the one update that is nearest to its neighbours, in the place of a mean.

Blanchard, El Mhamdi, Guerraoui, Stainer: Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent,
NeurIPS 2017, section 4. The score of an update is the sum of the squared distances to the K - f - 2 other updates that
are nearest to it; the lowest score wins, of equal ones that of the lower office.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from strategies.base import Named, Round, Setting, State, Strategy, StrategyError, check_range


@dataclass(frozen=True)
class Krum(Strategy):
    """Of offices with one and the same update it is FedAvg.

    Args:
        f: offices that may be faulty; the theorem wants K >= 2 f + 3 offices, the score itself K >= f + 3.
    """

    dp: ClassVar[str] = "after_noise"
    examples: ClassVar[tuple[str, ...]] = ("krum(f=1)",)

    f: int = 1

    def __post_init__(self) -> None:
        check_range("f", self.f, 0)

    def check(self, setting: Setting) -> None:
        """Refuse cohorts that leave nobody to be near to."""
        if setting.cohort < self.f + 3 and setting.clients > 1:
            raise StrategyError(
                f"krum(f={self.f}) wants at least {self.f + 3} offices in a round; {setting.cohort} take part. Set a "
                "smaller f, or more --clients or --fraction"
            )

    def weight(self, num_examples: int, num_steps: int) -> float:
        return 1.0

    def aggregate(self, x: Any, updates: Named, state: State, round: Round) -> tuple[Any, State]:
        w = updates["w"]
        squared = np.array([[float((a - b) @ (a - b)) for b in w] for a in w])
        near = max(len(w) - self.f - 2, 1)
        scores = np.sort(squared, axis=1)[:, 1 : near + 1].sum(axis=1)  # the first is the distance to itself
        return x + w[int(np.argmin(scores))], state
