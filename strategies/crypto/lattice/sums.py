"""bfv and ckks: sums under lattice encryption, with one secret key that the offices share.

    c = (c0, c1),  c1 = a, uniform,  c0 = encode(m) - (a s + e)  mod q       an office, with the secret s
    c0 + c1 s = encode(m) - e, so the sum of ciphertexts decrypts to the sum of the m while that of the e is small

BFV: Brakerski, CRYPTO 2012; Fan, Vercauteren: Somewhat Practical Fully Homomorphic Encryption, ePrint 2012/144; here
encode(m) = round(m q / t) with a prime t = 1 mod 2N, so that N = 4,096 numbers mod t add slot by slot (Smart,
Vercauteren, DCC 2014). CKKS: Cheon, Kim, Kim, Song, ASIACRYPT 2017; encode(m) = round(scale m), an approximation whose
error is made so small here that rounding removes it. Microsoft SEAL does the arithmetic, by TenSEAL's bindings.

**Exact by bounds that always hold, not by probability.** In a coefficient SEAL's noise is at most 21 and the rounding
of encode under 1, so 22 K for K offices:

    bfv     22 K t / q < 1/4            half of what decryption allows; t > 2^w
    ckks    22 K N / scale <= 1/4       N coefficients make up a slot; floating point adds less than 1/16 to that
            2^w scale / q < 1/4         no slot wraps; w <= 36, for double precision

Sums need no multiplication, hence no key switching: q is one prime of at most 60 bits, where N = 4,096 allows 109 for
128-bit security and 75 for 192 (Homomorphic Encryption Standard, Albrecht et al. 2018; SEAL's table). A field is `bits`
wide and the offices' sum stays inside it (the fixed point sees to that), so no field carries into the next and a slot
of w bits holds as many as q has room for. The 64 bits of the tag travel as further fields, as many bits in each as
let K of them add up inside it.

**Bytes.** An office encrypts by the secret key and sends the seed that a is drawn from, in a's place (BLAKE2xb as a
random oracle): half of what a public key's encryption takes. A sum has no seed.

**A raw CKKS decryption gives the key away** (Li, Micciancio: On the Security of Homomorphic Encryption on Approximate
Numbers, EUROCRYPT 2021): it is m + noise, linear in the key. `decrypt` returns what it rounded, a function of the
numbers alone; nothing raw leaves it, in no error either.

Not claimed: circuit privacy and noise flooding (who holds the key could read the noise of a sum, but could open every
ciphertext anyway), rerandomisation (without the key a sum tells nothing), integrity (a ciphertext can be shifted: tags
bind a sum to its contributors, not to its content), security against chosen ciphertexts (a server that learns which of
its own inventions failed to decrypt learns about the key). Unlike Paillier, no quantum attack is known.
"""

from __future__ import annotations

import base64
import json
import math
import secrets
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategies.crypto.lattice.seal import (
    DEGREE,
    ERRORS,
    PRIME_BITS,
    LatticeError,
    context,
    load,
    modulus_above,
    plain_modulus,
    save,
    seal,
)

__all__ = ["SCHEMES", "Keys", "Lattice", "LatticeError", "Plan", "Total", "keys", "plan"]

SCHEMES = ("bfv", "ckks")
DOUBLE_BITS = 36  # of a CKKS slot, at most
NOISE = 22  # in a coefficient of a fresh ciphertext, at most
TAG_BITS = 64
KEY_ID_BYTES = 8

_HEADER = struct.Struct("<4s8sIII")  # magic, key, count, offices, ciphertexts; behind it their lengths, then they
_MAGIC = b"LAT1"


@dataclass(frozen=True)
class Keys:
    """One run's keys, each as text in bytes."""

    secret: bytes = field(repr=False)  # for the offices, in a file of mode 0600
    public: bytes  # for the server: the parameters and the key's name, no key


