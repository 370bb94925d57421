"""The plain twin of every protected strategy: the same integers and the same sums, in clear.

It protects nothing. It shows what fixed point alone does to a result, and every protocol is held to it: a run under
`paillier(...)` and a run of `quantised(...)` with the same options have the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from strategies.protection.base import Protected
from strategies.protection.protocol import Adder, ClearAdder, ClearHolder, Form, KeyHolder
from strategies.protection.sees import OFFICE, SERVER, WITH_ONE, Sees
from strategies.protection.sums import Bytes
from strategies.protection.vault import Vault


@dataclass(frozen=True)
class Quantised(Protected):
    """With many bits it is its inner strategy, to the grid's error bound."""

    twin: ClassVar[str | None] = None
    encrypted_share: ClassVar[float] = 0.0
    assumption: ClassVar[str] = "none: integers in clear"
    sees: ClassVar[Mapping[str, Sees]] = {
        SERVER: Sees.UPDATES_AND_SUMS,
        OFFICE: Sees.SUMS_AND_MODEL,
        WITH_ONE: Sees.ALL_UPDATES,
    }
    examples: ClassVar[tuple[str, ...]] = ("quantised", "quantised(bits=12, inner=fedprox(mu=0.01))")

    def key_holder(self, vault: Vault, form: Form, processes: int = 1) -> KeyHolder:
        return ClearHolder(form)

    def adder(self, public: Bytes, form: Form) -> Adder:
        return ClearAdder(form)
