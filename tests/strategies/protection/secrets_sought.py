"""Looking for planted numbers in whatever somebody holds: bytes of messages, objects, the memory of a process.

`Needles` knows each planted vector in every form that it could be found in; `haystack` turns objects into bytes, and
`reachable` finds the objects.
"""

from __future__ import annotations

import gc
import types
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import RecordDict
from flwr.common.serde import recorddict_to_proto
from numpy.typing import NDArray

from strategies.crypto.masking import to_wire

WINDOW = 32  # bytes that have to agree: no chance does that
CHUNK = 1 << 22
SEPARATOR = b"\0" * 3


class Needles:
    """Byte strings by kind, found at any offset, many at a time."""

    def __init__(self) -> None:
        self.by_key: dict[int, list[tuple[bytes, int, str]]] = defaultdict(list)
        self.keys = np.zeros(1 << 24, np.bool_)  # of three bytes of each, by which it is noticed

    def add(self, kind: str, content: bytes) -> None:
        """Look for three parts of a string, since whoever holds it may hold a part, and for all of a short one."""
        size = min(WINDOW, len(content))
        for start in {0, (len(content) - size) // 2, len(content) - size}:
            part = content[start : start + size]
            if len(set(part)) < min(8, size):
                continue  # zeros are everywhere
            place = max(range(size - 2), key=lambda i: len(set(part[i : i + 3]) - {0, 255}))
            key = int.from_bytes(part[place : place + 3], "little")
            self.by_key[key].append((part, place, kind))
            self.keys[key] = True

    def plant_floats(self, kind: str, values: NDArray[Any]) -> None:
        """An update, a mean or a model, in both precisions."""
        for form in (np.float32, np.float64):
            self.add(kind, values.astype(form).tobytes())

    def plant_integers(self, kind: str, values: NDArray[Any], bits: int) -> None:
        """Scaled integers, one, two or three to a word, and packed at both alignments that a byte offers."""
        for form in (np.uint16, np.uint32, np.int64):
            self.add(kind, values.astype(form).tobytes())
        for each in (2, 3):
            if each * bits <= 63:
                words = values[: len(values) // each * each].reshape(-1, each).astype(np.uint64)
                shifts = np.arange(each, dtype=np.uint64) * np.uint64(bits)
                self.add(kind, (words << shifts).sum(axis=1, dtype=np.uint64).tobytes())
        for start in (0, 1):
            self.add(kind, to_wire(values[start:].astype(np.uint32), bits).tobytes())

    def found(self, hay: bytes) -> set[str]:
        """The kinds of which something is in there."""
        kinds: set[str] = set()
        for start in range(0, len(hay), CHUNK):
            part = hay[max(start - WINDOW, 0) : start + CHUNK + WINDOW]
            octets = np.frombuffer(part, np.uint8)
            if len(octets) < 3:
                continue
            keys = octets[:-2].astype(np.uint32)
            keys |= octets[1:-1].astype(np.uint32) << np.uint32(8)
            keys |= octets[2:].astype(np.uint32) << np.uint32(16)
            for i in np.flatnonzero(self.keys[keys]).tolist():
                for needle, place, kind in self.by_key[int(keys[i])]:
                    if kind not in kinds and i >= place and part.startswith(needle, i - place):
                        kinds.add(kind)
        return kinds


def forms(array: NDArray[Any]) -> Iterator[bytes]:
    """An array's bytes, and those of the same numbers in other types."""
    yield array.tobytes()
    if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
        yield from (array.astype(form).tobytes() for form in (np.int64, np.uint32))
    elif array.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            yield from (array.astype(form).tobytes() for form in (np.float32, np.float64))


def hay_of(thing: Any) -> Iterator[bytes]:
    """What a single object holds itself, as bytes."""
    if isinstance(thing, bytes | bytearray | memoryview):
        yield bytes(thing)
    elif isinstance(thing, str):
        yield thing.encode(errors="ignore")
    elif isinstance(thing, np.ndarray) and thing.dtype.kind != "O":
        yield from forms(thing)
    elif type(thing).__name__ == "mpz" or (isinstance(thing, int) and thing.bit_length() > 8 * WINDOW):
        yield int(thing).to_bytes(int(thing).bit_length() // 8 + 1, "little", signed=True)
    elif isinstance(thing, list | tuple) and len(thing) >= 8 and all(type(one) in (int, float) for one in thing):
        try:
            yield from forms(np.array(thing))
        except OverflowError:  # integers that are looked at one by one
            return


def haystack(things: Iterable[Any]) -> bytes:
    """All that objects hold."""
    return SEPARATOR.join(part for thing in things for part in hay_of(thing))


def hay_of_message(content: RecordDict) -> bytes:
    """A message as it would be sent, and its arrays as they are."""
    sent: bytes = recorddict_to_proto(content).SerializeToString()
    arrays = (array.numpy() for record in content.array_records.values() for array in record.values())
    return SEPARATOR.join([sent, *(part for array in arrays for part in forms(array))])


def reachable(*roots: Any, stop: Collection[Any] = ()) -> list[Any]:
    """Every object that can be reached from some: attributes, items, closures, bases of arrays.

    Modules, classes and the globals of functions are left out (by them one reaches all of Python), and so is what is
    behind `stop`.
    """
    seen = {id(one) for one in stop}
    found: list[Any] = []
    stack = list(roots)
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, type | types.ModuleType | types.BuiltinFunctionType):
            continue
        seen.add(id(one))
        found.append(one)  # kept, so that no other object gets its id
        if isinstance(one, types.FunctionType):
            stack += [cell.cell_contents for cell in one.__closure__ or () if _filled(cell)]
            stack += [one.__defaults__, one.__kwdefaults__]
        elif isinstance(one, np.ndarray):
            stack += [one.base, *(one.ravel() if one.dtype.kind == "O" else ())]
        elif isinstance(one, memoryview):
            stack.append(one.obj)
        else:
            stack += gc.get_referents(one)
    return found


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def memory_of(process: int) -> Iterator[bytes]:
    """Every readable piece of another process's memory, in pieces that overlap by a needle's length."""
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            span, rights, *_, name = [*line.split(maxsplit=5), ""][:6]
            start, end = (int(text, 16) for text in span.split("-"))
            if "r" not in rights or name.startswith("[v"):  # the kernel's own pages cannot be read
                continue
            while start < end:
                try:
                    memory.seek(start)
                    piece = memory.read(min(16 * CHUNK, end - start))
                except (OSError, ValueError, OverflowError):
                    break  # mapped, and nothing behind it
                if not piece:
                    break
                yield piece
                start += len(piece) if start + len(piece) >= end else len(piece) - WINDOW
