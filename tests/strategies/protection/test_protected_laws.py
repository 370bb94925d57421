"""Every protected strategy is its plain twin, bit for bit: same integers, same sums, whoever could read them."""

from __future__ import annotations

import pickle
from functools import cache
from typing import Any

import numpy as np
import pytest

from experiments.federation.dropout import Drop
from experiments.federation.run import advance, deal_rows, run, set_up
from results.record import RunRecord
from strategies import StrategyError
from strategies.fedavg import FedAvg
from strategies.fedavgm import FedAvgM
from strategies.fedprox import FedProx
from strategies.flower import Flower
from strategies.protection.base import Protected
from strategies.protection.keys import Keys
from strategies.quantised import Quantised
from tests.experiments.toys import Bending, Forgetful, Remembering
from tests.strategies.protection.key_files import OPTIONS, PROTECTED, PROTOCOLS, made, twin_of
from tests.strategies.protection.stages import case, keys_for, result

ALL, ONE, NONE = None, frozenset({2}), frozenset[int]()  # rounds computed in earnest
LATTICES = ("bfv", "ckks")
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
UNEQUAL = {"partition": "sizes([.55, .25, .15, .05])"}
HALF = {"clients": 8, "fraction": 0.5, "rounds": 4}


def told(record: RunRecord) -> object:
    """All of a record that two runs of the same integers share: not seconds, bytes, or who could read them."""
    seen = record.protection
    assert seen is not None
    return (
        (record.status, record.error, record.filtered, record.rounds, record.final, record.partition),
        [(office.name, office.rejected, office.validation_accuracy) for office in record.offices],
        (record.cost.clipped, seen.clipped_share, seen.error, seen.error_bound),
    )


@cache
def plain(strategy: Quantised, options: tuple[tuple[str, Any], ...]) -> tuple[RunRecord, np.ndarray]:
    return result(strategy, NONE, **dict(options))


def assert_twins(strategy: Protected | None, measured: frozenset[int] | None, **options: Any) -> None:
    if strategy is None:
        return
    ours, model = result(strategy, measured, **options)
    theirs, twin = plain(twin_of(strategy), tuple(options.items()))
    assert ours.status == "ok", ours.error
    assert told(ours) == told(theirs)
    assert np.array_equal(model, twin)


GRIDS: list[dict[str, Any]] = [
    {},
    {"bits": 8},
    {"bits": 12},
    {"bits": 12, "rounding": "nearest"},
    {"bits": 12, "rounding": "stochastic"},
    {"bits": 16, "rounding": "feedback"},
    {"bits": 16, "rounding": "stochastic"},
    {"bits": 32},
    {"bits": 16, "clip": 0.01},
    {"bits": 9, "clip": 3},
]


@every_protocol
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_twins_of_every_width_and_rounding(protocol: str, grid: dict[str, Any]) -> None:
    for measured in (ALL, ONE) if grid else (ALL, ONE, NONE):  # with none in earnest, most are one and the same code
        assert_twins(made(protocol, **grid), measured, **UNEQUAL)


INNERS = [FedProx(0.5), FedAvgM(0.9, weighting="uniform"), FedAvg(weighting="batches"), Bending(), Remembering()]


@every_protocol
@pytest.mark.parametrize("inner", INNERS, ids=lambda inner: type(inner).__name__)
def test_twins_whatever_is_inside(protocol: str, inner: FedAvg) -> None:
    """Training, weights and server step, linear or not, are the inner strategy's."""
    for options, measured in (({}, ALL), ({"bits": 12}, ALL), ({"bits": 12}, ONE)):
        assert_twins(made(protocol, inner=inner, **options), measured, **UNEQUAL)


@every_protocol
@pytest.mark.parametrize("rounding", ["nearest", "feedback", "stochastic"])
def test_twins_where_a_part_of_the_offices_is_drawn(protocol: str, rounding: str) -> None:
    for measured in (ALL, ONE, NONE) if rounding == "feedback" else (ALL,):
        assert_twins(made(protocol, bits=12, rounding=rounding, inner=FedAvgM(0.5)), measured, **HALF)


