"""bfv: sums under lattice encryption, exact; TenSEAL's (an optional extra, `pip install '.[he]'`).

Brakerski, CRYPTO 2012; Fan, Vercauteren, ePrint 2012/144. The mathematics and its bounds are in
`crypto/lattice/sums.py`. The offices share a secret key and encrypt with it; the server has the parameters alone and
adds ciphertexts. Unlike Paillier it is believed to withstand quantum computers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from strategies.base import Memory, Setting, StrategyError
from strategies.crypto.masking import Slots
from strategies.crypto.streams import ProtectionError
from strategies.protection.base import Protected
from strategies.protection.context import Context
from strategies.protection.protocol import NO_NOTE, Adder, Ask, ClearAdder, Form, KeyHolder
from strategies.protection.sees import SHARED_SECRET, Sees
from strategies.protection.sums import Bytes, ProtectedSum
from strategies.protection.vault import Vault


@dataclass(frozen=True)
class BFV(Protected):
    """Opened, it is `quantised`, bit for bit."""

    scheme: ClassVar[str] = "bfv"
    assumption: ClassVar[str] = "ring learning with errors (N = 4096); the offices share a secret key"
    sees: ClassVar[Mapping[str, Sees]] = SHARED_SECRET
    examples: ClassVar[tuple[str, ...]] = ("bfv",)

    @property
    def key_kind(self) -> object:
        return type(self), self.bits

    def check(self, setting: Setting) -> None:
        """Refuse, besides, sums that could not be exact, or a missing TenSEAL."""
        from strategies.crypto.lattice.sums import LatticeError, plan

        try:
            plan(self.scheme, self.bits, setting.clients)
        except LatticeError as error:
            raise StrategyError(str(error)) from None
        super().check(setting)

    def make_keys(self, offices: int, processes: int = 1) -> dict[str, str]:
        from strategies.crypto.lattice.sums import keys

        made = keys(self.scheme, self.bits, offices)
        return {self.scheme: made.secret.decode(), f"{self.scheme}-public": made.public.decode()}

    def key_holder(self, vault: Vault, form: Form, processes: int = 1) -> KeyHolder:
        return _Offices(form, vault, self.scheme)

    def adder(self, public: Bytes, form: Form) -> Adder:
        return _Server(public, form) if public.size else ClearAdder(form)


class _Offices(KeyHolder):
    def __init__(self, form: Form, vault: Vault, scheme: str) -> None:
        from strategies.crypto.lattice.sums import Lattice

        super().__init__(form)
        if scheme not in vault.keys:
            raise ProtectionError(f"the vault holds {sorted(vault.keys) or 'no key'}; expected one named {scheme}")
        self.lattice = Lattice(vault.keys[scheme].encode(), form.count)
        self.parameters = vault.keys[f"{scheme}-public"].encode()

    def public(self) -> Bytes:
        return np.frombuffer(self.parameters, np.uint8)

    def protect(self, slots: Slots, context: Context, memory: Memory) -> tuple[Bytes, Bytes, Memory]:
        return self.lattice.encrypt(slots.values, slots.check), NO_NOTE, memory

    def reveal(self, total: ProtectedSum) -> Slots:
        values, check = self.lattice.decrypt(total.total)
        return Slots(values, check, self.form.bits)


class _Server(Adder):
    def __init__(self, public: Bytes, form: Form) -> None:
        from strategies.crypto.lattice.sums import Lattice

        super().__init__(form)
        self.lattice = Lattice(public.tobytes(), form.count)

    def check(self, payload: Bytes, note: Bytes) -> None:
        self.lattice.check(payload)

    def add(self, total: Any, payload: Bytes) -> Any:
        return self.lattice.add(total, payload)

    def finish(self, round_: int, ask: Ask, total: Any, offices: Collection[int], clear: bool) -> Bytes:
        return total if clear else self.lattice.dump(total)
