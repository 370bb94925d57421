"""Offices that vanish in the middle of a round: who, when, and what the others make of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments.config.errors import UserError
from experiments.config.notation import canonical
from experiments.config.spec import RunSpec
from experiments.engines import inprocess
from experiments.federation.describe import describe
from experiments.federation.dropout import PHASES, Drop
from experiments.federation.run import attempt, deal_rows, run, run_models, set_up
from experiments.federation.transport import OrderedGrid
from experiments.sweep.plan import check, load_data
from tests.experiments.problems import problem
from tests.strategies.protection.key_files import PROTECTED
from tests.strategies.protection.stages import Letter, case, result


def drop(text: str) -> Any:
    return RunSpec.from_options({"dropout": text}).dropout


def test_it_is_written_like_everything_else() -> None:
    assert drop("drop(rate=0.1, phase=update)") == drop("drop(0.1)") == Drop(0.1)
    assert canonical(drop("drop(0.1)")) == "drop(rate=0.1)"
    assert canonical(drop("drop(rate=0.25, phase=unmask)")) == "drop(phase=unmask, rate=0.25)"
    scheduled = "drop(schedule=[[2, 0, update], [3, 1, unmask]])"
    assert canonical(drop(scheduled)) == scheduled
    assert drop(scheduled) == Drop(schedule=((2, 0, "update"), (3, 1, "unmask")))
    assert drop("none") is None
    assert RunSpec.from_options({}).dropout is None


def test_none_leaves_the_hash_of_a_run_alone() -> None:
    bare, none, some = (
        RunSpec.from_options(options) for options in ({}, {"dropout": "none"}, {"dropout": "drop(0.1)"})
    )
    assert bare.run_id == none.run_id != some.run_id
    assert "dropout" not in bare.canonical_json()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("drop", "a rate above 0 or a schedule, and not both"),
        ("drop(rate=0)", "a rate above 0 or a schedule, and not both"),
        ("drop(rate=0.1, schedule=[[1, 0, update]])", "a rate above 0 or a schedule, and not both"),
        ("drop(rate=1)", r"rate must be in \[0, 1\); found 1"),
        ("drop(rate=-0.1)", r"rate must be in \[0, 1\); found -0.1"),
        ("drop(rate=0.1, phase=evaluate)", "phase must be one of keys, shares, update, unmask; found 'evaluate'"),
        ("drop(schedule=[[1, 0, train]])", "phase must be one of keys, shares, update, unmask; found 'train'"),
        ("drop(schedule=[1, 0, update])", r"schedule must be a list of \[round, office, phase\]; found 1"),
        ("drop(schedule=[[1, update]])", r"a list of \[round, office, phase\]; found \(1, 'update'\)"),
        ("drop(schedule=[[1, ONS, update]])", r"a list of \[round, office, phase\]"),
        ("vanish(rate=0.1)", "unknown dropout 'vanish'"),
    ],
)
def test_mistakes_are_told(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        drop(text)


def test_phases_offices_and_rounds_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UserError, match="dropout at unmask: this strategy's rounds have update alone"):
        Drop(0.1, "unmask").check(("update",), 4, 10)
    with pytest.raises(UserError, match="dropout at keys, shares: this strategy's rounds have update alone"):
        Drop(schedule=((1, 0, "shares"), (1, 1, "keys"))).check(("update",), 4, 10)
    for round_, office in ((0, 0), (11, 0), (1, 4), (1, -1)):
        with pytest.raises(UserError, match=f"names round {round_} and office {office}; expected rounds 1 to 10"):
            Drop(schedule=((round_, office, "update"),)).check(("update",), 4, 10)
    Drop(schedule=((10, 3, "unmask"),)).check(PHASES, 4, 10)


def test_a_plan_checks_it() -> None:
    options = {
        "dataset": "watch",
        "strategy": "masked_sum",
        "dropout": "drop(rate=0.1, phase=unmask)",
        "min_examples": 8,
    }
    with pytest.raises(UserError, match="dropout at unmask: this strategy's rounds have update alone"):
        check(load_data([RunSpec.from_options(options)], None, may_fall_back=False))
    check(load_data([RunSpec.from_options({**options, "strategy": "secagg"})], None, may_fall_back=False))


@pytest.mark.parametrize("name", PROTECTED)
def test_every_protocols_phases_are_phases_in_their_order(name: str) -> None:
    phases = PROTECTED[name].phases
    assert list(phases) == [phase for phase in PHASES if phase in phases]


def test_who_vanishes_is_drawn_by_seed_round_and_office_alone() -> None:
    """So the same offices vanish whoever else is asked, at whatever phase, under whatever strategy."""
    one = Drop(0.3)
    for round_ in range(1, 20):
        everyone = one.vanishing(7, round_, range(10))
        assert one.vanishing(7, round_, range(10)) == everyone
        assert one.vanishing(7, round_, [2, 5]) == {k: phase for k, phase in everyone.items() if k in (2, 5)}
        assert Drop(0.3, "keys").vanishing(7, round_, range(10)) == dict.fromkeys(everyone, "keys")
        assert set(one.vanishing(7, round_, range(10))) <= set(Drop(0.6).vanishing(7, round_, range(10)))
    drawn = {tuple(one.vanishing(seed, round_, range(10))) for seed in range(5) for round_ in range(5)}
    assert len(drawn) > 15


def test_so_many_vanish_as_the_rate_says() -> None:
    found = sum(len(Drop(0.2).vanishing(seed, round_, range(20))) for seed in range(20) for round_ in range(20))
    assert abs(found / 8000 - 0.2) < 5 * (0.2 * 0.8 / 8000) ** 0.5


def test_a_schedule_is_exact() -> None:
    scheduled = Drop(schedule=((2, 0, "update"), (2, 3, "unmask"), (5, 1, "keys")))
    assert [scheduled.vanishing(0, round_, range(4)) for round_ in range(1, 6)] == [
        {},
        {0: "update", 3: "unmask"},
        {},
        {},
        {1: "keys"},
    ]
    assert scheduled.vanishing(0, 2, [1, 3]) == {3: "unmask"}
    assert scheduled.phases == {"update", "unmask", "keys"}


# --- In a run


def test_a_plain_strategy_means_those_who_answered() -> None:
    options = {"rounds": 1, "partition": "sizes([.55, .25, .15, .05])"}
    spec, data = problem(dropout="drop(schedule=[[1, 1, update]])", **options)
    record, model = run_models(spec, data)
    sides, answered = set_up(spec, data, deal_rows(spec, data)), [0, 2, 3]
    jobs = [sides.clients.received({"w": sides.server.first}, 1, office).job() for office in answered]
    trained = sides.clients.start().trainer.train(jobs, answered)
    sizes = [update.num_examples for update in trained]
    mean = sum(size / sum(sizes) * update.w.astype(float) for size, update in zip(sizes, trained, strict=True))
    assert model is not None
    np.testing.assert_allclose(model[0], mean, rtol=1e-5, atol=1e-7)
    assert not record.filtered
    assert [office.rejected for office in record.offices] == [0, 0, 0, 0]
    assert [office.dropped for office in record.offices] == [0, 1, 0, 0]
    assert "offices that vanished, in 1 round: 1 (ISTAT 1)" in describe(record)
    assert [office.bytes_up > 0 for office in record.offices] == [True, False, True, True]
    assert [office.bytes_down > 0 for office in record.offices] == [True, False, True, True], "nobody was there to read"


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "local", "flower(path=flwr.serverapp.strategy.FedMedian)"])
def test_plain_strategies_repeat_under_dropout(strategy: str) -> None:
    options = {"strategy": strategy, "dropout": "drop(rate=0.4)", "rounds": 4, "seed": 3}
    one, two, whole = (
        run(*problem(**options)),
        run(*problem(**options)),
        run(*problem(**{**options, "dropout": "none"})),
    )
    assert one.status == "ok", one.error
    assert (one.rounds, one.final) == (two.rounds, two.final)
    assert one.rounds != whole.rounds


def test_an_office_that_was_away_is_back_in_the_next_round() -> None:
    asked = []

    def look(letter: Letter) -> None:
        if letter.down and letter.kind == "train":
            asked.append((letter.round, letter.office))

    result(PROTECTED["masked_sum"](), look=look, dropout="drop(schedule=[[2, 1, update], [3, 2, update]])")
    assert sorted(asked) == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 2), (2, 3), (3, 0), (3, 1), (3, 3)]


@pytest.mark.parametrize("phase", PHASES)
def test_after_its_phase_an_office_reads_nothing_more(phase: str) -> None:
    """And before it, everything: secagg's messages of a round, to an office that vanishes."""
    read = []

    def look(letter: Letter) -> None:
        if letter.down and letter.office == 2 and letter.round == 1 and letter.kind != "evaluate":
            read.append(letter.config["phase"])

    record, _ = result(PROTECTED["secagg"](), look=look, rounds=1, dropout=f"drop(schedule=[[1, 2, {phase}]])")
    assert [office.dropped for office in record.offices] == [0, 0, 1, 0], "once, whatever it missed"
    assert read == list(PHASES[: PHASES.index(phase)])


