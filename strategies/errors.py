"""How a strategy refuses a value: what was found, and what is expected."""

from __future__ import annotations

import math
from collections.abc import Sequence


class StrategyError(ValueError):
    """A hyper-parameter out of its range, or a combination that makes no sense: what was found, what is expected."""


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise StrategyError(f"{name} must be one of {', '.join(choices)}; found {value!r}")


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Refuse a number outside [low, high] (NaN is outside of everything)."""
    if not (math.isfinite(value) and low <= value <= high):
        wanted = f"in [{low:g}, {high:g}]" if high < float("inf") else f"at least {low:g}"
        raise StrategyError(f"{name} must be {wanted}; found {value!r}")
