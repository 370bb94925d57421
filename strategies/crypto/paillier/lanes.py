"""Products modulo the square of an odd number, four at a time: one in each 64-bit lane of a vector register.

Powers that share exponent and modulus, or take one entry from each row of a table, do the same in all lanes: none ever
waits for another. A number has limbs of 28 bits, a limb of four numbers side by side is a row (4,) of 64-bit words, and
one instruction multiplies four pairs of limbs into four whole products. Sums of products stay in their 64 bits until
a whole number is done, or 80 limbs of it: no carry is propagated in between.

Reductions are Montgomery's, modulo a number hardly longer than p where the modulus is p^2. Let M = k p with the
k < 2^28 that makes M = -1 mod 2^28, and R = 2^(28 n). Numbers mod M^2, and so mod p^2, are pairs t - s M:

    t1 t2 + m M = R t                         reduction of t1 t2; m < R are its multipliers
    (t1 - s1 M) (t2 - s2 M) / R
        = (t1 t2 - (t1 s2 + t2 s1) M) / R
        = t - M (t1 s2 + t2 s1 + m) / R       mod M^2
    t1 s2 + t2 s1 + m + m' M = R s            reduction again

The multipliers, which a reduction finds in any case, are the part of t1 t2 that goes over into s. The minus makes all
terms positive. A square takes half a product for t^2, one for t s, and two reductions that cost one each: 3.5 products
of n limbs, where a square of numbers twice as long takes 2 and its reduction 4.

With R >= 16 M and factors below 2 M,

    t < (4 M^2 + R M) / R <= M / 4 + M,    s < (8 M^2 + R + R M) / R <= M / 2 + 1 + M

are below 2 M again, and nothing has to be subtracted. A column of a sum gets at most 3 products for a limb of its
factors, and 3 * 80 + 1 of 2^56 still are below 2^64: carries are propagated every 80 limbs, so never below 2,200 bits.

(P. L. Montgomery: Modular multiplication without trial division, Mathematics of Computation 44, 1985.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, register_model

LANES = 4  # of 64 bits: a register of AVX2; LLVM makes two registers of it on machines with shorter ones
BITS = 28  # of a limb
_SETTLE = 80  # limbs between two propagations of carries; a multiple of four

_inline: Any = intrinsic  # as annotated, one would have to pass the compiler's own argument too


class _Row(types.Type):
    """The compiler's type for a row: one 64-bit word of each lane."""

    def __init__(self) -> None:
        super().__init__(name="Row")


@register_model(_Row)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager: Any, row: Any) -> None:
        super().__init__(manager, row, _VECTOR)  # type: ignore[no-untyped-call]


_row, _index = _Row(), types.int64
_VECTOR = ir.VectorType(ir.IntType(64), LANES)


def _all(number: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [number] * LANES)


def _address(context: Any, builder: Any, array: Any, value: Any, row: Any) -> Any:
    """Of a row of an array (rows, 4), which is not checked to be within it."""
    data = context.make_array(array)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [builder.mul(row, ir.Constant(row.type, LANES))]), _VECTOR.as_pointer())


@_inline
def _load(typing: Any, w: Any, row: Any) -> tuple[Any, Callable[..., Any]]:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *arguments), align=8)

    return _row(w, _index), code


@_inline
def _store(typing: Any, w: Any, row: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _address(context, builder, signature.args[0], *arguments[:2]), align=8)
        return context.get_dummy_value()

    return types.void(w, _index, _row), code


