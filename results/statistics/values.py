"""What all statistics share: the levels that hold in the whole project, and the checks of what comes in."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
POWER = 0.8
SIGNIFICANCE = 0.05
TIE = 1e-12  # values closer than this, relative to the largest, are equal: rounding must not break a tie

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_Array = TypeVar("_Array", Floats, Bools)


def finite(x: ArrayLike) -> Floats:
    """The values as a flat float64 array; ValueError unless there is one or more and all are finite."""
    values = np.asarray(x, dtype=float).ravel()
    if values.size == 0 or not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"expected one or more finite values; found {values.size}, of which {bad} not finite")
    return values


def table(x: ArrayLike, rows: str, columns: str, least: tuple[int, int]) -> Floats:
    """The values as a two-way float64 array; ValueError if it is smaller than `least` or holds a value not finite.

    Args:
        rows, columns: what they are, for the message.
        least: fewest rows and fewest columns.
    """
    values = np.asarray(x, dtype=float)
    if values.ndim != 2 or values.shape[0] < least[0] or values.shape[1] < least[1]:
        raise ValueError(
            f"expected a table of {least[0]} or more {rows} by {least[1]} or more {columns}; found shape {values.shape}"
        )
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"expected finite values for all {rows} and {columns}; {bad} of {values.size} are not finite")
    return values


def share(value: float, name: str) -> float:
    """The value, if it lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} is a number between 0 and 1; found {value}")
    return value


def all_equal(values: Floats) -> bool:
    """Whether the values are equal but for rounding."""
    return bool(np.ptp(values) <= TIE * np.abs(values).max())


def frozen(values: _Array) -> _Array:
    """The array itself, made read-only: a frozen dataclass whose arrays could be written to would not be frozen."""
    values.setflags(write=False)
    return values