# Office 3 vanishes at each phase; then several in a row, so that keys which came ahead are not used; then its return.
SCHEDULES = [[[1, 3, "{}"]], [[2, 0, "{}"], [4, 0, "{}"]], [[1, 3, "{}"], [2, 3, "{}"], [3, 3, "{}"], [4, 1, "{}"]]]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["first", "lowest", "in a row"])
@pytest.mark.parametrize(
    ("protocol", "measured"),
    [(protocol, measured) for protocol in PROTOCOLS for measured in (ALL, ONE)] + [("secagg", NONE)],
)
def test_twins_with_offices_that_vanish_at_every_phase(protocol: str, schedule: list[Any], measured: Any) -> None:
    strategy = PROTECTED[protocol](inner=FedAvgM(0.5), rounding="feedback")
    for phase in strategy.phases:
        drop = Drop(schedule=tuple((round_, office, phase) for round_, office, _ in schedule))
        drop.check(strategy.phases, 4, 5)
        assert_twins(strategy, measured, dropout=drop_text(drop), rounds=5)


@every_protocol
def test_twins_with_offices_that_vanish_at_phases_in_turn(protocol: str) -> None:
    strategy = PROTECTED[protocol](bits=12)
    first, last = strategy.phases[0], strategy.phases[-1]
    drop = Drop(schedule=((1, 3, last), (2, 3, first), (3, 2, "update"), (4, 2, first), (5, 2, last), (6, 0, "update")))
    for measured in (ALL, ONE):
        assert_twins(strategy, measured, dropout=drop_text(drop), rounds=7)


@every_protocol
@pytest.mark.parametrize("measured", [ALL, ONE], ids=["all", "one"])
def test_twins_with_offices_that_vanish_by_chance(protocol: str, measured: Any) -> None:
    strategy = PROTECTED[protocol](bits=12)
    for phase in strategy.phases:
        options = {"dropout": f"drop(rate=0.15, phase={phase})", "seed": 1, "clients": 8, "rounds": 4}
        vanished = [Drop(0.15, phase).vanishing(1, round_, range(8)) for round_ in range(1, 5)]
        assert sum(map(len, vanished)) >= 2, "somebody vanishes"
        assert max(map(len, vanished)) <= 2, "and six of eight are left, secagg's threshold"
        assert_twins(strategy, measured, **options)


def drop_text(drop: Drop) -> str:
    return f"drop(schedule=[{', '.join(f'[{round_}, {office}, {phase}]' for round_, office, phase in drop.schedule)}])"


def test_the_twins_differ_from_each_other() -> None:
    """Or the tests above could not fail: every option above has bits of its own."""
    models = [plain(Quantised(**grid), tuple(UNEQUAL.items()))[1] for grid in GRIDS]
    models += [plain(Quantised(inner=inner), tuple(UNEQUAL.items()))[1] for inner in INNERS]
    models += [
        plain(Quantised(), (*UNEQUAL.items(), ("dropout", f"drop(schedule=[[{n}, 3, update]])")))[1] for n in (1, 3)
    ]
    assert len({model.tobytes() for model in models}) == len(models)


@pytest.mark.parametrize(
    "protocol", [pytest.param(p, marks=[] if p == "secagg" else pytest.mark.slow) for p in PROTECTED]
)
def test_flowers_simulation_gives_the_same_bits(protocol: str) -> None:
    """Each office's memory goes through Flower's records, and processes share no sum that was opened before."""
    strategy = PROTECTED[protocol](bits=12, inner=FedAvgM(0.5))
    drop = "drop(schedule=[[2, 3, update], [3, 0, update]])"
    here, _ = result(strategy, ALL, dropout=drop, rounds=4)
    there, _ = result(strategy, ALL, dropout=drop, rounds=4, engine="simulation")
    assert (here.status, here.rounds, here.final) == (there.status, there.rounds, there.final)
    assert here.cost.clipped == there.cost.clipped
    up, down = ([getattr(office, name) for office in here.offices] for name in ("bytes_up", "bytes_down"))
    slack = 0.01 if protocol in ("bfv", "ckks") else 0.0  # SEAL packs its random ciphertexts, now tighter and now less
    assert [office.bytes_up for office in there.offices] == pytest.approx(up, rel=slack, abs=0)
    assert [office.bytes_down for office in there.offices] == pytest.approx(down, rel=slack, abs=0)


