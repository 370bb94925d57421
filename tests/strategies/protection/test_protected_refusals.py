"""What offices and server refuse under protection: sums of other rounds or sets, messages of other places, bad updates.

The offices hold the keys, so it is they who bind a sum to its round and contributors; the server counts and names what
it leaves out, and the run goes on as if that office had vanished.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType

from experiments.engines.flower import content_of
from strategies.base import Letter as Told
from strategies.crypto.streams import ProtectionError
from strategies.protection.context import PREFIX, Context
from strategies.protection.desk import Desk
from strategies.protection.vault import Vault
from tests.strategies.protection.key_files import PROTECTED, vault_for
from tests.strategies.protection.stages import Letter, Stage, stage

ANY = "masked_sum"  # for what does not depend on the protocol
every_strategy = pytest.mark.parametrize("protocol", PROTECTED)
FIELDS = [field.name for field in fields(Context)]


class Server:
    """A server that notes what it gets and does one thing that it should not, to office 1 in round 4.

    By then the office has the model of round 2, and round 4's message brings the sum of round 3.
    """

    def __init__(self, deed: Callable[[Letter, Server], None]) -> None:
        self.deed = deed
        self.sums: dict[str, Any] = {}
        self.sealed: dict[int, Any] = {}
        self.payloads: dict[tuple[int, int], Any] = {}

    def __call__(self, letter: Letter) -> None:
        if not letter.down and letter.kind == "train":
            self.payloads[letter.round, letter.office] = letter.copy()["payload"]
        if not letter.down and letter.kind == "evaluate":
            self.sealed[letter.round] = letter.copy()["state"]
        if letter.down and letter.kind == "train" and letter.office == 1 and letter.round > 1:
            self.sums |= letter.copy()
        if letter.is_("down", "train", 4, 1):
            self.deed(letter, self)


def replay(letter: Letter, server: Server) -> None:
    letter.put(sum_3=server.sums["sum-2"], sum_3_notes=server.sums["sum-2-notes"])


def announce_twice(letter: Letter, server: Server) -> None:
    notes = letter.copy()["sum-3-notes"]
    letter.put(sum_3_offices=np.array([0, 0, 1, 2, 3]), sum_3_notes=np.concatenate([notes[:1], notes]))


def leave_out_of_the_list(letter: Letter, server: Server) -> None:
    letter.put(sum_3_offices=np.array([0, 1, 2]), sum_3_notes=letter.copy()["sum-3-notes"][:3])


def exchange_in_the_list(letter: Letter, server: Server) -> None:
    letter.put(sum_3_offices=np.array([0, 1, 2, 9]))


def one_as_all(letter: Letter, server: Server) -> None:
    letter.put(sum_3=server.payloads[3, 0])


def one_as_one(letter: Letter, server: Server) -> None:
    notes = letter.copy()["sum-3-notes"]
    letter.put(sum_3=server.payloads[3, 0], sum_3_offices=np.array([0]), sum_3_notes=notes[:1])


def two_of_four(letter: Letter, server: Server) -> None:
    letter.put(sum_3_offices=np.array([0, 1]), sum_3_notes=letter.copy()["sum-3-notes"][:2])


def three_that_are_two(letter: Letter, server: Server) -> None:
    letter.put(sum_3_offices=np.array([0, 1, 1]), sum_3_notes=letter.copy()["sum-3-notes"][:3])


def in_clear(letter: Letter, server: Server) -> None:
    letter.put(sum_3_clear=np.ones(1, np.uint8))


def without_a_note(letter: Letter, server: Server) -> None:
    letter.put(sum_3_notes=letter.copy()["sum-3-notes"][:3])


def without_contributors(letter: Letter, server: Server) -> None:
    del letter.arrays["sum-3-offices"]


def cut_short(letter: Letter, server: Server) -> None:
    letter.put(sum_3=letter.copy()["sum-3"][:-1])


def without_the_sum(letter: Letter, server: Server) -> None:
    for name in list(letter.arrays):
        if name.startswith("sum-3"):
            del letter.arrays[name]


def the_sum_before(letter: Letter, server: Server) -> None:
    without_the_sum(letter, server)
    letter.put(**{name: array for name, array in server.sums.items() if name.startswith("sum-2")})


def the_sum_after(letter: Letter, server: Server) -> None:
    found = letter.copy()
    without_the_sum(letter, server)
    letter.put(**{name.replace("sum-3", "sum-4"): array for name, array in found.items()})


def send_state(letter: Letter, state: Any, **said: int) -> None:
    without_the_sum(letter, None)  # type: ignore[arg-type]
    letter.put(state=state)
    letter.config.update({name.replace("_", "-"): value for name, value in said.items()})


def older_state(letter: Letter, server: Server) -> None:
    send_state(letter, server.sealed[1], state_round=1)


def older_state_as_newer(letter: Letter, server: Server) -> None:
    send_state(letter, server.sealed[1], state_round=3)


def changed_state(letter: Letter, server: Server) -> None:
    state = server.sealed[3].copy()
    state[40] ^= 1
    send_state(letter, state, state_round=3)


def state_without_its_round(letter: Letter, server: Server) -> None:
    send_state(letter, server.sealed[3])


def state_of_a_round_too_early(letter: Letter, server: Server) -> None:
    send_state(letter, server.sealed[2], state_round=2)


CHECK = "round 3.*(must not be used|not their sum)"
DEEDS = {
    replay: CHECK,
    announce_twice: "each contributor counts once|each once",
    leave_out_of_the_list: CHECK,
    exchange_in_the_list: r"announces offices \[9\]",
    one_as_all: CHECK,
    one_as_one: "sum of round 3 is of 1 offices; at least 3 must be in it, or it tells one office's update",
    two_of_four: "sum of round 3 is of 2 offices; at least 3",
    cut_short: "found|payload has",
}
COMMON = {  # which no protocol has a part in
    three_that_are_two: "sum of round 3 is of 2 offices; at least 3",
    in_clear: "sum of round 3 is in clear; this run's sums are protected",
    without_a_note: "round 3.*notes.*a row of notes for each",
    without_contributors: "sum of round 3 came without its contributors",
    without_the_sum: "it has the model of round 2 and needs that of round 3: the sums between did not come",
    the_sum_before: "it has the model of round 2 and needs that of round 1",
    the_sum_after: "it has the model of round 2 and needs that of round 3",
    older_state: "it has the model of round 2 and is sent that of round 1; an older model is refused",
    older_state_as_newer: "do not open under the context",
    changed_state: "do not open under the context",
    state_without_its_round: "came without its round",
    state_of_a_round_too_early: "it has the model of round 2 and needs that of round 3",
}


@pytest.mark.parametrize(
    ("protocol", "deed"),
    [(protocol, deed) for protocol in PROTECTED for deed in DEEDS] + [(ANY, deed) for deed in COMMON],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_an_office_takes_no_other_sum_or_model(protocol: str, deed: Any) -> None:
    play = stage(PROTECTED[protocol](), look=Server(deed))
    with pytest.raises(ProtectionError, match=f"^round 4, office 1: .*({(DEEDS | COMMON)[deed]})"):
        play.play(4)


@every_strategy
@pytest.mark.parametrize("deed", ["twice", "left out"])
def test_a_sum_of_other_offices_than_announced_is_refused(protocol: str, deed: str) -> None:
    """The server adds one office's message twice, or leaves one out and says that it is in."""

    def look(letter: Letter) -> None:
        if deed == "left out" and letter.is_("down", "evaluate", 2):
            notes = letter.copy()["sum-2-notes"]
            letter.put(sum_2_offices=np.arange(4), sum_2_notes=np.concatenate([notes, notes[:1]]))

    play = stage(PROTECTED[protocol](), look=look)
    take = play.server.take

    def taking(number: int, replies: Any, post: Any) -> Any:
        if number == 2:
            replies = [replies[0], *replies[:3]] if deed == "twice" else replies[:3]
        return take(number, replies, post)

    play.server.take = taking  # type: ignore[method-assign]
    with pytest.raises(ProtectionError, match=r"^round 2, office 0: .*round 2.*(must not be used|not their sum)"):
        play.play(3)


