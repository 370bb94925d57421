"""What the offices of one process share under protection: keys, the grid of a round, and the last sum opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from strategies.base import Memory
from strategies.crypto.fixed_point import FixedPoint, Floats
from strategies.crypto.masking import Slots
from strategies.crypto.streams import check_tags, tag
from strategies.protection import clip as clips
from strategies.protection.context import Context
from strategies.protection.layout import Layout, digits, number, slots_of_a_number
from strategies.protection.options import AUTO, ProtectionOptions
from strategies.protection.protocol import ClearHolder, Form, KeyHolder
from strategies.protection.sums import ProtectedSum

if TYPE_CHECKING:
    from strategies.protection.shares import NoiseShares, NoisyGrid
    from strategies.protection.vault import Vault


class Desk:
    """What the offices of one process share: keys, and the last sum opened, which all of them need.

    Args:
        strategy: with its protocol.
        vault: the keys.
        offices: K, of the federation.
        cohort: how many are asked in a round.
        layout: of what an office sends.
        processes: that the protocol may use.
        measured: rounds that are computed in earnest; None is all.
        shares: of noise, which offices add to their updates; or None.
    """

    def __init__(
        self, strategy: ProtectionOptions, vault: Vault, offices: int, cohort: int, layout: Layout, processes: int,
        measured: frozenset[int] | None, shares: NoiseShares | None = None,
    ) -> None:  # fmt: skip
        self.vault, self.measured, self.layout = vault, measured, layout
        self.strategy, self.shares = strategy, shares
        self.follows = strategy.clip == AUTO and shares is None
        more = clips.slots(len(layout.layers), strategy.bits, offices) if self.follows else 0
        count = layout.dimension + more + len(layout.numbers) * slots_of_a_number(strategy.bits, offices)
        self.form = Form(vault.run, offices, cohort, strategy.bits, count)
        self._noisy: dict[int, NoisyGrid] = {}
        self.plain = strategy.grid_of(offices)
        self.layout_hash = sha256(repr(layout).encode()).hexdigest()[:16]
        self.clear = ClearHolder(self.form)
        # Without a round in earnest no key is ever needed.
        self.holder = self.clear if measured == frozenset() else strategy.key_holder(vault, self.form, processes)
        self.opened: Opened | None = None
        self._asides: dict[int, KeyHolder] = {}  # of sums beside the rounds, by round number

    def prepare_aside(self, round_: int, entries: int) -> None:
        """Take part in a sum of so many numbers, under a round number that no round has."""
        count = entries * slots_of_a_number(self.form.bits, self.form.offices)
        form = replace(self.form, cohort=self.form.offices, count=count)
        if round_ not in self._asides:
            clear = self.is_clear(round_)
            self._asides[round_] = ClearHolder(form) if clear else self.strategy.key_holder(self.vault, form, 1)

    def is_aside(self, round_: int) -> bool:
        """Whether a round number is that of a sum beside the rounds."""
        return round_ in self._asides

    def grid(self, round_: int) -> FixedPoint:
        """The fixed point of a round."""
        noisy = self.noisy(round_)
        return self.plain if noisy is None else noisy.fixed

    def noisy(self, round_: int) -> NoisyGrid | None:
        """The same with what it says of the noise, where there is some."""
        if self.shares is not None and round_ not in self._noisy:
            form, clip = self.form, self.clip(round_, {})
            assert isinstance(clip, float)
            self._noisy[round_] = self.shares.grid(
                form.bits, form.offices, self.layout.dimension, clip, round_, self.strategy.rounds_by
            )
        return self._noisy.get(round_)

    def clip(self, round_: int, memory: Memory) -> Floats | float:
        """C of a round, one number or (layers,): as given; under noise as its bound is; else as the last sum was."""
        if self.strategy.clip != AUTO:
            return float(self.strategy.clip)
        if self.shares is not None:
            return self.shares.clip(round_, self.layout.dimension)
        clip: Floats = memory["clip"]
        return clip

    def is_clear(self, round_: int) -> bool:
        """Whether a simulation leaves this round's integers in clear."""
        return self.measured is not None and round_ not in self.measured

    def holder_of(self, round_: int) -> KeyHolder:
        """Whose part it is to protect in a round."""
        if round_ in self._asides:
            return self._asides[round_]
        return self.clear if self.is_clear(round_) else self.holder

    def context(self, round_: int, office: int) -> Context:
        """What a message of this place has to say."""
        form = self.form
        return Context(form.run, round_, office, 1, self.vault.key_id, self.layout_hash, form.offices, form.bits)

    def marked(self, values: NDArray[np.uint32], context: Context) -> Slots:
        """Integers with the office's tag, as a protocol takes them."""
        mark = tag(self.vault.secret, context.run, context.round, context.office, context.offices)
        return Slots(values, mark, context.bits)

    def slots(
        self, values: NDArray[np.uint32], flat: Floats, numbers: Sequence[float], share: float, clip: Floats | float
    ) -> NDArray[np.uint32]:
        """What an office adds to the sum: its vectors as integers, what the next clip follows, and its numbers.

        Args:
            values: of the flat vector, (dimension,).
            flat: the vector itself, (dimension,).
            share: p_k.
            clip: C of the round.
        """
        bits, offices = self.form.bits, self.form.offices
        parts = [values]
        if self.follows:
            x = clips.numbers(clips.largest(self.layout.split(flat)), np.asarray(clip))
            parts.append(clips.split(x, bits, offices))
        parts += [digits(value, share, bits, offices) for value in numbers]
        return np.concatenate(parts) if len(parts) > 1 else values

    def revealed(self, one: ProtectedSum) -> Slots:
        """The integers of a sum.

        Raises:
            ProtectionError: it is not the sum of its contributors in its round.
        """
        slots = self.holder_of(one.round).reveal(one)
        check_tags(slots.check, self.vault.secret, self.form.run, one.round, one.offices, self.form.offices)
        return slots

    def open(self, one: ProtectedSum, shares: Sequence[float], clip: Floats | float) -> tuple[Opened, bool]:
        """What is in a sum, and whether it had to be computed: the offices of a process open a sum once.

        Args:
            shares: p_k of its contributors.
            clip: C, one number or (layers,).

        Raises:
            ProtectionError: as `revealed`, or a slot holds more than its contributors can have sent.
        """
        if self.opened and self.opened.fits(one, shares, clip):
            return self.opened, False
        slots = self.revealed(one)
        bits, offices, layers = self.form.bits, self.form.offices, len(self.layout.layers)
        more = clips.slots(layers, bits, offices) if self.follows else 0
        values, beside, rest = np.split(slots.values, np.cumsum([self.layout.dimension, more]))
        flat = self.grid(one.round).decode(values, shares, self.spread(clip))
        flat.flags.writeable = False  # all offices of the process get it
        following = None
        if self.follows:
            following = clips.following(
                np.asarray(clip), clips.join(beside, layers, bits, offices, len(shares)), one.round
            )
            following.flags.writeable = False
        parts = np.split(rest, len(self.layout.numbers)) if self.layout.numbers else []
        numbers = tuple(number(part, shares, bits, offices) for part in parts)
        self.opened = Opened(one, tuple(shares), clip, flat, numbers, following)
        return self.opened, True

    def spread(self, clip: Floats | float) -> Floats | float:
        """C of every entry (dimension,), from that of every layer; one number stays one."""
        return clip if isinstance(clip, float) else np.repeat(clip, self.layout.layers)


@dataclass(frozen=True, eq=False)
class Opened:
    """A sum that was opened, what was needed to read it, and what is in it.

    Attributes:
        flat: the mean of the flat vectors, (dimension,).
        numbers: the mean of each number.
        following: the clip of the next round, (layers,), where that follows the sum.
    """

    one: ProtectedSum
    shares: tuple[float, ...]
    clip: Floats | float
    flat: Floats
    numbers: tuple[float, ...]
    following: Floats | None

    def fits(self, one: ProtectedSum, shares: Sequence[float], clip: Floats | float) -> bool:
        """Whether another office's sum is this one, to the byte, and it reads it alike."""
        mine = self.one
        return (
            (mine.round, mine.offices, mine.clear, self.shares) == (one.round, one.offices, one.clear, tuple(shares))
            and np.array_equal(self.clip, clip)
            and np.array_equal(mine.total, one.total)
            and np.array_equal(mine.notes, one.notes)
        )
