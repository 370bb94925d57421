"""Arithmetic on flat models, each in one pass over memory.

A round with thirty clients moves some ten megabytes; NumPy's expressions move them two or three times, through a
temporary as long as a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

_f4, _f8 = types.float32, types.float64
_r4, _r8 = (types.Array(number, 1, "C", readonly=True) for number in (_f4, _f8))


def weighted_mean(vectors: Sequence[NDArray[Any]], shares: Sequence[float]) -> NDArray[Any]:
    """sum_k p_k w_k for vectors (d,) and shares p (K,), in the vectors' precision and order: Flower's bits."""
    mean = vectors[0] * shares[0]
    for vector, share in zip(vectors[1:], shares[1:], strict=True):
        _add_scaled(mean, np.ascontiguousarray(vector), mean.dtype.type(share))
    return mean


def distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """L2 norm of a - b; not finite where anything in it is not. Overflow alone does not count as infinite."""
    if a.dtype != b.dtype:  # some of Flower's servers return float64 from round 1 on
        a, b = (vector.astype(np.float64) for vector in (a, b))
    square = _squared_distance(np.ascontiguousarray(a), np.ascontiguousarray(b))
    if math.isfinite(square):
        return math.sqrt(square)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.linalg.norm(np.subtract(a, b, dtype=np.float64)))


@njit([types.void(_f4[::1], _r4, _f4), types.void(_f8[::1], _r8, _f8)], cache=True)
def _add_scaled(total: Any, vector: Any, factor: Any) -> None:
    for i in range(total.size):
        total[i] += vector[i] * factor  # two roundings, never fused into one: other bits on other machines


@njit([_f4(_r4, _r4), _f8(_r8, _r8)], cache=True, fastmath={"reassoc", "contract"})
def _squared_distance(a: Any, b: Any) -> Any:
    total = a.dtype.type(0)
    for i in range(a.size):
        difference = a[i] - b[i]
        total += difference * difference
    return total
