"""The edge to Microsoft SEAL, by the bindings that TenSEAL 0.3.18 ships as `tenseal.sealapi`.

They are used rather than TenSEAL's own vectors for three reasons. Those expand the seed of a ciphertext before they
write it, which doubles its bytes; their contexts demand a second prime, for a key switching that sums do not need; and
they start a thread a core, or at least one. SEAL itself starts none.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from strategies.crypto.streams import ProtectionError

DEGREE = 4096  # N: coefficients of a polynomial, slots of a ciphertext
SECURE_BITS = 109  # of q at N = 4,096 for 128-bit security: Homomorphic Encryption Standard, 2018, and SEAL's table
PRIME_BITS = 60  # of one prime in SEAL
ERRORS = (ValueError, RuntimeError, IndexError, MemoryError, OverflowError)  # what SEAL's exceptions become in Python

_HEADER = struct.Struct("<HBBBBHQ")  # magic, own size, version (2), compression, reserved, size of the whole


class LatticeError(ProtectionError):
    """A parameter, key, input or payload that is refused: what was found, what is expected, what to do."""


def seal() -> Any:
    """The bindings. TenSEAL is an optional extra, so it is imported where it is used.

    Raises:
        LatticeError: it is missing.
    """
    try:
        import tenseal.sealapi as bindings
    except ImportError as error:
        raise LatticeError("bfv and ckks need TenSEAL, an optional extra: pip install '.[he]'") from error
    return bindings


def context(scheme: str, modulus: int, plain: int) -> Any:
    """SEAL's context, held to the table of 128-bit security by us, and by SEAL, which is told to.

    Args:
        scheme: bfv or ckks.
        modulus: q, one prime.
        plain: t; 0 for ckks.

    Raises:
        LatticeError: q has too many bits, or SEAL refuses the parameters.
    """
    if (bits := modulus.bit_length()) > SECURE_BITS:
        raise LatticeError(f"at N = {DEGREE} 128-bit security allows a q of {SECURE_BITS} bits; found {bits}")
    api = seal()
    parameters = api.EncryptionParameters(getattr(api.SCHEME_TYPE, scheme.upper()))
    parameters.set_poly_modulus_degree(DEGREE)
    parameters.set_coeff_modulus([api.Modulus(modulus)])
    if plain:
        parameters.set_plain_modulus(plain)
    made = api.SEALContext(parameters, True, api.SEC_LEVEL_TYPE.TC128)
    if not made.parameters_set():
        raise LatticeError(f"SEAL refuses q = {modulus}, t = {plain} for {scheme}: {made.parameters_error_message()}")
    return made


def plain_modulus(width: int) -> int:
    """t: the smallest prime above 2^width that is 1 mod 2N, so that a polynomial mod t has N slots."""
    t = max(1 << width, 2 * DEGREE) + 1
    while not seal().Modulus(t).is_prime():
        t += 2 * DEGREE
    return t


def modulus_above(bound: int) -> int | None:
    """q > bound: the largest prime of b bits that is 1 mod 2N, for the smallest such b. None: SEAL has none.

    It lies right under a power of two, where SEAL's noise budget, in whole bits, tells a quarter of q from a half.
    """
    for b in range(bound.bit_length(), PRIME_BITS + 1):
        q = int(seal().CoeffModulus.Create(DEGREE, [b])[0].value())
        if q > bound:
            return q
    return None


def save(thing: Any) -> bytes:
    """A key or ciphertext as SEAL serialises it: compressed, a fresh symmetric ciphertext with its seed."""
    with _file() as path:
        thing.save(path)
        with open(path, "rb") as file:
            return file.read()


def load(thing: Any, within: Any, content: bytes) -> Any:
    """`thing`, filled with what `save` wrote and held to the context `within` (degree, levels, coefficients below q).

    Raises:
        one of ERRORS: it is not that, or has bytes behind it, over which SEAL itself would read.
    """
    if len(content) < _HEADER.size or _HEADER.unpack_from(content)[-1] != len(content):
        raise ValueError(f"{len(content)} bytes are not what their header says")
    with _file(content) as path:
        thing.load(within, path)
    return thing


@contextmanager
def _file(content: bytes = b"") -> Iterator[str]:
    """Path of a file that is gone afterwards: the bindings save and load by path alone.

    On Linux it is in memory; elsewhere a temporary file of mode 0600, which for a moment may hold a secret key.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("seal")
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryDirectory() as folder:  # of mode 0700
            path = os.path.join(folder, "seal")
            descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.write(descriptor, content)
            finally:
                os.close(descriptor)
            yield path