@_inline
def _plus_product(typing: Any, c: Any, a: Any, b: Any) -> tuple[Any, Callable[..., Any]]:
    """c + a b for a, b < 2^32. Only where it sees so does LLVM take the instruction for halves of words (vpmuludq)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        c, a, b = arguments
        return builder.add(c, builder.mul(builder.and_(a, _all(2**32 - 1)), builder.and_(b, _all(2**32 - 1))))

    return _row(_row, _row, _row), code


@_inline
def _plus(typing: Any, a: Any, b: Any) -> tuple[Any, Callable[..., Any]]:
    return _row(_row, _row), lambda context, builder, signature, arguments: builder.add(*arguments)


@_inline
def _low(typing: Any, a: Any) -> tuple[Any, Callable[..., Any]]:
    """a mod 2^28"""
    return _row(_row), lambda context, builder, signature, arguments: builder.and_(arguments[0], _all((1 << BITS) - 1))


@_inline
def _high(typing: Any, a: Any) -> tuple[Any, Callable[..., Any]]:
    """floor(a / 2^28)"""
    return _row(_row), lambda context, builder, signature, arguments: builder.lshr(arguments[0], _all(BITS))


@_inline
def _zero(typing: Any) -> tuple[Any, Callable[..., Any]]:
    return _row(), lambda context, builder, signature, arguments: _all(0)


# All rows are in one array w (rows, 4), and a number or an accumulator is the index of its lowest limb. With n limbs:
#
#     0 .. n       Y = (M + 1) / 2^28, the same in all lanes; its last limb is 0
#     n .. 3n      u, the accumulator of t; its upper half is the result
#     3n .. 5n     v, the accumulator of s
#     5n ..        pairs of 2n limbs, t before s: the number being raised, the base's square, its odd powers


@njit(forceinline=True)
def _add_four(w: Any, sums: Any, b: Any, first: Any, beyond: Any, a: Any, c: Any) -> None:
    """sums[i + j] += a_i b[j] for i < 4 and first <= j < beyond, a multiple of four limbs: the work is done here.

    Four sums are under way in registers, so that a sum is read and written once in four products. c are the sums at
    first .. first + 2, as read and perhaps added to.
    """
    a0, a1, a2, a3 = a
    c0, c1, c2 = c
    for j in range(first, beyond, 4):
        b0 = _load(w, b + j)
        _store(w, sums + j, _plus_product(c0, a0, b0))
        c1 = _plus_product(c1, a1, b0)
        c2 = _plus_product(c2, a2, b0)
        c3 = _plus_product(_load(w, sums + j + 3), a3, b0)
        b1 = _load(w, b + j + 1)
        _store(w, sums + j + 1, _plus_product(c1, a0, b1))
        c2 = _plus_product(c2, a1, b1)
        c3 = _plus_product(c3, a2, b1)
        c0 = _plus_product(_load(w, sums + j + 4), a3, b1)
        b2 = _load(w, b + j + 2)
        _store(w, sums + j + 2, _plus_product(c2, a0, b2))
        c3 = _plus_product(c3, a1, b2)
        c0 = _plus_product(c0, a2, b2)
        c1 = _plus_product(_load(w, sums + j + 5), a3, b2)
        b3 = _load(w, b + j + 3)
        _store(w, sums + j + 3, _plus_product(c3, a0, b3))
        c0 = _plus_product(c0, a1, b3)
        c1 = _plus_product(c1, a2, b3)
        c2 = _plus_product(_load(w, sums + j + 6), a3, b3)
    _store(w, sums + beyond, c0)
    _store(w, sums + beyond + 1, c1)
    _store(w, sums + beyond + 2, c2)


@njit(forceinline=True)
def _four(w: Any, a: Any) -> Any:
    return _load(w, a), _load(w, a + 1), _load(w, a + 2), _load(w, a + 3)


@njit(forceinline=True)
def _twice(a: Any) -> Any:
    return _plus(a[0], a[0]), _plus(a[1], a[1]), _plus(a[2], a[2]), _plus(a[3], a[3])


@njit(forceinline=True)
def _product(w: Any, sums: Any, a: Any, b: Any, n: Any) -> None:
    """sums += (a0, a1, a2, a3) b"""
    _add_four(w, sums, b, 0, n, a, (_load(w, sums), _load(w, sums + 1), _load(w, sums + 2)))


@njit(forceinline=True)
def _half_square(w: Any, sums: Any, t: Any, i: Any, n: Any) -> None:
    """sums += t_j t_j + 2 t_j t_k of i <= j < i + 4 and all k > j; column 0 of sums is that of t_0 t_0."""
    a = a0, a1, a2, a3 = _four(w, t + i)
    d = d0, d1, d2, _ = _twice(a)
    at = sums + 2 * i
    _store(w, at, _plus_product(_load(w, at), a0, a0))
    _store(w, at + 1, _plus_product(_load(w, at + 1), d0, a1))
    _store(w, at + 2, _plus_product(_plus_product(_load(w, at + 2), d0, a2), a1, a1))
    _store(w, at + 3, _plus_product(_plus_product(_load(w, at + 3), d0, a3), d1, a2))
    c0 = _plus_product(_plus_product(_load(w, at + 4), d1, a3), a2, a2)
    c1 = _plus_product(_load(w, at + 5), d2, a3)
    c2 = _plus_product(_load(w, at + 6), a3, a3)
    _add_four(w, sums + i, t, i + 4, n, d, (c0, c1, c2))


@njit(forceinline=True)
def _reduce(w: Any, sums: Any, n: Any) -> Any:
    """sums += m M with the m of four limbs that makes the four lowest 0 (they are left as they are), and their carry.

    Since M = 2^28 Y - 1, a multiplier is the lowest limb of its column itself: it goes, and m Y one column above comes.
    """
    y0, y1, y2 = _load(w, 0), _load(w, 1), _load(w, 2)
    c0, c1, c2, c3 = _four(w, sums)
    m0 = _low(c0)
    c1 = _plus_product(_plus(c1, _high(c0)), m0, y0)
    m1 = _low(c1)
    c2 = _plus_product(_plus(_plus_product(c2, m0, y1), _high(c1)), m1, y0)
    m2 = _low(c2)
    c3 = _plus_product(_plus(_plus_product(_plus_product(c3, m0, y2), m1, y1), _high(c2)), m2, y0)
    m3 = _low(c3)
    c0 = _plus(_load(w, sums + 4), _high(c3))
    c0 = _plus_product(_plus_product(_plus_product(c0, m1, y2), m2, y1), m3, y0)
    c1 = _plus_product(_plus_product(_load(w, sums + 5), m2, y2), m3, y1)
    c2 = _plus_product(_load(w, sums + 6), m3, y2)
    m = m0, m1, m2, m3
    _add_four(w, sums + 1, 0, 3, n - 1, m, (c0, c1, c2))
    return m


@njit(forceinline=True)
def _start(w: Any, n: Any) -> None:
    """u = v = 0"""
    for j in range(n, 5 * n):
        _store(w, j, _zero())


@njit(forceinline=True)
def _move(w: Any, sums: Any, to: Any, n: Any) -> None:
    """A number of limbs below 2^28 of a number's columns."""
    carry = _zero()
    for j in range(n):
        carry = _plus(carry, _load(w, sums + j))
        _store(w, to + j, _low(carry))
        carry = _high(carry)


