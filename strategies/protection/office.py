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

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strategies.base import (
    Change,
    Federation,
    Job,
    Letter,
    Memory,
    Named,
    Received,
    Round,
    Setting,
    Strategy,
    Update,
    Workload,
)
from strategies.crypto.streams import ProtectionError, seal, unseal
from strategies.protection import aside
from strategies.protection.aside import AFTER, BEFORE
from strategies.protection.context import Context, round_of
from strategies.protection.desk import Desk
from strategies.protection.layout import first_clip
from strategies.protection.meter import Meter
from strategies.protection.options import ProtectionOptions
from strategies.protection.protocol import Parts
from strategies.protection.sums import ProtectedSum, flatten, holding, parts_of, read_sums, settled, under, unflatten

if TYPE_CHECKING:
    from strategies.privacy.noise import NoiseStream
    from strategies.protection.shares import NoisyGrid

ABSTAINS = "abstains"
BEFORE_UPDATE = ("keys", "shares")  # phases that begin a round, which an office goes through once


class Side(Protocol):
    """What the harness gives the offices of a process."""

    classes: int  # number of labels

    def rows(self, office: int) -> Any:
        """The rows that an office trains on, as `Strategy.after` is given them."""

    def received(self, named: Named, number: int, office: int) -> Received:
        """What an office starts a round with."""

    def score(self, w: NDArray[np.float32]) -> Mapping[str, Any]:
        """Figures of a model (d,)."""

    def personal_accuracy(self, strategy: Strategy, office: int, memory: Memory) -> float:
        """Accuracy of an office's own model on its own rows."""


