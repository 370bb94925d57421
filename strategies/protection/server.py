"""The server under protection: it passes messages on, checks their form, and adds what it cannot read.

It holds the public key, the newest sum, and the newest sealed model for offices that come back; never an update, a sum
or a model in clear, and no key that opens one. What it refuses it counts and names; the round goes on with the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg
from flwr.serverapp.strategy import Result

from strategies.base import Federation, OfficeGrid
from strategies.fedavg import everyone
from strategies.maths.streams import ProtectionError
from strategies.protection.base import Protected
from strategies.protection.context import Context
from strategies.protection.meter import Meter
from strategies.protection.protocol import Adder, Check, ClearAdder, Form, Parts
from strategies.protection.sums import Bytes, ProtectedSum, parts_of, record_of
from strategies.wire import arrays_of, config_of, metrics_of

if TYPE_CHECKING:
    from flwr.serverapp import Grid


class ProtectedServer(FlowerFedAvg):
    """Flower's round loop over protected sums; FedAvg's own aggregation is not used."""

    def __init__(self, strategy: Protected, federation: Federation) -> None:
        super().__init__(**everyone(federation))
        self.strategy, self.federation = strategy, federation
        self.meter = Meter()
        self.form: Form | None = None
        self.place: Context | None = None  # of which round and office differ from message to message
        self.weights: list[float] = []
        self.state: tuple[int, Bytes] | None = None  # newest sealed model, and its round
        self.last: ProtectedSum | None = None
        self.held: dict[int, int] = {}  # office -> round of the model it has
        self.counted: dict[int, int] = {}  # office -> last round whose sum holds its update
        self.here: set[int] = set()  # who answered last in this round

    def summary(self) -> None:
        """Nothing to say: Flower's line tells of keys that are not used here."""

    def start(self, grid: Grid, initial_arrays: ArrayRecord, **options: Any) -> Result:  # type: ignore[override]
        """Flower's loop, after the set-up that it has no place for."""
        if self.form is None:
            self._set_up(grid)
        return super().start(grid, initial_arrays, **options)

    def _set_up(self, grid: Grid) -> None:
        """Learn the form of messages, the weights and the public key; have the first weights sealed by one office."""
        everybody = {office: node for node, office in cast(OfficeGrid, grid).everyone.items()}
        config = ConfigRecord({"phase": "join"})
        asked = {office: RecordDict({"config": config, "arrays": ArrayRecord()}) for office in everybody}
        joined = _exchange(grid, MessageType.QUERY, asked, everybody)
        missing = sorted(set(everybody) - set(joined))
        if missing:
            raise ProtectionError(f"offices {missing} did not join; the run needs all {len(everybody)} to begin")
        configs = {office: config_of(content) for office, content in joined.items()}
        first = min(joined)
        self.place = Context.read(configs[first])
        for office, found in configs.items():
            try:
                Context.read(found).check(self._context(0, office))
            except ProtectionError as error:
                raise ProtectionError(f"office {office} does not fit office {first}: {error}") from None
            own, known = (arrays_of(joined[one])["public"].numpy() for one in (office, first))
            if not np.array_equal(own, known):
                raise ProtectionError(f"office {office} and office {first} have different public keys; they share one")
            if found["count"] != configs[first]["count"]:
                raise ProtectionError(
                    f"office {office} has {found['count']!r} weights, office {first} {configs[first]['count']!r}"
                )
        self.weights = [float(str(configs[office]["weight"])) for office in sorted(joined)]
        place, count = self.place, int(str(configs[first]["count"]))
        self.form = Form(place.run, place.offices, self.federation.cohort, place.bits, count)
        self.adder: Adder = self.strategy.adder(arrays_of(joined[first])["public"].numpy(), self.form)
        self.clear = ClearAdder(self.form)
        asked = {}
        for office in everybody:
            config = ConfigRecord({"phase": "agree", "weights": self.weights, "first": office == first})
            self._context(0, office).write(config)
            asked[office] = RecordDict({"config": config, "arrays": ArrayRecord()})
        agreed = _exchange(grid, MessageType.QUERY, asked, everybody)
        self.state = (0, arrays_of(agreed[first])["state"].numpy())

    def _context(self, round_: int, office: int) -> Context:
        """What a message of this place has to say."""
        assert self.place is not None
        place = self.place
        return Context(place.run, round_, office, 1, place.key_id, place.layout, place.offices, place.bits)

    def _is_clear(self, round_: int) -> bool:
        measured = self.federation.measured
        return measured is not None and round_ not in measured

    def _adder_of(self, round_: int) -> Adder:
        return self.clear if self._is_clear(round_) else self.adder

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """The protocol's first phases, then what each office has missed."""
        self.grid = cast(OfficeGrid, grid)
        self.nodes = {office: node for node, office in self.grid.offices.items()}
        with self.meter.time("add_s", server_round):
            going = self.adder.begin(
                server_round, self._asking(grid, server_round), list(self.nodes), self._is_clear(server_round)
            )
        return [
            Message(self._news(server_round, office, parts), dst_node_id=self.nodes[office], message_type="train")
            for office, parts in going.items()
        ]

    def _asking(self, grid: Grid, round_: int) -> Any:
        """How a protocol sends its queries; their waiting is not the server's adding."""

        def ask(phase: str, parts: Mapping[int, Parts], check: Check | None = None) -> dict[int, Parts]:
            asked = {}
            for office, own in parts.items():
                config = ConfigRecord({"phase": phase})
                self._context(round_, office).write(config)
                asked[office] = RecordDict({"config": config, "arrays": record_of(own)})
            waited = self.meter.seconds["add_s", round_, -1]
            with self.meter.time("asked", round_):
                answers = _exchange(grid, MessageType.QUERY, asked, self.nodes)
            self.meter.seconds["add_s", round_, -1] = waited - self.meter.seconds.pop(("asked", round_, -1))
            good: dict[int, Parts] = {}
            for office, content in answers.items():
                try:
                    found = self._read(content, round_, office)
                    if check and not self._is_clear(round_):
                        check(office, found)
                    good[office] = found
                except ValueError as error:
                    self._reject(office, round_, error)
            self.here = set(good)
            return good

        return ask

    def _read(self, content: RecordDict, round_: int, office: int) -> dict[str, Bytes]:
        """The arrays of an office's message.

        Raises:
            ProtectionError: it is of another place, or has no arrays that can be read.
        """
        if not content.config_records or not content.array_records:
            raise ProtectionError(f"its message holds {sorted(content) or 'nothing'}; expected config and arrays")
        Context.read(config_of(content)).check(self._context(round_, office))
        return parts_of(content)

    def _reject(self, office: int, round_: int, reason: object) -> None:
        self.grid.reject(self.nodes[office], f"round {round_}, office {office}: {reason}")

    def _news(self, round_: int, office: int, parts: Parts) -> RecordDict:
        """What an office needs to have the newest model: the last sum, or the sealed model if it missed more."""
        config = ConfigRecord({"server-round": round_, "phase": "update"})
        config["counted"] = self.counted.get(office, 0)
        self._context(round_, office).write(config)
        arrays: dict[str, Any] = dict(parts)
        newest, held = self.last.round if self.last else 0, self.held.get(office, -1)
        if held < newest - 1 or held < 0:
            assert self.state is not None
            config["state-round"], arrays["state"] = self.state
            held = self.state[0]
        if self.last and held < newest:
            arrays |= self.last.parts()
        return RecordDict({"arrays": record_of(arrays), "config": config})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check and add; each message is let go once it is added.

        Raises:
            ProtectionError: too few offices are left for a sum that tells nobody's update.
        """
        adder, offices = self._adder_of(server_round), {node: office for office, node in self.nodes.items()}
        total: Any = None
        notes: dict[int, Bytes] = {}
        newest = self.last.round if self.last else 0
        queue = replies if isinstance(replies, list) else list(replies)
        queue.reverse()
        while queue:  # Flower's loop holds the same list: what is taken out of it is gone
            message = queue.pop()
            office = offices[message.metadata.src_node_id]
            self.held[office] = newest
            with self.meter.time("add_s", server_round):
                try:
                    parts = self._read(message.content, server_round, office)
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
                    self._reject(office, server_round, error)
                    continue
            notes[office] = note
        found = sorted(notes)
        self.here = set(found)
        if total is None or len(found) < self.strategy.min_offices:
            raise ProtectionError(
                f"round {server_round}: updates of {len(found)} offices are left, {found}; a sum takes at least "
                f"{self.strategy.min_offices}"
            )
        with self.meter.time("add_s", server_round):
            ask = self._asking(self.grid, server_round)  # type: ignore[arg-type]
            total = self.adder.finish(server_round, ask, total, found, self._is_clear(server_round))
        stacked = np.stack([notes[office] for office in found])
        self.last = ProtectedSum(server_round, tuple(found), total, stacked, self._is_clear(server_round))
        self.counted |= dict.fromkeys(found, server_round)
        return ArrayRecord(), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """The lowest office that is still there scores the model."""
        office = self.evaluates = min(self.here)
        content = self._news(server_round, office, {})
        config_of(content)["phase"] = "evaluate"
        return [Message(content, dst_node_id=self.nodes[office], message_type=MessageType.EVALUATE)]

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Keep the sealed model; the figures go to whoever watches.

        Raises:
            ProtectionError: the office did not answer, or with something else.
        """
        for message in replies:
            office, content = self.evaluates, message.content
            try:
                self._read(content, server_round, office)
                if "state" not in arrays_of(content) or not content.metric_records:
                    raise ProtectionError(f"its message holds {sorted(content)}; expected figures and a sealed model")
            except ProtectionError as error:
                raise ProtectionError(f"round {server_round}, office {office}: {error}") from None
            self.state = (server_round, arrays_of(content)["state"].numpy())
            self.held[office] = server_round
            return metrics_of(content)
        raise ProtectionError(f"round {server_round}: the office that was to evaluate did not answer")


def _exchange(
    grid: Grid, kind: str, asked: Mapping[int, RecordDict], nodes: Mapping[int, int]
) -> dict[int, RecordDict]:
    """Send each office its message; the contents that came back, by office."""
    offices = {node: office for office, node in nodes.items()}
    messages = [Message(content, dst_node_id=nodes[office], message_type=kind) for office, content in asked.items()]
    return {offices[reply.metadata.src_node_id]: reply.content for reply in grid.send_and_receive(messages)}