@pytest.mark.slow
def test_flowers_simulation_without_keys_gives_the_same_bits() -> None:
    spec, data = case(Quantised(bits=12))
    assert run(spec, data).rounds == run(spec, data, "simulation").rounds


@pytest.mark.parametrize("protocol", PROTECTED)
def test_a_run_that_is_stopped_goes_on_with_the_same_bits(protocol: str) -> None:
    strategy = PROTECTED[protocol](bits=12, inner=FedAvgM(0.5))
    spec, data = case(strategy, rounds=6, dropout="drop(schedule=[[2, 3, update], [3, 3, update], [5, 0, update]])")
    whole, start = run(spec, data), None
    for until in (2, 3, 6):
        record, start = advance(spec, data, start, until)
        start = pickle.loads(pickle.dumps(start))
    assert record.status == "ok"
    assert told(record) == told(whole)


@pytest.mark.parametrize("protocol", PROTECTED)
def test_what_a_run_cost_is_in_its_record(protocol: str) -> None:
    strategy = PROTECTED[protocol]()
    record, _ = result(strategy, ALL)
    cost, seen = record.cost, record.protection
    assert seen is not None
    assert min(cost.encrypt_s, cost.add_s, cost.decrypt_s, cost.critical_s) > 0
    assert cost.critical_s <= cost.encrypt_s + cost.add_s + cost.decrypt_s
    assert cost.encrypted_share == (0.0 if protocol == "quantised" else 1.0)
    assert cost.crypto_processes == 1
    assert (seen.protocol, seen.bits, seen.rounding, seen.clip) == (protocol, 16, "nearest", "auto")
    assert (seen.rounds, seen.measured_rounds, seen.min_offices) == (3, 3, 3)
    assert seen.assumption == strategy.assumes
    assert (cost.clipped, seen.clipped_share) == (0, 0.0)
    assert all(office.bytes_up > 0 and office.bytes_down > 0 for office in record.offices)


@pytest.mark.parametrize("protocol", PROTECTED)
def test_a_round_in_clear_costs_nothing(protocol: str) -> None:
    """Seconds are those of the measured rounds alone: the others are not what they would be."""
    strategy = PROTECTED[protocol]()
    none, one = (result(strategy, measured, rounds=5)[0] for measured in (NONE, ONE))
    assert none.cost.encrypt_s == none.cost.add_s == none.cost.decrypt_s == none.cost.critical_s == 0
    assert (none.cost.encrypted_share, none.cost.crypto_processes) == (0.0, 0)
    assert none.cost.train_s > 0
    spec, data = case(strategy, rounds=5)
    sides = set_up(spec, data, deal_rows(spec, data), keys=keys_for(spec, ONE))
    assert sides.server.prepared.server.keywords["measured"] == sides.prepared.protection.keys.measured == ONE
    assert one.cost.encrypt_s > 0
    assert one.protection is not None
    assert one.protection.measured_rounds == 1


@pytest.mark.parametrize("protocol", [name for name in PROTECTED if name != "secagg"])  # whose keys ride ahead
def test_bytes_are_counted_in_the_rounds_that_are_measured(protocol: str) -> None:
    strategy = PROTECTED[protocol]()
    whole = result(strategy, ALL)[0]
    assert whole.protection is not None
    for way in ("up", "down"):
        parts = [
            getattr(result(strategy, frozenset({round_}))[0].protection, f"measured_bytes_{way}")
            for round_ in (1, 2, 3)
        ]
        # a lattice's ciphertexts are not all of one length
        assert sum(parts) == pytest.approx(
            getattr(whole.protection, f"measured_bytes_{way}"), rel=1e-3 if protocol in LATTICES else 0
        )
        slack = 1.001 if protocol in LATTICES else 1
        assert 0 < sum(parts) <= slack * getattr(whole.cost, f"bytes_{way}"), "the set-up is of no round"


@pytest.mark.parametrize("protocol", PROTECTED)
def test_clipped_values_are_counted(protocol: str) -> None:
    strategy = PROTECTED[protocol](clip=1e-4)
    record, _ = result(strategy, NONE)
    seen = record.protection
    assert seen is not None
    assert record.cost.clipped > 500, "of 3 x 4 x 83"
    assert seen.clipped_share == record.cost.clipped / (3 * 4 * 83)
    assert seen.error > seen.error_bound, "which holds where nothing is clipped"


