"""ckks: sums under approximate lattice encryption, for comparison; TenSEAL's, as `bfv`.

Cheon, Kim, Kim, Song: Homomorphic Encryption for Arithmetic of Approximate Numbers, ASIACRYPT 2017. What comes out of a
decryption carries the noise from which the key can be computed (Li, Micciancio, EUROCRYPT 2021); it is rounded to the
fixed point's grid before anybody sees it, and the parameters are such that rounding gives the exact sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strategies.bfv import BFV


@dataclass(frozen=True)
class CKKS(BFV):
    """Opened and rounded, it is `quantised`, bit for bit."""

    scheme: ClassVar[str] = "ckks"
    examples: ClassVar[tuple[str, ...]] = ("ckks",)