@njit(forceinline=True)
def _settle(w: Any, i: Any, n: Any) -> None:
    """Propagates the carries of u and v when the limbs below i are done and more are to come."""
    if i % _SETTLE == 0 and i < n:
        for sums in (n, 3 * n):
            carry = _zero()
            for j in range(sums + i, sums + i + n):  # what is under way
                carry = _plus(carry, _load(w, j))
                _store(w, j, _low(carry))
                carry = _high(carry)
            _store(w, sums + i + n, _plus(carry, _load(w, sums + i + n)))


@njit(cache=True)
def _square(w: Any, x: Any, n: Any) -> None:
    """x = x^2 / R for a pair x, in place."""
    u, v, t, s = n, 3 * n, x, x + n
    _start(w, n)
    for i in range(0, n, 4):  # t's and s's turns do not wait for each other
        _half_square(w, u, t, i, n)
        m = _reduce(w, u + i, n)
        for j in range(4):
            _store(w, v + i + j, _plus(_load(w, v + i + j), m[j]))
        _product(w, v + i, _twice(_four(w, t + i)), s, n)
        _reduce(w, v + i, n)
        _settle(w, i + 4, n)
    _move(w, u + n, t, n)
    _move(w, v + n, s, n)


@njit(cache=True)
def _multiply(w: Any, x: Any, y: Any, pair: Any, n: Any) -> None:
    """x = x y / R for a pair x, in place, and y: a pair, or else the t of a pair (t, 0)."""
    u, v, t, s = n, 3 * n, x, x + n
    _start(w, n)
    for i in range(0, n, 4):
        _product(w, u + i, _four(w, t + i), y, n)
        m = _reduce(w, u + i, n)
        for j in range(4):
            _store(w, v + i + j, _plus(_load(w, v + i + j), m[j]))
        _product(w, v + i, _four(w, s + i), y, n)
        if pair:
            _product(w, v + i, _four(w, t + i), y + n, n)
        _reduce(w, v + i, n)
        _settle(w, i + 4, n)
    _move(w, u + n, t, n)
    _move(w, v + n, s, n)


