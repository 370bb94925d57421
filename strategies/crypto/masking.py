"""masked_sum: the one-time pad under a secret of the offices, and the slots that all masked sums are made of.

A pad drawn from a secret by a pseudo-random function, added mod 2^bits, is the symmetric additively homomorphic
encryption of Castelluccia, Mykletun, Tsudik: Efficient Aggregation of Encrypted Data in Wireless Sensor Networks,
MobiQuitous 2005:

    y_k = v_k + PRF(HKDF(secret, run); nonce, office, round) mod 2^bits
    sum_k v_k = sum_k y_k - sum_k PRF(HKDF(secret, run); nonce_k, k, round) mod 2^bits

The server adds the y_k and returns the sum with the list of offices and nonces; any subset will do. A nonce is 12
random bytes drawn anew for every attempt: two messages under one pad would give their difference to the server.

The laws: unmask(mask(a) + mask(b)) = a + b mod 2^bits, bit for bit, and from_wire(to_wire(v)) = v.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from strategies.crypto.streams import NONCE_BYTES, ProtectionError, check_bits, derive, keystream, word_bytes, words

CHECK_BYTES = 8
BLOCK = 4096  # slots that `add_packed` takes at a time; a multiple of 8


@dataclass(frozen=True, eq=False)
class Slots:
    """What is summed: d integers mod 2^bits, and the check slot mod 2^64 that holds a tag (or a sum of tags).

    Raises:
        ProtectionError: bits outside 8..32, values of another type or shape, or a number that is not in its slot.
    """

    values: NDArray[np.uint32]  # (d,) in [0, 2^bits)
    check: int  # in [0, 2^64)
    bits: int  # 8..32

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if self.values.dtype != np.uint32 or self.values.ndim != 1:
            raise ProtectionError(f"slots are (d,) of uint32; found {self.values.shape} of {self.values.dtype}")
        if self.bits < 32 and self.values.size and (largest := int(self.values.max())) >> self.bits:
            raise ProtectionError(f"values of {self.bits} bits are below {1 << self.bits}; found {largest}")
        if not 0 <= self.check < 1 << 64:
            raise ProtectionError(f"the check slot is in [0, 2^64); found {self.check}")


def shift(slots: Slots, plus: Iterable[bytes] = (), minus: Iterable[bytes] = ()) -> Slots:
    """slots + sum of pads(plus) - sum of pads(minus): a pad is a key's stream, 8 bytes for the check slot first.

    Each key (32 bytes) is used for one pad of one message: a key twice is a two-time pad.
    """
    total, check = slots.values.copy(), slots.check
    size = CHECK_BYTES + total.size * word_bytes(slots.bits)
    for sign, keys in ((1, plus), (-1, minus)):
        for key in keys:
            stream = keystream(key, size)
            pad = words(stream[CHECK_BYTES:], slots.bits)
            check += sign * int.from_bytes(stream[:CHECK_BYTES], "little")
            # uint32 wraps mod 2^32, of which 2^bits is a divisor: one reduction at the end is enough
            (np.add if sign > 0 else np.subtract)(total, pad, out=total)
    if slots.bits < 32:
        total &= np.uint32((1 << slots.bits) - 1)
    return Slots(total, check % (1 << 64), slots.bits)


def fresh_nonce() -> bytes:
    """12 bytes of the operating system, one for every attempt to send."""
    return os.urandom(NONCE_BYTES)


def mask(slots: Slots, secret: bytes, run: str, round_: int, office: int, nonce: bytes) -> Slots:
    """y = v + PRF(HKDF(secret, run); nonce, office, round): uniform to whoever has not the secret.

    Args:
        slots: what is sent, with the office's tag in the check slot.
        secret: 32 bytes that all offices share and the server has not.
        run, round_, office: where it belongs; the pad is drawn from them.
        nonce: of `fresh_nonce`, never used before.
    """
    return shift(slots, plus=[_pad_key(secret, run, round_, office, nonce, slots)])


def unmask(total: Slots, secret: bytes, run: str, round_: int, contributors: Sequence[tuple[int, bytes]]) -> Slots:
    """The sum of the contributors' slots, from the sum of what they sent.

    Its check slot is then for `streams.check_tags`: with contributors or nonces other than those that were added, the
    result is noise, and only the tags say so.
    Every subset opens, a single office too: how many contributors are enough is for the caller, a holder of the secret,
    to say before it opens anything.

    Args:
        total: the server's sum.
        contributors: (office, nonce) of every message in it.

    Raises:
        ProtectionError: no contributor, or one twice.
    """
    offices = [office for office, _ in contributors]
    if not offices or len(set(offices)) != len(offices):
        raise ProtectionError(f"a sum has contributors, each once; round {round_} announces {sorted(offices)}")
    return shift(total, minus=[_pad_key(secret, run, round_, office, nonce, total) for office, nonce in contributors])


def to_wire(values: NDArray[np.uint32], bits: int) -> NDArray[np.uint8]:
    """d integers in [0, 2^bits) as ceil(d bits / 8) bytes: bits / 32 of what float32 takes.

    Bit j of value i is bit i * bits + j of the string, counted from the lowest bit of the first byte. Widths of 8, 16
    and 32 bits are thus plain little-endian words.
    """
    check_bits(bits)
    if bits in (8, 16, 32):
        return values.astype(f"<u{bits // 8}").view(np.uint8)
    groups = np.zeros((-(-values.size // 8), 8), np.uint64)  # eight values take a whole number of bytes, namely bits
    groups.reshape(-1)[: values.size] = values
    packed = np.zeros((len(groups), bits), np.uint8)
    for j in range(8):
        first, offset = divmod(j * bits, 8)
        shifted = groups[:, j] << np.uint64(offset)
        for k in range(-(-(offset + bits) // 8)):
            packed[:, first + k] |= (shifted >> np.uint64(8 * k)).astype(np.uint8)
    return packed.reshape(-1)[: _wire_bytes(values.size, bits)]


def from_wire(array: NDArray[np.uint8], count: int, bits: int) -> NDArray[np.uint32]:
    """`count` integers in [0, 2^bits), from `to_wire`.

    Raises:
        ProtectionError: another type, another number of bytes, or a bit set behind the last value.
    """
    _check_wire(array, count, bits)
    size = _wire_bytes(count, bits)
    if bits in (8, 16, 32):
        return np.ascontiguousarray(array).view(f"<u{bits // 8}").astype(np.uint32)
    packed = np.zeros((-(-count // 8), bits), np.uint64)
    packed.reshape(-1)[:size] = array
    groups = np.empty((len(packed), 8), np.uint32)
    for j in range(8):
        first, offset = divmod(j * bits, 8)
        word = packed[:, first].copy()
        for k in range(1, -(-(offset + bits) // 8)):
            word |= packed[:, first + k] << np.uint64(8 * k)
        groups[:, j] = (word >> np.uint64(offset)) & np.uint64((1 << bits) - 1)
    return groups.reshape(-1)[:count]


def pack(slots: Slots) -> NDArray[np.uint8]:
    """Slots as one array of bytes: the values as `to_wire`, then the check slot's 8 bytes, little-endian."""
    check = np.frombuffer(slots.check.to_bytes(CHECK_BYTES, "little"), np.uint8)
    return np.concatenate([to_wire(slots.values, slots.bits), check])


