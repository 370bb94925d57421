"""Products of float32 matrices as a step of local training needs them, in the order in which they are read.

A batch of 32 rows is too small for BLAS, which at every call copies both factors into an order of its own before it
multiplies them, and which cannot know that half of the errors behind a ReLU are zero. Here everything lies in the order
in which it is read, through a whole round:

    units       of a layer, (outputs, pitch): the weights of each, and last its bias
    lanes       of a batch, (panels, width, 16): what 16 rows have in each place of a layer, side by side
    rows        of a batch, (rows, pitch): what a layer reads, row by row, and last a 1 for the bias

    forward     out_j = sum_k A_jk h_k for units j, by lanes
    backward    out_k = sum_j A_jk d_j for places k, by lanes, where the layer below was active
    add_outer   A_j = A_j + sum_i d_ji h_i for units j, over the rows i whose error at unit j is not zero

The last, whose errors are about half zero behind a ReLU, does nothing for the zeros, nor where what they meet is not
finite (in PyTorch that is NaN). All of them work tile by tile (`tiles`), in parts as even as can be: a small tile waits
for its own sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.training.kernels.compiled import inner
from experiments.training.kernels.tiles import (
    HALF,
    LANES,
    LINE,
    NUMBER,
    PER_VECTOR,
    TALL,
    VECTOR,
    WIDE,
    backward_tile,
    forward_tile,
    nonzero,
    outer_tile,
    turn_tile,
)

MOST = 64  # rows that `add_outer` takes: the bits of a word


@inner
def at(array: Any) -> Any:
    """The address of an array; signed, since numba takes a signed and an unsigned number together for a float."""
    return np.int64(array.ctypes.data)


@inner
def _next(left: int, most: int) -> int:
    """Of so many, how many come next, of as few and as even parts as can be."""
    parts = (left + most - 1) // most
    return (left + parts - 1) // parts


@inner
def forward(units: Any, h: Any, size: int, floor: Any, out: Any) -> None:
    """Lanes out_j = max(floor, sum_k units_jk h_k) for every unit j and place k of h, of the first `size` lanes."""
    terms, stride = h.shape[1], units.strides[0]
    for panel in range((size + LANES - 1) // LANES):
        narrow = size - LANES * panel <= HALF
        a, b, c, left = at(units), at(h[panel]), at(out[panel]), len(units)
        while left > 0:
            height = _next(left, TALL)
            forward_tile(height, narrow, a, stride, b, terms, c, floor)
            a, c, left = a + height * stride, c + height * LINE, left - height


@inner
def backward(units: Any, d: Any, size: int, h: Any, out: Any) -> None:
    """Lanes out_k = sum_j units_jk d_j where h_k > 0 (or NaN), else 0, for every place k of out, of the first `size`
    lanes."""
    stride = units.strides[0]
    for panel in range((size + LANES - 1) // LANES):
        narrow = size - LANES * panel <= HALF
        a, b, gate, c = at(units), at(d[panel]), at(h[panel]), at(out[panel])
        left = out.shape[1]
        while left > 0:
            height = _next(left, TALL)
            backward_tile(height, narrow, a, stride, b, len(units), c, gate)
            a, gate, c, left = a + height * NUMBER, gate + height * LINE, c + height * LINE, left - height


@inner
def add_outer(
    d: Any, rows: Any, size: int, v: Any, chosen: Any, steps: bool, w: Any, q: Any, momentum: float, pull: float
) -> None:
    """Units v_j += sum_i d_ji rows_i, over the first `size` rows and lanes, 64 at most; where `steps`, then w += v and
    v = momentum v - pull w + q. q may be empty for 0; `chosen` (units,) is room."""
    live = ~0 if size == MOST else (1 << size) - 1
    for unit in range(len(v)):
        bits, line = 0, at(d) + LINE * unit
        for first in range(0, size, LANES):
            bits |= nonzero(line) << first
            line += d.strides[0]
        chosen[unit] = bits & live
    left, offset = (v.shape[1] + PER_VECTOR - 1) // PER_VECTOR, 0
    beta, kappa, none = np.float32(momentum), np.float32(pull), np.zeros(PER_VECTOR, np.float32)
    while left > 0:
        width = _next(left, WIDE)
        for unit in range(len(v)):
            own = unit * v.strides[0] + offset
            outer_tile(
                width, at(rows) + offset, rows.strides[0], at(d) + LINE * unit, d.strides[0],
                chosen[unit], at(v) + own, steps, at(w) + own,
                at(q) + own if len(q) else at(none), VECTOR if len(q) else 0, beta, kappa,
            )  # fmt: skip
        offset, left = offset + width * VECTOR, left - width


@inner
def transpose(a: Any, c: Any) -> None:
    """c = a^T, for a (m, n) whose rows are contiguous and a view c (n or more, m or more) of the same kind."""
    m, n = a.shape
    whole, broad = m - m % 8, n - n % 8
    for row in range(0, whole, 8):
        a_0, c_0 = at(a) + row * a.strides[0], at(c) + NUMBER * row
        for column in range(0, broad, 8):
            turn_tile(a_0 + NUMBER * column, a.strides[0], c_0 + column * c.strides[0], c.strides[0])
        for column in range(broad, n):
            for r in range(row, row + 8):
                c[column, r] = a[r, column]
    for row in range(whole, m):
        for column in range(n):
            c[column, row] = a[row, column]


@inner
def room(rows: int, columns: int) -> Any:
    """Zeros (rows, columns), whose rows begin on cache lines if `columns` is a multiple of 16."""
    raw = np.zeros(rows * columns + LANES, np.float32)
    skip = (-at(raw) // NUMBER) % LANES
    return raw[skip : skip + rows * columns].reshape(rows, columns)


@inner
def pitch(columns: int) -> int:
    """Columns of an array that holds so many: whole cache lines, and an odd number of them, since rows an even number
    of lines apart would share few of the cache's sets."""
    return ((columns + LANES - 1) // LANES | 1) * LANES


@inner
def lanes(rows: int, width: int) -> Any:
    """Room for lanes of so many rows."""
    panels = (rows + LANES - 1) // LANES
    return room(panels * width, LANES).reshape(panels, width, LANES)


@inner
def start_of(widths: Any, level: int) -> int:
    """Where the units of a layer begin in a packed model; at the level beyond the last, how long that is."""
    start = 0
    for below in range(level):
        start += widths[below + 1] * pitch(widths[below] + 1)
    return start


@inner
def units(packed: Any, widths: Any, level: int) -> Any:
    """Of a layer, (outputs, inputs + 1), as a view of a packed model."""
    held = packed[start_of(widths, level) : start_of(widths, level + 1)].reshape(widths[level + 1], -1)
    return held[:, : widths[level] + 1]


@inner
def pack(w: Any, widths: Any) -> Any:
    """A flat model w (d,) as the units of all its layers, one behind the other."""
    packed, start = room(1, start_of(widths, len(widths) - 1))[0], 0
    for level in range(len(widths) - 1):
        rows, columns = widths[level] + 1, widths[level + 1]
        transpose(w[start : start + rows * columns].reshape(rows, columns), units(packed, widths, level))
        start += rows * columns
    return packed


@inner
def unpack(packed: Any, widths: Any, w: Any) -> None:
    """A packed model into a flat one w (d,)."""
    start = 0
    for level in range(len(widths) - 1):
        rows, columns = widths[level] + 1, widths[level + 1]
        transpose(units(packed, widths, level), w[start : start + rows * columns].reshape(rows, columns))
        start += rows * columns
