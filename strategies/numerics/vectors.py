"""Arithmetic on flat models, each in one pass over memory.

A round with thirty clients moves some ten megabytes; NumPy's expressions move them two or three times, through a
temporary as long as a model. Four models are read side by side: memory serves four streams in little more time than
one, and what they have in common is read once for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

NONE = np.empty(0)

_f4, _f8, _u4 = types.float32, types.float64, types.uint32
_r4, _r8 = (types.Array(number, 1, "C", readonly=True) for number in (_f4, _f8))
_four_f4, _four_f8 = (types.UniTuple(number, 4) for number in (_f4, _f8))  # type: ignore[no-untyped-call]


def weighted_mean(vectors: Sequence[NDArray[Any]], shares: Sequence[float]) -> NDArray[Any]:
    """sum_k p_k w_k for vectors (d,) and shares p (K,), in the vectors' precision and order: Flower's bits.

    Raises:
        ValueError: the vectors differ in length.
    """
    mean = vectors[0] * shares[0]
    rest, factors = _contiguous(vectors[1:], mean.shape), np.array(shares[1:], mean.dtype)
    for start in range(0, len(rest) - 3, 4):
        _add_four(mean, factors[start : start + 4], *rest[start : start + 4])
    for k in range(len(rest) // 4 * 4, len(rest)):
        _add_scaled(mean, rest[k], factors[k])
    return mean


def distances(vectors: Sequence[NDArray[Any]], origin: NDArray[Any]) -> list[float]:
    """L2 norm of each vector (d,) minus the origin (d,).

    It is not finite where anything in the difference is not. Overflow of a square alone does not count as infinite.

    Raises:
        ValueError: the vectors differ in length from the origin.
    """
    if any(vector.dtype != origin.dtype for vector in vectors):  # some of Flower's servers return float64 from round 1
        origin, vectors = origin.astype(np.float64), [vector.astype(np.float64) for vector in vectors]
    [origin], vectors = _contiguous([origin], origin.shape), _contiguous(vectors, origin.shape)
    squares: list[float] = []
    for start in range(0, len(vectors) - 3, 4):
        squares += _four_squares(origin, *vectors[start : start + 4])
    squares += [_square(origin, vector) for vector in vectors[len(squares) :]]
    return [
        math.sqrt(square) if math.isfinite(square) else _in_float64(vector, origin)
        for square, vector in zip(squares, vectors, strict=True)
    ]


def _contiguous(vectors: Sequence[NDArray[Any]], shape: tuple[int, ...]) -> list[NDArray[Any]]:
    """As compiled code may read them: it does not look where an array ends."""
    for vector in vectors:
        if vector.shape != shape:
            raise ValueError(f"every vector must have the shape {shape}; found {vector.shape}")
    return [np.ascontiguousarray(vector) for vector in vectors]


def _in_float64(vector: NDArray[Any], origin: NDArray[Any]) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.linalg.norm(np.subtract(vector, origin, dtype=np.float64)))


def to_grid(
    update: NDArray[np.float64],
    clip: NDArray[np.float64],
    limit: float,
    offset: int,
    chance: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.uint32], NDArray[np.float64], int]:
    """An update (d,) in fixed point: `crypto.fixed_point`'s formula for each entry u with its clip C; `limit` is Q p_k.

    Args:
        chance: (d,) in [0, 1), added before rounding down; None rounds to nearest, halves to even.

    Returns:
        o + clamp(round(u limit / C), -o, o) for u within its clip; what is left of u; how many u were beyond.
    """
    values, left = np.empty(update.shape, np.uint32), np.empty(update.shape)
    clipped: int = _to_grid(update, clip, NONE if chance is None else chance, limit, float(offset), values, left)
    return values, left, clipped


@njit([types.void(_f4[::1], _r4, _f4), types.void(_f8[::1], _r8, _f8)], cache=True)
def _add_scaled(total: Any, vector: Any, factor: Any) -> None:
    for i in range(total.size):
        total[i] += vector[i] * factor  # two roundings, never fused into one: other bits on other machines


@njit([types.void(_f4[::1], *[_r4] * 5), types.void(_f8[::1], *[_r8] * 5)], cache=True)
def _add_four(total: Any, factors: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    """What four calls of `_add_scaled` do, to the bit."""
    p, q, r, s = factors
    for i in range(total.size):
        total[i] = (((total[i] + a[i] * p) + b[i] * q) + c[i] * r) + d[i] * s


@njit([_f4(_r4, _r4), _f8(_r8, _r8)], cache=True, fastmath={"reassoc", "contract"})
def _square(origin: Any, vector: Any) -> Any:
    """The order of the sum is the compiler's choice: no result depends on the last digits of a length."""
    total = origin.dtype.type(0)
    for i in range(origin.size):
        total += (vector[i] - origin[i]) ** 2
    return total


@njit([_four_f4(*[_r4] * 5), _four_f8(*[_r8] * 5)], cache=True, fastmath={"reassoc", "contract"})
def _four_squares(origin: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    p = q = r = s = origin.dtype.type(0)
    for i in range(origin.size):
        p += (a[i] - origin[i]) ** 2
        q += (b[i] - origin[i]) ** 2
        r += (c[i] - origin[i]) ** 2
        s += (d[i] - origin[i]) ** 2
    return p, q, r, s


@njit([types.int64(_r8, _r8, _r8, _f8, _f8, _u4[::1], _f8[::1])], cache=True)
def _to_grid(update: Any, clip: Any, chance: Any, limit: Any, offset: Any, values: Any, left: Any) -> Any:
    clipped = 0
    for i in range(update.size):
        u, c = update[i], clip[i]
        clipped += abs(u) > c  # before scaling, which may round C itself up
        scaled = min(max(u * (limit / c), -limit), limit)
        whole = np.floor(scaled + chance[i]) if chance.size else np.rint(scaled)
        whole = min(max(whole, -offset), offset)
        values[i] = np.uint32(whole + offset)
        left[i] = u - whole * (c / limit)
    return clipped
