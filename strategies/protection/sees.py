"""What each party of a protocol can learn of the others.

The value of a member is the text that records hold and tables print. Code asks a member what it means
(`Sees.NOTHING.updates`); it never reads the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

SERVER, OFFICE = "server", "office"
WITH_ONE, WITH_T = "server and one office", "server and t offices"  # parties that pool what they know


class Sees(StrEnum):
    """What a party learns by following the protocol and keeping what it is sent.

    Attributes:
        updates: whether it learns the updates of single offices.
        sums: whether it learns the sums of updates.
    """

    updates: bool
    sums: bool

    NOTHING = "nothing of updates, sums, model", False, False
    SUMS_AND_MODEL = "model, sums", False, True
    SUMS_NOT_FIRST_WEIGHTS = "sums, hence the model up to its first weights", False, True
    UPDATES_AND_SUMS = "updates, sums", True, True
    NO_SINGLE_UPDATE = "no single update", False, True
    ALL_UPDATES = "all updates", True, True

    def __new__(cls, text: str, updates: bool, sums: bool) -> Sees:
        """A member: its text, and what that text means."""
        member = str.__new__(cls, text)
        member._value_ = text
        member.updates, member.sums = updates, sums
        return member


# Where the offices share one secret, it opens every message that the server holds.
SHARED_SECRET: Mapping[str, Sees] = {SERVER: Sees.NOTHING, OFFICE: Sees.SUMS_AND_MODEL, WITH_ONE: Sees.ALL_UPDATES}
