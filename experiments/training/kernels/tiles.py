"""The machine code of small products: each keeps the sums of a tile in registers until they are done.

Written for LLVM with numba's `intrinsic`, since a loop over arrays is not compiled so that its sums stay in registers.
Places are addresses in memory and strides are in bytes; nothing is checked here, `products` knows the shapes. A term is
added to its sum by a fused multiply-add, in the order of the terms, so that the bits of a sum depend neither on the
tile it falls into, nor on the length of a vector, nor on the machine (one without the instruction has them too, fifty
times as slowly).

Goto, van de Geijn: Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008, is where such tiles come
from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

# Whether numba compiles for 512 bits. It files machine code under the same features, so that code for such vectors is
# never read from its cache by a processor that has none.
_BROAD = "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")

LANES, HALF = 16, 8  # numbers of a cache line, and of half of one
PER_VECTOR = LANES if _BROAD else HALF  # numbers of a vector
NUMBER, LINE, VECTOR = 4, 4 * LANES, 4 * PER_VECTOR  # bytes of a number, a cache line and a vector
# The most rows of a tile of lanes, and the most vectors of a tile of places. Enough sums at once to hide the delay of
# each, and no more than the 32 or 16 registers hold; a tile of places also leaves room for 64 rows of it in the cache.
TALL, WIDE = (17, 12) if _BROAD else (6, 12)

_FLOAT, _LONG = ir.FloatType(), ir.IntType(64)
_VECTORS = {numbers: ir.VectorType(_FLOAT, numbers) for numbers in (HALF, LANES)}
_VECTOR = _VECTORS[PER_VECTOR]

# How eight rows become eight columns, in three steps of which each exchanges numbers between pairs of rows so far
# apart; every shuffle is one instruction of AVX.
_EXCHANGES = (
    (1, [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]),
    (2, [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]),
    (4, [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]),
)

_WHOLE = 1.5 * 2**23  # added to a single-precision number, it leaves the whole number next to it in the last bits
_LOG_2 = (0.693145751953125, 1.428606765330187e-06)  # log 2 in two parts, the first of 16 bits
_POLYNOMIAL = (0.5, 0.16666576266288757, 0.041666556149721146, 0.008363178931176662, 0.0013926184037700295)
_LOG_2_E = 1.44269502162933349609375  # 1 / log 2, in single precision

Term = Callable[[Any], list[tuple[Any, Any]]]


class _Writer:
    """Writes what the tiles have in common."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def place(self, base: Any, stride: Any, count: Any = 1) -> Any:
        """base + stride * count."""
        stride, count = (_LONG(n) if isinstance(n, int) else n for n in (stride, count))
        return self.builder.add(base, self.builder.mul(stride, count))

    def load(self, place: Any, kind: Any = _VECTOR) -> Any:
        loaded = self.builder.load(self.builder.inttoptr(place, kind.as_pointer()))
        loaded.align = NUMBER
        return loaded

    def store(self, value: Any, place: Any) -> None:
        self.builder.store(value, self.builder.inttoptr(place, value.type.as_pointer())).align = NUMBER

    def spread(self, number: Any, kind: Any = _VECTOR) -> Any:
        """A vector of one number."""
        alone = self.builder.insert_element(kind(ir.Undefined), number, _LONG(0))
        return self.shuffle(alone, alone, [0] * kind.count)

    def many(self, number: float, kind: Any = _VECTOR) -> Any:
        """A vector of one constant."""
        return kind([number] * kind.count)

    def shuffle(self, a: Any, b: Any, order: list[int]) -> Any:
        """The vector of these places of a and, beyond its own, b."""
        return self.builder.shuffle_vector(a, b, ir.VectorType(ir.IntType(32), len(order))(order))

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c, rounded once."""
        kind, name = ir.FunctionType(a.type, [a.type] * 3), f"llvm.fma.v{a.type.count}f32"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)  # type: ignore[no-untyped-call]
        return self.builder.call(function, [a, b, c])

    @contextmanager
    def each(self, count: Any) -> Iterator[Any]:
        """A loop over 0, 1, ... below a count."""
        with cgutils.for_range(self.builder, count) as loop:
            yield loop.index

    @contextmanager
    def each_bit(self, word: Any) -> Iterator[Any]:
        """A loop over the bits that are set in a word, from the lowest."""
        left = cgutils.alloca_once_value(self.builder, word)  # type: ignore[no-untyped-call]
        head, body, end = (self.builder.append_basic_block(name) for name in ("bits", "bit", "done"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        bits = self.builder.load(left)
        self.builder.cbranch(self.builder.icmp_signed("!=", bits, _LONG(0)), body, end)
        self.builder.position_at_end(body)
        self.builder.store(self.builder.and_(bits, self.builder.sub(bits, _LONG(1))), left)
        yield self.builder.cttz(bits, ir.IntType(1)(1))
        self.builder.branch(head)
        self.builder.position_at_end(end)

    def sums(self, count: int, numbers: AbstractContextManager[Any], term: Term, kind: Any = _VECTOR) -> list[Any]:
        """So many sums of products of vectors; `term` gives the two factors of each, at a number of the loop."""
        totals = [
            cgutils.alloca_once_value(self.builder, self.many(0.0, kind))  # type: ignore[no-untyped-call]
            for _ in range(count)
        ]
        with numbers as number:
            for total, (a, b) in zip(totals, term(number), strict=True):
                self.builder.store(self.fused(a, b, self.builder.load(total)), total)
        return [self.builder.load(total) for total in totals]

    def choose(self, number: Any, most: int, write: Callable[[int], None]) -> None:
        """What `write` writes for the one among 1, 2, ... `most` that a number is."""
        for choice in range(most, 0, -1):
            with self.builder.if_then(self.builder.icmp_signed("==", number, _LONG(choice))):
                write(choice)

    def tile(
        self, height: Any, narrow: Any, a: Any, by_row: Any, by_term: Any, b: Any, terms: Any, c: Any,
        end: Callable[[Any, int], Any],
    ) -> None:  # fmt: skip
        """Lanes c_r = end(sum_k a_rk b_k) for `height` rows r and lanes b_k, or the first half of them where `narrow`;
        a_rk is at a + r by_row + k by_term. `end` is told how far into c a sum belongs."""

        def write(rows: int, numbers: int) -> None:
            kind = _VECTORS[min(numbers, PER_VECTOR)]
            size, vectors = NUMBER * kind.count, numbers // kind.count

            def term(k: Any) -> list[tuple[Any, Any]]:
                line, left = self.place(b, LINE, k), self.place(a, by_term, k)
                right = [self.load(self.place(line, size, v), kind) for v in range(vectors)]
                factors = [self.spread(self.load(self.place(left, by_row, r), _FLOAT), kind) for r in range(rows)]
                return [(factor, lanes) for factor in factors for lanes in right]

            for number, total in enumerate(self.sums(rows * vectors, self.each(terms), term, kind)):
                offset = LINE * (number // vectors) + size * (number % vectors)
                self.store(end(total, offset), self.place(c, offset))

        def either(rows: int) -> None:
            with self.builder.if_else(narrow) as (half, whole):
                with half:
                    write(rows, HALF)
                with whole:
                    write(rows, LANES)

        self.choose(height, TALL, either)


def _for_compiled_code(function: Callable[..., Any]) -> Any:
    """numba's `intrinsic`, whose types are those of Python's side: with the context, without the result."""
    return intrinsic(function)


@_for_compiled_code
def forward_tile(context, height, narrow, a, stride, b, terms, c, floor):  # type: ignore[no-untyped-def]
    """c_r = max(floor, sum_k a_rk b_k), a_rk at a + r stride + 4 k; NaN passes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Writer(builder)
        height, narrow, a, stride, b, terms, c, floor = arguments

        def end(total: Any, _: int) -> Any:
            least = code.spread(floor, total.type)
            return builder.select(builder.fcmp_ordered("<", total, least), least, total)

        code.tile(height, narrow, a, stride, NUMBER, b, terms, c, end)
        return context.get_dummy_value()

    return types.void(types.intp, types.boolean, *[types.intp] * 5, types.float32), generate


