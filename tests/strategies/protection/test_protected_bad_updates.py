"""What the server refuses under protection: one office's bad update, and set-ups that do not fit.

It counts and names what it leaves out, and the run goes on as if that office had vanished, while enough are left.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from flwr.app import Array
from numpy.typing import NDArray

from results.record import RunRecord
from strategies import StrategyError
from strategies.crypto.streams import ProtectionError
from strategies.protection.context import PREFIX
from tests.strategies.protection.key_files import PROTECTED, twin_of
from tests.strategies.protection.stages import Letter, result, stage
from tests.strategies.protection.test_protected_laws import NONE, told
from tests.strategies.protection.test_protected_refusals import ANY, FIELDS, every_strategy, misplace


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


def misplaced(field: str) -> Callable[[Letter], None]:
    return lambda letter: misplace(letter, field)


def unreadable(letter: Letter) -> None:
    array = letter.arrays["payload"]
    letter.arrays["payload"] = Array(dtype="uint8", shape=array.shape, stype="numpy.ndarray", data=b"no array")


SPOILT: dict[str, tuple[Callable[[Letter], None], str]] = {
    "too short": (payload(lambda array: array[:-1]), "found|payload has"),
    "too long": (payload(lambda array: np.concatenate([array, array[:1]])), "found|payload has"),
    "empty": (payload(lambda array: array[:0]), "found"),
    "of another shape": (payload(lambda array: array[None]), "found"),
    "a number": (payload(lambda array: array.reshape(-1)[0]), "found"),
    "floats": (payload(lambda array: array.astype(np.float32)), "float32"),
    "signed": (payload(lambda array: array.astype(np.int8)), "int8"),
}
MALFORMED: dict[str, tuple[Callable[[Letter], None], str]] = {
    "a note of floats": (payload(lambda array: array.astype(np.float32), "note"), "float32"),
    "a note of another shape": (payload(lambda array: array[None], "note"), "found"),
    "a longer note": (payload(lambda array: np.append(array, np.uint8(1)), "note"), "found"),
    "without note": (without("note"), r"holds \['payload'\]; expected payload and note"),
    "without payload": (without("payload"), r"holds \['note'\]; expected payload and note"),
    "not to be read": (unreadable, "its arrays cannot be read"),
    "without arrays": (no_record("arrays"), r"its message holds nothing; expected payload and note"),
    "without config": (no_record("config"), r"its message holds no config; expected config and arrays"),
    "nowhere": (without(f"{PREFIX}layout", "config"), "context has layout = None; expected str"),
    "of another kind": (lambda letter: letter.config.update({f"{PREFIX}bits": "16"}), "bits = '16'; expected int"),
}
MISPLACED = {f"of another {field}": (misplaced(field), f"{field} .* instead of") for field in FIELDS}


def spoiling(spoil: Callable[[Letter], None], *offices: int, kind: str = "train") -> Callable[[Letter], None]:
    def look(letter: Letter) -> None:
        if letter.is_("up", kind, 2) and letter.office in offices:
            spoil(letter)

    return look


@cache
def gone(protocol: str, office: int, **options: Any) -> tuple[RunRecord, NDArray[np.float32]]:
    """The run in which this office vanishes in round 2."""
    return result(PROTECTED[protocol](**options), dropout=f"drop(schedule=[[2, {office}, update]])")


@pytest.mark.parametrize(
    ("protocol", "how"),
    [(protocol, how) for protocol in PROTECTED for how in SPOILT] + [(ANY, how) for how in (*MISPLACED, *MALFORMED)],
)  # the latter before any protocol has a part in it
def test_a_bad_update_is_left_out_as_if_its_office_had_vanished(
    protocol: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, cause = (SPOILT | MISPLACED | MALFORMED)[how]
    strategy = PROTECTED[protocol](rounding="feedback")
    with caplog.at_level(logging.WARNING):
        record, model = result(strategy, look=spoiling(spoil, 1))
    assert (record.status, record.filtered) == ("ok", True)
    assert [office.rejected for office in record.offices] == [0, 1, 0, 0]
    assert [text for text in caplog.messages if text.startswith("round 2, office 1: ")]
    assert re.search(cause, caplog.text), caplog.text
    other, without_it = gone(protocol, 1, rounding="feedback")
    assert (other.filtered, other.rounds) == (False, record.rounds)
    assert np.array_equal(model, without_it)


@every_strategy
def test_the_lowest_office_may_be_the_bad_one(protocol: str) -> None:
    record, model = result(PROTECTED[protocol](), look=spoiling(SPOILT["too short"][0], 0))
    other, without_it = gone(protocol, 0)
    assert [office.rejected for office in record.offices] == [1, 0, 0, 0]
    assert record.rounds == other.rounds
    assert np.array_equal(model, without_it)


@every_strategy
def test_with_too_few_left_the_run_fails(protocol: str) -> None:
    with pytest.raises(
        ProtectionError, match=r"round 2: updates of 2 offices are left, \[2, 3\]; a sum takes at least 3"
    ):
        result(PROTECTED[protocol](), look=spoiling(SPOILT["too short"][0], 0, 1))


@pytest.mark.parametrize(
    ("protocol", "value"), [*((protocol, np.nan) for protocol in PROTECTED), (ANY, np.inf), (ANY, -np.inf)]
)
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
    assert record.protection.error <= record.protection.error_bound
    other, without_it = gone(protocol, 1, bits=12)
    assert record.rounds == other.rounds
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


@pytest.mark.parametrize(("field", "value"), [("run", "another"), ("layout", "0"), ("key_id", "0"), ("bits", 17)])
def test_an_office_that_does_not_fit_the_others_ends_the_set_up(field: str, value: Any) -> None:
    def look(letter: Letter) -> None:
        if not letter.down and letter.kind == "query" and letter.round == 0 and letter.office == 2:
            letter.config[PREFIX + field] = value

    with pytest.raises(ProtectionError, match=f"office 2 does not fit office 0: the message is of {field}"):
        stage(PROTECTED[ANY](), look=look).play(1)


def test_a_model_of_another_length_ends_the_set_up() -> None:
    def look(letter: Letter) -> None:
        if not letter.down and "count" in letter.config and letter.office == 2:
            letter.config["count"] = 84

    with pytest.raises(ProtectionError, match="office 2 sends 84 numbers, office 0 89"):
        stage(PROTECTED[ANY](), look=look).play(1)


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
def test_an_office_takes_no_weights_that_cannot_be(change: Any) -> None:
    def look(letter: Letter) -> None:
        if letter.down and "weights" in letter.config and letter.office == 1:
            letter.config["weights"] = change(list(letter.config["weights"]))  # type: ignore[arg-type]

    with pytest.raises(
        ProtectionError, match=r"round 0, office 1: it counts \d+ and is one of 4 offices; the server's"
    ):
        stage(PROTECTED[ANY](), look=look).play(1)


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
    other, without_it = result(strategy, dropout=f"drop(schedule=[[1, 1, {phase}]])")
    assert record.rounds == other.rounds
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
        with pytest.raises(ProtectionError, match=f"round 2, office 0: .*{cause}"):
            result(PROTECTED[ANY](), look=spoiling(spoil, 0, kind="evaluate"))
