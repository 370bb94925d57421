"""The server under protection: it passes messages on, checks their form, and adds what it cannot read.

It holds the public key, the newest sum, and the newest sealed model for offices that come back; never an update, a sum
or a model in clear, and no key that opens one. What it refuses it counts and names; the round goes on with the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from strategies.base import Federation, Letter
from strategies.crypto.streams import ProtectionError
from strategies.protection.aside import AFTER, BEFORE
from strategies.protection.context import Context
from strategies.protection.layout import slots_of_a_number
from strategies.protection.meter import Meter
from strategies.protection.options import ProtectionOptions
from strategies.protection.protocol import NO_NOTE, Adder, Check, ClearAdder, Form, Parts
from strategies.protection.sums import Bytes, ProtectedSum, parts_of


class Post(Protocol):
    """How the server reaches offices: by their numbers, with letters. An engine provides it."""

    cohort: Mapping[int, int]
    everyone: Mapping[int, int]

    def reject(self, office: int, reason: str) -> None: ...

    def query(self, letters: Mapping[int, Letter]) -> dict[int, Letter]: ...


class ProtectedServer:
    """The server's part of rounds over protected sums; it has neither model nor keys.

    Args:
        strategy: with its protocol.
        federation: what it may know.
        measured: rounds that are computed in earnest; None is all of them. In the others integers travel in clear.
        until: the last round, after which offices score the models of their own, if they have any.
    """

    def __init__(
        self, strategy: ProtectionOptions, federation: Federation, measured: frozenset[int] | None = None,
        until: int | None = None,
    ) -> None:  # fmt: skip
        self.strategy, self.federation, self.measured, self.until = strategy, federation, measured, until
        self.meter = Meter()
        self.form: Form | None = None
        self.place: Context | None = None  # of which round and office differ from message to message
        self.state: tuple[int, Bytes] | None = None  # newest sealed model, and its round
        self.last: ProtectedSum | None = None
        self.held: dict[int, int] = {}  # office -> round of the model it has
        self.counted: dict[int, int] = {}  # office -> last round whose sum holds its update
        self.here: set[int] = set()  # who answered last in this round
        self.ended: ProtectedSum | None = None  # what all offices sent after the last round

    def begin(self, post: Post) -> None:
        """Learn the form of messages, the weights and the public key; have the first weights sealed by one office."""
        if self.form is not None:
            return
        everybody = list(post.everyone)
        joined = post.query({office: Letter({"phase": "join"}) for office in everybody})
        missing = sorted(set(everybody) - set(joined))
        if missing:
            raise ProtectionError(f"offices {missing} did not join; the run needs all {len(everybody)} to begin")
        first = min(joined)
        self.place = Context.read(joined[first].config)
        for office, letter in joined.items():
            try:
                Context.read(letter.config).check(self._context(0, office))
            except ProtectionError as error:
                raise ProtectionError(f"office {office} does not fit office {first}: {error}") from None
            if not np.array_equal(letter.arrays["public"], joined[first].arrays["public"]):
                raise ProtectionError(f"office {office} and office {first} have different public keys; they share one")
            if letter.config["count"] != joined[first].config["count"]:
                raise ProtectionError(
                    f"office {office} sends {letter.config['count']!r} numbers, office {first} "
                    f"{joined[first].config['count']!r}"
                )
        weights = [float(joined[office].config["weight"]) for office in sorted(joined)]
        counts = np.stack([joined[office].arrays["counts"] for office in sorted(joined)])
        place, count = self.place, int(joined[first].config["count"])
        self.form = Form(place.run, place.offices, self.federation.cohort, place.bits, count)
        self.public = joined[first].arrays["public"]
        self.adder: Adder = self.strategy.adder(self.public, self.form)
        self.clear = ClearAdder(self.form)
        before = self._aside(0, BEFORE, post).parts() if self.strategy.overrides("before") else {}
        asked = {}
        for office in everybody:
            config = {"phase": "agree", "weights": weights, "first": office == first}
            config |= self._context(0, office).config()
            asked[office] = Letter(config, {"counts": counts, **(before if office == first else {})})
        self.state = (0, post.query(asked)[first].arrays["state"])

    def _aside(self, number: int, phase: str, post: Post) -> ProtectedSum:
        """The sum of what all offices send once, under a round number that no round has.

        Raises:
            ProtectionError: an office does not answer, or does not fit the others.
        """
        assert self.form is not None
        everybody = sorted(post.everyone)
        asked = {}
        for office in everybody:
            asked[office] = self._news(number, office, {}) if number else Letter()
            asked[office].config |= {"phase": phase, **self._context(number, office).config()}
        found = post.query(asked)
        counts = {letter.config.get("count") for letter in found.values()}
        if len(found) < len(everybody) or len(counts) > 1:
            raise ProtectionError(f"{phase}: offices {sorted(found)} send {counts} numbers; all must, and as many")
        if number:
            self.held |= dict.fromkeys(found, number - 1)
        public = self.public if not self._is_clear(number) else NO_NOTE
        count = int(str(counts.pop())) * slots_of_a_number(self.form.bits, self.form.offices)
        form = replace(self.form, cohort=len(everybody), count=count)
        adder = ClearAdder(form) if self._is_clear(number) else self.strategy.adder(public, form)
        ask, clear, total = self._asking(post, number), self._is_clear(number), None
        parts = adder.begin(number, ask, everybody, clear)
        answers = ask("aside", parts)
        if sorted(answers) != everybody:
            raise ProtectionError(f"{phase}: {sorted(answers)} of {len(everybody)} offices answered; all are needed")
        for office in everybody:
            adder.check(answers[office]["payload"], answers[office]["note"])
            total = adder.add(total, answers[office]["payload"])
        total = adder.finish(number, ask, total, everybody, clear)
        notes = np.stack([answers[office]["note"] for office in everybody])
        return ProtectedSum(number, tuple(everybody), total, notes, clear)

    def _context(self, round_: int, office: int) -> Context:
        """What a message of this place has to say."""
        assert self.place is not None
        return replace(self.place, round=round_, office=office, attempt=1)

    def _is_clear(self, round_: int) -> bool:
        measured = self.measured
        return measured is not None and round_ not in measured

    def _adder_of(self, round_: int) -> Adder:
        return self.clear if self._is_clear(round_) else self.adder

    def broadcast(self, number: int, x: Any, post: Post) -> dict[int, Letter]:
        """The protocol's first phases, then what each office has missed."""
        with self.meter.time("add_s", number):
            going = self.adder.begin(number, self._asking(post, number), list(post.cohort), self._is_clear(number))
        return {office: self._news(number, office, parts) for office, parts in going.items()}

    def _asking(self, post: Post, round_: int) -> Any:
        """How a protocol sends its queries; their waiting is not the server's adding."""

        def ask(phase: str, parts: Mapping[int, Parts], check: Check | None = None) -> dict[int, Parts]:
            asked = {
                office: Letter({"phase": phase, **self._context(round_, office).config()}, dict(own))
                for office, own in parts.items()
            }
            waited = self.meter.seconds["add_s", round_, -1]
            with self.meter.time("asked", round_):
                answers = post.query(asked)
            self.meter.seconds["add_s", round_, -1] = waited - self.meter.seconds.pop(("asked", round_, -1))
            good: dict[int, Parts] = {}
            for office, letter in answers.items():
                try:
                    found = self._read(letter, round_, office)
                    if check and not self._is_clear(round_):
                        check(office, found)
                    good[office] = found
                except ValueError as error:
                    self._reject(post, office, round_, error)
            self.here = set(good)
            return good

        return ask

    def _read(self, letter: Letter, round_: int, office: int) -> dict[str, Bytes]:
        """The arrays of an office's message.

        Raises:
            ProtectionError: it is of another place, or has no arrays that can be read.
        """
        if not letter.config:
            raise ProtectionError("its message holds no config; expected config and arrays")
        Context.read(letter.config).check(self._context(round_, office))
        return parts_of(letter)

    def _reject(self, post: Post, office: int, round_: int, reason: object) -> None:
        post.reject(office, f"round {round_}, office {office}: {reason}")

    def _news(self, round_: int, office: int, parts: Parts) -> Letter:
        """What an office needs to have the newest model: the last sum, or the sealed model if it missed more."""
        config = {"server-round": round_, "phase": "update", "counted": self.counted.get(office, 0)}
        config |= self._context(round_, office).config()
        arrays: dict[str, Any] = dict(parts)
        newest, held = self.last.round if self.last else 0, self.held.get(office, -1)
        if held < newest - 1 or held < 0:
            assert self.state is not None
            config["state-round"], arrays["state"] = self.state
            held = self.state[0]
        if self.last and held < newest:
            arrays |= self.last.parts()
        return Letter(config, arrays)

    def take(self, number: int, replies: list[tuple[int, Letter]], post: Post) -> tuple[None, None]:
        """Check and add; each letter is let go once it is added.

        Raises:
            ProtectionError: too few offices are left for a sum that tells nobody's update.
        """
        adder = self._adder_of(number)
        total: Any = None
        notes: dict[int, Bytes] = {}
        newest = self.last.round if self.last else 0
        replies.reverse()
        while replies:
            office, letter = replies.pop()
            self.held[office] = newest
            with self.meter.time("add_s", number):
                try:
                    parts = self._read(letter, number, office)
                    if not {"payload", "note"} <= set(parts):
                        raise ProtectionError(
                            f"its message holds {sorted(parts) or 'nothing'}; expected payload and note"
                        )
                    payload, note = parts["payload"], parts["note"]
                    if note.dtype != np.uint8 or note.shape != (adder.note_bytes,):
                        raise ProtectionError(
                            f"a note has {adder.note_bytes} bytes; found an array {note.shape} of {note.dtype}"
                        )
                    adder.check(payload, note)
                    total = adder.add(total, payload)
                except ValueError as error:  # the protocol's own errors, and what NumPy says of a malformed array
                    self._reject(post, office, number, error)
                    continue
            notes[office] = note
        found = sorted(notes)
        self.here = set(found)
        if total is None or len(found) < self.strategy.min_offices:
            raise ProtectionError(
                f"round {number}: updates of {len(found)} offices are left, {found}; a sum takes at least "
                f"{self.strategy.min_offices}"
            )
        with self.meter.time("add_s", number):
            total = self.adder.finish(number, self._asking(post, number), total, found, self._is_clear(number))
        stacked = np.stack([notes[office] for office in found])
        self.last = ProtectedSum(number, tuple(found), total, stacked, self._is_clear(number))
        self.counted |= dict.fromkeys(found, number)
        if number == self.until and self.strategy.overrides("after"):
            self.ended = self._aside(number + 1, AFTER, post)
            self.here = set(found)
        return None, None

    def ask(self, number: int, post: Post) -> dict[int, Letter]:
        """The lowest office that is still there scores the model; at the end, all score the models of their own."""
        self.evaluates = min(self.here)
        last = number == self.until and self.strategy.overrides("personal", "after")
        letters = {}
        for office in sorted(post.everyone if last else [self.evaluates]):
            letters[office] = self._news(number, office, {} if self.ended is None else self.ended.parts())
            letters[office].config["phase"] = "evaluate" if office == self.evaluates else "personal"
        return letters

    def hear(self, number: int, replies: list[tuple[int, Letter]], post: Post) -> dict[str, Any]:
        """Keep the sealed model; the figures go to whoever watches.

        Raises:
            ProtectionError: the office did not answer, or with something else.
        """
        answers = dict(replies)
        office = self.evaluates
        if office not in answers:
            raise ProtectionError(f"round {number}: the office that was to evaluate did not answer")
        letter = answers[office]
        try:
            self._read(letter, number, office)
            if "state" not in letter.arrays or not letter.metrics:
                raise ProtectionError(f"its message holds {sorted(letter.arrays)}; expected figures and a sealed model")
        except ProtectionError as error:
            raise ProtectionError(f"round {number}, office {office}: {error}") from None
        self.state = (number, letter.arrays["state"])
        self.held |= dict.fromkeys(answers, number)
        figures = dict(letter.metrics)
        if "personal-accuracy" in figures:
            own = {k: float(answer.metrics["personal-accuracy"]) for k, answer in answers.items()}
            figures["personal-accuracy"] = [own.get(k, float("nan")) for k in range(self.federation.clients)]
        return figures