@_for_compiled_code
def backward_tile(context, height, narrow, a, stride, b, terms, c, gate):  # type: ignore[no-untyped-def]
    """c_r = sum_k a_kr b_k where gate_r > 0 (or NaN) and 0 elsewhere, a_kr at a + k stride + 4 r."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Writer(builder)
        height, narrow, a, stride, b, terms, c, gate = arguments

        def end(total: Any, offset: int) -> Any:
            zeros = code.many(0.0, total.type)
            passes = builder.fcmp_unordered(">", code.load(code.place(gate, offset), total.type), zeros)
            return builder.select(passes, total, zeros)

        code.tile(height, narrow, a, NUMBER, stride, b, terms, c, end)
        return context.get_dummy_value()

    return types.void(types.intp, types.boolean, *[types.intp] * 6), generate


@_for_compiled_code
def outer_tile(  # type: ignore[no-untyped-def]
    context, width, rows, stride, lanes, panel, chosen, v, steps, w, q, q_stride, momentum, pull
):
    """v += sum_k d_k row_k, of `width` vectors, over the bits k that are set in `chosen`: row_k is at rows + k stride,
    d_k in lane k % 16 of panel k / 16 of lanes. Where `steps`, then w += v and v = momentum v - pull w + q."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Writer(builder)
        width, rows, stride, lanes, panel, chosen, v, steps, w, q, q_stride, momentum, pull = arguments

        def write(vectors: int) -> None:
            def term(k: Any) -> list[tuple[Any, Any]]:
                row, line = code.place(rows, stride, k), code.place(lanes, panel, builder.udiv(k, _LONG(LANES)))
                factor = code.spread(code.load(code.place(line, NUMBER, builder.urem(k, _LONG(LANES))), _FLOAT))
                return [(factor, code.load(code.place(row, VECTOR, n))) for n in range(vectors)]

            sums = code.sums(vectors, code.each_bit(chosen), term)
            sums = [builder.fadd(code.load(code.place(v, VECTOR, n)), total) for n, total in enumerate(sums)]
            with builder.if_else(steps) as (last, more):
                with last:
                    beta, kappa = code.spread(momentum), code.spread(builder.fneg(pull))
                    for n, total in enumerate(sums):
                        place = code.place(w, VECTOR, n)
                        stepped = builder.fadd(code.load(place), total)
                        code.store(stepped, place)
                        rest = code.fused(beta, total, code.load(code.place(q, q_stride, n)))
                        code.store(code.fused(kappa, stepped, rest), code.place(v, VECTOR, n))
                with more:
                    for n, total in enumerate(sums):
                        code.store(total, code.place(v, VECTOR, n))

        code.choose(width, WIDE, write)
        return context.get_dummy_value()

    kinds = [types.intp] * 7, types.boolean, [types.intp] * 3, [types.float32] * 2
    return types.void(*kinds[0], kinds[1], *kinds[2], *kinds[3]), generate


