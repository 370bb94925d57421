"""Many small integers in one big one, so that adding the big ones adds every small one.

    m_0 = tag + 2^64 (v_0 + 2^b v_1 + ...)        the first plaintext
    m_i = v_j + 2^b v_(j+1) + ...                 the others; no value straddles two plaintexts

Law: unpack(sum of packs) is the sum of the values and the sum of the tags, as long as every slot's sum stays below
2^b and the tags' sum below 2^64. There are no guard bits: who packs scales the values so that their sum fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from strategies.base import StrategyError, check_range

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
        octets = values.astype("<u4").view(np.uint8).reshape(-1, 4)
        slots = np.unpackbits(octets, axis=1, bitorder="little")[:, : self.bits]  # (d, b), lowest bit first
        rows = np.zeros((self.plaintexts, 8 * self._octets), np.uint8)  # one bit an element
        rows[0, :TAG_BITS] = np.unpackbits(np.array([tag], "<u8").view(np.uint8), bitorder="little")
        for row, (low, start, stop) in zip(rows, self._spans(), strict=True):
            some = slots[start:stop].ravel()
            row[low : low + some.size] = some
        packed = np.packbits(rows, axis=1, bitorder="little")
        return [mpz.from_bytes(row.tobytes(), "little") for row in packed]

    def unpack(self, plaintexts: Sequence[mpz]) -> tuple[NDArray[np.uint32], int]:
        """Values (d,) and tag of plaintexts, or of their sums.

        A bit outside of all slots is an error: a slot at the top has overflowed, or these are not sums of packs (a
        wrong key or a forged ciphertext decrypts to something random).
        """
        if len(plaintexts) != self.plaintexts:
            raise StrategyError(f"expected {self.plaintexts} plaintexts; found {len(plaintexts)}")
        if any(m < 0 or m >> self.capacity for m in plaintexts):
            raise StrategyError(_foreign(f"a plaintext exceeds {self.capacity} bits"))
        raw = b"".join(mpz(m).to_bytes(self._octets, "little") for m in plaintexts)
        octets = np.frombuffer(raw, np.uint8).reshape(self.plaintexts, self._octets)
        rows = np.unpackbits(octets, axis=1, bitorder="little")
        slots = np.empty((self.count, self.bits), np.uint8)
        unused = 0
        for row, (low, start, stop) in zip(rows, self._spans(), strict=True):
            some = slots[start:stop]
            some[:] = row[low : low + some.size].reshape(some.shape)
            unused += int(row[low + some.size :].any())
        if unused:
            raise StrategyError(_foreign(f"{unused} of {self.plaintexts} plaintexts have bits outside of their slots"))
        values = np.zeros((self.count, 4), np.uint8)
        narrow = np.packbits(slots, axis=1, bitorder="little")
        values[:, : narrow.shape[1]] = narrow
        return values.view("<u4").ravel().astype(np.uint32, copy=False), int(octets[0, :8].copy().view("<u8")[0])

    @property
    def _first(self) -> int:
        """Values in the first plaintext, beside the tag."""
        return min(self.count, (self.capacity - TAG_BITS) // self.bits)

    @property
    def _each(self) -> int:
        """Values in every other plaintext."""
        return self.capacity // self.bits

    def _spans(self) -> Iterator[tuple[int, int, int]]:
        """Of each plaintext its lowest bit with a value, and which values it holds: start, stop."""
        yield TAG_BITS, 0, self._first
        for start in range(self._first, self.count, self._each):
            yield 0, start, min(start + self._each, self.count)

    @property
    def _octets(self) -> int:
        return -(-self.capacity // 8)


def _foreign(what: str) -> str:
    return f"{what}: a slot has overflowed, or this is no sum of packed values (another key, a forged ciphertext)"
