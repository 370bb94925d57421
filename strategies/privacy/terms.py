"""What the accounts of privacy read of the strategies that promise it, and of a protection around them.

`DpSgd` and `DpFedAvg` extend these classes; a plan knows the classes alone, so that files do not import each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strategies.base import StrategyError, check_choice, check_range
from strategies.privacy import ACCOUNTANTS
from strategies.wrapper import Wrapper

LEAST_EPSILON = 0.01


@dataclass(frozen=True)
class Budget(Wrapper):
    """What both promises have: see `DpSgd` and `DpFedAvg` for each option."""

    epsilon: float | None = field(default=None, kw_only=True)
    noise_multiplier: float | None = field(default=None, kw_only=True)
    delta: float = field(default=1e-5, kw_only=True)
    accountant: str = field(default="prv", kw_only=True)
    curious: int = field(default=1, kw_only=True)
    secure_rng: bool = field(default=False, kw_only=True)

    def check_budget(self) -> None:
        """Refuse a budget that is none, or two, and options out of their range."""
        epsilon = self.epsilon
        if (epsilon is None) == (self.noise_multiplier is None):
            raise StrategyError(
                f"set epsilon, or noise_multiplier, and not both; found epsilon={epsilon}, "
                f"noise_multiplier={self.noise_multiplier}"
            )
        if epsilon is not None and not 0 < epsilon < float("inf"):
            raise StrategyError(f"epsilon must be above 0; found {epsilon!r}. Without noise: noise_multiplier=0")
        if epsilon is not None and epsilon < LEAST_EPSILON:
            raise StrategyError(
                f"epsilon must be at least {LEAST_EPSILON:g}, below which nothing is left; found {epsilon!r}"
            )
        if self.noise_multiplier is not None:
            check_range("noise_multiplier", self.noise_multiplier, 0.0)
        if not 0 < self.delta < 1:
            raise StrategyError(f"delta must be above 0 and far below 1; found {self.delta!r}")
        check_choice("accountant", self.accountant, ACCOUNTANTS)
        check_range("curious", self.curious, 0, 1000)


class LocalPrivacy(Budget):
    """A promise that the offices' local steps keep."""

    clip_norm: float | None
    unit: str
    noise: str
    means: bool
    simulate: int | None


class CentralPrivacy(Budget):
    """A promise that the sums of rounds keep."""

    clip_norm: float
    sampling: str
