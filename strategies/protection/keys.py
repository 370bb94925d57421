"""How the offices of a protected run come by keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from strategies.protection.vault import Vault


@dataclass(frozen=True)
class Keys:
    """How the offices of a protected run come by keys, and what they do with them.

    Attributes:
        vault: file of the keys; or the keys themselves, where a sweep's driver keeps them in memory for simulated
            offices; or None where no round is computed in earnest.
        measured: rounds that are computed in earnest; None is all. In the others integers travel in clear.
        processes: that may share the work.
        seconds: that making the keys took.
    """

    vault: Path | Vault | None = None
    measured: frozenset[int] | None = None
    processes: int = 1
    seconds: float = 0.0
