"""What travels under protection, a round's sum with its contributors and a sealed model, and an office's memory.

A sum is one array of bytes whose meaning is the protocol's own, beside the contributors' numbers and, for a protocol
that needs it, some bytes of each (`notes`, such as the nonces of their masks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategies.base import Letter, Memory
from strategies.crypto.streams import ProtectionError

Bytes = NDArray[np.uint8]
SENT = "sent-"  # begins the names of what counts once a sum is known to hold the update


@dataclass(frozen=True, eq=False)
class ProtectedSum:
    """One round's sum, as the server may see it.

    Attributes:
        round: 1, 2, ...
        offices: the contributors' numbers, ascending.
        total: uint8, in the protocol's own form.
        notes: (contributors, n) uint8, what each contributor's part needs to be opened; n may be 0.
        clear: its integers are in clear: a round that a simulation did not measure.
    """

    round: int
    offices: tuple[int, ...]
    total: Bytes
    notes: Bytes
    clear: bool = False

    def parts(self) -> dict[str, NDArray[Any]]:
        """As arrays by name."""
        stem = f"sum-{self.round}"
        parts: dict[str, NDArray[Any]] = {
            stem: self.total,
            f"{stem}-offices": np.array(self.offices, np.int64),
            f"{stem}-notes": self.notes,
        }
        if self.clear:
            parts[f"{stem}-clear"] = np.ones(1, np.uint8)
        return parts


def parts_of(letter: Letter) -> dict[str, Bytes]:
    """The arrays of a message that are the protocol's own: neither a sum nor a sealed model.

    Raises:
        ProtectionError: one cannot be read.
    """
    if "unreadable" in letter.metrics:
        raise ProtectionError(f"its arrays cannot be read: {letter.metrics['unreadable']}")
    return {name: array for name, array in letter.arrays.items() if not name.startswith(("sum-", "state"))}


def read_sums(arrays: Mapping[str, NDArray[Any]]) -> list[ProtectedSum]:
    """The sums among the arrays of a message, by round.

    Raises:
        ProtectionError: a sum without contributors, or without the note of one.
    """
    sums = []
    for name in arrays:
        stem, _, number = name.partition("-")
        if stem != "sum" or not number.isdigit():
            continue
        if f"{name}-offices" not in arrays or f"{name}-notes" not in arrays:
            raise ProtectionError(f"the sum of round {number} came without its contributors; it cannot be opened")
        offices, notes = (arrays[f"{name}-{part}"] for part in ("offices", "notes"))
        if offices.ndim != 1 or notes.ndim != 2 or len(notes) != len(offices):
            raise ProtectionError(
                f"the sum of round {number} came with contributors {offices.shape} and notes {notes.shape}; expected a "
                "row of notes for each"
            )
        clear = f"{name}-clear" in arrays
        sums.append(ProtectedSum(int(number), tuple(map(int, offices)), arrays[name], notes, clear))
    return sorted(sums, key=lambda one: one.round)


def flatten(memory: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays by name as bytes: what a sealed model is made of."""
    from safetensors.numpy import save

    content: bytes = save({name: np.ascontiguousarray(array) for name, array in memory.items()})
    return content


def unflatten(content: bytes) -> Memory:
    """Back from `flatten`."""
    from safetensors.numpy import load

    memory: Memory = load(content)
    return memory


def settled(memory: Memory, counted: bool) -> Memory:
    """The memory once it is known whether a sum holds the last update: what was to count then counts, or is gone."""
    waiting, rest = under(memory, SENT), holding(memory, SENT, {})
    if "round" in waiting:
        rest["sent-round"] = waiting.pop("round")
    if not counted:  # else all of what was left before is still to be sent
        return rest
    if "left" in waiting:
        rest["left"] = waiting["left"]
    if "inner" in waiting:
        rest = holding(rest, "inner-", under(waiting, "inner-"))
    return rest


def under(memory: Memory, prefix: str) -> Memory:
    """What stands under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in memory.items() if name.startswith(prefix)}


def holding(memory: Memory, prefix: str, own: Mapping[str, Any]) -> Memory:
    """The memory with nothing else under a prefix."""
    rest = {name: value for name, value in memory.items() if not name.startswith(prefix)}
    return rest | {prefix + name: value for name, value in own.items()}
