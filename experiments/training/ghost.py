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

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types

from experiments.training import kernel
from experiments.training.kernel import block, errors, multiply
from strategies.privacy import noise
from strategies.privacy.noise import add_normals

ROWS = 256  # taken through the model together: what is read and what is wrong stay in the cache

_vector, _integers = types.float32[::1], types.int64[::1]
_given = types.Array(types.float32, 1, "C", readonly=True)
_rows, _labels = types.Array(types.float32, 2, "C", readonly=True), types.Array(types.int64, 1, "C", readonly=True)
_i, _f = types.int64, types.float64
_STEP = types.void(
    _vector, _vector, _given, _given, _integers, _rows, _labels, types.float64[::1],
    types.Array(types.int64, 1, "C", readonly=True), _integers, types.uint32[::1], _vector, _f, _f, _f, _f, _f, _f, _f,
)  # fmt: skip


@njit(cache=True)
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


@njit(cache=True)
def _factor(squared: float, clip: float) -> float:
    """min(1, C / norm) of a squared norm; 0 where it is not finite, 1 where nothing is clipped."""
    if clip == 0:
        return 1.0
    if not squared < np.inf:
        return 0.0
    return min(1.0, clip / np.sqrt(squared)) if squared > 0 else 1.0


@njit(cache=True)
def _clip(h: Any, d: Any, rows: Any, lengths: Any, clip: float) -> None:
    """Scale each row's errors, so that its gradient is no longer than C."""
    for row in range(len(rows)):
        squared = lengths[rows[row]] * _squared(d[0][row])
        for level in range(1, len(d)):
            squared += _squared(h[level][row]) * _squared(d[level][row])  # the column of ones is the bias's
        factor = np.float32(_factor(squared, clip))
        if factor == 1:
            continue
        for level in range(len(d)):
            own = d[level][row]
            if factor == 0:
                own[:] = 0
                h[level][row][:-1] = 0
            else:
                for column in range(len(own)):
                    own[column] *= factor


def _compiled(sources: str) -> Any:
    """The compiled step, under a name in the cache that changes with the sources of what it calls elsewhere.

    numba looks at the file of a function alone: after a change in `kernel` it would go on with the old machine code.
    What a function closes over is part of its name, too.
    """

    @njit(_STEP, cache=True)
    def step(
        w: Any, v: Any, w_t: Any, b: Any, widths: Any, x: Any, y: Any, lengths: Any, rows: Any, bounds: Any,
        words: Any, one: Any, clip: float, sigma: float, divisor: float, lr: float, momentum: float, decay: float,
        a: float,
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
            one: (d,) room for a person's gradient; may be empty where a unit is a row.
            clip: C, or 0 for none.
            sigma: standard deviation of the noise on the sum.
            divisor: of the noised sum.
        """
        assert sources
        layers = len(widths) - 1
        rate, beta, keep, force = np.float32(lr), np.float32(momentum), np.float32(decay), np.float32(a)
        for i in range(len(w)):
            v[i] = beta * v[i] - rate * (keep * w[i])
        if len(w_t):
            for i in range(len(w)):
                v[i] -= rate * (force * (w[i] - w_t[i]))
        if len(b):
            for i in range(len(w)):
                v[i] -= rate * b[i]
        blocks = [block(w, widths, level) for level in range(layers)]
        into = [block(v, widths, level) for level in range(layers)]
        longest = ROWS
        for person in range(len(bounds) - 1):
            longest = max(longest, bounds[person + 1] - bounds[person])
        longest = min(longest, len(rows))
        h = [np.ones((longest, widths[level] + 1), np.float32) for level in range(layers)]
        d = [np.empty((longest, widths[level + 1]), np.float32) for level in range(layers)]
        scale = -lr / divisor
        if len(bounds):
            parts = [block(one, widths, level) for level in range(layers)]
            for person in range(len(bounds) - 1):
                chosen = rows[bounds[person] : bounds[person + 1]]
                size = len(chosen)
                errors(blocks, widths, x, y, chosen, h, d, 1.0)
                for level in range(layers):
                    multiply(h[level][:size], d[level][:size], parts[level], True, False, 1.0 / size, 0.0)
                factor = np.float32(scale * _factor(_squared(one), clip))
                if factor != 0:
                    for i in range(len(v)):
                        v[i] += factor * one[i]
        else:
            for start in range(0, len(rows), ROWS):
                chosen = rows[start : start + ROWS]
                size = len(chosen)
                errors(blocks, widths, x, y, chosen, h, d, 1.0)
                if clip > 0:
                    _clip(h, d, chosen, lengths, clip)
                for level in range(layers):
                    multiply(h[level][:size], d[level][:size], into[level], True, False, scale, 1.0)
        if len(words):
            add_normals(v, words, scale * sigma)
        for i in range(len(w)):
            w[i] += v[i]

    return step


def _digest(*modules: Any) -> str:
    """Of their sources."""
    return sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in modules)).hexdigest()


step = _compiled(_digest(kernel, noise))
