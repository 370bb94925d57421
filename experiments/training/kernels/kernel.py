"""Linear-and-ReLU models with the backward pass written out, compiled.

A step's matrix products run tile by tile in registers (`products`); everything between them (gathering a batch, softmax
and its gradient) is compiled too, so that no interpreter, autograd or optimizer stands between two products. A layer's
weights and bias are one block A (inputs + 1, outputs) of the flat model, and what it reads ends in a 1:

    forward     a_l = h_{l-1} A_l,   h_l = [relu(a_l) 1],   h_0 = [x 1],   p = softmax(a_L)
    backward    d_L = (p - onehot(y)) / batch,   d_{l-1} = (d_l A_l'^T) * (a_{l-1} > 0),   A' = A without the bias row
    step        A_l = A_l - lr (decay A_l + a (A_l - A_l^t) + b_l) - lr h_{l-1}^T d_l

The step is one product that is added to the weights, so that no gradient is ever stored. With momentum, weight decay or
a strategy's drift a (w - w_t) + b it is added to V = -lr (velocity) instead, and what follows is done at once, while V
is in registers: w = w + V, and V = momentum V - k w + q for the next step, with k = lr (decay + a) and q = lr (a w_t -
b), which does not change in a round. A batch of more rows than the cache holds is taken in parts, which V collects.

No compiled function may reorder its rounding (numba's `fastmath`): a function is compiled alone and again inside its
callers, which of the two is called depends on whether the code came from numba's cache, and with `reassoc` the two
have other bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from experiments.training.kernels import products, tiles
from experiments.training.kernels.compiled import compiled, inner
from experiments.training.kernels.products import (
    MOST,
    add_outer,
    at,
    backward,
    forward,
    lanes,
    pack,
    pitch,
    room,
    transpose,
    units,
    unpack,
)
from experiments.training.kernels.tiles import LANES, exp_tile

ROWS = MOST  # taken through the model together: what is read and what is wrong stay in the cache

# Read-only rows and models, as Ray maps them; NumPy's writable arrays are accepted too. One signature, one compilation.
VECTOR, INTEGERS = types.float32[::1], types.int64[::1]
GIVEN = types.Array(types.float32, 1, "C", readonly=True)
TABLE, LABELS = types.Array(types.float32, 2, "C", readonly=True), types.Array(types.int64, 1, "C", readonly=True)
_i, _f = types.int64, types.float64
_TRAIN = _f(VECTOR, GIVEN, GIVEN, INTEGERS, TABLE, LABELS, types.int64[:, ::1], GIVEN, GIVEN, _i, _i, _f, _f, _f, _f)
_GRADIENT = _f(GIVEN, VECTOR, INTEGERS, TABLE, LABELS, INTEGERS, GIVEN, GIVEN)
_SCORE = types.Tuple((INTEGERS, _f))(GIVEN, INTEGERS, TABLE, LABELS)  # type: ignore[no-untyped-call]

_NO_FLOOR, _ZERO = np.float32(-np.inf), np.float32(0)


@inner
def below_top(z: Any) -> None:
    """Lanes z (classes, 16) less the largest of each lane, in place."""
    top = z[0].copy()
    for c in range(1, len(z)):
        for lane in range(LANES):
            top[lane] = z[c, lane] if z[c, lane] > top[lane] else top[lane]
    for c in range(len(z)):
        for lane in range(LANES):
            z[c, lane] -= top[lane]


@inner
def exponentials(z: Any, norms: Any) -> None:
    """Lanes z (classes, 16), none above 0, become their exponentials, in place; `norms` (16,) are their sums."""
    norms[:] = 0
    for c in range(len(z)):
        exp_tile(at(z[c]))
        for lane in range(LANES):
            norms[lane] += z[c, lane]


@inner
def softmax_error(d: Any, labels: Any, rows: Any, factor: float, shift: Any, weight: Any) -> float:
    """Logits d, in lanes, become factor (softmax - onehot) in place; the summed cross-entropy of the rows.

    Args:
        shift: (classes,) added to the logits, or empty.
        weight: (classes,) of a row's loss by its label, or empty.
    """
    scale, norms, total = np.float32(factor), np.empty(LANES, np.float32), 0.0
    own = np.ones(LANES, np.float32)
    for panel in range((len(rows) + LANES - 1) // LANES):
        z, these = d[panel], rows[LANES * panel : LANES * (panel + 1)]
        for c in range(len(shift)):
            for lane in range(LANES):
                z[c, lane] += shift[c]
        if len(weight):
            for lane in range(len(these)):
                own[lane] = weight[labels[these[lane]]]
        below_top(z)
        for lane in range(len(these)):
            total -= own[lane] * z[labels[these[lane]], lane]
        exponentials(z, norms)
        for lane in range(len(these)):
            total += own[lane] * np.log(norms[lane])
        for lane in range(LANES):
            norms[lane] = own[lane] * scale / norms[lane]
        for c in range(len(z)):
            for lane in range(LANES):
                z[c, lane] *= norms[lane]
        for lane in range(len(these)):
            z[labels[these[lane]], lane] -= own[lane] * scale
    return total


@inner
def workspace(widths: Any, rows: int) -> Any:
    """Room for a part of a batch: what every layer reads, by lanes and by rows, the errors of what it gives, and what
    `add_outer` needs."""
    layers, widest = len(widths) - 1, widths[1:].max()
    h = [lanes(rows, widths[level] + 1) for level in range(layers)]
    read = [room(len(h[0]) * LANES, pitch(widths[level] + 1)) for level in range(layers)]
    d = [lanes(rows, widths[level + 1]) for level in range(layers)]
    for level in range(layers):
        h[level][:, widths[level]] = 1
        read[level][:, widths[level]] = 1
    return h, read, d, np.empty(widest, np.int64)


@inner
def errors(
    packed: Any, widths: Any, x: Any, y: Any, rows: Any, shift: Any, weight: Any, h: Any, read: Any, d: Any,
    factor: float,
) -> float:  # fmt: skip
    """What every layer reads, h and `read`, and `factor` times the gradient of each row's loss by what it gives, d, in
    place; the summed loss of the rows."""
    layers, size = len(widths) - 1, len(rows)
    for row in range(size):
        source, target = x[rows[row]], read[0][row]
        for column in range(len(source)):
            target[column] = source[column]
    for level in range(layers):
        own = units(packed, widths, level)
        for panel in range((size + LANES - 1) // LANES):
            these = read[level][LANES * panel : LANES * (panel + 1), : widths[level]]
            if level == 0:
                transpose(these, h[0][panel])
            else:
                transpose(h[level][panel, : widths[level]], these)
        if level < layers - 1:
            forward(own, h[level], size, _ZERO, h[level + 1])
        else:
            forward(own, h[level], size, _NO_FLOOR, d[level])
    total: float = softmax_error(d[-1], y, rows, factor, shift, weight)
    for level in range(layers - 1, 0, -1):
        backward(units(packed, widths, level), d[level], size, h[level], d[level - 1])
    return total


@inner
def add_products(
    d: Any, read: Any, size: int, widths: Any, chosen: Any, v: Any, steps: bool, w: Any, q: Any, momentum: float,
    pull: float,
) -> None:  # fmt: skip
    """v += d_l h_{l-1}^T of the first `size` rows, for all layers of a packed model; where `steps`, then w += v and v =
    momentum v - pull w + q, whose q may be empty for 0."""
    for level in range(len(widths) - 1):
        own = units(q, widths, level) if len(q) else q.reshape(0, 1)[:, :1]  # of the same type, for numba
        add_outer(
            d[level], read[level], size, units(v, widths, level), chosen, steps, units(w, widths, level), own, momentum,
            pull,
        )  # fmt: skip


@compiled(_TRAIN, tiles, products)
def train(
    w: Any, w_t: Any, b: Any, widths: Any, x: Any, y: Any, orders: Any, shift: Any, weight: Any, batch: int,
    steps: int, lr: float, momentum: float, decay: float, a: float,
) -> float:  # fmt: skip
    """Take `steps` minibatch steps on w (d,) in place; the mean loss of the rows seen, each at the weights of its step.

    Args:
        w_t, b: of the drift, (d,), or empty for none; `a` is its factor.
        widths: of the input, each hidden layer and the output, (layers + 1,).
        x, y: all rows (n, inputs) and labels (n,).
        orders: (epochs, rows of the client), row numbers in the order of each epoch.
        shift, weight: of the loss, (classes,), or empty (`losses.base`).
    """
    weights = pack(w, widths)
    h, read, d, chosen = workspace(widths, min(batch, ROWS))
    pull, q = lr * (decay + a), np.zeros(0, np.float32)
    if len(w_t) or len(b):
        force = np.zeros_like(w)
        for i in range(len(w_t)):
            force[i] += np.float32(lr * a) * w_t[i]
        for i in range(len(b)):
            force[i] -= np.float32(lr) * b[i]
        q = pack(force, widths)
    collects = momentum > 0 or pull > 0 or len(q) > 0 or batch > ROWS
    v = room(1, len(weights))[0] if collects else weights
    if collects:
        for i in range(len(v)):
            v[i] -= np.float32(pull) * weights[i]
        for i in range(len(q)):
            v[i] += q[i]
    total, seen, epoch, first = 0.0, 0, 0, 0
    for _ in range(steps):
        if first >= orders.shape[1]:
            epoch, first = epoch + 1, 0
        step = orders[epoch, first : first + batch]
        for start in range(0, len(step), ROWS):
            rows = step[start : start + ROWS]
            total += errors(weights, widths, x, y, rows, shift, weight, h, read, d, -lr / len(step))
            last = collects and start + ROWS >= len(step)
            add_products(d, read, len(rows), widths, chosen, v, last, weights, q, momentum, pull)
        seen += len(step)
        first += batch
    unpack(weights, widths, w)
    return total / seen


@compiled(_GRADIENT, tiles, products)
def gradient(w: Any, g: Any, widths: Any, x: Any, y: Any, rows: Any, shift: Any, weight: Any) -> float:
    """Set g (d,) to the gradient of the rows' mean loss at w (d,), and return that loss."""
    weights = pack(w, widths)
    h, read, d, chosen = workspace(widths, min(len(rows), ROWS))
    total, collected = 0.0, room(1, len(weights))[0]
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        total += errors(weights, widths, x, y, part, shift, weight, h, read, d, 1 / len(rows))
        add_products(d, read, len(part), widths, chosen, collected, False, collected, collected[:0], 0.0, 0.0)
    unpack(collected, widths, g)
    return total / len(rows)


