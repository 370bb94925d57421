"""An office under protection: it holds the model, opens sums, and sends its update where nobody can read it.

Its memory, which an engine keeps for it, is all it has between rounds:

    model, round      w (d,) and the round whose sum it has taken last
    clip              C of every layer for the next round, (layers,)
    step-*            state of the server step
    shares            p_k of all offices, (K,)
    left, sent-left   feedback: what is still to be sent, and what that becomes once a sum is known to hold the update
    sent-round        of which round the last update was: a second one of the same round could be subtracted
    inner-*           what the inner strategy remembers
    protocol-*        what the protocol remembers
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from strategies.base import Job, Memory, Update
from strategies.maths.masking import Slots
from strategies.maths.streams import ProtectionError, seal, tag, unseal
from strategies.protection.base import AUTO, Office, Protected
from strategies.protection.context import Context, round_of
from strategies.protection.protocol import Parts
from strategies.protection.sums import ProtectedSum, flatten, parts_of, read_sums, record_of, unflatten
from strategies.wire import arrays_of, config_of

if TYPE_CHECKING:
    from strategies.protection.shares import NoisyGrid

# Auto clip: so many times the largest entry of a layer's last mean, and in round 1 of its first weights.
HEADROOM, FIRST_HEADROOM = 4.0, 8.0
ABSTAINS = "abstains"
BEFORE_UPDATE = ("keys", "shares")  # phases that begin a round, which an office goes through once

Score = Callable[[NDArray[np.float32]], MetricRecord]


@dataclass(frozen=True)
class ProtectedJob(Job):
    """A job with what `close` needs of `open`: the place, the memory after catching up, and the protocol's parts."""

    context: Context = field(kw_only=True)
    caught_up: Memory = field(kw_only=True)
    parts: Parts = field(kw_only=True)