@every_strategy
def test_an_office_sends_one_update_a_round(protocol: str) -> None:
    """A server that asks for a round again, without one office, could take the difference of the two sums."""
    play = stage(PROTECTED[protocol]())
    take = play.server.take
    told: list[str] = []

    def asking_again(number: int, replies: Any, post: Any) -> Any:
        done = take(number, replies, post)
        if number == 2:
            play.server.last = before
            for phase in ("keys", "shares", "update"):
                kind = MessageType.TRAIN if phase == "update" else MessageType.QUERY
                letter = play.server._news(2, 0, {})
                letter.config["phase"] = phase
                with pytest.raises(ProtectionError, match=r"^round 2, office 0: ") as refusal:
                    play.inner.send_and_receive([Message(content_of(letter), dst_node_id=1, message_type=kind)])
                told.append(str(refusal.value))
            raise Stopped
        return done

    play.play(1)
    before = play.server.last
    play.server.take = asking_again  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        _further(play)
    assert all("it has sent its update of round 2" in text for text in told), told


class Stopped(Exception):
    """The test has seen enough."""


def _further(play: Stage) -> None:
    """Round 2 of a federation that has had one."""
    play.grid.begin(2)
    messages = play.adapter.configure_train(2, ArrayRecord(), ConfigRecord(), play.grid)
    play.adapter.aggregate_train(2, play.grid.send_and_receive(messages))


