"""What binds a message to its place: every message under protection says which run, round, office and form it is of.

Server and offices each know what they expect and refuse anything else. It proves nothing about who wrote it (that is
the transport's part), but nothing can be replayed, mixed up or read in another form by accident.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from strategies.crypto.streams import ProtectionError

PREFIX = "context-"  # of its keys in a configuration


@dataclass(frozen=True)
class Context:
    """Where a message belongs.

    Attributes:
        run: id of the run, made with its keys.
        round: 1, 2, ...; 0 for what comes before.
        office: its number, from 0.
        attempt: 1 for the first message of an office in a round, one more for every repetition.
        key_id: names the key without telling it.
        layout: hash of the layers' lengths, which stay with the offices.
        offices: K, of the whole federation.
        bits: width of a slot.
    """

    run: str
    round: int
    office: int
    attempt: int
    key_id: str
    layout: str
    offices: int
    bits: int

    def config(self) -> dict[str, Any]:
        """As the keys of a configuration."""
        return {PREFIX + field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Context:
        """From a configuration.

        Raises:
            ProtectionError: it holds none, or not all of it.
        """
        found: dict[str, Any] = {field.name: config.get(PREFIX + field.name) for field in fields(cls)}
        for field in fields(cls):
            kind = int if field.type == "int" else str
            if not isinstance(found[field.name], kind):
                raise ProtectionError(
                    f"the message's context has {field.name} = {found[field.name]!r}; expected {kind.__name__}"
                )
        return cls(**found)

    def check(self, expected: Context) -> None:
        """Refuse a message of another place.

        Raises:
            ProtectionError: names every part that differs.
        """
        differs = [
            f"{field.name} {getattr(self, field.name)!r} instead of {getattr(expected, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(expected, field.name)
        ]
        if differs:
            raise ProtectionError(f"the message is of {', '.join(differs)}")


def round_of(config: Mapping[str, Any]) -> object:
    """The round that a message claims to be of, for errors."""
    return config.get(f"{PREFIX}round", "unknown")
