"""An office under protection: it holds the model, opens sums, and sends its update where nobody can read it.

Its memory, which an engine keeps for it, is all it has between rounds:

    model, round      w (d,) and the round whose sum it has taken last
    clip              C of every layer for the next round, (layers,)
    step-*            the server's state, which every office keeps, alike
    shares            p_k of all offices, (K,)
    counts            rows and steps of all offices, (K, 2)
    sent-round        of which round the last update was: a second one of the same round could be subtracted
    sent-left         feedback: what is still to be sent, once a sum is known to hold the update; then `left`
    sent-inner-*      what the inner strategy remembers, once a sum is known to hold the update; then `inner-*`
    protocol-*        what the protocol remembers
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strategies.base import Change, Federation, Job, Letter, Memory, Named, Received, Round, Strategy, Update
from strategies.maths.masking import Slots
from strategies.maths.streams import ProtectionError, seal, tag, unseal
from strategies.protection import aside
from strategies.protection import clip as clips
from strategies.protection.aside import AFTER, BEFORE
from strategies.protection.context import Context, round_of
from strategies.protection.desk import Desk
from strategies.protection.layout import supposed
from strategies.protection.meter import Meter
from strategies.protection.options import ProtectionOptions
from strategies.protection.protocol import Parts
from strategies.protection.sums import ProtectedSum, flatten, parts_of, read_sums, unflatten

if TYPE_CHECKING:
    from strategies.privacy.noise import NoiseStream
    from strategies.protection.shares import NoisyGrid

ABSTAINS = "abstains"
BEFORE_UPDATE = ("keys", "shares")  # phases that begin a round, which an office goes through once
SENT = "sent-"  # begins the names of what counts once a sum is known to hold the update


class Side(Protocol):
    """What the harness gives the offices of a process.

    Attributes:
        classes: number of labels.
    """

    classes: int

    def rows(self, office: int) -> Any:
        """The rows that an office trains on, as `Strategy.after` is given them."""

    def received(self, named: Named, number: int, office: int) -> Received:
        """What an office starts a round with."""

    def score(self, w: NDArray[np.float32]) -> Mapping[str, Any]:
        """Figures of a model (d,)."""

    def personal_accuracy(self, strategy: Strategy, office: int, memory: Memory) -> float:
        """Accuracy of an office's own model on its own rows."""


@dataclass(frozen=True)
class Office:
    """What a process knows of one of its offices.

    Attributes:
        index: its number, from 0.
        num_examples, num_steps: rows it trains on, and its minibatch steps a round.
        first: makes the first weights (d,), for the office that is asked for them.
        rng: the generator of a round, for rounding by chance (nothing secret comes from it).
        noise: the stream of a round, for its share of the noise.
        side: what the harness gives it.
        desk: keys, and what the offices of a process share.
        meter: where it counts what protection costs; never sent.
    """

    index: int
    num_examples: int
    num_steps: int
    first: Callable[[], NDArray[np.float32]]
    rng: Callable[[int], np.random.Generator]
    noise: Callable[[int], NoiseStream]
    side: Side
    desk: Desk
    meter: Meter


