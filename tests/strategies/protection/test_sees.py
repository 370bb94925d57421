"""What the parties of a protocol see: the texts are in stored records, so they are settled here."""

from __future__ import annotations

import pytest

from experiments.config.spec import STRATEGIES
from results.record import encode
from strategies.protection.base import Protected
from strategies.protection.sees import OFFICE, SERVER, WITH_ONE, WITH_T, Sees
from tests.results.builder import record

SHARED = {"server": "nothing of updates, sums, model", "office": "model, sums", "server and one office": "all updates"}
HELD = {  # by protocol, as records have held it since there were any
    "masked_sum": SHARED,
    "paillier": SHARED,
    "bfv": SHARED,
    "ckks": SHARED,
    "secagg": {
        "server": "sums, hence the model up to its first weights",
        "office": "model, sums",
        "server and one office": "no single update",
        "server and t offices": "all updates",
    },
    "quantised": {"server": "updates, sums", "office": "model, sums", "server and one office": "all updates"},
}


def test_the_parties_have_the_names_that_records_hold() -> None:
    assert tuple(HELD["secagg"]) == (SERVER, OFFICE, WITH_ONE, WITH_T)


def test_every_protocol_is_here() -> None:
    assert set(HELD) == {name for name, cls in STRATEGIES.items() if issubclass(cls, Protected)}


@pytest.mark.parametrize("protocol", HELD)
def test_members_have_the_texts_that_records_hold(protocol: str) -> None:
    sees = STRATEGIES[protocol].sees
    assert all(isinstance(member, Sees) for member in sees.values())
    assert {party: member.value for party, member in sees.items()} == HELD[protocol]


def test_no_member_is_without_a_record_that_holds_it() -> None:
    assert {member.value for member in Sees} == {text for held in HELD.values() for text in held.values()}


def test_a_member_says_what_its_text_says() -> None:
    for member in Sees:
        words = member.value.removeprefix("nothing of updates, sums, model").replace("no single update", "sums")
        assert member.updates == ("updates" in words), member
        assert member.sums == ("sums" in words or "updates" in words), member


def test_a_member_is_written_as_its_text() -> None:
    made = record(strategy="secagg", protection=(("sees", STRATEGIES["secagg"].sees),))
    assert b'"server and one office":"no single update"' in encode(made)
