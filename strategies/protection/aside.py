"""One sum before the first round, or after the last, that no server can read: class counts, moments, Fisher.

It is formed as a round's sum is, under round number 0 or one after the last, in a form of its own: every entry is a
number of 160 bits (`layout.digits`), so that nothing is clipped and the sum is exact. All offices take part, or there
is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from strategies.base import Named
from strategies.crypto.streams import ProtectionError
from strategies.protection.context import Context
from strategies.protection.desk import Desk
from strategies.protection.layout import digits, number, slots_of_a_number
from strategies.protection.sums import Bytes, ProtectedSum

BEFORE, AFTER = "before", "after"


def entries(sent: Named) -> list[float]:
    """All that is sent, as one list of numbers, by name."""
    return [float(entry) for name in sorted(sent) for entry in np.asarray(sent[name], np.float64).ravel()]


def protect(
    desk: Desk, sent: Named, context: Context, memory: Mapping[str, Any]
) -> tuple[Bytes, Bytes, Mapping[str, Any]]:
    """An office's message, a note for whoever opens the sum, and the protocol's memory."""
    bits, offices = desk.form.bits, desk.form.offices
    values = np.concatenate([digits(entry, 1.0, bits, offices) for entry in entries(sent)])
    return desk.holder_of(context.round).protect(desk.marked(values, context), context, dict(memory))


def total(desk: Desk, one: ProtectedSum, own: Named) -> dict[str, Any]:
    """The sum over all offices, by name.

    Args:
        own: what this office sent, which has the names and shapes.

    Raises:
        ProtectionError: it is not the sum of all offices.
    """
    bits, offices = desk.form.bits, desk.form.offices
    if one.clear != desk.is_clear(one.round) or one.offices != tuple(range(offices)):
        raise ProtectionError(f"the sum beside the rounds is of offices {list(one.offices)}; expected all {offices}")
    slots = desk.revealed(one)
    each = slots_of_a_number(bits, offices)
    values = [offices * number(part, [1.0] * offices, bits, offices) for part in slots.values.reshape(-1, each)]
    names = sorted(own)
    parts = np.split(np.array(values), np.cumsum([np.size(own[name]) for name in names])[:-1])
    return {name: part.reshape(np.shape(own[name])) for name, part in zip(names, parts, strict=True)}
