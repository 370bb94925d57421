"""Slots drawn, and added by NumPy alone: what packed sums are held to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from strategies.crypto.masking import Slots
from strategies.crypto.secagg.server import Server
from strategies.crypto.streams import keystream, random_key, word_bytes, words


def integers(key: bytes | None, count: int, bits: int) -> NDArray[np.uint32]:
    """(count,) uniform integers in [0, 2^bits): of the key, or of the operating system where it is None."""
    return words(keystream(random_key() if key is None else key, count * word_bytes(bits)), bits)


def add(a: Slots, b: Slots) -> Slots:
    """a + b, mod 2^bits and mod 2^64: what a server does."""
    assert (a.bits, a.values.size) == (b.bits, b.values.size)
    values = (a.values.astype(np.uint64) + b.values) % np.uint64(1 << a.bits)
    return Slots(values.astype(np.uint32), (a.check + b.check) % (1 << 64), a.bits)


def collect(server: Server, office: int, masked: Slots) -> Server:
    """A secagg server that has added one masked input more."""
    total = masked if server.total is None else add(server.total, masked)
    return replace(server, answered=server.answered | {office}, total=total)
