"""Linear-and-ReLU models with the backward pass written out, compiled.

A step's matrix products are BLAS's; everything between them (gathering a batch, ReLU, softmax and its gradient) is
compiled, so that no interpreter, autograd or optimizer stands between two products. A layer's weights and bias are one
block A (inputs + 1, outputs) of the flat model, and what it reads ends in a column of ones:

    forward     a_l = h_{l-1} A_l,   h_l = [relu(a_l) 1],   h_0 = [x 1],   p = softmax(a_L)
    backward    d_L = (p - onehot(y)) / batch,   d_{l-1} = (d_l A_l'^T) * (a_{l-1} > 0),   A' = A without the bias row
    step        A_l = A_l - lr (decay A_l + a (A_l - A_l^t) + b_l) - lr h_{l-1}^T d_l

The step is one product that accumulates into the weights, so that no gradient is ever stored; weight decay alone is a
factor of that product, and the strategy's drift a (w - w_t) + b one pass before it. With momentum the product
accumulates into V = -lr (velocity) instead, and one pass takes w += V and prepares V for the next step.

No compiled function may reorder its rounding (numba's `fastmath`): a function is compiled alone and again inside its
callers, which of the two is called depends on whether the code came from numba's cache, and with `reassoc` the two
have other bits.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import binding
from numba import njit, types
from numba.extending import get_cython_function_address


def _blas() -> tuple[int, str, type[np.signedinteger[Any]]]:
    """Address and name of a single-precision product, and the type of its integers.

    NumPy's wheels bundle the newest OpenBLAS, a third faster on these shapes than the one SciPy bundles; a NumPy that
    was built otherwise does not offer it by this name.
    """
    try:
        function = ctypes.CDLL(np._core._multiarray_umath.__file__).scipy_sgemm_64_  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return get_cython_function_address("scipy.linalg.cython_blas", "sgemm"), "sgemm_32", np.int32
    return ctypes.cast(function, ctypes.c_void_p).value or 0, "sgemm_64", np.int64


# Under a name of ours: compiled code that is cached on disk may hold names, but no addresses.
_address, _name, _integer = _blas()
binding.add_symbol(f"federated_offices_{_name}", _address)
_sgemm = types.ExternalFunction(f"federated_offices_{_name}", types.void(*[types.intp] * 13))
_size = np.dtype(_integer).itemsize

# Read-only rows and models, as Ray maps them; NumPy's writable arrays are accepted too. One signature, one compilation.
_vector, _integers = types.float32[::1], types.int64[::1]
_given = types.Array(types.float32, 1, "C", readonly=True)
_rows, _labels = types.Array(types.float32, 2, "C", readonly=True), types.Array(types.int64, 1, "C", readonly=True)
_i, _f = types.int64, types.float64
_TRAIN = _f(_vector, _vector, _given, _given, _integers, _rows, _labels, types.int64[:, ::1], _i, _i, _f, _f, _f, _f)
_SCORE = types.Tuple((_integers, _f))(_vector, _integers, _rows, _labels, _i)  # type: ignore[no-untyped-call]


@njit(cache=True)
def multiply(a: Any, b: Any, c: Any, trans_a: bool, trans_b: bool, alpha: float, beta: float) -> None:
    """C = alpha op(A) op(B) + beta C in place, for row-major views (m, k), (k, n), (m, n) of float32.

    BLAS is column-major and is handed the transposed problem, C^T = alpha op(B)^T op(A)^T + beta C^T.
    """
    m, n = c.shape
    k = a.shape[0] if trans_a else a.shape[1]
    sizes = np.array([n, m, k, b.strides[0] // 4, a.strides[0] // 4, c.strides[0] // 4], dtype=_integer)
    factors = np.array([alpha, beta], dtype=np.float32)
    flags = np.array([84 if trans_b else 78, 84 if trans_a else 78], dtype=np.uint8)  # "T" or "N"
    i, f, t = sizes.ctypes.data, factors.ctypes.data, flags.ctypes.data
    _sgemm(  # type: ignore[call-overload]
        t, t + 1, i, i + _size, i + 2 * _size, f, b.ctypes.data, i + 3 * _size, a.ctypes.data, i + 4 * _size, f + 4,
        c.ctypes.data, i + 5 * _size,
    )  # fmt: skip


@njit(cache=True)
def block(w: Any, widths: Any, level: int) -> Any:
    """The block (inputs + 1, outputs) of a layer, as a view of the flat model w (d,)."""
    start = 0
    for below in range(level):
        start += (widths[below] + 1) * widths[below + 1]
    rows, columns = widths[level] + 1, widths[level + 1]
    return w[start : start + rows * columns].reshape(rows, columns)


@njit(cache=True)
def rectify(h: Any, width: int) -> None:
    """relu in place, on the first `width` columns. Written so that NaN passes."""
    zero = np.float32(0)
    for row in range(len(h)):
        for column in range(width):
            if h[row, column] < zero:
                h[row, column] = zero


@njit(cache=True)
def mask(d: Any, h: Any) -> None:
    """d = d * (h > 0) in place; h has one column more, of ones."""
    zero = np.float32(0)
    for row in range(len(d)):
        for column in range(d.shape[1]):
            if h[row, column] <= zero:
                d[row, column] = zero


@njit(cache=True)
def softmax_error(d: Any, labels: Any, rows: Any, factor: float) -> float:
    """Logits d (b, C) become factor (softmax - onehot) in place; the summed cross-entropy of the batch."""
    scale = np.float32(factor)
    total = 0.0
    for row in range(len(d)):
        z = d[row]
        label = labels[rows[row]]
        top = z.max()
        own = z[label] - top
        norm = np.float32(0)
        for c in range(len(z)):
            z[c] = np.exp(z[c] - top)
            norm += z[c]
        total += np.log(norm) - own
        for c in range(len(z)):
            z[c] *= scale / norm
        z[label] -= scale
    return total


@njit(cache=True)
def errors(blocks: Any, widths: Any, x: Any, y: Any, rows: Any, h: Any, d: Any, factor: float) -> float:
    """What every layer reads, h, and `factor` times the gradient of each row's loss by what it gives, d, in place; the
    summed loss of the rows."""
    layers, size = len(blocks), len(rows)
    for row in range(size):
        source, target = x[rows[row]], h[0][row]
        for column in range(len(source)):
            target[column] = source[column]
    for level in range(layers - 1):
        width = widths[level + 1]
        multiply(h[level][:size], blocks[level], h[level + 1][:size, :width], False, False, 1.0, 0.0)
        rectify(h[level + 1][:size], width)
    multiply(h[-1][:size], blocks[-1], d[-1][:size], False, False, 1.0, 0.0)
    total = softmax_error(d[-1][:size], y, rows, factor)
    for level in range(layers - 1, 0, -1):
        multiply(d[level][:size], blocks[level][: widths[level]], d[level - 1][:size], False, True, 1.0, 0.0)
        mask(d[level - 1][:size], h[level][:size])
    return total


@njit(cache=True)
def pull(w: Any, w_t: Any, b: Any, lr: float, decay: float, a: float) -> None:
    """w -= lr (decay w + a (w - w_t) + b), in place; w_t and b may be empty where they do not count."""
    rate, keep, force = np.float32(lr), np.float32(decay), np.float32(a)
    if len(w_t) and len(b):
        for i in range(len(w)):
            w[i] -= rate * (keep * w[i] + force * (w[i] - w_t[i]) + b[i])
    elif len(w_t):
        for i in range(len(w)):
            w[i] -= rate * (keep * w[i] + force * (w[i] - w_t[i]))
    else:
        for i in range(len(w)):
            w[i] -= rate * (keep * w[i] + b[i])


@njit(cache=True)
def roll(w: Any, v: Any, w_t: Any, b: Any, lr: float, momentum: float, decay: float, a: float) -> None:
    """w += V, and V = momentum V - lr (decay w + a (w - w_t) + b) at the new w, in one pass: the next step's product
    only has to be added. w_t and b may be empty where they do not count."""
    rate, beta, keep, force = np.float32(lr), np.float32(momentum), np.float32(decay), np.float32(a)
    if len(w_t) and len(b):
        for i in range(len(w)):
            w[i] += v[i]
            v[i] = beta * v[i] - rate * (keep * w[i] + force * (w[i] - w_t[i]) + b[i])
    elif len(w_t):
        for i in range(len(w)):
            w[i] += v[i]
            v[i] = beta * v[i] - rate * (keep * w[i] + force * (w[i] - w_t[i]))
    elif len(b):
        for i in range(len(w)):
            w[i] += v[i]
            v[i] = beta * v[i] - rate * (keep * w[i] + b[i])
    elif decay:
        for i in range(len(w)):
            w[i] += v[i]
            v[i] = beta * v[i] - rate * (keep * w[i])
    else:
        for i in range(len(w)):
            w[i] += v[i]
            v[i] = beta * v[i]


@njit(_TRAIN, cache=True)
def train(
    w: Any, v: Any, w_t: Any, b: Any, widths: Any, x: Any, y: Any, orders: Any, batch: int, steps: int, lr: float,
    momentum: float, decay: float, a: float,
) -> float:  # fmt: skip
    """Take `steps` minibatch steps on w (d,) in place; the mean loss of the rows seen, each at the weights of its step.

    Args:
        v: V (d,) with momentum, starting at zero, and left as it was added last; empty without.
        w_t, b: of the drift, (d,), or empty for none; `a` is its factor.
        widths: of the input, each hidden layer and the output, (layers + 1,).
        x, y: all rows (n, inputs) and labels (n,).
        orders: (epochs, rows of the client), row numbers in the order of each epoch.
    """
    layers = len(widths) - 1
    h = [np.ones((batch, widths[level] + 1), np.float32) for level in range(layers)]
    d = [np.empty((batch, widths[level + 1]), np.float32) for level in range(layers)]
    blocks = [block(w, widths, level) for level in range(layers)]
    into = [block(v, widths, level) for level in range(layers)] if len(v) else blocks
    drifts = len(w_t) > 0 or len(b) > 0
    beta = 1.0 if len(v) or drifts else 1.0 - lr * decay
    if len(v) and (drifts or decay):
        roll(w, v, w_t, b, lr, momentum, decay, a)  # V is zero: the first step's drift alone
    total, seen, epoch, start = 0.0, 0, 0, 0
    for step in range(steps):
        if start >= orders.shape[1]:
            epoch, start = epoch + 1, 0
        rows = orders[epoch, start : start + batch]
        size = len(rows)
        total += errors(blocks, widths, x, y, rows, h, d, -lr / size)
        if drifts and not len(v):
            pull(w, w_t, b, lr, decay, a)
        for level in range(layers):
            multiply(h[level][:size], d[level][:size], into[level], True, False, 1.0, beta)
        if len(v) and step < steps - 1:
            roll(w, v, w_t, b, lr, momentum, decay, a)
        elif len(v):
            for i in range(len(w)):
                w[i] += v[i]
        seen += size
        start += batch
    return total / seen


@njit(_SCORE, cache=True)
def score(w: Any, widths: Any, x: Any, y: Any, chunk: int) -> Any:
    """Predicted class of each row (n,), and the summed cross-entropy; `chunk` rows at a time stay in the cache."""
    layers = len(widths) - 1
    blocks = [block(w, widths, level) for level in range(layers)]
    room = [np.empty((chunk, widths[level + 1]), np.float32) for level in range(layers)]
    predicted = np.empty(len(y), np.int64)
    loss = 0.0
    for start in range(0, len(y), chunk):
        size = min(chunk, len(y) - start)
        for level in range(layers):
            out, weights = room[level][:size], blocks[level][: widths[level]]
            out[:] = blocks[level][widths[level]]  # the bias
            if level == 0:
                multiply(x[start : start + size], weights, out, False, False, 1.0, 1.0)
            else:
                multiply(room[level - 1][:size], weights, out, False, False, 1.0, 1.0)
            if level < layers - 1:
                rectify(out, widths[level + 1])
        for row in range(size):
            z = room[layers - 1][row]
            best = z.argmax()
            norm = np.float32(0)
            for c in range(len(z)):
                norm += np.exp(z[c] - z[best])
            loss += np.log(norm) - (z[y[start + row]] - z[best])
            predicted[start + row] = best
    return predicted, loss
