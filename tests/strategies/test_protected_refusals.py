"""What offices and server refuse under protection: sums of other rounds or sets, messages of other places, bad updates.

The offices hold the keys, so it is they who bind a sum to its round and contributors; the server counts and names what
it leaves out, and the run goes on as if that office had vanished.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from flwr.app import Array

from strategies import StrategyError
from strategies.maths.streams import ProtectionError
from strategies.protection.context import PREFIX, Context
from strategies.protection.office import Desk
from strategies.protection.vault import Vault
from tests.strategies.stages import Letter, Stage, result, stage
from tests.strategies.test_protected_laws import NONE, told
from tests.strategies.vaults import PROTECTED, twin_of, vault_for

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
    exchange_in_the_list: CHECK,
    one_as_all: CHECK,
    one_as_one: "sum of round 3 is of 1 offices; at least 3 must be in it, or it tells one office's update",
    two_of_four: "sum of round 3 is of 2 offices; at least 3",
    three_that_are_two: "sum of round 3 is of 2 offices; at least 3",
    in_clear: "sum of round 3 is in clear; this run's sums are protected",
    without_a_note: "round 3.*notes.*a row of notes for each",
    without_contributors: "sum of round 3 came without its contributors",
    cut_short: "found",
    without_the_sum: "it has the model of round 2 and needs that of round 3: the sums between did not come",
    the_sum_before: "it has the model of round 2 and needs that of round 1",
    the_sum_after: "it has the model of round 2 and needs that of round 3",
    older_state: "it has the model of round 2 and is sent that of round 1; an older model is refused",
    older_state_as_newer: "do not open under the context",
    changed_state: "do not open under the context",
    state_without_its_round: "came without its round",
    state_of_a_round_too_early: "it has the model of round 2 and needs that of round 3",
}


@every_strategy
@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
def test_an_office_takes_no_other_sum_or_model(protocol: str, deed: Any) -> None:
    play = stage(PROTECTED[protocol](), look=Server(deed))
    with pytest.raises(ProtectionError, match=f"^round 4, office 1: .*({DEEDS[deed]})"):
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
    add = play.server.aggregate_train

    def adding(server_round: int, replies: Any) -> Any:
        replies = list(replies)
        if server_round == 2:
            replies = [replies[0], *replies[:3]] if deed == "twice" else replies[:3]
        return add(server_round, replies)

    play.server.aggregate_train = adding  # type: ignore[method-assign]
    with pytest.raises(ProtectionError, match=r"^round 2, office 0: .*round 2.*(must not be used|not their sum)"):
        play.play(3)


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
            protection, old = plays[0].inner.clients.protection, plays[0].desk
            assert protection is not None
            other = vault_for(strategy)
            vault = (Forged if forged else Vault)(old.form.run, other.secret, other.keys, True)
            object.__setattr__(vault, "name", old.vault.key_id)
            protection.desk = Desk(strategy, vault, 4, 4, old.layout, 1, None)

    plays.append(stage(strategy, look=look))
    cause = "must not be used|not their sum|do not open" if forged else "key_id '.*' instead of"
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


@every_strategy
@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize("field", FIELDS)
def test_an_office_takes_no_message_of_another_place(protocol: str, field: str, kind: str) -> None:
    office = 1 if kind == "train" else 0

    def look(letter: Letter) -> None:
        if letter.is_("down", kind, 2, office):
            misplace(letter, field)

    told = rf"{field} .* instead of " if field != "round" else "needs that of round"
    claimed = OTHER["round"] if field == "round" else 2
    with pytest.raises(ProtectionError, match=rf"^round {claimed}, office {office}: .*{told}"):
        stage(PROTECTED[protocol](), look=look).play(2)


@every_strategy
def test_a_message_without_its_place_is_refused(protocol: str) -> None:
    def look(letter: Letter) -> None:
        if letter.is_("down", "train", 2, 1):
            del letter.config[f"{PREFIX}run"]

    with pytest.raises(ProtectionError, match=r"^round 2, office 1: the message's context has run = None; expected str"):
        stage(PROTECTED[protocol](), look=look).play(2)


# --- The office that sends something bad


def payload(change: Callable[[Any], Any], name: str = "payload") -> Callable[[Letter], None]:
    return lambda letter: letter.put(**{name: change(letter.copy()[name])})


def without(part: str, record: str = "arrays") -> Callable[[Letter], None]:
    def spoil(letter: Letter) -> None:
        del letter.content[record][part]

    return spoil


def no_record(name: str) -> Callable[[Letter], None]:
    def spoil(letter: Letter) -> None:
        del letter.content[name]

    return spoil


def unreadable(letter: Letter) -> None:
    array = letter.arrays["payload"]
    letter.arrays["payload"] = Array(dtype="uint8", shape=array.shape, stype="numpy.ndarray", data=b"no array")


SPOILT: dict[str, tuple[Callable[[Letter], None], str]] = {
    "too short": (payload(lambda array: array[:-1]), "found"),
    "too long": (payload(lambda array: np.concatenate([array, array[:1]])), "found"),
    "empty": (payload(lambda array: array[:0]), "found"),
    "of another shape": (payload(lambda array: array[None]), "found"),
    "a number": (payload(lambda array: array.reshape(-1)[0]), "found"),
    "floats": (payload(lambda array: array.astype(np.float32)), "float32"),
    "signed": (payload(lambda array: array.astype(np.int8)), "int8"),
    "not to be read": (unreadable, "its array payload cannot be read"),
    "without payload": (without("payload"), r"holds \['note'\]; expected payload and note"),
    "without note": (without("note"), r"holds \['payload'\]; expected payload and note"),
    "a longer note": (payload(lambda array: np.append(array, np.uint8(1)), "note"), "found"),
    "a note of another shape": (payload(lambda array: array[None], "note"), "found"),
    "a note of floats": (payload(lambda array: array.astype(np.float32), "note"), "float32"),
    "without arrays": (no_record("arrays"), r"holds \['config'\]; expected config and arrays"),
    "without config": (no_record("config"), r"holds \['arrays'\]; expected config and arrays"),
    "nowhere": (without(f"{PREFIX}layout", "config"), "context has layout = None; expected str"),
    "of another kind": (lambda letter: letter.config.update({f"{PREFIX}bits": "16"}), "bits = '16'; expected int"),
}
SPOILT |= {
    f"of another {field}": (lambda letter, field=field: misplace(letter, field), f"{field} .* instead of")  # type: ignore[misc]
    for field in FIELDS
}


def spoiling(spoil: Callable[[Letter], None], *offices: int, kind: str = "train") -> Callable[[Letter], None]:
    def look(letter: Letter) -> None:
        if letter.is_("up", kind, 2) and letter.office in offices:
            spoil(letter)

    return look


@every_strategy
@pytest.mark.parametrize("how", SPOILT)
def test_a_bad_update_is_left_out_as_if_its_office_had_vanished(
    protocol: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    strategy, (spoil, cause) = PROTECTED[protocol](rounding="feedback"), SPOILT[how]
    with caplog.at_level(logging.WARNING):
        record, model = result(strategy, look=spoiling(spoil, 1))
    assert (record.status, record.filtered) == ("ok", True)
    assert [office.rejected for office in record.offices] == [0, 1, 0, 0]
    assert [text for text in caplog.messages if text.startswith("round 2, office 1: ")]
    assert re.search(cause, caplog.text), caplog.text
    gone, without_it = result(strategy, dropout="drop(schedule=[[2, 1, update]])")
    assert (gone.filtered, gone.rounds) == (False, record.rounds)
    assert np.array_equal(model, without_it)


@every_strategy
def test_the_lowest_office_may_be_the_bad_one(protocol: str) -> None:
    record, model = result(PROTECTED[protocol](), look=spoiling(SPOILT["too short"][0], 0))
    gone, without_it = result(PROTECTED[protocol](), dropout="drop(schedule=[[2, 0, update]])")
    assert [office.rejected for office in record.offices] == [1, 0, 0, 0]
    assert record.rounds == gone.rounds
    assert np.array_equal(model, without_it)


@every_strategy
def test_with_too_few_left_the_run_fails(protocol: str) -> None:
    with pytest.raises(RuntimeError, match=r"round 2: updates of 2 offices are left, \[2, 3\]; a sum takes at least 3"):
        result(PROTECTED[protocol](), look=spoiling(SPOILT["too short"][0], 0, 1))


@every_strategy
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_office_whose_update_is_not_finite_sends_none(
    protocol: str, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    sent = []

    def train(office: int, round_: int, update: Any) -> Any:
        return np.where(np.arange(update.w.size) == 5, value, update.w) if (office, round_) == (1, 2) else update.w

    def look(letter: Letter) -> None:
        if letter.is_("up", "train", 2, 1):
            sent.append((sorted(letter.arrays), letter.config["abstains"]))

    record, model = result(PROTECTED[protocol](bits=12), train=train, look=look)
    assert sent == [([], True)]
    assert (record.status, record.filtered) == ("ok", True)
    assert [office.rejected for office in record.offices] == [0, 1, 0, 0]
    assert "round 2, client 1: its update is not finite" in caplog.text
    assert record.protection is not None
    assert record.protection["error"] <= record.protection["error_bound"]
    gone, without_it = result(PROTECTED[protocol](bits=12), dropout="drop(schedule=[[2, 1, update]])")
    assert record.rounds == gone.rounds
    assert np.array_equal(model, without_it)


@every_strategy
def test_if_nobodys_update_is_finite_the_run_diverges(protocol: str) -> None:
    def train(office: int, round_: int, update: Any) -> Any:
        return update.w * (np.nan if round_ == 3 else 1)

    record, _ = result(PROTECTED[protocol](), train=train, rounds=5)
    assert (record.status, record.error) == ("diverged", "round 3: no client's update is finite")
    assert len(record.rounds) == 2
    assert record.final is None


@every_strategy
def test_one_that_is_huge_and_finite_is_clipped(protocol: str) -> None:
    record, model = result(PROTECTED[protocol](clip=0.5), train=lambda office, round_, update: update.w * 1e30)
    assert record.status == "ok"
    assert record.cost.clipped > 0
    assert np.isfinite(model).all()


@every_strategy
def test_two_offices_only_where_it_is_asked_for(protocol: str) -> None:
    two = {"clients": 2, "partition": "sizes([.7, .3])"}
    try:
        strategy = PROTECTED[protocol](min_offices=2, allow_two=True)
    except StrategyError as error:
        assert protocol == "secagg", error  # noqa: PT017
        return
    ours, model = result(strategy, **two)
    theirs, twin = result(twin_of(strategy), NONE, **two)
    assert told(ours) == told(theirs)
    assert np.array_equal(model, twin)


# --- Before the first round


@every_strategy
@pytest.mark.parametrize(("field", "value"), [("run", "another"), ("layout", "0"), ("key_id", "0"), ("bits", 17)])
def test_an_office_that_does_not_fit_the_others_ends_the_set_up(protocol: str, field: str, value: Any) -> None:
    def look(letter: Letter) -> None:
        if not letter.down and letter.kind == "query" and letter.round == 0 and letter.office == 2:
            letter.config[PREFIX + field] = value

    with pytest.raises(ProtectionError, match=f"office 2 does not fit office 0: the message is of {field}"):
        stage(PROTECTED[protocol](), look=look).play(1)


@every_strategy
def test_a_model_of_another_length_ends_the_set_up(protocol: str) -> None:
    def look(letter: Letter) -> None:
        if not letter.down and "count" in letter.config and letter.office == 2:
            letter.config["count"] = 84

    with pytest.raises(ProtectionError, match="office 2 has 84 weights, office 0 83"):
        stage(PROTECTED[protocol](), look=look).play(1)


@every_strategy
@pytest.mark.parametrize(
    "change",
    [
        lambda weights: [weights[0], weights[1] + 1, *weights[2:]],
        lambda weights: weights[:3],
        lambda weights: [*weights, 1.0],
        lambda weights: [*weights[:3], float("inf")],
        lambda weights: [*weights[:3], float("nan")],
        lambda weights: [*weights[:3], -1.0],
        lambda weights: [*weights[:3], 0.0],
    ],
)
def test_an_office_takes_no_weights_that_cannot_be(protocol: str, change: Any) -> None:
    def look(letter: Letter) -> None:
        if letter.down and "weights" in letter.config and letter.office == 1:
            letter.config["weights"] = change(list(letter.config["weights"]))  # type: ignore[arg-type]

    with pytest.raises(
        ProtectionError, match=r"round 0, office 1: it counts \d+ and is one of 4 offices; the server's"
    ):
        stage(PROTECTED[protocol](), look=look).play(1)


# --- secagg's own phases

ANSWERS = {
    "keys": payload(lambda array: array[:-1], "advert"),
    "shares": payload(lambda array: array[:-1], "letters"),
    "unmask": payload(lambda array: array[:-1], "revealed"),
}


@pytest.mark.parametrize("phase", ANSWERS)
@pytest.mark.parametrize("missing", [False, True])
def test_an_office_whose_answer_is_bad_is_left_out_from_there(
    phase: str, missing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = PROTECTED["secagg"]()
    name = {"keys": "advert", "shares": "letters", "unmask": "revealed"}[phase]

    def look(letter: Letter) -> None:
        if letter.is_("up", "query", 1, 1) and name in letter.arrays and (phase != "keys" or len(letter.arrays) == 1):
            if missing:
                del letter.arrays[name]
            else:
                ANSWERS[phase](letter)

    record, model = result(strategy, look=look)
    assert (record.status, record.filtered) == ("ok", True)
    assert [office.rejected for office in record.offices] == [0, 1, 0, 0]
    assert "round 1, office 1: " in caplog.text
    gone, without_it = result(strategy, dropout=f"drop(schedule=[[1, 1, {phase}]])")
    assert record.rounds == gone.rounds
    assert np.array_equal(model, without_it)


@pytest.mark.parametrize("part", ["adverts", "letters", "letters-of", "answered"])
def test_an_office_takes_no_incomplete_request(part: str) -> None:
    def look(letter: Letter) -> None:
        if letter.down and letter.round == 1 and letter.office == 1 and part in letter.arrays:
            del letter.arrays[part]

    with pytest.raises(ProtectionError, match=r"^round 1, office 1: "):
        stage(PROTECTED["secagg"](), look=look).play(1)


def test_an_evaluation_that_is_not_one_is_told() -> None:
    for spoil, cause in [
        (without("state"), "expected figures and a sealed model"),
        (no_record("metrics"), "expected figures and a sealed model"),
        (lambda letter: misplace(letter, "key_id"), "key_id"),
    ]:
        with pytest.raises(RuntimeError, match=f"round 2, office 0: .*{cause}"):
            result(PROTECTED["masked_sum"](), look=spoiling(spoil, 0, kind="evaluate"))
