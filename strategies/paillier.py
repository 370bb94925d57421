"""paillier: the sum of updates computed on Paillier ciphertexts; the pilot's scenario 3, with every weight encrypted.

Paillier: Public-Key Cryptosystems Based on Composite Degree Residuosity Classes, EUROCRYPT 1999. The offices share a
key pair, the server has the public key alone:

    c_k = Enc(v_k),    prod_k c_k mod n^2 = Enc(sum_k v_k)

with many fixed-point numbers v to a plaintext (`packing.py`). The mathematics is in `crypto/paillier/`: keys and sums
in `cryptosystem.py`, what hides the plaintexts in `obfuscators.py`, the work over processes in `cryptor.py`. phe makes
the same keys and opens every ciphertext.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from strategies.base import Memory, StrategyError, check_choice
from strategies.crypto.masking import Slots
from strategies.crypto.streams import ProtectionError
from strategies.protection.base import Protected
from strategies.protection.context import Context
from strategies.protection.protocol import NO_NOTE, Adder, ClearAdder, Form, KeyHolder
from strategies.protection.sees import SHARED_SECRET, Sees
from strategies.protection.sums import Bytes, ProtectedSum
from strategies.protection.vault import Vault

KEY = "paillier"  # its name in the vault


@dataclass(frozen=True)
class Paillier(Protected):
    """Opened, it is `quantised`, bit for bit.

    Args:
        key_bits: length of n; 3072 is 128-bit security, 2048 is allowed.
        key: `safe` (p and q safe primes) or `subgroup` (short factors of p - 1 and q - 1, which make opening cheaper).
        obfuscator: what hides the plaintexts: `full`, `djn`, `short` or `textbook` (`crypto/paillier/obfuscators.py`).
    """

    sees: ClassVar[Mapping[str, Sees]] = SHARED_SECRET
    examples: ClassVar[tuple[str, ...]] = ("paillier",)
    kernels: ClassVar[tuple[str, ...]] = ("strategies.crypto.paillier.lanes",)  # compiled, for its powers

    key_bits: int = field(default=3072, kw_only=True)
    key: str = field(default="safe", kw_only=True)
    obfuscator: str = field(default="full", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("key", self.key, ("safe", "subgroup"))
        check_choice("obfuscator", self.obfuscator, ("full", "djn", "short", "textbook"))
        if not 2048 <= self.key_bits <= 8192:
            raise StrategyError(f"key_bits must be in [2048, 8192] (3072 is 128-bit security); found {self.key_bits}")
        if self.key == "subgroup" and self.obfuscator in ("short", "djn"):
            raise StrategyError(
                f"obfuscator={self.obfuscator} wants safe primes; a subgroup key takes full or textbook"
            )

    @property
    def assumes(self) -> str:
        from strategies.crypto.paillier.obfuscators import assumption

        return assumption(self.obfuscator, self.key)

    @property
    def key_kind(self) -> object:
        return type(self), self.key_bits, self.key

    def make_keys(self, offices: int, processes: int = 1) -> dict[str, str]:
        from strategies.crypto.paillier.cryptosystem import generate

        return {KEY: generate(self.key_bits, self.key, processes).jwk()}  # type: ignore[arg-type]

    def key_holder(self, vault: Vault, form: Form, processes: int = 1) -> KeyHolder:
        return _Offices(form, vault, self.obfuscator, processes)

    def adder(self, public: Bytes, form: Form) -> Adder:
        return _Server(public, form) if public.size else ClearAdder(form)


class _Offices(KeyHolder):
    def __init__(self, form: Form, vault: Vault, obfuscator: str, processes: int) -> None:
        from strategies.crypto.paillier.cryptor import Cryptor
        from strategies.crypto.paillier.cryptosystem import PrivateKey
        from strategies.crypto.paillier.packing import Packing

        super().__init__(form)
        if KEY not in vault.keys:
            raise ProtectionError(f"the vault holds {sorted(vault.keys) or 'no key'}; expected one named {KEY}")
        self.private = PrivateKey.from_jwk(vault.keys[KEY], vault.test_only)
        self.packing = Packing(form.count, form.bits, self.private.public.capacity)
        self.cryptor = Cryptor(self.private, obfuscator, processes)
        self.cryptor.setup()

    def public(self) -> Bytes:
        return np.frombuffer(self.private.public.jwk().encode(), np.uint8)

    def prepare(self, messages: int) -> None:
        if self.cryptor.processes > 1:  # with one, it would only move the work
            self.cryptor.prepare(messages * self.packing.plaintexts)

    def protect(self, slots: Slots, context: Context, memory: Memory) -> tuple[Bytes, Bytes, Memory]:
        return self.cryptor.encrypt(self.packing.pack(slots.values, slots.check)), NO_NOTE, memory

    def reveal(self, total: ProtectedSum) -> Slots:
        self.private.public.check(total.total, self.packing.plaintexts)
        values, check = self.packing.unpack(self.cryptor.decrypt(total.total))
        return Slots(values, check, self.form.bits)

    def naive(self) -> dict[str, Any]:
        from strategies.crypto.paillier.cryptor import SAMPLE, naive_cost

        cost = naive_cost(self.private, self.form.count)
        return {"naive_encrypt_s": cost.encrypt_s, "naive_decrypt_s": cost.decrypt_s, "naive_sample": SAMPLE}

    def cpu_seconds(self) -> float:
        return self.cryptor.cpu_s

    def close(self) -> None:
        self.cryptor.close()


class _Server(Adder):
    def __init__(self, public: Bytes, form: Form) -> None:
        from strategies.crypto.paillier.cryptosystem import PublicKey
        from strategies.crypto.paillier.packing import Packing

        super().__init__(form)
        self.public = PublicKey.from_jwk(public.tobytes().decode(), test_only=True)  # the offices have checked it
        self.count = Packing(form.count, form.bits, self.public.capacity).plaintexts

    def check(self, payload: Bytes, note: Bytes) -> None:
        self.public.check(payload, self.count)

    def add(self, total: Bytes | None, payload: Bytes) -> Bytes:
        return payload if total is None else self.public.add(total, payload)
