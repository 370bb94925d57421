"""What a record says protection cost: of the rounds that were computed in earnest, and of no other."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from experiments.config.spec import STRATEGIES
from experiments.engines import inprocess
from experiments.federation.rounds import Outcome
from experiments.federation.run import deal_rows, run, set_up
from results.record import RunRecord
from strategies.protection.base import Protected
from strategies.protection.keys import Keys
from strategies.protection.vault import make_vault
from tests.experiments.problems import problem

ROUNDS, OFFICES, NONCE = 3, 4, 12
WEIGHTS, LAYERS = 6 * 8 + 8 + 8 * 3 + 3, 2


def keys(*measured: int) -> Keys:
    return Keys(make_vault({}), frozenset(measured))


def outcome(lent: Keys, strategy: str = "masked_sum", **options: Any) -> Outcome:
    spec, data = problem(strategy=strategy, rounds=ROUNDS, **options)
    sides = set_up(spec, data, deal_rows(spec, data), keys=lent)
    return inprocess.run(sides.server, sides.clients, len(sides.clients.workloads))


def made(lent: Keys, strategy: str = "masked_sum") -> RunRecord:
    spec, data = problem(strategy=strategy, rounds=ROUNDS)
    return run(spec, data, keys=lent)


def protection(record: RunRecord) -> dict[str, Any]:
    assert record.protection is not None
    found: dict[str, Any] = msgspec.to_builtins(record.protection)
    return found


@pytest.mark.parametrize("strategy", ["quantised", "masked_sum", "secagg"])
def test_rounds_and_set_up_have_all_bytes_between_them(strategy: str) -> None:
    found = outcome(Keys(make_vault({})), strategy)
    for way, by_office in (("up", found.bytes_up), ("down", found.bytes_down)):
        rounds = {round_: size for (to, round_), size in found.bytes_by_round.items() if to == way}
        assert set(rounds) == set(range(ROUNDS + 1))
        assert sum(rounds.values()) == sum(by_office)


def test_a_measured_round_has_its_own_bytes_wherever_they_travel() -> None:
    clear, sampled = (outcome(lent).bytes_by_round for lent in (keys(), keys(2)))
    differs = {place: sampled[place] - clear[place] for place in clear if sampled[place] != clear[place]}
    # Each office sends a nonce; the sum takes all four to every office, in round 2 to the one that scores and with the
    # messages of round 3 to the others, and no longer says with one byte that it is in clear.
    assert differs == {("up", 2): OFFICES * NONCE, ("down", 2): OFFICES * (OFFICES * NONCE - 1)}


def test_a_protected_round_sends_an_update_from_and_a_sum_to_every_office() -> None:
    found = outcome(Keys(make_vault({}))).bytes_by_round
    slots = 2 * (WEIGHTS + LAYERS * 3) + 8  # 16 bits each, of which three follow a layer's clip, and 64 to check
    up = {found["up", round_] for round_ in range(1, ROUNDS + 1)}
    assert len(up) == 1
    state = up.pop() - OFFICES * (slots + NONCE)  # the sealed model, for whoever comes back
    assert 4 * WEIGHTS < state < 4 * WEIGHTS + 500
    assert found["down", 2] == OFFICES * (slots + OFFICES * NONCE + OFFICES * 8)  # nonces and numbers of contributors


def test_plain_runs_count_no_rounds() -> None:
    assert not outcome(Keys(), "fedavg").bytes_by_round


def test_the_record_has_the_costs_of_measured_rounds_alone() -> None:
    none, one, every = made(keys()), made(keys(2)), made(Keys(make_vault({})))
    assert [protection(record)["measured_rounds"] for record in (none, one, every)] == [0, 1, ROUNDS]
    for name in ("measured_bytes_up", "measured_bytes_down"):
        assert protection(none)[name] == 0
        assert 0 < protection(one)[name] < protection(every)[name]
    for name in ("encrypt_s", "add_s", "decrypt_s", "critical_s"):
        assert getattr(none.cost, name) == 0
        assert getattr(one.cost, name) > 0
        assert getattr(every.cost, name) > 0
    assert none.cost.encrypted_share == 0 < one.cost.encrypted_share
    assert none.rounds == one.rounds == every.rounds, "no figure tells what was measured"
    assert protection(none)["error"] == protection(one)["error"] == protection(every)["error"] > 0
    assert none.cost.train_s > 0


def test_the_bytes_of_sampled_rounds_are_those_of_a_run_that_measures_all() -> None:
    assert outcome(keys(2)).bytes_by_round["up", 2] == outcome(Keys(make_vault({}))).bytes_by_round["up", 2]


def test_the_record_says_who_learns_what() -> None:
    for name, cls in STRATEGIES.items():
        if issubclass(cls, Protected):
            assert {"server", "office", "server and one office"} <= set(cls.sees), name
    assert protection(made(keys(), "secagg"))["sees"] == {
        "server": "sums, hence the model up to its first weights",
        "office": "model, sums",
        "server and one office": "no single update",
        "server and t offices": "all updates",
    }