@every_strategy
def test_the_weights_are_agreed_on_once(protocol: str) -> None:
    play = stage(PROTECTED[protocol]())
    play.play(1)
    letter = Told({"phase": "agree", "weights": [1.0] * 4, "first": False})
    letter.config |= play.server._context(0, 0).config()
    with pytest.raises(ProtectionError, match="agreed on once"):
        play.inner.send_and_receive([Message(content_of(letter), dst_node_id=1, message_type=MessageType.QUERY)])


@every_strategy
def test_the_same_deeds_without_a_fault_are_taken(protocol: str) -> None:
    """Or the tests above could pass for a wrong reason: sum and sealed model as they are, by the same route."""

    def sums(letter: Letter, server: Server) -> None:
        letter.put(**letter.copy())

    def state(letter: Letter, server: Server) -> None:
        send_state(letter, server.sealed[3], state_round=3)

    ends = []
    for deed in (sums, state):
        play = stage(PROTECTED[protocol](), look=Server(deed))
        play.play(5)
        ends.append(play.memories[1]["model"])
    assert np.array_equal(*ends)


class Forged(Vault):
    """Another secret under the old one's name."""

    name = ""

    @property
    def key_id(self) -> str:
        return self.name


@every_strategy
@pytest.mark.parametrize("forged", [False, True])
def test_a_wrong_key_is_refused(protocol: str, forged: bool) -> None:
    strategy = PROTECTED[protocol]()
    plays: list[Stage] = []

    def look(letter: Letter) -> None:
        if letter.is_("down", "train", 3, 0):
            offices, old = plays[0].clients.offices, plays[0].desk
            other = vault_for(strategy)
            vault = (Forged if forged else Vault)(old.form.run, other.secret, other.keys, True)
            object.__setattr__(vault, "name", old.vault.key_id)
            offices.desk = Desk(strategy, vault, 4, 4, old.layout, 1, None)

    plays.append(stage(strategy, look=look))
    cause = "must not be used|not their sum|do not open|made with key" if forged else "key_id '.*' instead of"
    office = 1 if forged else 0  # office 0 has evaluated: no sum comes with its message
    with pytest.raises(ProtectionError, match=f"^round 3, office {office}: .*({cause})"):
        plays[0].play(3)


OTHER = {
    "run": "another",
    "round": 9,
    "office": 2,
    "attempt": 2,
    "key_id": "00",
    "layout": "0",
    "offices": 5,
    "bits": 17,
}


def misplace(letter: Letter, field: str) -> None:
    letter.config[PREFIX + field] = OTHER[field]  # type: ignore[assignment]


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize("field", FIELDS)
def test_an_office_takes_no_message_of_another_place(field: str, kind: str) -> None:
    office = 1 if kind == "train" else 0

    def look(letter: Letter) -> None:
        if letter.is_("down", kind, 2, office):
            misplace(letter, field)

    told = rf"{field} .* instead of " if field != "round" else "needs that of round"
    claimed = OTHER["round"] if field == "round" else 2
    with pytest.raises(ProtectionError, match=rf"^round {claimed}, office {office}: .*{told}"):
        stage(PROTECTED[ANY](), look=look).play(2)


def test_a_message_without_its_place_is_refused() -> None:
    def look(letter: Letter) -> None:
        if letter.is_("down", "train", 2, 1):
            del letter.config[f"{PREFIX}run"]

    with pytest.raises(ProtectionError, match=r"^round 2, office 1: the message's context has run = None"):
        stage(PROTECTED[ANY](), look=look).play(2)


def test_a_list_of_weights_whose_sum_is_no_number_is_refused() -> None:
    """It was taken, and ended in a division by zero at the offices."""

    def look(letter: Letter) -> None:
        if letter.down and letter.config.get("phase") == "agree":
            own = list(letter.config["weights"])  # type: ignore[arg-type]
            letter.config["weights"] = [weight if k == letter.office else 1e308 for k, weight in enumerate(own)]

    with pytest.raises(ProtectionError, match=r"round 0, office 0: it counts 45 .*1e\+308"):
        stage(PROTECTED[ANY](), look=look).play(1)
