"""Many small integers in one big one, so that adding the big ones adds every small one.

    m_0 = tag + 2^64 (v_0 + 2^b v_1 + ...)        the first plaintext
    m_i = v_j + 2^b v_(j+1) + ...                 the others; no value straddles two plaintexts

Law: unpack(sum of packs) is the sum of the values and the sum of the tags, as long as every slot's sum stays below
2^b and the tags' sum below 2^64. There are no guard bits: who packs scales the values so that their sum fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from strategies.base import StrategyError, check_range
from strategies.crypto.masking import from_wire, to_wire

TAG_BITS = 64


@dataclass(frozen=True)
class Packing:
    """Where `count` values and one tag lie in plaintexts below 2^capacity.

    Args:
        count: number d of values, at least 1.
        bits: width b of a slot, 8 to 32; values are unsigned and below 2^b.
        capacity: bits of a plaintext that may be used: n.bit_length() - 1 for Paillier, so that every plaintext is
            below n. At least 64.
    """

    count: int
    bits: int
    capacity: int

    def __post_init__(self) -> None:
        check_range("count", self.count, 1)
        check_range("bits", self.bits, 8, 32)
        check_range("capacity", self.capacity, TAG_BITS)

    @property
    def plaintexts(self) -> int:
        """How many plaintexts hold the values and the tag."""
        rest = max(0, self.count - self._first)
        return 1 + -(-rest // self._each)

    def pack(self, values: NDArray[np.unsignedinteger[Any]], tag: int) -> list[mpz]:
        """Plaintexts (plaintexts,) of unsigned values (d,) and a tag in [0, 2^64)."""
        if values.shape != (self.count,) or values.dtype.kind != "u":
            raise StrategyError(
                f"pack needs {self.count} unsigned integers in one dimension; "
                f"found {values.dtype} of shape {values.shape}"
            )
        largest = int(values.max())
        if largest >> self.bits:
            raise StrategyError(f"a slot holds {self.bits} bits; found a value of {largest}: clamp before packing")
        if not 0 <= tag < 1 << TAG_BITS:
            raise StrategyError(f"the tag must be in [0, 2^{TAG_BITS}); found {tag}")
        filled = self._filled
        grid = np.zeros(filled.shape, np.uint32)
        grid[filled] = values
        rows = to_wire(grid.ravel(), self.bits).reshape(len(grid), -1)
        first, *others = (mpz.from_bytes(row.tobytes(), "little") for row in rows)
        return [(first << TAG_BITS) + tag, *others]

    def unpack(self, plaintexts: Sequence[mpz]) -> tuple[NDArray[np.uint32], int]:
        """Values (d,) and tag of plaintexts, or of their sums.

        A bit outside of all slots is an error: a slot at the top has overflowed, or these are not sums of packs (a
        wrong key or a forged ciphertext decrypts to something random).
        """
        if len(plaintexts) != self.plaintexts:
            raise StrategyError(f"expected {self.plaintexts} plaintexts; found {len(plaintexts)}")
        if any(m < 0 or m >> self.capacity for m in plaintexts):
            raise StrategyError(_foreign(f"a plaintext exceeds {self.capacity} bits"))
        filled = self._filled
        numbers = [plaintexts[0] >> TAG_BITS, *plaintexts[1:]]
        if unused := sum(bool(m >> int(n) * self.bits) for m, n in zip(numbers, filled.sum(1), strict=True)):
            raise StrategyError(_foreign(f"{unused} of {self.plaintexts} plaintexts have bits outside of their slots"))
        octets = b"".join(m.to_bytes(filled.shape[1] * self.bits // 8, "little") for m in numbers)
        grid = from_wire(np.frombuffer(octets, np.uint8), filled.size, self.bits).reshape(filled.shape)
        return grid[filled], int(plaintexts[0] & (1 << TAG_BITS) - 1)

    @property
    def _first(self) -> int:
        """Values in the first plaintext, beside the tag."""
        return min(self.count, (self.capacity - TAG_BITS) // self.bits)

    @property
    def _each(self) -> int:
        """Values in every other plaintext."""
        return self.capacity // self.bits

    @cached_property
    def _filled(self) -> NDArray[np.bool_]:
        """(plaintexts, n): the slots with a value; n is a multiple of 8, so that n slots are whole bytes."""
        columns = np.arange(-(-max(self._first, self._each) // 8) * 8)
        counts = np.full(self.plaintexts, self._each)
        counts[-1] = (self.count - self._first - 1) % self._each + 1
        counts[0] = self._first
        return columns < counts[:, None]


def _foreign(what: str) -> str:
    return f"{what}: a slot has overflowed, or this is no sum of packed values (another key, a forged ciphertext)"
