"""secagg: a sum without a shared key, which survives offices that vanish. The office's part; the server's, see below.

Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth: Practical Secure Aggregation for
Privacy-Preserving Machine Learning, CCS 2017, figure 4, for a server that follows the protocol. In one round, with
threshold t = floor(2K/3) + 1 of K offices:

    advertise  U1: two fresh X25519 keys, one to seal shares, one to agree on masks; the public halves go out
    share      U2: Shamir shares of the masking key s_u and of a seed b_u, sealed for each office of U1
    mask       U3: y_u = x_u + PRG(b_u) + sum over v in U2, v > u of PRG(s_uv) - sum over v < u of PRG(s_uv)
    reveal         of each u in U3 the share of b_u, of each u in U2 but not in U3 the share of s_u; never both

with s_uv = HKDF-SHA256(X25519(s_u, s_v); run, round, both ids in order). The masks of pairs cancel in the sum; t
shares give the server the seeds of those who answered and the keys of those who did not, and with these

    sum over U3 of x_u = sum over U3 of y_u - PRG(b_u) -+ PRG(s_uv), v in U2 but not in U3          (`secagg_server`)

Both secrets of one office would open its x_u. An office therefore reveals one kind, once; and since 2t > K + 1, even a
server that tells each office another story, with one curious office on its side, gets t shares of one kind at most.
Keys live for one round: with old ones the key revealed for a dropout in round 7 would open rounds 1 to 6.

An office is a state that each step replaces: Advertised -> Shared -> Masked -> Closed. A state holds only what later
steps need, so that the keys are gone once the masked input is made and the shares once they are revealed. What a step
sends may leave the office only after the new state is stored (`to_memory`); with an old state restored, a step could
be taken twice. `advertise` needs nothing of the round before: the adverts of round t + 1 ride on the reply of round t.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from numpy.typing import NDArray

from strategies.crypto import shamir
from strategies.crypto.masking import Slots, shift
from strategies.crypto.shamir import SHARE_BYTES
from strategies.crypto.streams import (
    KEY_BYTES,
    SEAL_BYTES,
    Part,
    ProtectionError,
    check_bits,
    derive,
    random_key,
    seal,
    unseal,
)

ADVERT_BYTES = 2 * KEY_BYTES  # public key for shares, public key for masks
SEALED_BYTES = SEAL_BYTES + 2 * SHARE_BYTES  # a share of the seed, a share of the masking key


@dataclass(frozen=True)
class Terms:
    """What all parties of one round agree on beforehand.

    Attributes:
        run: id of the run.
        round: 1, 2, ...
        offices: K, how many are asked in this round, at least 3.
        bits: width of a slot, 8..32.
        count: number of slots d.
    """

    run: str
    round: int
    offices: int
    bits: int
    count: int

    def __post_init__(self) -> None:
        if self.offices < 3:
            raise ProtectionError(
                f"secagg wants at least 3 offices; found {self.offices}. Of two, each would have the other's update by "
                "subtraction"
            )
        check_bits(self.bits)
        if self.count < 1:
            raise ProtectionError(f"count, the number of slots, must be at least 1; found {self.count}")

    @property
    def threshold(self) -> int:
        """t = floor(2K/3) + 1: as few as may remain in any phase; 3 of 3 and of 4, 4 of 5, 5 of 6 and of 7."""
        return 2 * self.offices // 3 + 1

    @property
    def context(self) -> tuple[Part, ...]:
        """What every sealed or signed byte of the round is bound to."""
        return ("secagg", self.run, self.round, self.offices, self.bits, self.count)

    def check_enough(self, phase: str, offices: Collection[int]) -> None:
        """Refuse to go on with fewer than `threshold` offices, or with more than were asked."""
        found = f"secagg, round {self.round}, {phase}: {len(offices)} of {self.offices} offices, {sorted(offices)}"
        if len(offices) > self.offices:
            raise ProtectionError(f"{found}: more than were asked")
        if len(offices) < self.threshold:
            raise ProtectionError(
                f"{found}: at least {self.threshold} are needed. Nobody can open this round any more; run it again "
                "with fresh keys"
            )


@dataclass(frozen=True)
class Advertised:
    """An office whose public keys are out."""

    terms: Terms
    office: int
    advert: bytes  # public key for shares | public key for masks
    share_private: bytes = field(repr=False)
    mask_private: bytes = field(repr=False)


@dataclass(frozen=True)
class Shared:
    """An office that has sent the shares of its secrets to the others of U1."""

    terms: Terms
    office: int
    mask_private: bytes = field(repr=False)
    seed: bytes = field(repr=False)  # b_u
    own: bytes = field(repr=False)  # its shares of its own secrets
    mask_publics: Mapping[int, bytes]  # of the others in U1
    channels: Mapping[int, bytes] = field(repr=False)  # keys under which shares travel between it and them


@dataclass(frozen=True)
class Masked:
    """An office that has sent its masked input: of its own secrets it has no more than any other office."""

    terms: Terms
    office: int
    shares: Mapping[int, bytes] = field(repr=False)  # of every office in U2: share of the seed | share of the key


@dataclass(frozen=True)
class Closed:
    """An office that has revealed its shares: the round is over for it."""

    terms: Terms
    office: int


State: TypeAlias = Advertised | Shared | Masked | Closed
Reached = TypeVar("Reached", Advertised, Shared, Masked)


def advertise(terms: Terms, office: int) -> Advertised:
    """Two fresh key pairs; `advert` (64 bytes) goes to the server.

    Raises:
        ProtectionError: the office's id is outside [0, 2^32 - 1).
    """
    if not 0 <= office < 2**32 - 1:
        raise ProtectionError(f"an office's id is in [0, 2^32 - 1); found {office}")
    share_key, mask_key = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    advert = share_key.public_key().public_bytes_raw() + mask_key.public_key().public_bytes_raw()
    return Advertised(terms, office, advert, share_key.private_bytes_raw(), mask_key.private_bytes_raw())


def share(state: State, adverts: Mapping[int, bytes]) -> tuple[Shared, dict[int, bytes]]:
    """Deal both secrets to U1: the next state, and the sealed shares (94 bytes) by recipient.

    Args:
        adverts: of all offices of U1, this one's among them, as the server passed them on.

    Raises:
        ProtectionError: fewer than t offices, an advert that is malformed or a copy of another's, another advert in
            this office's name, or a state that is not Advertised.
    """
    state = _reached(state, Advertised, "share its secrets")
    terms, me = state.terms, state.office
    check_adverts(terms, adverts)
    if adverts.get(me) != state.advert:
        raise ProtectionError(
            f"round {terms.round}: the adverts name other keys for office {me} than it has sent, or none: they are of "
            "another round, or were changed on the way"
        )
    seed, private = random_key(), X25519PrivateKey.from_private_bytes(state.share_private)
    points = {office: office + 1 for office in sorted(adverts)}  # Shamir's x; 0 is the secret
    of_seed = shamir.split(seed, terms.threshold, list(points.values()))
    of_key = shamir.split(state.mask_private, terms.threshold, list(points.values()))
    dealt = {office: of_seed[x] + of_key[x] for office, x in points.items()}
    publics = {office: advert for office, advert in adverts.items() if office != me}
    channels = {o: pair_key(private, advert[:KEY_BYTES], terms, "channel", me, o) for o, advert in publics.items()}
    sealed = {o: seal(channel, dealt[o], *terms.context, me, o) for o, channel in channels.items()}
    mask_publics = {office: advert[KEY_BYTES:] for office, advert in publics.items()}
    return Shared(terms, me, state.mask_private, seed, dealt[me], mask_publics, channels), sealed


def mask(state: State, mail: Mapping[int, bytes], slots: Slots) -> tuple[Masked, Slots]:
    """The masked input y, uniform to the server until the others reveal b.

    The shares are opened here and not when they are revealed: if one was changed on the way, nothing has been sent yet.

    Args:
        mail: the sealed shares that the server passed on, by sender: all of U2 but this office.
        slots: this office's integers, and its tag in the check slot.

    Raises:
        ProtectionError: slots of another form, fewer than t offices, an office that was not in U1, a share that does
            not open, or a state that is not Shared.
    """
    state = _reached(state, Shared, "mask an input")
    terms, me = state.terms, state.office
    check_form(terms, slots)
    terms.check_enough("masked input", {me, *mail})
    if strangers := sorted(mail.keys() - state.channels.keys()):
        raise ProtectionError(f"round {terms.round}: office {me} got shares of {strangers}, whom it sent none")
    shares = {o: unseal(state.channels[o], sealed, *terms.context, o, me) for o, sealed in sorted(mail.items())}
    private = X25519PrivateKey.from_private_bytes(state.mask_private)
    pairs = {o: pair_key(private, state.mask_publics[o], terms, "mask", me, o) for o in shares}
    masked = shift(
        slots,
        plus=[seed_key(state.seed, terms, me), *(key for other, key in pairs.items() if me < other)],
        minus=[key for other, key in pairs.items() if me > other],
    )
    return Masked(terms, me, {me: state.own} | shares), masked


def reveal(state: State, answered: Collection[int], dropped: Collection[int]) -> tuple[Closed, bytes]:
    """One share of every office in U2, in the order of their ids: of b for who answered, of the key for who did not.

    Args:
        answered: U3, the offices whose masked input the server has.
        dropped: those of U2 whose input it has not.

    Raises:
        ProtectionError: an office in both lists, lists that are not U2 together, this office among the dropped, fewer
            than t that answered, or a state that is not Masked, as at a second request.
    """
    state = _reached(state, Masked, "reveal shares")
    terms, me, named = state.terms, state.office, {*answered, *dropped}
    where = f"secagg, round {terms.round}: office {me} reveals nothing, because the request"
    if twice := sorted(set(answered) & set(dropped)):
        raise ProtectionError(f"{where} wants both secrets of offices {twice}, which would open their inputs")
    if named != state.shares.keys():
        raise ProtectionError(f"{where} is about offices {sorted(named)}; those that shared are {sorted(state.shares)}")
    if me not in answered:
        raise ProtectionError(f"{where} counts it among the dropped, but it has sent its input")
    terms.check_enough("unmasking", set(answered))
    shares = ((office, state.shares[office]) for office in sorted(named))
    revealed = (both[:SHARE_BYTES] if office in answered else both[SHARE_BYTES:] for office, both in shares)
    return Closed(terms, me), b"".join(revealed)


def check_adverts(terms: Terms, adverts: Mapping[int, bytes]) -> None:
    """Refuse adverts of too few offices, of another length, or with a key that occurs twice."""
    terms.check_enough("adverts", adverts)
    for office, advert in adverts.items():
        if len(advert) != ADVERT_BYTES:
            raise ProtectionError(f"an advert has {ADVERT_BYTES} bytes; office {office} sent {len(advert)}")
    owner: dict[bytes, int] = {}
    for office, advert in adverts.items():
        for key in (advert[:KEY_BYTES], advert[KEY_BYTES:]):
            if key in owner:
                raise ProtectionError(
                    f"round {terms.round}: office {office} advertises a key of office {owner[key]}; each key is fresh"
                )
            owner[key] = office


def check_form(terms: Terms, slots: Slots) -> None:
    """Refuse slots of another number or width than agreed."""
    if (slots.bits, slots.values.size) != (terms.bits, terms.count):
        raise ProtectionError(
            f"round {terms.round} sums {terms.count} slots of {terms.bits} bits; found {slots.values.size} of "
            f"{slots.bits}"
        )


def pair_key(private: X25519PrivateKey, public: bytes, terms: Terms, use: str, me: int, other: int) -> bytes:
    """HKDF-SHA256(X25519(private, public); salt = run, info = (use, round, both ids in order)), alike at both ends."""
    try:
        agreed = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # a point of low order, with which every private key gives 0
        raise ProtectionError(f"round {terms.round}: the public key of office {other} is not one") from None
    return derive(agreed, terms.run, use, terms.round, *sorted((me, other)))


def seed_key(seed: bytes, terms: Terms, office: int) -> bytes:
    """The key of PRG(b_u)."""
    return derive(seed, terms.run, "self", terms.round, office)


def to_memory(state: State) -> dict[str, NDArray[Any]]:
    """A state as arrays of bytes under two names, always the same: writing it erases the state before it."""
    fields = {"phase": type(state).__name__.encode(), "state": msgspec.msgpack.encode(state)}
    return {f"secagg.{name}": np.frombuffer(content, np.uint8) for name, content in fields.items()}


def from_memory(memory: Mapping[str, NDArray[Any]], terms: Terms, office: int) -> State:
    """The state that `to_memory` wrote, if it is of these terms and this office.

    Raises:
        ProtectionError: no state there, or that of another round, run, form or office.
    """
    if not {"secagg.phase", "secagg.state"} <= memory.keys():
        raise ProtectionError(f"office {office} has no state of secagg; it has to advertise for round {terms.round}")
    phase, content = (memory[f"secagg.{name}"].tobytes() for name in ("phase", "state"))
    kinds: dict[bytes, type[State]] = {kind.__name__.encode(): kind for kind in (Advertised, Shared, Masked, Closed)}
    if phase not in kinds:
        raise ProtectionError(f"the state of office {office} is in no phase of secagg: {phase!r}")
    state = msgspec.msgpack.decode(content, type=kinds[phase])
    if (state.terms, state.office) != (terms, office):
        raise ProtectionError(f"the state of office {office} is not one of {terms}: it has to advertise keys anew")
    return state


def _reached(state: State, wanted: type[Reached], act: str) -> Reached:
    if not isinstance(state, wanted):
        raise ProtectionError(
            f"secagg, round {state.terms.round}: office {state.office} is {type(state).__name__} and cannot {act}, for "
            f"which it must be {wanted.__name__}: each step is taken once, in its order"
        )
    return state