def unpack(array: NDArray[np.uint8], count: int, bits: int) -> Slots:
    """The slots of `pack`; what comes from elsewhere is checked as in `from_wire`."""
    check_packed(array, count, bits)
    check = int.from_bytes(array[-CHECK_BYTES:].tobytes(), "little")
    return Slots(from_wire(array[:-CHECK_BYTES], count, bits), check, bits)


def check_packed(array: NDArray[np.uint8], count: int, bits: int) -> None:
    """Refuse what is not the `pack` of `count` slots of `bits` bits.

    Raises:
        ProtectionError: another type or shape, another number of bytes, or a bit set behind the last value.
    """
    if array.ndim != 1:
        raise ProtectionError(f"slots travel as one array of bytes; found {array.shape} of {array.dtype}")
    _check_wire(array[:-CHECK_BYTES], count, bits)


def add_packed(a: NDArray[np.uint8], b: NDArray[np.uint8], count: int, bits: int) -> NDArray[np.uint8]:
    """The `pack` of the sum of two checked packs, mod 2^bits and mod 2^64 as `shift` adds, without unpacking them.

    With H the highest bit of every slot, ((a & ~H) + (b & ~H)) ^ ((a ^ b) & H) adds all slots of a long number, and no
    carry leaves its slot (Warren: Hacker's Delight, 2nd edition, 2012, section 2-18). It takes the memory of the sum.
    """
    total, every = np.empty_like(a), _wire_bytes(count, bits)
    if bits in (8, 16, 32):
        np.add(*(packed[:every].view(f"<u{bits // 8}") for packed in (a, b, total)))
    for start in range(0, count if bits not in (8, 16, 32) else 0, BLOCK):
        size = min(BLOCK, count - start)
        part = slice(start * bits // 8, _wire_bytes(start + size, bits))  # blocks are whole bytes
        x, y = (int.from_bytes(packed[part].tobytes(), "little") for packed in (a, b))
        high, low = _highest(size, bits)
        z = ((x & low) + (y & low)) ^ ((x ^ y) & high)
        total[part] = np.frombuffer(z.to_bytes(part.stop - part.start, "little"), np.uint8)
    check = sum(int.from_bytes(packed[-CHECK_BYTES:].tobytes(), "little") for packed in (a, b)) % (1 << 64)
    total[-CHECK_BYTES:] = np.frombuffer(check.to_bytes(CHECK_BYTES, "little"), np.uint8)
    return total


@lru_cache(maxsize=4)
def _highest(size: int, bits: int) -> tuple[int, int]:
    """The highest bit of each of `size` slots, and all the others."""
    every = (1 << size * bits) - 1
    high = every // ((1 << bits) - 1) << (bits - 1)
    return high, every ^ high


def _check_wire(array: NDArray[np.uint8], count: int, bits: int) -> None:
    check_bits(bits)
    size = _wire_bytes(count, bits)
    if array.dtype != np.uint8 or array.shape != (size,):
        raise ProtectionError(
            f"{count} values of {bits} bits are {size} bytes; found an array {array.shape} of {array.dtype}"
        )
    if (unused := 8 * size - count * bits) and int(array[-1]) >> (8 - unused):
        raise ProtectionError(f"the last {unused} bits behind {count} values of {bits} bits must be 0")


def _pad_key(secret: bytes, run: str, round_: int, office: int, nonce: bytes, slots: Slots) -> bytes:
    if len(nonce) != NONCE_BYTES:
        raise ProtectionError(f"a nonce has {NONCE_BYTES} bytes; office {office} gave {len(nonce)}")
    # The form is bound too: the same key read as words of another width would be the same pad once more.
    return derive(secret, run, "masked_sum", nonce, office, round_, slots.bits, slots.values.size)


def _wire_bytes(count: int, bits: int) -> int:
    return -(-count * bits // 8)