@compiled(_SCORE, tiles, products)
def score(w: Any, widths: Any, x: Any, y: Any) -> Any:
    """Predicted class of each row (n,), and the summed cross-entropy."""
    layers = len(widths) - 1
    weights = pack(w, widths)
    h = [lanes(ROWS, widths[level] + 1) for level in range(layers)]
    for level in range(layers):
        h[level][:, widths[level]] = 1
    logits = lanes(ROWS, widths[layers])
    predicted, norms = np.empty(len(y), np.int64), np.empty(LANES, np.float32)
    loss = 0.0
    for start in range(0, len(y), ROWS):
        size = min(ROWS, len(y) - start)
        for panel in range((size + LANES - 1) // LANES):
            transpose(x[start + LANES * panel : start + min(size, LANES * (panel + 1))], h[0][panel])
        for level in range(layers - 1):
            forward(units(weights, widths, level), h[level], size, _ZERO, h[level + 1])
        forward(units(weights, widths, layers - 1), h[-1], size, _NO_FLOOR, logits)
        for panel in range((size + LANES - 1) // LANES):
            z, first = logits[panel], start + LANES * panel
            here = min(LANES, len(y) - first)
            below_top(z)
            for lane in range(here):
                loss -= z[y[first + lane], lane]
                best = 0
                while best < len(z) - 1 and z[best, lane] != 0:
                    best += 1
                predicted[first + lane] = best
            exponentials(z, norms)
            for lane in range(here):
                loss += np.log(norms[lane])
    return predicted, loss