@_for_compiled_code
def nonzero(context, lanes):  # type: ignore[no-untyped-def]
    """A bit for each of 16 lanes: is its number other than zero?"""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Writer(builder)
        bits = _LONG(0)
        for part in range(LANES // PER_VECTOR):
            differs = builder.fcmp_unordered("!=", code.load(code.place(arguments[0], VECTOR, part)), code.many(0.0))
            own = builder.zext(builder.bitcast(differs, ir.IntType(PER_VECTOR)), _LONG)
            bits = builder.or_(bits, builder.shl(own, _LONG(PER_VECTOR * part)))
        return bits

    return types.intp(types.intp), generate


@_for_compiled_code
def exp_tile(context, lanes):  # type: ignore[no-untyped-def]
    """16 numbers, none above 0, become their exponentials, 0 below -87; within 1.1 units in the last place.

    e^x = 2^k e^r with k the whole number next to x / log 2, which lies in the last bits of x / log 2 + 1.5 2^23, and
    e^r = 1 + r + r^2 p(r), |r| <= log 2 / 2; p interpolates at Chebyshev's nodes, within 1e-8.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Writer(builder)
        words = ir.VectorType(ir.IntType(32), PER_VECTOR)
        for part in range(LANES // PER_VECTOR):
            place = code.place(arguments[0], VECTOR, part)
            x = code.load(place)
            shifted = code.fused(x, code.many(_LOG_2_E), code.many(_WHOLE))
            k = builder.fsub(shifted, code.many(_WHOLE))
            r = code.fused(builder.fneg(k), code.many(_LOG_2[0]), x)
            r = code.fused(builder.fneg(k), code.many(_LOG_2[1]), r)
            p = code.many(_POLYNOMIAL[-1])
            for coefficient in _POLYNOMIAL[-2::-1]:
                p = code.fused(p, r, code.many(coefficient))
            y = builder.fadd(code.fused(builder.fmul(r, r), p, r), code.many(1.0))
            power = builder.add(builder.bitcast(shifted, words), words([127] * PER_VECTOR))
            power = builder.bitcast(builder.shl(power, words([23] * PER_VECTOR)), _VECTOR)
            tiny = builder.fcmp_ordered("<", x, code.many(-87.0))
            code.store(builder.select(tiny, code.many(0.0), builder.fmul(y, power)), place)
        return context.get_dummy_value()

    return types.void(types.intp), generate


@_for_compiled_code
def turn_tile(context, a, stride, c, c_stride):  # type: ignore[no-untyped-def]
    """c = a^T for eight rows of eight numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Writer(builder)
        a, stride, c, c_stride = arguments
        rows = [code.load(code.place(a, stride, r), _VECTORS[HALF]) for r in range(8)]
        for step, low, high in _EXCHANGES:
            for r in range(8):
                if not r & step:
                    pair = rows[r], rows[r + step]
                    rows[r], rows[r + step] = code.shuffle(*pair, low), code.shuffle(*pair, high)
        for column, row in zip((0, 2, 1, 3, 4, 6, 5, 7), rows, strict=True):
            code.store(row, code.place(c, c_stride, column))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate
