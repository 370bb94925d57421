"""secagg: masks that cancel in the sum, without a key that offices share; it survives offices that vanish.

Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth: Practical Secure Aggregation for
Privacy-Preserving Machine Learning, CCS 2017. The mathematics is in `crypto/secagg/`, one file for
the offices and one for the server; here are its messages. A round:

    keys     fresh public keys of every office. Those of round t + 1 ride on the `unmask` reply of round t, so that only
             offices without a reply are asked
    shares   every office seals shares of its secrets for the others; they travel on with the model's news
    update   masked inputs, with the training messages
    unmask   shares that take the masks off the sum of those who answered

The server learns the sums, and so the model up to its first weights; it learns no single update, nor does it with one
curious office (threshold 3 of 4). A round in which fewer than floor(2K/3) + 1 offices are left fails.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from strategies.base import Memory, StrategyError
from strategies.crypto import masking
from strategies.crypto.masking import Slots
from strategies.crypto.secagg import office as secagg
from strategies.crypto.secagg import server as secagg_server
from strategies.crypto.secagg.office import ADVERT_BYTES, Terms
from strategies.crypto.streams import ProtectionError
from strategies.protection.base import Protected
from strategies.protection.context import Context
from strategies.protection.protocol import NO_NOTE, Adder, Ask, ClearAdder, Form, KeyHolder, Parts
from strategies.protection.sees import OFFICE, SERVER, WITH_ONE, WITH_T, Sees
from strategies.protection.sums import Bytes, ProtectedSum, holding, under
from strategies.protection.vault import Vault

NEXT = "next."  # of the memory: the keys whose advert rode on the last reply


@dataclass(frozen=True)
class SecAgg(Protected):
    """With the masks taken off it is `quantised`, bit for bit."""

    phases: ClassVar[tuple[str, ...]] = ("keys", "shares", "update", "unmask")
    assumption: ClassVar[str] = "X25519, AES-256, HMAC-SHA256; the server follows the protocol"
    sees: ClassVar[Mapping[str, Sees]] = {
        SERVER: Sees.SUMS_NOT_FIRST_WEIGHTS,
        OFFICE: Sees.SUMS_AND_MODEL,
        WITH_ONE: Sees.NO_SINGLE_UPDATE,
        WITH_T: Sees.ALL_UPDATES,
    }
    examples: ClassVar[tuple[str, ...]] = ("secagg",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_offices < 3:
            raise StrategyError(
                f"min_offices must be at least 3 under secagg, whose masks want three; found {self.min_offices}"
            )

    def key_holder(self, vault: Vault, form: Form, processes: int = 1) -> KeyHolder:
        return _Offices(form)

    def adder(self, public: Bytes, form: Form) -> Adder:
        return _Server(form)


def _terms(form: Form, round_: int) -> Terms:
    return Terms(form.run, round_, form.cohort, form.bits, form.count)


class _Offices(KeyHolder):
    """Each office's secrets are in its own memory; the offices share nothing."""

    def answer(self, phase: str, parts: Parts, context: Context, memory: Memory) -> tuple[Parts, Memory]:
        terms, office = _terms(self.form, context.round), context.office
        if phase == "keys":
            advertised = secagg.advertise(terms, office)
            return {"advert": _bytes(advertised.advert)}, secagg.to_memory(advertised)
        if phase == "shares":
            state = secagg.from_memory(under(memory, NEXT) or memory, terms, office)
            shared, letters = secagg.share(state, _by_office(parts, "adverts"))
            return _stacked("letters", letters), secagg.to_memory(shared)
        if phase == "unmask":
            answered, dropped = (_part(parts, name).tolist() for name in ("answered", "dropped"))
            closed, revealed = secagg.reveal(secagg.from_memory(memory, terms, office), answered, dropped)
            ahead = secagg.advertise(_terms(self.form, context.round + 1), office)
            kept = holding(secagg.to_memory(closed), NEXT, secagg.to_memory(ahead))
            return {"revealed": _bytes(revealed), "advert": _bytes(ahead.advert)}, kept
        return super().answer(phase, parts, context, memory)

    def protect(self, slots: Slots, context: Context, memory: Memory) -> tuple[Bytes, Bytes, Memory]:
        parts: Parts = {name: memory.pop(name) for name in ("letters", "letters-of") if name in memory}
        state = secagg.from_memory(memory, _terms(self.form, context.round), context.office)
        masked, sent = secagg.mask(state, _by_office(parts, "letters"), slots)
        return masking.pack(sent), NO_NOTE, secagg.to_memory(masked)

    def reveal(self, total: ProtectedSum) -> Slots:
        return masking.unpack(total.total, self.form.count, self.form.bits)  # the server has taken the masks off


class _Server(ClearAdder):
    """Masked inputs add up as clear ones do; around them, the protocol's phases.

    In a round in clear the phases are sent without contents: who vanishes when decides who counts, and that is to be
    the same.
    """

    def __init__(self, form: Form) -> None:
        super().__init__(form)
        self.ahead: tuple[int, dict[int, bytes]] = (0, {})  # a round, and the adverts that came ahead for it
        self.sharers: frozenset[int] = frozenset()
        self.server: secagg_server.Server | None = None

    def begin(self, round_: int, ask: Ask, offices: Collection[int], clear: bool) -> dict[int, Parts]:
        terms = _terms(self.form, round_)
        came = self.ahead[1] if self.ahead[0] == round_ and not clear else {}
        adverts = {office: came[office] for office in offices if office in came}
        missing: dict[int, Parts] = {office: {} for office in offices if office not in adverts}
        if missing:
            adverts |= {office: _of(parts, "advert", clear) for office, parts in ask("keys", missing, _advert).items()}
        adverts = dict(sorted(adverts.items()))
        if clear:
            terms.check_enough("keys", adverts)
            self.sharers = frozenset(ask("shares", {office: {} for office in adverts}))
            terms.check_enough("shares", self.sharers)
            return {office: {} for office in sorted(self.sharers)}
        server = secagg_server.gather(terms, adverts)

        def complete(office: int, parts: Parts) -> None:
            secagg_server.check_sealed(server, office, _by_office(parts, "letters"))

        answers = ask("shares", dict.fromkeys(adverts, _stacked("adverts", adverts)), complete)
        sealed = {office: _by_office(parts, "letters") for office, parts in answers.items()}
        self.server, mail = secagg_server.route(server, sealed)
        return {office: _stacked("letters", letters) for office, letters in sorted(mail.items())}

    def finish(self, round_: int, ask: Ask, total: Bytes, offices: Collection[int], clear: bool) -> Bytes:
        terms = _terms(self.form, round_)
        if clear:
            terms.check_enough("masked input", offices)
            terms.check_enough("unmasking", ask("unmask", {office: {} for office in offices}))
            return total
        assert self.server is not None
        slots = masking.unpack(total, self.form.count, self.form.bits)
        server = replace(self.server, answered=frozenset(offices), total=slots)
        answered, dropped = secagg_server.request(server)
        asked = {"answered": np.array(answered, np.int64), "dropped": np.array(dropped, np.int64)}

        def complete(office: int, parts: Parts) -> None:
            secagg_server.check_reply(server, office, _of(parts, "revealed"))
            _advert(office, parts)

        answers = ask("unmask", dict.fromkeys(answered, asked), complete)
        self.ahead = (round_ + 1, {office: _of(parts, "advert") for office, parts in answers.items()})
        self.server = None
        return masking.pack(
            secagg_server.recover(server, {office: _of(parts, "revealed") for office, parts in answers.items()})
        )


def _bytes(content: bytes) -> Bytes:
    return np.frombuffer(content, np.uint8)


def _part(parts: Parts, name: str) -> Any:
    if name not in parts:
        raise ProtectionError(f"a message holds {sorted(parts) or 'nothing'}; expected {name}")
    return parts[name]


def _of(parts: Parts, name: str, clear: bool = False) -> bytes:
    content: bytes = b"" if clear else _part(parts, name).tobytes()
    return content


def _advert(office: int, parts: Parts) -> None:
    """Refuse an answer without two public keys."""
    if (found := len(_of(parts, "advert"))) != ADVERT_BYTES:
        raise ProtectionError(f"an advert has {ADVERT_BYTES} bytes; found {found}")


def _stacked(name: str, by_office: Mapping[int, bytes]) -> dict[str, Any]:
    """Equally long bytes of offices as two arrays."""
    content = np.stack([_bytes(one) for one in by_office.values()]) if by_office else np.empty((0, 0), np.uint8)
    return {name: content, f"{name}-of": np.array(list(by_office), np.int64)}


def _by_office(parts: Parts, name: str) -> dict[int, bytes]:
    """Back from `_stacked`."""
    content, offices = _part(parts, name), _part(parts, f"{name}-of")
    if content.ndim != 2 or offices.dtype != np.int64 or offices.shape != (len(content),):
        raise ProtectionError(f"{name} {content.shape} came for offices {offices.shape} of {offices.dtype}")
    return {int(office): one.tobytes() for office, one in zip(offices, content, strict=True)}
