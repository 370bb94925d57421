"""masked_sum: every update under a one-time pad drawn from a secret of the offices.

Castelluccia, Mykletun, Tsudik: Efficient Aggregation of Encrypted Data in Wireless Sensor Networks, MobiQuitous 2005;
here with HKDF-SHA256 and AES-256-CTR as the pseudo-random function and a nonce for every message:

    y_k = v_k + PRF(secret; nonce_k, office, round) mod 2^bits

The server adds what it cannot tell from noise and returns the sum with the nonces; the offices, who can draw the pads
again, open it. Trust is placed as with a Paillier key that the offices share: whoever has the secret and the server's
messages has every update. It costs a thousandth of Paillier. `strategies/SECURITY.md` compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strategies.base import Memory
from strategies.crypto import masking
from strategies.crypto.masking import Slots
from strategies.crypto.streams import NONCE_BYTES
from strategies.protection.base import Protected
from strategies.protection.context import Context
from strategies.protection.protocol import Adder, ClearAdder, Form, KeyHolder
from strategies.protection.sees import SHARED_SECRET, Sees
from strategies.protection.sums import Bytes, ProtectedSum
from strategies.protection.vault import Vault


@dataclass(frozen=True)
class MaskedSum(Protected):
    """With the pads taken off it is `quantised`, bit for bit."""

    assumption: ClassVar[str] = "AES-256 and HMAC-SHA256 are pseudo-random; the offices share a secret"
    sees: ClassVar[Mapping[str, Sees]] = SHARED_SECRET
    examples: ClassVar[tuple[str, ...]] = ("masked_sum",)

    def key_holder(self, vault: Vault, form: Form, processes: int = 1) -> KeyHolder:
        return _Offices(form, vault.secret)

    def adder(self, public: Bytes, form: Form) -> Adder:
        return _Server(form)


class _Offices(KeyHolder):
    def __init__(self, form: Form, secret: bytes) -> None:
        super().__init__(form)
        self.secret = secret

    def protect(self, slots: Slots, context: Context, memory: Memory) -> tuple[Bytes, Bytes, Memory]:
        nonce = masking.fresh_nonce()
        masked = masking.mask(slots, self.secret, context.run, context.round, context.office, nonce)
        return masking.pack(masked), np.frombuffer(nonce, np.uint8), memory

    def reveal(self, total: ProtectedSum) -> Slots:
        masked = masking.unpack(total.total, self.form.count, self.form.bits)
        nonces = [note.tobytes() for note in total.notes]
        contributors = list(zip(total.offices, nonces, strict=True))
        return masking.unmask(masked, self.secret, self.form.run, total.round, contributors)


class _Server(ClearAdder):
    """Masked integers add up as clear ones do."""

    note_bytes: ClassVar[int] = NONCE_BYTES