@njit(forceinline=True)
def _copy(source: Any, a: Any, target: Any, b: Any, rows: Any) -> None:
    for j in range(rows):
        _store(target, b + j, _load(source, a + j))


@njit([types.void(types.uint64[:, ::1], types.uint64[:, ::1], types.int64[:, ::1], types.int64)], cache=True)
def raise_all(lanes: Any, y: Any, steps: Any, odd: Any) -> None:
    """Pairs x, in place, to the power that `steps` describe: R (x / R)^e.

    Args:
        lanes: (groups 2n, 4): t (n, 4) of four pairs, their s, t of the next four.
        y: Y (n, 4), its last limb 0.
        steps: rows (squarings, k): square so often, then multiply by x^(2k+1), k < odd, or by nothing for k = -1. What
            the first row squares is 1.
    """
    n, pair = len(y), 2 * len(y)
    x = 5 * n
    square = x + pair
    table = square + pair
    w = np.empty((table + odd * pair, LANES), np.uint64)
    _copy(y, 0, w, 0, n)
    for group in range(0, len(lanes), pair):
        _copy(lanes, group, w, table, pair)
        _copy(lanes, group, w, square, pair)
        _square(w, square, n)
        for k in range(1, odd):
            _copy(w, table + (k - 1) * pair, w, table + k * pair, pair)
            _multiply(w, table + k * pair, square, True, n)
        _copy(w, table + steps[0, 1] * pair, w, x, pair)
        for i in range(1, len(steps)):
            for _ in range(steps[i, 0]):
                _square(w, x, n)
            if steps[i, 1] >= 0:
                _multiply(w, x, table + steps[i, 1] * pair, True, n)
        _copy(w, x, lanes, group, pair)


@njit([types.void(*[types.uint64[:, ::1]] * 2, types.uint32[:, :, ::1], types.uint16[:, ::1])], cache=True)
def multiply_chosen(lanes: Any, y: Any, table: Any, digits: Any) -> None:
    """Pairs, in place, times table[j, digit_j] / R for every row j.

    Args:
        lanes, y: as of `raise_all`.
        table: (rows, entries, n) limbs of numbers below 2 M.
        digits: (rows, 4 groups), which are not checked to be below `entries`.
    """
    n, pair = len(y), 2 * len(y)
    x, factor = 5 * n, 7 * n
    w = np.empty((8 * n, LANES), np.uint64)
    _copy(y, 0, w, 0, n)
    for row in range(len(digits)):  # all pairs go through a row together: it stays in the cache
        for group in range(len(lanes) // pair):
            for lane in range(LANES):
                entry = table[row, digits[row, LANES * group + lane]]
                for j in range(n):
                    w[factor + j, lane] = entry[j]
            _copy(lanes, group * pair, w, x, pair)
            _multiply(w, x, factor, False, n)
            _copy(w, x, lanes, group * pair, pair)
