"""secagg: the server's part. The protocol and its reference stand in `secagg`.

    gather   adverts -> U1, the adverts for all
    route    sealed shares -> U2, the mail for each
    request  the two lists that every office of U3 gets
    recover  replies of at least t of U3 -> the sum of exactly the offices of U3

The masked inputs of U3 add up in between (`masking.add_packed`): the server holds them only in their sum. Whatever
leaves fewer than t offices ends the round with an error; what one office sent wrongly is refused with its name, so that
the caller may go on without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from strategies.crypto import shamir
from strategies.crypto.masking import Slots, shift
from strategies.crypto.secagg.office import SEALED_BYTES, Terms, check_adverts, pair_key, seed_key
from strategies.crypto.shamir import SHARE_BYTES
from strategies.crypto.streams import KEY_BYTES, ProtectionError


@dataclass(frozen=True)
class Server:
    """What the server has of one round so far."""

    terms: Terms
    adverts: Mapping[int, bytes]  # of U1
    sharers: frozenset[int] = frozenset()  # U2
    answered: frozenset[int] = frozenset()  # U3
    total: Slots | None = None  # sum over U3 of y_u


def gather(terms: Terms, adverts: Mapping[int, bytes]) -> Server:
    """U1; every office of it gets all `adverts`.

    Raises:
        ProtectionError: fewer than t, or an advert that is malformed or a copy.
    """
    check_adverts(terms, adverts)
    return Server(terms, dict(adverts))


def route(server: Server, sealed: Mapping[int, Mapping[int, bytes]]) -> tuple[Server, dict[int, dict[int, bytes]]]:
    """U2, and for each office of it the sealed shares of the others, by sender.

    Args:
        sealed: by sender, what `secagg.share` returned: recipient -> sealed shares.

    Raises:
        ProtectionError: fewer than t, or an office whose shares are incomplete (`check_sealed` says so for one).
    """
    server.terms.check_enough("shares", sealed)
    for office, letters in sealed.items():
        check_sealed(server, office, letters)
    mail = {to: {sender: sealed[sender][to] for sender in sealed if sender != to} for to in sealed}
    return replace(server, sharers=frozenset(sealed)), mail


def check_sealed(server: Server, office: int, letters: Mapping[int, bytes]) -> None:
    """Refuse one office's shares unless there is one of the right length for every other office of U1."""
    if office not in server.adverts:
        raise ProtectionError(f"round {server.terms.round}: office {office} shares, but has not advertised keys")
    if letters.keys() != server.adverts.keys() - {office} or any(len(s) != SEALED_BYTES for s in letters.values()):
        raise ProtectionError(
            f"round {server.terms.round}: office {office} has to send {SEALED_BYTES} bytes to each of "
            f"{sorted(server.adverts.keys() - {office})}; found { ({to: len(s) for to, s in sorted(letters.items())}) }"
        )


def request(server: Server) -> tuple[list[int], list[int]]:
    """(answered, dropped): U3, and who is in U2 alone. It goes to the offices of U3.

    Raises:
        ProtectionError: fewer than t have answered.
    """
    server.terms.check_enough("masked input", server.answered)
    return sorted(server.answered), sorted(server.sharers - server.answered)


def recover(server: Server, replies: Mapping[int, bytes]) -> Slots:
    """The sum of the slots of U3, bit for bit, from what at least t offices of U3 revealed.

    Its check slot is then for `streams.check_tags`, at the offices.

    Raises:
        ProtectionError: fewer than t replies, one of the wrong length or sender, or shares that do not give a secret.
    """
    terms = server.terms
    answered, dropped = request(server)
    terms.check_enough("unmasking", replies)
    for office, reply in replies.items():
        check_reply(server, office, reply)
    revealed = {
        owner: {office + 1: reply[i * SHARE_BYTES : (i + 1) * SHARE_BYTES] for office, reply in replies.items()}
        for i, owner in enumerate(sorted(server.sharers))
    }
    # what the inputs of U3 still carry: + PRG(b_u), and of the pair (u, v), v dropped, + for u < v and - for u > v
    carried_plus = [seed_key(_secret(terms, office, revealed[office]), terms, office) for office in answered]
    carried_minus: list[bytes] = []
    for gone in dropped:
        private = X25519PrivateKey.from_private_bytes(_secret(terms, gone, revealed[gone]))
        if private.public_key().public_bytes_raw() != server.adverts[gone][KEY_BYTES:]:
            raise ProtectionError(f"round {terms.round}: the revealed key of office {gone} is not the advertised one")
        for office in answered:
            key = pair_key(private, server.adverts[office][KEY_BYTES:], terms, "mask", gone, office)
            (carried_plus if office < gone else carried_minus).append(key)
    assert server.total is not None  # someone has answered: `request` has counted them
    return shift(server.total, plus=carried_minus, minus=carried_plus)


def check_reply(server: Server, office: int, reply: bytes) -> None:
    """Refuse one office's revealed shares if it was not asked, or if it is not one share of every office of U2."""
    if office not in server.answered:
        raise ProtectionError(f"round {server.terms.round}: office {office} reveals shares, but was not asked")
    if len(reply) != SHARE_BYTES * len(server.sharers):
        raise ProtectionError(
            f"round {server.terms.round}: office {office} has to reveal {len(server.sharers)} shares of {SHARE_BYTES} "
            f"bytes; found {len(reply)} bytes"
        )


def _secret(terms: Terms, owner: int, shares: Mapping[int, bytes]) -> bytes:
    try:
        return shamir.combine(shares, terms.threshold)
    except ProtectionError as error:
        raise ProtectionError(f"round {terms.round}: a secret of office {owner} cannot be rebuilt: {error}") from None