class ProtectedOffice:
    """One office's part of a protected strategy; see the module."""

    def __init__(self, strategy: Protected, office: Office) -> None:
        self.strategy, self.office, self.desk, self.meter = strategy, office, office.desk, office.meter

    def query(self, message: Message, memory: Memory) -> tuple[RecordDict, Memory]:
        """Answer a phase: `join` and `agree` before the first round, later the protocol's own."""
        config = config_of(message.content)
        phase = str(config["phase"])
        if phase == "join":
            return self._join(), memory
        with self._refusing(round_of(config)):
            context = self._context(config)
            if phase == "agree":
                return self._agree(context, config, memory)
            if phase in BEFORE_UPDATE:
                self._check_first(memory, context.round)
            holder = self.desk.holder_of(context.round)
            own, rest = _split(memory, "protocol-")
            with self.meter.time("encrypt_s", context.round, self.office.index):
                answer, own = holder.answer(phase, parts_of(message.content), context, own)
        return self._reply(context, answer), {**rest, **_named("protocol-", own)}

    def open(self, message: Message, memory: Memory) -> Job:
        """Catch up with the sums, and start from the model."""
        config = config_of(message.content)
        with self._refusing(round_of(config)):
            context = self._context(config)
            memory = self._caught_up(message.content, memory)
            self._check_round(memory, context.round - 1)
            self._check_first(memory, context.round)
            parts = parts_of(message.content)
        inner, _ = _split(memory, "inner-")
        return ProtectedJob(memory["model"], context.round, inner, context=context, caught_up=memory, parts=parts)

    def close(self, update: Update, memory: Memory) -> tuple[RecordDict, Memory]:
        """The update in fixed point, protected; or word that there is none, since it is not finite."""
        job = update.job
        assert isinstance(job, ProtectedJob)
        context, memory = job.context, job.caught_up
        way = update.w.astype(np.float64) - job.w
        central = self.strategy.central_dp
        way = central.clipped(way) if central else way
        if not np.isfinite(way).all():
            return self._reply(context, {}, abstains=True), memory
        share = float(memory["shares"][self.office.index])
        way = way + memory["left"] if "left" in memory else way
        clip = self.desk.spread(self.desk.clip(context.round, memory))
        rng = self.office.rng(context.round) if self.strategy.rounds_by == "stochastic" else None
        with self.meter.time("encrypt_s", context.round, self.office.index):
            grid = self.desk.grid(context.round)
            values, left, clipped = grid.encode(way, share, clip, rng)
            if noisy := self.desk.noisy(context.round):
                with self._refusing(context.round):
                    values, noise = self._noised(noisy, values, share, context.round)
                way = way + noise * (clip / (grid.levels * share))
            self.meter.expect(context.round, self.office.index, share, way)
            mark = tag(self.desk.vault.secret, context.run, context.round, context.office, context.offices)
            own, rest = _split(memory, "protocol-")
            own |= job.parts
            slots = Slots(values, mark, context.bits)
            with self._refusing(context.round):
                payload, note, own = self.desk.holder_of(context.round).protect(slots, context, own)
        self.meter.counts["clipped"] += clipped
        self.meter.counts["sent"] += values.size
        rest["sent-round"] = np.array(context.round)
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

    def evaluate(self, message: Message, memory: Memory, score: Score) -> tuple[RecordDict, Memory]:
        """Open the round's sum, score the model, and seal it for offices that come back."""
        config = config_of(message.content)
        with self._refusing(round_of(config)):
            context = self._context(config)
            memory = self._caught_up(message.content, memory)
            self._check_round(memory, context.round)
        reply = self._reply(context, {"state": self._seal(memory)})
        reply["metrics"] = score(memory["model"])
        return reply, memory

    def _join(self) -> RecordDict:
        """What the server may know: how much this office counts, the form of messages, and the public key."""
        desk, office = self.desk, self.office
        context = desk.context(0, office.index)
        config = ConfigRecord({"weight": self.strategy.weight(office.num_examples, office.num_batches)})
        config["count"] = desk.form.count
        context.write(config)
        return RecordDict({"config": config, "arrays": record_of({"public": desk.holder.public()})})

    def _agree(self, context: Context, config: ConfigRecord, memory: Memory) -> tuple[RecordDict, Memory]:
        """Take everybody's weight, once; who is asked for the first weights seals them."""
        if context.round or "shares" in memory:
            raise ProtectionError("the weights of a run are agreed on once, before its first round")
        weights = np.array(config["weights"], np.float64)
        own = self.strategy.weight(self.office.num_examples, self.office.num_batches)
        known = np.isfinite(weights) & (weights > 0)
        if len(weights) != context.offices or weights[self.office.index] != own or not known.all():
            raise ProtectionError(
                f"it counts {own:g} and is one of {context.offices} offices; the server's list is {weights.tolist()}"
            )
        memory = {**memory, "shares": weights / weights.sum()}
        if not config.get("first"):
            return self._reply(context, {}), memory
        model = self.office.first().astype(np.float32, copy=False)
        clip = [FIRST_HEADROOM * float(np.abs(part).max(initial=0)) or 1.0 for part in self._layers(model)]
        first = {**memory, "model": model, "round": np.array(0), "clip": np.array(clip)}
        return self._reply(context, {"state": self._seal(first)}), memory

    @contextmanager
    def _refusing(self, round_: object) -> Iterator[None]:
        """Name round and office in what is refused, by us or by the mathematics."""
        try:
            yield
        except KeyError as error:
            raise ProtectionError(f"round {round_}, office {self.office.index}: the message has no {error}") from None
        except ValueError as error:
            raise ProtectionError(f"round {round_}, office {self.office.index}: {error}") from None

    def _context(self, config: ConfigRecord) -> Context:
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

    def _reply(self, context: Context, parts: Parts, abstains: bool = False) -> RecordDict:
        config = ConfigRecord({ABSTAINS: abstains})
        context.write(config)
        return RecordDict({"config": config, "arrays": record_of(parts)})

    def _caught_up(self, content: RecordDict, memory: Memory) -> Memory:
        """The memory after the sealed model and the sums of a message.

        Raises:
            ProtectionError: something older than this office has seen, a gap, or a sum that is not what it claims.
        """
        record = arrays_of(content)
        if "state" in record:
            memory = self._unseal(record["state"].numpy(), config_of(content), memory)
        for one in read_sums(record):
            memory = self._take(one, memory)
        return memory

    def _take(self, one: ProtectedSum, memory: Memory) -> Memory:
        """One round on: open the sum, and take the server step."""
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
            d, anew = desk.mean(one, shares, clip)
        if anew:
            bound = desk.grid(one.round).error_bound(shares, float(np.max(clip)), self.strategy.rounds_by)
            self.meter.met(one.round, offices, d, bound)
        state, rest = _split(memory, "step-")
        model, state = self.strategy.server_step(memory["model"].astype(np.float64), d, state)
        if "sent-left" in rest:
            left = rest.pop("sent-left")
            if (
                int(rest["sent-round"]) == one.round and self.office.index in offices
            ):  # else all of it is still to be sent
                rest["left"] = left
        if self.strategy.clip == AUTO:
            largest = [HEADROOM * float(np.abs(part).max(initial=0)) for part in self._layers(d)]
            rest["clip"] = np.where(np.array(largest) > 0, largest, rest["clip"])
        rest |= {"model": model.astype(np.float32), "round": np.array(one.round)}
        return {**rest, **_named("step-", state)}

    def _layers(self, flat: NDArray[Any]) -> Sequence[NDArray[Any]]:
        return np.split(flat, np.cumsum(self.desk.layout)[:-1])

    def _seal(self, memory: Memory) -> NDArray[np.uint8]:
        """Model and server state under the offices' secret, bound to run, round and layout."""
        state = {name: memory[name] for name in memory if name in ("model", "clip") or name.startswith("step-")}
        round_ = int(memory["round"])
        sealed = seal(self.desk.vault.secret, flatten(state), *self._place(round_))
        return np.frombuffer(sealed, np.uint8)

    def _unseal(self, sealed: NDArray[np.uint8], config: ConfigRecord, memory: Memory) -> Memory:
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
        if "sent-left" in rest:  # the sum that would tell was missed
            left = rest.pop("sent-left")
            if counted == int(rest["sent-round"]):
                rest["left"] = left
        return {**rest, **state, "round": np.array(round_)}

    def _place(self, round_: int) -> tuple[str, str, int, str]:
        return ("state", self.desk.form.run, round_, self.desk.layout_hash)


def _split(memory: Memory, prefix: str) -> tuple[Memory, Memory]:
    """What stands under a prefix, without it, and the rest."""
    own = {name.removeprefix(prefix): value for name, value in memory.items() if name.startswith(prefix)}
    return own, {name: value for name, value in memory.items() if not name.startswith(prefix)}


def _named(prefix: str, memory: Mapping[str, Any]) -> Memory:
    return {prefix + name: value for name, value in memory.items()}