@dataclass(frozen=True)
class Plan:
    """What follows from a scheme, the width of a field and the number of offices.

    Attributes:
        per_slot: fields in a slot.
        limb_bits: of the tag in a field, so that `clients` of them add up inside it.
        modulus: q, a prime.
        plain: t, a prime above 2^(bits per_slot); 0 for ckks.
        scale: a power of two; 0 for bfv.
    """

    scheme: str
    bits: int
    clients: int
    per_slot: int
    limb_bits: int
    modulus: int
    plain: int
    scale: float

    @property
    def slot_bits(self) -> int:
        """Width of what a slot holds."""
        return self.bits * self.per_slot

    @property
    def limbs(self) -> int:
        """Fields that the tag takes."""
        return -(-TAG_BITS // self.limb_bits)


@dataclass(frozen=True, eq=False)
class Total:
    """A sum in the making: SEAL's ciphertexts, and how many offices' they are."""

    ciphertexts: tuple[Any, ...] = field(repr=False)
    terms: int


@lru_cache(maxsize=64)
def plan(scheme: str, bits: int, clients: int) -> Plan:
    """The parameters with the most fields a slot for which every sum of up to `clients` encryptions is exact.

    Args:
        scheme: bfv or ckks.
        bits: width of a field, 8..32; the offices' values at one position must add up to less than 2^bits.
        clients: K, 1..2^(bits - 1).

    Raises:
        LatticeError: an argument outside these ranges, a sum that could not be exact, or TenSEAL is missing.
    """
    if scheme not in SCHEMES:
        raise LatticeError(f"scheme must be one of {', '.join(SCHEMES)}; found {scheme!r}")
    if not 8 <= bits <= 32:
        raise LatticeError(f"bits, the width of a field, must be in [8, 32]; found {bits}")
    if not 1 <= clients <= 1 << (bits - 1):
        raise LatticeError(f"clients must be in [1, {1 << (bits - 1)}] for fields of {bits} bits; found {clients}")
    plain, scale = 0, 0.0
    for per_slot in range(PRIME_BITS // bits, 0, -1):
        width = bits * per_slot
        if scheme == "bfv":
            plain = plain_modulus(width)
            bound = 4 * NOISE * clients * plain
        else:
            scale = 2.0 ** (4 * NOISE * DEGREE * clients - 1).bit_length()
            bound = 4 * int(scale) << width
            if width > DOUBLE_BITS:
                continue
        if modulus := modulus_above(bound):
            return Plan(scheme, bits, clients, per_slot, bits - (clients - 1).bit_length(), modulus, plain, scale)
    raise LatticeError(
        f"{scheme} sums of {clients} numbers of {bits} bits need a modulus above 2^{math.log2(bound):.1f} to be exact; "
        f"it has at most {PRIME_BITS} bits. Take fewer bits or fewer clients"
    )


def keys(scheme: str, bits: int, clients: int) -> Keys:
    """Fresh keys for one run; SEAL seeds its generator from the operating system's.

    Args:
        scheme, bits, clients: as in `plan`.

    Raises:
        LatticeError: as `plan`.
    """
    parameters = plan(scheme, bits, clients)
    secret = save(seal().KeyGenerator(context(parameters.scheme, parameters.modulus, parameters.plain)).secret_key())
    public = {"scheme": scheme, "bits": bits, "clients": clients, "key": secrets.token_hex(KEY_ID_BYTES)}
    private = public | {"secret": base64.b64encode(secret).decode()}
    return Keys(secret=json.dumps(private).encode(), public=json.dumps(public).encode())


class Lattice:
    """Sums of `count` numbers and a tag under one key. Built once a run: it holds SEAL's contexts and no thread.

    Attributes:
        plan: the parameters.
        count: d, numbers in an update.
        private: whether it can encrypt and decrypt; the server's must not.
        key_id: name of the key, 16 hexadecimal digits; payloads carry it.
    """

    def __init__(self, key: bytes, count: int) -> None:
        """From `Keys.secret` at an office, from `Keys.public` at the server.

        Raises:
            LatticeError: not a key of this module, no numbers, or TenSEAL is missing.
        """
        api = seal()
        if count < 1:
            raise LatticeError(f"an update has at least one number; found {count}")
        try:
            document = json.loads(key)
            self.plan = plan(document["scheme"], int(document["bits"]), int(document["clients"]))
            self.key_id = bytes.fromhex(document["key"]).hex()
            if len(self.key_id) != 2 * KEY_ID_BYTES:
                raise ValueError(self.key_id)
            secret = base64.b64decode(document["secret"], validate=True) if "secret" in document else None
            self._context = context(self.plan.scheme, self.plan.modulus, self.plan.plain)
            loaded = None if secret is None else load(api.SecretKey(), self._context, secret)
        except LatticeError:
            raise
        except (KeyError, TypeError, AttributeError, *ERRORS):
            # Without the cause, which may quote the key
            raise LatticeError("these bytes are no key that `keys` made; make new ones") from None
        self.count = count
        self.private = loaded is not None
        self._evaluator = api.Evaluator(self._context)
        encoder = api.BatchEncoder if self.plan.scheme == "bfv" else api.CKKSEncoder
        self._encoder = encoder(self._context)
        if loaded is not None:
            self._encryptor = api.Encryptor(self._context, loaded)
            self._decryptor = api.Decryptor(self._context, loaded)

    def encrypt(self, values: NDArray[Any], tag: int) -> NDArray[np.uint8]:
        """Enc(values, tag), fresh at every call.

        Args:
            values: (count,) unsigned integers below 2^bits; the offices' at one position add up to less than 2^bits.
            tag: in [0, 2^64).

        Returns:
            (bytes,) payload of an office.

        Raises:
            LatticeError: another shape, type or range, or only the public key is here.
        """
        self._require_secret("encrypt")
        slots = self._pack(values, tag)
        blocks = []
        for first in range(0, slots.size, DEGREE):
            plaintext = seal().Plaintext()
            chunk = slots[first : first + DEGREE]
            if self.plan.scheme == "bfv":
                self._encoder.encode(chunk.tolist(), plaintext)
            else:  # two numbers to a complex slot
                pairs = chunk.astype(np.float64).view(np.complex128).tolist()
                self._encoder.encode(pairs, self.plan.scale, plaintext)
            blocks.append(save(self._encryptor.encrypt_symmetric(plaintext)))
        return self._frame(blocks, terms=1)

    def check(self, payload: NDArray[np.uint8]) -> None:
        """Refuse what is not one office's update in form. It proves nothing about the numbers inside.

        Raises:
            LatticeError: another type or shape, a part missing, another key or count, or no valid ciphertext.
        """
        self._parse(payload, most_terms=1)

    def add(self, total: Total | None, payload: NDArray[np.uint8]) -> Total:
        """total + one office's payload (None: nothing yet), checked as in `check`; both arguments stay as they are.

        Raises:
            LatticeError: as `check`, or more offices than the noise has room for.
        """
        other = self._parse(payload, most_terms=1)
        if total is None:
            return other
        if total.terms >= self.plan.clients:
            raise LatticeError(f"this key's sums are exact for up to {self.plan.clients} offices; this is one more")
        sums = []
        for a, b in zip(total.ciphertexts, other.ciphertexts, strict=True):
            c = seal().Ciphertext()
            try:
                self._evaluator.add(a, b, c)
            except ERRORS as error:  # a sum without its part of the secret: the payload was made from the total
                raise LatticeError(f"the payload cannot be added: {error}. Leave this office out") from error
            sums.append(c)
        return Total(tuple(sums), total.terms + 1)

    def dump(self, total: Total) -> NDArray[np.uint8]:
        """(bytes,) payload of a sum, nearly twice an office's, for `decrypt`."""
        return self._frame([save(ciphertext) for ciphertext in total.ciphertexts], total.terms)

    def decrypt(self, payload: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], int]:
        """The exact sums, from `dump` (or one office's payload).

        Returns:
            (count,) sums below 2^bits, and the sum of the tags mod 2^64.

        Raises:
            LatticeError: as `check`; more offices than the key allows; a sum that is not of encryptions under this key;
                only the public key is here. What failed is for the office's own log: a server that learns it from
                payloads of its own making learns about the key.
        """
        self._require_secret("decrypt")
        total = self._parse(payload, most_terms=self.plan.clients)
        slots = np.concatenate([self._open(ciphertext) for ciphertext in total.ciphertexts])
        return self._unpack(slots)

    # Slots

    @property
    def _ciphertexts(self) -> int:
        return -(-(self.count + self.plan.limbs) // (self.plan.per_slot * DEGREE))

    def _pack(self, values: NDArray[Any], tag: int) -> NDArray[np.uint64]:
        """Values, limbs of the tag, zeros: `per_slot` rows of fields, one above the other in the slots."""
        p = self.plan
        if values.shape != (self.count,) or values.dtype.kind != "u":
            raise LatticeError(f"values are ({self.count},) unsigned; found {values.shape} of {values.dtype}")
        if int(values.max()) >> p.bits:
            raise LatticeError(f"values of {p.bits} bits are below {1 << p.bits}; found {int(values.max())}")
        if not 0 <= tag < 1 << TAG_BITS:
            raise LatticeError(f"a tag is in [0, 2^{TAG_BITS}); found {tag}")
        fields = np.zeros((p.per_slot, self._ciphertexts * DEGREE), np.uint64)
        flat = fields.reshape(-1)
        flat[: self.count] = values
        for i in range(p.limbs):
            flat[self.count + i] = tag >> (i * p.limb_bits) & ((1 << p.limb_bits) - 1)
        slots: NDArray[np.uint64] = fields[0]
        for i, row in enumerate(fields[1:], start=1):
            slots |= row << np.uint64(i * p.bits)
        return slots

    def _unpack(self, slots: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], int]:
        p = self.plan
        mask = np.uint64((1 << p.bits) - 1)
        flat = np.concatenate([(slots >> np.uint64(i * p.bits) & mask).astype(np.uint32) for i in range(p.per_slot)])
        limbs, rest = np.split(flat[self.count :], [p.limbs])
        if int(slots.max()) >> p.slot_bits or rest.any():
            raise self._foreign()
        tag = sum(int(limb) << (i * p.limb_bits) for i, limb in enumerate(limbs))
        return flat[: self.count], tag % (1 << TAG_BITS)

    def _open(self, ciphertext: Any) -> NDArray[np.uint64]:
        """(N,) slots of one ciphertext, as integers: nothing that carries noise leaves this function."""
        plaintext = seal().Plaintext()
        self._decryptor.decrypt(ciphertext, plaintext)
        if self.plan.scheme == "bfv":
            if self._decryptor.invariant_noise_budget(ciphertext) < 1:  # bits; the bounds leave one at least
                raise self._foreign()
            return np.array(self._encoder.decode_uint64(plaintext), np.uint64)
        raw = np.array(self._encoder.decode_complex(plaintext), np.complex128).view(np.float64)
        grid = np.rint(raw)
        if not (np.abs(raw - grid).max() < 0.375 and grid.min() >= 0 and grid.max() < 2.0**self.plan.slot_bits):
            raise self._foreign()
        return grid.astype(np.uint64)

    def _foreign(self) -> LatticeError:
        return LatticeError(
            f"this is no sum of up to {self.plan.clients} encryptions under key {self.key_id} of numbers that add "
            f"up to less than 2^{self.plan.bits}: another key, a changed payload or an overflow. It must not be used"
        )

    def _require_secret(self, verb: str) -> None:
        if not self.private:
            raise LatticeError(f"only a holder of the secret key can {verb}: open Lattice with Keys.secret")

    # Payloads

    def _frame(self, blocks: list[bytes], terms: int) -> NDArray[np.uint8]:
        header = _HEADER.pack(_MAGIC, bytes.fromhex(self.key_id), self.count, terms, len(blocks))
        lengths = struct.pack(f"<{len(blocks)}I", *map(len, blocks))
        return np.frombuffer(b"".join([header, lengths, *blocks]), np.uint8)

    def _parse(self, payload: NDArray[np.uint8], most_terms: int) -> Total:
        """Header, lengths and ciphertexts, each held to what this key and count give."""
        if payload.ndim != 1 or payload.dtype != np.uint8:
            raise LatticeError(f"a payload is (bytes,) of uint8; found {payload.shape} of {payload.dtype}")
        content, expected = payload.tobytes(), self._ciphertexts
        if len(content) < _HEADER.size or not content.startswith(_MAGIC):
            raise LatticeError(f"a payload starts with {_MAGIC!r} and its key; found {len(content)} other bytes")
        _, key, count, terms, number = _HEADER.unpack_from(content)
        if key.hex() != self.key_id:
            raise LatticeError(f"the payload was made with key {key.hex()}; this run's is {self.key_id}")
        if (count, number) != (self.count, expected):
            raise LatticeError(
                f"{self.count} numbers in {expected} ciphertexts are expected; found {count} in {number}"
            )
        if not 1 <= terms <= most_terms:
            raise LatticeError(f"a payload of 1 to {most_terms} offices is expected here; found {terms}")
        start = _HEADER.size + 4 * number
        lengths = struct.unpack_from(f"<{number}I", content, _HEADER.size) if len(content) >= start else (0,)
        if len(content) != (size := start + sum(lengths)):
            raise LatticeError(f"the payload has {len(content)} bytes; its header says at least {size}")
        ciphertexts = []
        for i, length in enumerate(lengths):
            try:
                ciphertexts.append(self._ciphertext(content[start : start + length]))
            except ERRORS as error:
                raise LatticeError(f"ciphertext {i} of {number} does not fit this run's parameters: {error}") from error
            start += length
        return Total(tuple(ciphertexts), terms)

    def _ciphertext(self, block: bytes) -> Any:
        """One ciphertext: two polynomials, of this run's scheme and scale, and not a number in clear."""
        ciphertext = load(seal().Ciphertext(), self._context, block)
        form = (ciphertext.size(), ciphertext.is_ntt_form(), ciphertext.scale, ciphertext.is_transparent())
        wanted = (2, self.plan.scheme == "ckks", self.plan.scale or 1.0, False)
        if form != wanted:
            raise ValueError(f"size, NTT form, scale and transparency are {form}, not {wanted}")
        return ciphertext