class ProtectedOffice:
    """One office's part of a protected strategy; see the module."""

    def __init__(self, strategy: ProtectionOptions, office: Office) -> None:
        self.strategy, self.office, self.desk, self.meter = strategy, office, office.desk, office.meter

    def query(self, letter: Letter, memory: Memory) -> tuple[Letter, Memory]:
        """Answer a phase: `join` and `agree` before the first round, later the protocol's own."""
        config = letter.config
        phase = str(config["phase"])
        if phase == "join":
            return self._join(), memory
        with self._refusing(round_of(config)):
            context = self._context(config)
            if phase == "agree":
                return self._agree(context, letter, memory)
            if phase in (BEFORE, AFTER):
                return self._announce(context, letter, memory)
            if phase == "aside":
                return self._sum_aside(context, letter, memory)
            if phase in BEFORE_UPDATE and not self.desk.is_aside(context.round):
                self._check_first(memory, context.round)
            holder = self.desk.holder_of(context.round)
            own, rest = _split(memory, "protocol-")
            with self.meter.time("encrypt_s", context.round, self.office.index):
                answer, own = holder.answer(phase, parts_of(letter), context, own)
        return self._reply(context, answer), {**rest, **_named("protocol-", own)}

    def open(self, letter: Letter, memory: Memory) -> tuple[Sequence[Job], Memory]:
        """Catch up with the sums, and start from the model."""
        config = letter.config
        with self._refusing(round_of(config)):
            context = self._context(config)
            memory = self._caught_up(letter, memory)
            self._check_round(memory, context.round - 1)
            self._check_first(memory, context.round)
            parts = parts_of(letter)
        state, _ = _split(memory, "step-")
        inner, _ = _split(memory, "inner-")
        named = {"w": memory["model"], **self.strategy.broadcast(state)}
        jobs = self.strategy.open(self.office.side.received(named, context.round, self.office.index), inner)
        own, rest = _split(memory, "protocol-")
        return [jobs] if isinstance(jobs, Job) else list(jobs), {**rest, **_named("protocol-", own | dict(parts))}

    def close(self, update: Update, memory: Memory) -> tuple[Letter, Memory]:
        """The update in fixed point, protected; or word that there is none, since it is not finite."""
        job, desk, meter = update.job, self.desk, self.meter
        context = desk.context(job.round, self.office.index)
        inner, _ = _split(memory, "inner-")
        central = self.strategy.central_dp
        if central:  # clipped to all digits, of which a model would keep some
            change, after = central.change(update, inner)
            sent: Named = {"w": Change(change)}
        else:
            sent, after = self.strategy.close(update, inner)
        with self._refusing(context.round):
            flat, numbers = desk.layout.flat(sent, job.w)
        if not (np.isfinite(flat).all() and np.isfinite(numbers).all()):
            return self._reply(context, {}, abstains=True), memory
        share = float(memory["shares"][self.office.index])
        flat = flat + memory["left"] if "left" in memory else flat
        layers = desk.clip(context.round, memory)
        clip = desk.spread(layers)
        rng = self.office.rng(context.round) if self.strategy.rounds_by == "stochastic" else None
        with meter.time("encrypt_s", context.round, self.office.index), self._refusing(context.round):
            grid = desk.grid(context.round)
            values, left, clipped = grid.encode(flat, share, clip, rng)
            if noisy := desk.noisy(context.round):
                values, noise = self._noised(noisy, values, share, context.round)
                flat = flat + noise * (clip / (grid.levels * share))
            meter.expect(context.round, self.office.index, share, flat)
            mark = tag(desk.vault.secret, context.run, context.round, context.office, context.offices)
            own, rest = _split(memory, "protocol-")
            slots = Slots(desk.slots(values, flat, numbers, share, layers), mark, context.bits)
            payload, note, own = desk.holder_of(context.round).protect(slots, context, own)
        meter.counts["clipped"] += clipped
        meter.counts["sent"] += values.size
        rest["sent-round"] = np.array(context.round)
        if after is not inner:
            rest |= {"sent-inner": np.array(1), **_named("sent-inner-", after)}
        if self.strategy.rounds_by == "feedback":
            rest["sent-left"] = left
        return self._reply(context, {"payload": payload, "note": note}), {**rest, **_named("protocol-", own)}

    def _noised(
        self, noisy: NoisyGrid, values: NDArray[np.uint32], share: float, round_: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """What is sent of rounded values, and the noise in it."""
        assert self.desk.shares is not None
        if self.desk.shares.alone:
            noisy.check(values, share)
        noise = noisy.share(self.office.noise(round_), len(values))
        return (values + (noisy.fixed.margin + noise)).astype(np.uint32), noise

    def evaluate(self, letter: Letter, memory: Memory) -> tuple[Letter, Memory]:
        """Open the round's sum and score: the model, sealing it for offices that come back, and the office's own."""
        config = letter.config
        with self._refusing(round_of(config)):
            context = self._context(config)
            memory = self._caught_up(letter, memory)
            self._check_round(memory, context.round)
            for one in read_sums(letter.arrays):
                if self.desk.is_aside(one.round):
                    memory = self._finished(one, memory)
        common = config["phase"] == "evaluate"
        reply = self._reply(context, {"state": self._seal(memory)} if common else {})
        if common:
            with self.meter.time("evaluate_s"):
                reply.metrics |= dict(self.office.side.score(memory["model"]))
        if self.strategy.overrides("personal"):
            inner, _ = _split(memory, "inner-")
            own = self.office.side.personal_accuracy(self.strategy, self.office.index, inner)
            reply.metrics["personal-accuracy"] = own
        return reply, memory

    def _join(self) -> Letter:
        """What the server may know: how much this office counts, the form of messages, and the public key.

        Its rows and steps, which other offices may know, are sealed.
        """
        desk, office = self.desk, self.office
        context = desk.context(0, office.index)
        weight = self.strategy.weight(office.num_examples, office.num_steps)
        config: dict[str, Any] = {"weight": weight, "count": desk.form.count}
        context.write(config)
        known = self.strategy.protects != "client"  # else a client's counts are what is protected
        counts = np.array([office.num_examples, office.num_steps] if known else [0, 0], np.int64)
        sealed = seal(desk.vault.secret, counts.tobytes(), *self._place_of_counts(office.index))
        return Letter(config, {"public": desk.holder.public(), "counts": np.frombuffer(sealed, np.uint8)})

    def _agree(self, context: Context, letter: Letter, memory: Memory) -> tuple[Letter, Memory]:
        """Take everybody's weight and counts, once; who is asked for the first weights seals them."""
        if context.round or "shares" in memory:
            raise ProtectionError("the weights of a run are agreed on once, before its first round")
        weights = np.array(letter.config["weights"], np.float64)
        own = self.strategy.weight(self.office.num_examples, self.office.num_steps)
        known = np.isfinite(weights) & (weights > 0)
        fits = len(weights) == context.offices and weights[self.office.index] == own and known.all()
        with np.errstate(over="ignore"):
            fits = fits and bool(np.isfinite(weights.sum()))
        if not fits:
            raise ProtectionError(
                f"it counts {own:g} and is one of {context.offices} offices; the server's list is {weights.tolist()}"
            )
        sealed = letter.arrays["counts"]
        counts = [
            np.frombuffer(unseal(self.desk.vault.secret, one.tobytes(), *self._place_of_counts(office)), np.int64)
            for office, one in enumerate(sealed)
        ]
        memory = {**memory, "shares": weights / weights.sum(), "counts": np.stack(counts)}
        if not letter.config.get("first"):
            return self._reply(context, {}), memory
        model = self.office.first().astype(np.float32, copy=False)
        federation = self._federation()
        for one in read_sums(letter.arrays):  # at most that of `Strategy.before`
            federation = replace(federation, before=aside.total(self.desk, one, self._aside_of(0, memory)))
        state = self.strategy.start(model, federation)
        first = {**memory, "model": model, "round": np.array(0), **_named("step-", state)}
        if self.desk.follows:
            first["clip"] = self._first_clip(model, federation, int(memory["counts"][:, 1].min()))
        return self._reply(context, {"state": self._seal(first)}), memory

    def _announce(self, context: Context, letter: Letter, memory: Memory) -> tuple[Letter, Memory]:
        """How many numbers this office will add to the sum before the first round, or after the last."""
        if context.round:
            memory = self._caught_up(letter, memory)
            self._check_round(memory, context.round - 1)
        count = len(aside.entries(self._aside_of(context.round, memory)))
        self.desk.prepare_aside(context.round, count)
        reply = self._reply(context, {})
        reply.config["count"] = count
        return reply, memory

    def _sum_aside(self, context: Context, letter: Letter, memory: Memory) -> tuple[Letter, Memory]:
        """This office's part of that sum, once."""
        if int(memory.get("aside-round", -1)) >= context.round:
            raise ProtectionError("it has sent its part of this sum; of a second one the difference could be taken")
        own, rest = _split(memory, "protocol-")
        with self.meter.time("encrypt_s", context.round, self.office.index):
            sent = self._aside_of(context.round, memory)
            payload, note, after = aside.protect(self.desk, sent, context, own | parts_of(letter))
        rest["aside-round"] = np.array(context.round)
        return self._reply(context, {"payload": payload, "note": note}), {**rest, **_named("protocol-", after)}

    def _aside_of(self, round_: int, memory: Memory) -> Named:
        """What the office sends before the first round (0), or after the last."""
        rows = self.office.side.rows(self.office.index)
        if round_ == 0:
            return self.strategy.before(np.bincount(rows.y, minlength=self.office.side.classes))
        return self.strategy.after(memory["model"], rows)

    def _finished(self, one: ProtectedSum, memory: Memory) -> Memory:
        """The memory with the final model, which the strategy makes of the sum after the last round."""
        state, _ = _split(memory, "step-")
        known = aside.total(self.desk, one, self._aside_of(one.round, memory))
        model = self.strategy.finish(memory["model"].astype(np.float64), known, state)
        return {**memory, "model": np.asarray(model, np.float32), "round": np.array(one.round)}

    def _first_clip(self, model: NDArray[np.float32], federation: Federation, steps: int) -> NDArray[np.float64]:
        """C of round 1, (layers,): of the model's change by its first weights, of all else by what a change of that
        size would make of it."""
        received = self.office.side.received({"w": model}, 1, self.office.index)
        pieces = np.split(model, np.cumsum(received.layout)[:-1])
        change = np.repeat(clips.first(pieces), received.layout)
        with np.errstate(all="ignore"):
            sent = supposed(self.strategy, received, federation, change, max(steps, 1))
        flat, _ = self.desk.layout.flat({**sent, "w": Change(sent["w"])}, model)
        found = clips.largest(self.desk.layout.split(flat))
        return np.where((found > 0) & np.isfinite(found), found, 1.0)

    def _federation(self) -> Federation:
        return Federation(self.desk.form.offices, self.desk.form.cohort)

    def _place_of_counts(self, office: int) -> tuple[str, str, int, str]:
        return ("counts", self.desk.form.run, office, self.desk.layout_hash)

    @contextmanager
    def _refusing(self, round_: object) -> Iterator[None]:
        """Name round and office in what is refused, by us or by the mathematics."""
        try:
            yield
        except KeyError as error:
            raise ProtectionError(f"round {round_}, office {self.office.index}: the message has no {error}") from None
        except ValueError as error:
            raise ProtectionError(f"round {round_}, office {self.office.index}: {error}") from None

    def _context(self, config: Mapping[str, Any]) -> Context:
        """The message's place, which must be this office's."""
        context = Context.read(config)
        context.check(self.desk.context(context.round, self.office.index))
        return context

    def _check_round(self, memory: Memory, wanted: int) -> None:
        if "round" not in memory or int(memory["round"]) != wanted:
            has = f"the model of round {int(memory['round'])}" if "round" in memory else "no model"
            raise ProtectionError(f"it has {has} and needs that of round {wanted}: the sums between did not come")

    def _check_first(self, memory: Memory, round_: int) -> None:
        if int(memory.get("sent-round", 0)) >= round_:
            raise ProtectionError(
                f"it has sent its update of round {round_}; of a second one the difference could be taken"
            )

    def _reply(self, context: Context, parts: Parts, abstains: bool = False) -> Letter:
        config: dict[str, Any] = {ABSTAINS: abstains}
        context.write(config)
        return Letter(config, dict(parts))

    def _caught_up(self, letter: Letter, memory: Memory) -> Memory:
        """The memory after the sealed model and the sums of a message.

        Raises:
            ProtectionError: something older than this office has seen, a gap, or a sum that is not what it claims.
        """
        if "state" in letter.arrays:
            memory = self._unseal(letter.arrays["state"], letter.config, memory)
        for one in read_sums(letter.arrays):
            if not self.desk.is_aside(one.round):
                memory = self._take(one, memory)
        return memory

    def _take(self, one: ProtectedSum, memory: Memory) -> Memory:
        """One round on: open the sum, and take the server's step."""
        self._check_round(memory, one.round - 1)
        offices, desk = one.offices, self.desk
        if one.clear != desk.is_clear(one.round):
            raise ProtectionError(f"the sum of round {one.round} is in clear; this run's sums are protected")
        if len(set(offices)) < self.strategy.min_offices:
            raise ProtectionError(
                f"the sum of round {one.round} is of {len(set(offices))} offices; at least "
                f"{self.strategy.min_offices} must be in it, or it tells one office's update"
            )
        strangers = sorted(set(offices) - set(range(desk.form.offices)))
        if strangers:
            raise ProtectionError(
                f"the sum of round {one.round} announces offices {strangers}, which are not of this federation's "
                f"{desk.form.offices}; it must not be used"
            )
        shares = [float(memory["shares"][office]) for office in offices]
        clip = desk.clip(one.round, memory)
        with self.meter.time("decrypt_s", one.round):
            opened, anew = desk.open(one, shares, clip)
        if anew:
            bound = desk.grid(one.round).error_bound(shares, float(np.max(clip)), self.strategy.rounds_by)
            self.meter.met(one.round, offices, opened.flat, bound)
        state, rest = _split(memory, "step-")
        mean = desk.layout.named(opened.flat, opened.numbers)
        answered = self._round(one, shares, memory)
        model, following = self.strategy.server_step(memory["model"].astype(np.float64), mean, state, answered)
        rest = _settled(rest, int(rest.get("sent-round", 0)) == one.round and self.office.index in offices)
        if opened.following is not None:
            rest["clip"] = opened.following
        rest |= {"model": model.astype(np.float32), "round": np.array(one.round)}
        return {**rest, **_named("step-", following)}

    def _round(self, one: ProtectedSum, shares: Sequence[float], memory: Memory) -> Round:
        """Who is in a sum, as the server's step is told it."""
        federation, offices = self._federation(), list(one.offices)
        weights, counts = np.array(shares) / sum(shares), memory["counts"][offices]
        return Round(one.round, federation.clients, federation.cohort, offices, weights, counts[:, 0], counts[:, 1])

    def _seal(self, memory: Memory) -> NDArray[np.uint8]:
        """Model and server state under the offices' secret, bound to run, round and layout."""
        state = {name: memory[name] for name in memory if name in ("model", "clip") or name.startswith("step-")}
        round_ = int(memory["round"])
        sealed = seal(self.desk.vault.secret, flatten(state), *self._place(round_))
        return np.frombuffer(sealed, np.uint8)

    def _unseal(self, sealed: NDArray[np.uint8], config: Mapping[str, Any], memory: Memory) -> Memory:
        round_, counted = config.get("state-round"), config.get("counted")
        if not isinstance(round_, int) or not isinstance(counted, int):
            raise ProtectionError(
                f"a sealed model came without its round ({round_!r}) or that of the last sum with this office "
                f"({counted!r})"
            )
        if "round" in memory and round_ < int(memory["round"]):
            raise ProtectionError(
                f"it has the model of round {int(memory['round'])} and is sent that of round {round_}; an older model "
                "is refused"
            )
        state = unflatten(unseal(self.desk.vault.secret, sealed.tobytes(), *self._place(round_)))
        rest = {name: value for name, value in memory.items() if not name.startswith("step-")}
        rest = _settled(rest, counted == int(rest.get("sent-round", 0)))  # the sum that would tell was missed
        return {**rest, **state, "round": np.array(round_)}

    def _place(self, round_: int) -> tuple[str, str, int, str]:
        return ("state", self.desk.form.run, round_, self.desk.layout_hash)


def _settled(memory: Memory, counted: bool) -> Memory:
    """The memory once it is known whether a sum holds the last update: what was to count then counts, or is gone."""
    waiting, rest = _split(memory, SENT)
    if "round" in waiting:
        rest["sent-round"] = waiting.pop("round")
    if not counted:  # else all of what was left before is still to be sent
        return rest
    if "left" in waiting:
        rest["left"] = waiting["left"]
    if "inner" in waiting:
        rest = {name: value for name, value in rest.items() if not name.startswith("inner-")}
        rest |= {name: value for name, value in waiting.items() if name.startswith("inner-")}
    return rest


def _split(memory: Memory, prefix: str) -> tuple[Memory, Memory]:
    """What stands under a prefix, without it, and the rest."""
    own = {name.removeprefix(prefix): value for name, value in memory.items() if name.startswith(prefix)}
    return own, {name: value for name, value in memory.items() if not name.startswith(prefix)}


def _named(prefix: str, memory: Mapping[str, Any]) -> Memory:
    return {prefix + name: value for name, value in memory.items()}