@dataclass(frozen=True)
class ProtectedOffice:
    """One office's part of a protected strategy; see the module.

    Attributes:
        index: its number, from 0.
        work: what it trains on.
        strategy: with its protocol.
        setting: of the run: makes the first weights, and the entropy of rounding and noise.
        side: what the harness gives it.
        desk: keys, and what the offices of a process share.
        meter: where it counts what protection costs; never sent.
    """

    index: int
    work: Workload
    strategy: ProtectionOptions
    setting: Setting
    side: Side
    desk: Desk
    meter: Meter

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
            holder, own = self.desk.holder_of(context.round), under(memory, "protocol-")
            with self.meter.time("encrypt_s", context.round, self.index):
                answer, own = holder.answer(phase, parts_of(letter), context, own)
        return self._reply(context, answer), holding(memory, "protocol-", own)

    def open(self, letter: Letter, memory: Memory) -> tuple[Sequence[Job], Memory]:
        """Catch up with the sums, and start from the model."""
        config = letter.config
        with self._refusing(round_of(config)):
            context = self._context(config)
            memory = self._caught_up(letter, memory)
            self._check_round(memory, context.round - 1)
            self._check_first(memory, context.round)
            parts = parts_of(letter)
        named = {"w": memory["model"], **self.strategy.broadcast(under(memory, "step-"))}
        jobs = self.strategy.open(self.side.received(named, context.round, self.index), under(memory, "inner-"))
        memory = holding(memory, "protocol-", under(memory, "protocol-") | parts)
        return [jobs] if isinstance(jobs, Job) else list(jobs), memory

    def close(self, update: Update, memory: Memory) -> tuple[Letter, Memory]:
        """The update in fixed point, protected; or word that there is none, since it is not finite."""
        job, desk, meter = update.job, self.desk, self.meter
        context = desk.context(job.round, self.index)
        inner = under(memory, "inner-")
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
        share = float(memory["shares"][self.index])
        flat = flat + memory["left"] if "left" in memory else flat
        layers = desk.clip(context.round, memory)
        clip = desk.spread(layers)
        rng = None
        if self.strategy.rounds_by == "stochastic":
            rng = np.random.default_rng(self.setting.entropy("ROUNDING", context.round, self.index))
        with meter.time("encrypt_s", context.round, self.index), self._refusing(context.round):
            grid = desk.grid(context.round)
            values, left, clipped = grid.encode(flat, share, clip, rng)
            if noisy := desk.noisy(context.round):
                values, noise = self._noised(noisy, values, share, context.round)
                flat = flat + noise * (clip / (grid.levels * share))
            meter.expect(context.round, self.index, share, flat)
            slots = desk.marked(desk.slots(values, flat, numbers, share, layers), context)
            payload, note, own = desk.holder_of(context.round).protect(slots, context, under(memory, "protocol-"))
        meter.counts["clipped"] += clipped
        meter.counts["sent"] += values.size
        memory = holding(memory, "protocol-", own) | {"sent-round": np.array(context.round)}
        if after is not inner:
            memory = holding(memory, "sent-inner-", after) | {"sent-inner": np.array(1)}
        if self.strategy.rounds_by == "feedback":
            memory["sent-left"] = left
        return self._reply(context, {"payload": payload, "note": note}), memory

    def _noised(
        self, noisy: NoisyGrid, values: NDArray[np.uint32], share: float, round_: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """What is sent of rounded values, and the noise in it."""
        assert self.desk.shares is not None
        if self.desk.shares.alone:
            noisy.check(values, share)
        noise = noisy.share(self.noise(round_), len(values))
        return (values + (noisy.fixed.margin + noise)).astype(np.uint32), noise

    def noise(self, round_: int) -> NoiseStream:
        """The stream of its share of a round's noise."""
        from strategies.privacy.noise import stream_of  # compiled: what sends no noise does without

        ours = self.strategy.central_dp or self.strategy.local_dp
        return stream_of(self.setting.entropy("SHARE", round_, self.index), ours.secure_rng)

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
                reply.metrics |= dict(self.side.score(memory["model"]))
        if self.strategy.overrides("personal"):
            own = self.side.personal_accuracy(self.strategy, self.index, under(memory, "inner-"))
            reply.metrics["personal-accuracy"] = own
        return reply, memory

    def _join(self) -> Letter:
        """What the server may know: how much this office counts, the form of messages, and the public key.

        Its rows and steps, which other offices may know, are sealed.
        """
        desk = self.desk
        config = {"weight": self._weight, "count": desk.form.count, **desk.context(0, self.index).config()}
        known = self.strategy.protects != "client"  # else a client's counts are what is protected
        counts = np.array([len(self.work.rows), self.work.steps] if known else [0, 0], np.int64)
        sealed = seal(desk.vault.secret, counts.tobytes(), *self._place("counts", self.index))
        return Letter(config, {"public": desk.holder.public(), "counts": np.frombuffer(sealed, np.uint8)})

    def _agree(self, context: Context, letter: Letter, memory: Memory) -> tuple[Letter, Memory]:
        """Take everybody's weight and counts, once; who is asked for the first weights seals them."""
        if context.round or "shares" in memory:
            raise ProtectionError("the weights of a run are agreed on once, before its first round")
        weights, own = np.array(letter.config["weights"], np.float64), self._weight
        known = np.isfinite(weights) & (weights > 0)
        fits = len(weights) == context.offices and weights[self.index] == own and known.all()
        with np.errstate(over="ignore"):
            fits = fits and bool(np.isfinite(weights.sum()))
        if not fits:
            raise ProtectionError(
                f"it counts {own:g} and is one of {context.offices} offices; the server's list is {weights.tolist()}"
            )
        secret = self.desk.vault.secret
        counts = [
            np.frombuffer(unseal(secret, sealed.tobytes(), *self._place("counts", office)), np.int64)
            for office, sealed in enumerate(letter.arrays["counts"])
        ]
        memory = {**memory, "shares": weights / weights.sum(), "counts": np.stack(counts)}
        if not letter.config.get("first"):
            return self._reply(context, {}), memory
        assert self.setting.first is not None
        model = self.setting.first().astype(np.float32, copy=False)
        federation = Federation(context.offices, self.desk.form.cohort)
        for one in read_sums(letter.arrays):  # at most that of `Strategy.before`
            federation = replace(federation, before=aside.total(self.desk, one, self._aside_of(0, memory)))
        state = self.strategy.start(model, federation)
        first = holding(memory, "step-", state) | {"model": model, "round": np.array(0)}
        if self.desk.follows:
            received = self.side.received({"w": model}, 1, self.index)
            steps = max(int(memory["counts"][:, 1].min()), 1)
            first["clip"] = first_clip(self.desk.layout, self.strategy, received, federation, steps)
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
        own = under(memory, "protocol-") | parts_of(letter)
        with self.meter.time("encrypt_s", context.round, self.index):
            payload, note, after = aside.protect(self.desk, self._aside_of(context.round, memory), context, own)
        memory = holding(memory, "protocol-", after) | {"aside-round": np.array(context.round)}
        return self._reply(context, {"payload": payload, "note": note}), memory

    def _aside_of(self, round_: int, memory: Memory) -> Named:
        """What the office sends before the first round (0), or after the last."""
        rows = self.side.rows(self.index)
        if round_ == 0:
            return self.strategy.before(np.bincount(rows.y, minlength=self.side.classes))
        return self.strategy.after(memory["model"], rows)

    def _finished(self, one: ProtectedSum, memory: Memory) -> Memory:
        """The memory with the final model, which the strategy makes of the sum after the last round."""
        known = aside.total(self.desk, one, self._aside_of(one.round, memory))
        model = self.strategy.finish(memory["model"].astype(np.float64), known, under(memory, "step-"))
        return {**memory, "model": np.asarray(model, np.float32), "round": np.array(one.round)}

    @property
    def _weight(self) -> float:
        return self.strategy.weight(len(self.work.rows), self.work.steps)

    def _place(self, what: str, number: int) -> tuple[str, str, int, str]:
        """What a sealed thing is bound to: a model to its round, counts to their office."""
        return (what, self.desk.form.run, number, self.desk.layout_hash)

    @contextmanager
    def _refusing(self, round_: object) -> Iterator[None]:
        """Name round and office in what is refused, by us or by the mathematics."""
        try:
            yield
        except (KeyError, ValueError) as error:
            reason = f"the message has no {error}" if isinstance(error, KeyError) else error
            raise ProtectionError(f"round {round_}, office {self.index}: {reason}") from None

    def _context(self, config: Mapping[str, Any]) -> Context:
        """The message's place, which must be this office's."""
        context = Context.read(config)
        context.check(self.desk.context(context.round, self.index))
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
        return Letter({ABSTAINS: abstains, **context.config()}, dict(parts))

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
        mean = desk.layout.named(opened.flat, opened.numbers)
        weights, counts = np.array(shares) / sum(shares), memory["counts"][list(offices)]
        answered = Round(
            one.round, desk.form.offices, desk.form.cohort, list(offices), weights, counts[:, 0], counts[:, 1]
        )
        x, state = memory["model"].astype(np.float64), under(memory, "step-")
        model, following = self.strategy.server_step(x, mean, state, answered)
        memory = settled(memory, int(memory.get("sent-round", 0)) == one.round and self.index in offices)
        if opened.following is not None:
            memory["clip"] = opened.following
        memory |= {"model": model.astype(np.float32), "round": np.array(one.round)}
        return holding(memory, "step-", following)

    def _seal(self, memory: Memory) -> NDArray[np.uint8]:
        """Model and server state under the offices' secret, bound to run, round and layout."""
        state = {name: memory[name] for name in memory if name in ("model", "clip") or name.startswith("step-")}
        sealed = seal(self.desk.vault.secret, flatten(state), *self._place("state", int(memory["round"])))
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
        state = unflatten(unseal(self.desk.vault.secret, sealed.tobytes(), *self._place("state", round_)))
        # The sum that would tell was missed.
        memory = settled(holding(memory, "step-", {}), counted == int(memory.get("sent-round", 0)))
        return {**memory, **state, "round": np.array(round_)}