@pytest.mark.parametrize("strategy", ["fedavg", "quantised"])
def test_if_all_vanish_the_run_fails_and_says_so(strategy: str) -> None:
    schedule = ", ".join(f"[2, {office}, update]" for office in range(4))
    record, _ = attempt(*problem(strategy=strategy, dropout=f"drop(schedule=[{schedule}])"))
    assert record.status == "failed"
    assert "round 2: every client has vanished" in str(record.error)


@pytest.mark.parametrize("name", PROTECTED)
def test_if_too_few_are_left_the_run_fails_and_says_so(name: str) -> None:
    strategy = PROTECTED[name]()
    for phase in strategy.phases:
        for measured in (None, frozenset[int]()):
            with pytest.raises((RuntimeError, ValueError), match=r"round 2.* 2 (of 4 )?offices") as failure:
                result(strategy, measured, dropout=f"drop(schedule=[[2, 0, {phase}], [2, 3, {phase}]])")
            assert "[1, 2]" in str(failure.value)


def test_a_query_that_nobody_is_left_to_read_is_not_the_end_of_a_round() -> None:
    """Of a phase that asks a few; the messages that train are another matter."""
    spec, data = case(PROTECTED["quantised"]())
    inner, _ = inprocess.connect(set_up(spec, data, deal_rows(spec, data)).clients, 4)
    gone = Drop(schedule=((1, 1, "keys"),))
    grid = OrderedGrid(inner, [1, 2, 3, 4], 0, 4, True, dropout=gone, protected=True)
    from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

    def message(kind: str, phase: str) -> Message:
        content = RecordDict({"config": ConfigRecord({"phase": phase}), "arrays": ArrayRecord()})
        return Message(content, dst_node_id=2, message_type=kind)

    assert grid.send_and_receive([message("query", "keys")]) == []
    with pytest.raises(RuntimeError, match="round 1: every client has vanished"):
        grid.send_and_receive([message("train", "update")])
    assert len(grid.send_and_receive([message("query", "join")])) == 1, "a phase before the rounds is not one of theirs"
