"""A private step of a linear-and-ReLU model, compiled: clipped gradients are summed, and none is ever formed.

A row's gradient of layer l is the outer product of what the layer reads and of its error, h_{l-1} d_l^T (in the
notation of `kernel`), so its length follows from two short vectors, and clipping it scales one of them:

    ||g_i||^2 = sum_l ||h_{l-1,i}||^2 ||d_{l,i}||^2,   c_i = min(1, C / ||g_i||),   sum_i c_i g_i = h_{l-1}^T (c * d_l)

Goodfellow: Efficient Per-Example Gradient Computations, 2015, arXiv:1510.01799; Li, Tramer, Liang, Hashimoto: Large
Language Models Can Be Strong Differentially Private Learners, ICLR 2022, section 4. A step so costs the products of a
plain one, the two lengths, and the noise. A person's gradient is the mean over the person's rows: one product a person
forms it, and its length is taken as it is.

A row whose gradient is not finite counts for nothing: it would else show in every weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from experiments.training.kernels import kernel, products, tiles
from experiments.training.kernels.compiled import compiled, inner
from experiments.training.kernels.kernel import (
    GIVEN,
    INTEGERS,
    LABELS,
    ROWS,
    TABLE,
    VECTOR,
    add_products,
    errors,
    workspace,
)
from experiments.training.kernels.products import pack, room, unpack
from experiments.training.kernels.tiles import LANES
from strategies.privacy import noise
from strategies.privacy.noise import add_normals

SMALLEST = 2.0**-100  # factor of a gradient that counts

_f = types.float64
_STEP = types.void(
    VECTOR, VECTOR, GIVEN, GIVEN, INTEGERS, TABLE, LABELS, types.float64[::1], LABELS, INTEGERS, types.uint32[::1],
    _f, _f, _f, _f, _f, _f, _f,
)  # fmt: skip


@inner
def _squared(z: Any) -> float:
    """Squared length. Eight sums, of every eighth number each, can be taken side by side; one could not."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = len(z) - len(z) % 8
    for i in range(0, whole, 8):
        s0 += np.float64(z[i]) * z[i]
        s1 += np.float64(z[i + 1]) * z[i + 1]
        s2 += np.float64(z[i + 2]) * z[i + 2]
        s3 += np.float64(z[i + 3]) * z[i + 3]
        s4 += np.float64(z[i + 4]) * z[i + 4]
        s5 += np.float64(z[i + 5]) * z[i + 5]
        s6 += np.float64(z[i + 6]) * z[i + 6]
        s7 += np.float64(z[i + 7]) * z[i + 7]
    for i in range(whole, len(z)):
        s0 += np.float64(z[i]) * z[i]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@inner
def _factor(squared: float, clip: float) -> float:
    """min(1, C / norm) of a squared norm; 1 where nothing is clipped, 0 where the norm is not finite, or so long that
    single precision has no such factor with all its digits."""
    if clip == 0:
        return 1.0
    if not squared < np.inf:
        return 0.0
    factor = min(1.0, clip / np.sqrt(squared)) if squared > 0 else 1.0
    return factor if factor > SMALLEST else 0.0


@inner
def _clip(read: Any, d: Any, widths: Any, rows: Any, lengths: Any, clip: float) -> None:
    """Scale each row's errors, so that its gradient is no longer than C."""
    squared, errors_squared = np.zeros(len(rows)), np.empty(LANES)
    for panel in range((len(rows) + LANES - 1) // LANES):
        first = LANES * panel
        here = min(LANES, len(rows) - first)
        for level in range(len(d)):
            errors_squared[:] = 0
            for unit in range(d[level].shape[1]):
                line = d[level][panel, unit]
                for lane in range(LANES):
                    errors_squared[lane] += np.float64(line[lane]) * line[lane]
            for lane in range(here):
                row = first + lane
                length = lengths[rows[row]] if level == 0 else _squared(read[level][row, : widths[level] + 1])
                squared[row] += length * errors_squared[lane]
        factors = np.zeros(LANES, np.float32)
        for lane in range(here):
            factors[lane] = _factor(squared[first + lane], clip)
        for level in range(len(d)):
            for unit in range(d[level].shape[1]):
                line = d[level][panel, unit]
                for lane in range(LANES):
                    line[lane] = line[lane] * factors[lane] if factors[lane] != 0 else np.float32(0)


@compiled(_STEP, tiles, products, kernel, noise)
def step(
    w: Any, v: Any, w_t: Any, b: Any, widths: Any, x: Any, y: Any, lengths: Any, rows: Any, bounds: Any, words: Any,
    clip: float, sigma: float, divisor: float, lr: float, momentum: float, decay: float, a: float,
) -> None:  # fmt: skip
    """One step on w (d,) in place, of the clipped and noised mean gradient g over `rows`:

        v = momentum v - lr (g + decay w + a (w - w_t) + b),   w = w + v

    Args:
        v: (d,), zero before the first step of a round.
        w_t, b: of the drift, (d,), or empty for none; `a` is its factor.
        widths: of the input, each hidden layer and the output, (layers + 1,).
        x, y: all rows (n, inputs) and labels (n,).
        lengths: (n,) squared length of every row, with the 1 that the bias reads.
        rows: row numbers of the step; may be empty.
        bounds: (persons + 1,) where each person's rows begin in `rows`; empty where a unit is a row.
        words: random words for the noise, at least d of them, or empty for none.
        clip: C, or 0 for none.
        sigma: standard deviation of the noise on the sum.
        divisor: of the noised sum.
    """
    rate, beta, keep, force = np.float32(lr), np.float32(momentum), np.float32(decay), np.float32(a)
    for i in range(len(w)):
        v[i] = beta * v[i] - rate * (keep * w[i])
    for i in range(len(w_t)):
        v[i] -= rate * (force * (w[i] - w_t[i]))
    for i in range(len(b)):
        v[i] -= rate * b[i]
    weights = pack(w, widths)
    h, read, d, chosen = workspace(widths, min(len(rows), ROWS))
    total, empty = room(1, len(weights))[0], weights[:0]
    one = room(1, len(weights) if len(bounds) else 0)[0]
    for unit in range(max(len(bounds) - 1, 1)):
        own = rows[bounds[unit] : bounds[unit + 1]] if len(bounds) else rows
        into, factor = (one, 1 / max(len(own), 1)) if len(bounds) else (total, 1.0)
        one[:] = 0
        for start in range(0, len(own), ROWS):
            part = own[start : start + ROWS]
            errors(weights, widths, x, y, part, empty, empty, h, read, d, factor)
            if clip > 0 and not len(bounds):
                _clip(read, d, widths, part, lengths, clip)
            add_products(d, read, len(part), widths, chosen, into, False, into, empty, 0.0, 0.0)
        if len(bounds):
            share = np.float32(_factor(_squared(one), clip))
            if share != 0:
                for i in range(len(one)):
                    total[i] += share * one[i]
    gradient, scale = np.empty_like(w), -lr / divisor
    unpack(total, widths, gradient)
    for i in range(len(v)):
        v[i] += np.float32(scale) * gradient[i]
    if len(words):
        add_normals(v, words, scale * sigma)
    for i in range(len(w)):
        w[i] += v[i]