@pytest.mark.parametrize("protocol", PROTECTED)
def test_rounds_in_earnest_want_keys(protocol: str) -> None:
    spec, data = case(PROTECTED[protocol]())
    with pytest.raises(ValueError, match="wants keys"):
        run(spec, data, keys=Keys(measured=frozenset({1})))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"inner": Flower("flwr.serverapp.strategy.FedAvg")}, "Flower cannot be protected: it is not linear"),
    ({"inner": Quantised()}, "inner=Quantised is protected already"),
    ({"inner": Forgetful()}, "Forgetful cannot be protected: it is not linear"),
    ({"inner": "fedavg"}, r"inner must be a strategy, e.g. inner=fedprox\(mu=0.1\); found 'fedavg'"),
    ({"bits": 7}, r"bits must be in \[8, 32\]; found 7"),
    ({"bits": 33}, r"bits must be in \[8, 32\]; found 33"),
    ({"rounding": "up"}, "rounding must be one of auto, nearest, feedback, stochastic; found 'up'"),
    ({"clip": 0}, "clip must be at least 1e-30; found 0.0"),
    ({"clip": float("inf")}, "clip must be at least 1e-30; found inf"),
    ({"clip": True}, "clip must be a number above 0, or auto; found True"),
    ({"clip": "automatic"}, "clip must be a number above 0, or auto; found 'automatic'"),
    ({"min_offices": 2}, "min_offices must be at least 3; found 2"),
    ({"min_offices": 1, "allow_two": True}, "min_offices must be at least 3; found 1"),
]


@pytest.mark.parametrize("protocol", PROTECTED)
@pytest.mark.parametrize(("options", "match"), REFUSED, ids=str)
def test_what_cannot_be_protected_is_refused(protocol: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(StrategyError, match=match):
        PROTECTED[protocol](**options)


@pytest.mark.parametrize("protocol", PROTECTED)
def test_reference_arms_cannot_be_protected(protocol: str) -> None:
    from strategies.centralised import Centralised
    from strategies.local import Local

    for arm in (Local(), Centralised()):
        with pytest.raises(StrategyError, match=f"{type(arm).__name__} cannot be protected: it is not linear"):
            PROTECTED[protocol](inner=arm)


@pytest.mark.parametrize("protocol", PROTECTED)
def test_too_few_offices_and_too_many_for_the_grid_are_refused_before_anything_is_trained(protocol: str) -> None:
    two = "" if protocol == "secagg" else ".*allow_two=true"  # of two, secagg would hide nothing
    for options, match in [
        ({"clients": 2}, "at least 3 offices in a round; 2 of 2 take part" + two),
        ({"clients": 1}, "at least 3 offices in a round; 1 of 1 take part"),
        ({"clients": 8, "fraction": 0.25}, "2 of 8 take part. Set more --clients or --fraction"),
    ]:
        spec, data = case(PROTECTED[protocol](), **options)
        with pytest.raises(StrategyError, match=match):
            run(spec, data)
    strategy = made(protocol, bits=8)
    if strategy is not None:
        spec, data = case(strategy, clients=9, min_examples=1)
        with pytest.raises(StrategyError, match="8 bits carry sums of 1 to 8 offices; found 9"):
            run(spec, data)


@pytest.mark.parametrize("protocol", PROTECTED)
def test_a_protected_strategy_says_what_it_is(protocol: str) -> None:
    cls = PROTECTED[protocol]
    assert {"server", "office", "server and one office"} <= set(cls.sees)
    assert all(cls.sees.values())
    assert len(cls().assumes) > 10
    assert "update" in cls.phases
    assert set(OPTIONS) <= set(cls.__dataclass_fields__)
    assert cls.encrypted_share == (0.0 if cls is Quantised else 1.0)
    assert cls().protected, "it is not to be protected twice"
    assert cls(clip=1) == cls(clip=1.0)
    assert (cls().rounds_by, cls(bits=16, rounding="feedback").rounds_by) == ("nearest", "feedback")
