"""What a protocol has to say: how an office's slots become unreadable, how such things add up, who opens the sum.

A protocol is two objects. `KeyHolder` is what the offices of one process have; `Adder` is what the server has, and
nothing reachable from it may tell an update, a sum or a model (`secagg` alone lets it have the sums). Protocols with
phases of their own, such as secagg's key adverts, send them as queries: `Adder.begin` before the offices train,
`Adder.finish` once their messages are added up, `KeyHolder.answer` at the office.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from strategies.base import Memory
from strategies.crypto.masking import Slots, add_packed, check_packed, pack, unpack
from strategies.protection.context import Context
from strategies.protection.sums import Bytes, ProtectedSum

NO_NOTE = np.empty(0, np.uint8)

Parts = Mapping[str, Any]  # arrays by name
Check = Callable[[int, Parts], None]  # refuses an office's answer by a ProtectionError


class Ask(Protocol):
    """Send a phase's query, with arrays, to offices and have the arrays that they answer with.

    Those that are lost do not answer; one whose answer `check` refuses is named, counted, and left out likewise. In a
    round in clear answers are empty, and nothing is checked.
    """

    def __call__(self, phase: str, parts: Mapping[int, Parts], check: Check | None = None) -> dict[int, Parts]: ...


@dataclass(frozen=True)
class Form:
    """The form of every message of a run.

    Attributes:
        run: id of the run.
        offices: K, of the federation.
        cohort: how many are asked in a round.
        bits: width of a slot.
        count: number of slots d.
    """

    run: str
    offices: int
    cohort: int
    bits: int
    count: int


class KeyHolder(ABC):
    """The offices' side. One object serves all offices of a process: it holds what they share."""

    def __init__(self, form: Form) -> None:
        self.form = form

    def public(self) -> Bytes:
        """What the server needs to add: a public key, or nothing."""
        return NO_NOTE

    def prepare(self, messages: int) -> None:  # noqa: B027  most protocols have nothing to do ahead
        """So many messages will be wanted soon: a chance to work ahead while the offices train."""

    @abstractmethod
    def protect(self, slots: Slots, context: Context, memory: Memory) -> tuple[Bytes, Bytes, Memory]:
        """An office's message, a note for whoever opens the sum, and its memory."""

    @abstractmethod
    def reveal(self, total: ProtectedSum) -> Slots:
        """The sum of the contributors' slots."""

    def answer(self, phase: str, parts: Parts, context: Context, memory: Memory) -> tuple[Parts, Memory]:
        """An office's answer to a query of the protocol's own."""
        raise ValueError(f"this protocol has no phase {phase!r}")

    def naive(self) -> dict[str, Any]:
        """What the same would cost done naively, for the record; nothing where there is no such thing."""
        return {}

    def cpu_seconds(self) -> float:
        """What its worker processes have used."""
        return 0.0

    def close(self) -> None:  # noqa: B027  nor to let go
        """Let worker processes go."""


class Adder(ABC):
    """The server's side.

    Class attributes:
        note_bytes: that come beside each payload, for whoever opens the sum.
    """

    note_bytes: ClassVar[int] = 0

    def __init__(self, form: Form) -> None:
        self.form = form

    def begin(self, round_: int, ask: Ask, offices: Collection[int], clear: bool) -> dict[int, Parts]:
        """Phases before the offices train; who goes on, with the arrays that each is sent."""
        return {office: {} for office in offices}

    @abstractmethod
    def check(self, payload: Bytes, note: Bytes) -> None:
        """Refuse a message that would spoil the sum.

        Raises:
            ProtectionError: what is wrong with it.
        """

    @abstractmethod
    def add(self, total: Any, payload: Bytes) -> Any:
        """The next sum, in a form of the protocol's own; `total` is None before the first. Neither is changed."""

    def finish(self, round_: int, ask: Ask, total: Any, offices: Collection[int], clear: bool) -> Bytes:
        """Phases after the last message; the sum as the offices are sent it."""
        sent: Bytes = total
        return sent


class ClearHolder(KeyHolder):
    """Integers in clear, and empty answers: the plain twin of every protocol."""

    def protect(self, slots: Slots, context: Context, memory: Memory) -> tuple[Bytes, Bytes, Memory]:
        return pack(slots), NO_NOTE, memory

    def reveal(self, total: ProtectedSum) -> Slots:
        return unpack(total.total, self.form.count, self.form.bits)

    def answer(self, phase: str, parts: Parts, context: Context, memory: Memory) -> tuple[Parts, Memory]:
        return {}, memory  # whoever answers is there, and that is all a round in clear asks


class ClearAdder(Adder):
    """Adds integers mod 2^bits, which masked ones are too."""

    def check(self, payload: Bytes, note: Bytes) -> None:
        check_packed(payload, self.form.count, self.form.bits)

    def add(self, total: Bytes | None, payload: Bytes) -> Bytes:
        return payload if total is None else add_packed(total, payload, self.form.count, self.form.bits)
