"""`clip=auto`: the largest entry that the grid holds, layer by layer, agreed on from what a sum tells all offices.

A mean says little of the updates in it: where labels are skewed, or offices pull against each other, single updates
are thirty times as large as their mean. So every office adds to its protected sum one number a layer, of m, the
largest entry that it has to send:

    x_k = ceil(2^16 min(m_k / C, 16)^4) < 2^32        L = C (sum_k x_k / 2^16)^(1/4)

L is at least the largest m_k (up to 16 C) and at most K^(1/4) times as large, for all who are in the sum. The next
round has

    C' = max(4 L, 0.9 C),    and 4 L alone after the first round,    C where no office moved the layer

so that nothing is clipped unless an office's largest entry is more than four times the largest of the last rounds;
the slow fall is for the offices that took no part in the last sum. C' follows from the sum alone: it is alike at all
offices, also at one that opens the sum later, and whoever cannot open the sum does not learn it. Of the others an
office learns L beside the sum of their updates.

A number travels in several slots. Each holds so few of its bits that a sum over all offices cannot leave its slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategies.crypto.streams import ProtectionError

Floats = NDArray[np.float64]

HEADROOM = 4.0  # C' over L
FIRST_HEADROOM = 8.0  # C of round 1 over the largest of the layer's first weights
FALL = 0.9  # C' over C, at least
GROWTH = 16.0  # m over C, at most: what an office makes up can spoil the next rounds by no more
ONE = 1 << 16  # x of an office whose largest entry is C
LEAST = 1e-30  # as of a clip that is given
BITS = 32  # of a number


def largest(layers: Sequence[NDArray[Any]]) -> Floats:
    """The largest absolute value of each layer, (layers,); 0 of an empty one."""
    return np.array([float(np.abs(layer).max(initial=0)) for layer in layers])


def first(weights: Sequence[NDArray[Any]]) -> Floats:
    """C of round 1 for a model's change, (layers,), from the first weights of every layer; 1 for a layer of zeros."""
    found = FIRST_HEADROOM * largest(weights)
    return np.where(found > 0, found, 1.0)


def numbers(m: Floats, clip: Floats) -> NDArray[np.uint64]:
    """What an office adds to the sum, (layers,) below 2^32: x of its largest entries under the round's C."""
    squared = np.minimum(m / clip, GROWTH) ** 2
    found: Floats = np.minimum(np.ceil(ONE * (squared * squared)), 2**BITS - 1)  # squares are alike on every CPU
    return found.astype(np.uint64)


def following(clip: Floats, total: NDArray[np.uint64], round_: int) -> Floats:
    """C' (layers,) of the next round, from C of the round and the sum of all x in it."""
    reach = HEADROOM * clip * np.sqrt(np.sqrt(total.astype(np.float64) / ONE))
    kept = clip * (FALL if round_ > 1 else 0.0)
    return np.where(total > 0, np.maximum(np.maximum(reach, kept), LEAST), clip)


def slots(layers: int, bits: int, offices: int) -> int:
    """How many slots of `bits` bits the numbers of so many layers take in a sum of `offices`."""
    return layers * -(-BITS // width(bits, offices))


def split(x: NDArray[np.uint64], bits: int, offices: int) -> NDArray[np.uint32]:
    """Numbers (layers,) in slots, lowest part first."""
    each = width(bits, offices)
    parts = [x >> np.uint64(at) & np.uint64((1 << each) - 1) for at in range(0, BITS, each)]
    return np.concatenate(parts).astype(np.uint32)


def join(total: NDArray[np.uint32], layers: int, bits: int, offices: int, here: int) -> NDArray[np.uint64]:
    """The sums of the numbers (layers,), from the sum of the slots of the offices that answered, `here` of them.

    Raises:
        ProtectionError: a slot holds more than they can have sent.
    """
    each = width(bits, offices)
    if total.size and int(total.max()) > here * ((1 << each) - 1):
        raise ProtectionError(f"a slot of the sum holds more than {here} offices send. It is not their sum")
    found = np.zeros(layers, np.uint64)
    for at, part in zip(range(0, BITS, each), total.astype(np.uint64).reshape(-1, layers), strict=True):
        found += part << np.uint64(at)
    return found


def width(bits: int, offices: int) -> int:
    """Bits of a number in one slot: at least 4, since the grid takes at most 2^bits / 32 offices."""
    return bits - offices.bit_length()
