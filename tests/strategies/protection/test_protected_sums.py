"""What a protected round sums: against the float strategy, and against a loop over offices with Python's integers.

The reference trains with the run's own trainer and does the rest anew: clip, round, sum, open, step. It has the
catching up and the feedback of offices that vanish, whose model must be that of the others bit for bit.
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from experiments.federation.run import deal_rows, first_weights, run_models, set_up
from strategies.base import Federation, Round
from strategies.base import Letter as Told
from strategies.crypto.masking import Slots, add_packed, pack, unpack
from strategies.fedavg import FedAvg
from strategies.fedavgm import FedAvgM
from strategies.fedprox import FedProx
from strategies.protection.base import Protected
from strategies.protection.protocol import Form
from strategies.protection.server import ProtectedServer
from strategies.quantised import Quantised
from tests.experiments.toys import Bending
from tests.strategies.crypto.committed_test_primes import committed_key
from tests.strategies.protection.key_files import PROTECTED, PROTOCOLS, vault_for
from tests.strategies.protection.slots import add, integers
from tests.strategies.protection.stages import Letter, case, result, stage
from tests.strategies.protection.test_protected_laws import NONE

UNEQUAL = {"partition": "sizes([.55, .25, .15, .05])"}


# --- Against the float strategy

INNERS = [FedAvg(), FedAvg(weighting="uniform"), FedAvg(weighting="batches"), FedAvgM(0.9, 0.7), FedProx(0.5)]


@pytest.mark.parametrize("bits", [8, 12, 16, 24, 32])
@pytest.mark.parametrize("inner", INNERS, ids=repr)
def test_one_round_is_the_float_strategys_to_the_bound(inner: FedAvg, bits: int) -> None:
    ours, model = result(Quantised(inner=inner, bits=bits), NONE, rounds=1, **UNEQUAL)
    plain, floats = run_models(*case(inner, rounds=1, **UNEQUAL))
    assert floats is not None
    seen, server_lr = ours.protection, getattr(inner, "server_lr", 1.0)
    assert seen is not None
    assert ours.cost.clipped == 0
    assert seen.error <= seen.error_bound
    ulp = np.spacing(np.abs(floats).max())  # the float strategy rounds its mean, both round the model
    assert np.abs(model - floats).max() <= server_lr * seen.error_bound + 4 * ulp
    assert bits > 12 or not np.array_equal(model, floats)
    if bits >= 24:
        assert ours.rounds[0].test_accuracy == plain.rounds[0].test_accuracy


@pytest.mark.parametrize("rounding", ["nearest", "feedback", "stochastic"])
@pytest.mark.parametrize("bits", [8, 12, 16, 32])
@pytest.mark.parametrize("clip", ["auto", 2.0])
def test_the_measured_error_keeps_to_the_bound_where_nothing_is_clipped(bits: int, rounding: str, clip: Any) -> None:
    strategy = Quantised(bits=bits, rounding=rounding, clip=clip)
    record, _ = result(strategy, NONE, rounds=6, dropout="drop(schedule=[[2, 0, update], [4, 3, update]])", **UNEQUAL)
    seen = record.protection
    assert seen is not None
    assert clip == "auto" or record.cost.clipped == 0
    assert record.cost.clipped or 0 < seen.error <= seen.error_bound


def test_many_rounds_of_many_bits_end_where_the_float_strategy_ends() -> None:
    for inner in (FedAvg(), FedAvgM(0.9), Bending()):
        ours, model = result(Quantised(inner=inner, bits=32, clip=4.0), NONE, rounds=10)
        _, floats = run_models(*case(inner, rounds=10))
        assert floats is not None
        assert ours.cost.clipped == 0
        np.testing.assert_allclose(model, floats, rtol=1e-3, atol=1e-4)


# --- Against the reference


def reference(
    strategy: Protected,
    rounds: int,
    absent: Mapping[int, Collection[int]],
    uncounted: Mapping[int, int],
    confused: bool = False,
    **options: Any,
) -> NDArray[np.float32]:
    """The model after some rounds, by a loop over offices and weights.

    Args:
        absent: round -> offices that do not train in it.
        uncounted: round -> an office that trains and whose message is refused.
        confused: take the residual of a refused update for what is left, which is wrong.
    """
    spec, data = case(strategy.inner, rounds=rounds, **options)
    clients = set_up(spec, data, deal_rows(spec, data)).clients
    shape, classes = data.train.x.shape[1:], len(data.about.classes)
    trainer, layout = clients.start().trainer, spec.model.layout(shape, classes)
    weights = [strategy.inner.weight(len(work.rows), work.steps) for work in clients.workloads]
    share = [weight / math.fsum(weights) for weight in weights]
    x, offices = first_weights(spec, shape, classes, 0), len(weights)
    levels = 2 ** (strategy.bits - 1) - 1 - offices
    layers = np.split(np.arange(x.size), np.cumsum(layout)[:-1])
    clip = np.empty(x.size)
    for layer in layers:
        first = 8 * float(np.abs(x[layer]).max())
        # A supposed update of that length, as the difference of two models.
        clip[layer] = (
            strategy.clip if strategy.clip != "auto" else np.abs((x[layer].astype(np.float64) + first) - x[layer]).max()
        )
    left = np.zeros((offices, x.size))
    state: dict[str, Any] = {}
    for round_ in range(1, rounds + 1):
        here = [office for office in range(offices) if office not in absent.get(round_, ())]
        jobs = [clients.received({"w": x}, round_, office).job() for office in here]
        updates = trainer.train(jobs, here)
        total, counted, reached = [0] * x.size, [], [0] * len(layers)
        for office, update in zip(here, updates, strict=True):
            way = update.w.astype(np.float64) - x
            if strategy.rounds_by == "feedback":
                way = way + left[office]
            scale = levels * share[office]
            q = np.clip(np.rint(np.clip(way * (scale / clip), -scale, scale)), -math.ceil(scale), math.ceil(scale))
            if uncounted.get(round_) != office or confused:
                left[office] = way - q * (clip / scale)
            if uncounted.get(round_) == office:
                continue
            counted.append(office)
            for number, layer in enumerate(layers):
                ratio = min(float(np.abs(way[layer]).max()) / clip[layer[0]], 16.0)
                reached[number] += min(math.ceil(2**16 * (ratio * ratio) * (ratio * ratio)), 2**32 - 1)
            total = [a + int(b) for a, b in zip(total, q, strict=True)]
        d = np.array(total, np.float64) * (clip / (levels * sum(share[office] for office in counted)))
        answered = Round(round_, offices, offices, counted, np.ones(1), np.ones(1, int), np.ones(1, int))
        stepped, state = strategy.inner.server_step(x.astype(np.float64), {"w": d}, state, answered)
        x = stepped.astype(np.float32)
        if strategy.clip == "auto":
            for number, layer in enumerate(layers):
                reach = 4 * clip[layer[0]] * math.sqrt(math.sqrt(reached[number] / 2**16))
                clip[layer] = max(reach, 0.9 * clip[layer[0]] if round_ > 1 else 0.0) or clip[layer]
    return x[None]


@pytest.mark.parametrize("rounding", ["nearest", "feedback"])
@pytest.mark.parametrize("inner", [*INNERS, Bending()], ids=repr)
@pytest.mark.parametrize("clip", ["auto", 0.05])
def test_a_round_sums_exactly_those_who_answered(inner: FedAvg, rounding: str, clip: Any) -> None:
    """The weighted mean under dropouts is that of the offices that answered, in the same bits."""
    strategy = Quantised(inner=inner, bits=12, rounding=rounding, clip=clip)
    drop = "drop(schedule=[[1, 3, update], [2, 0, update], [4, 1, update]])"
    _, model = result(strategy, NONE, rounds=5, dropout=drop, **UNEQUAL)
    assert np.array_equal(model, reference(strategy, 5, {1: [3], 2: [0], 4: [1]}, {}, **UNEQUAL))


# Who is absent in which round; who trains in vain. Offices come back after one round, after several, and as the lowest.
ABSENCES: list[tuple[dict[int, list[int]], dict[int, int]]] = [
    ({}, {}),
    ({2: [3], 3: [3], 4: [3]}, {}),
    ({1: [3], 2: [3], 3: [3], 4: [3]}, {}),
    ({2: [0], 3: [0]}, {}),
    ({}, {2: 1}),
    ({3: [1], 4: [1]}, {2: 1}),
    ({3: [2], 4: [2], 6: [2]}, {5: 2}),
    ({2: [3], 4: [3], 6: [3]}, {3: 3, 5: 3}),
]


@pytest.mark.parametrize(("absent", "uncounted"), ABSENCES, ids=str)
@pytest.mark.parametrize("rounding", ["nearest", "feedback"])
def test_who_comes_back_has_the_model_and_lost_nothing(
    absent: dict[int, list[int]], uncounted: dict[int, int], rounding: str
) -> None:
    """The residual of an update is kept or dropped by whether a sum held it, also where that sum itself was missed."""
    strategy = Quantised(inner=FedAvgM(0.5), bits=10, rounding=rounding)

    def look(letter: Letter) -> None:
        if not letter.down and letter.kind == "train" and uncounted.get(letter.round) == letter.office:
            letter.put(payload=letter.copy()["payload"][:-1])

    schedule = [f"[{round_}, {office}, update]" for round_, offices in absent.items() for office in offices]
    drop = f"drop(schedule=[{', '.join(schedule)}])" if schedule else "none"
    play = stage(strategy, NONE, look=look, dropout=drop, rounds=8)
    play.play(8)
    models = {int(memory["round"]): memory["model"] for memory in play.memories.values()}
    assert set(models) == {7, 8}, "all have caught up, and one has evaluated"
    for round_, model in models.items():
        assert np.array_equal(model[None], reference(strategy, round_, absent, uncounted))
    for office, memory in play.memories.items():
        assert np.array_equal(memory["model"], models[int(memory["round"])]), office


def test_a_residual_that_is_lost_or_counted_twice_would_show() -> None:
    """Or the test above could not fail."""
    strategy, absent, uncounted = Quantised(inner=FedAvgM(0.5), bits=10), {3: [1], 4: [1]}, {2: 1}
    right, wrong = (reference(strategy, 8, absent, uncounted, confused) for confused in (False, True))
    assert not np.array_equal(right, wrong)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_office_catches_up_under_every_protocol(protocol: str) -> None:
    strategy = PROTECTED[protocol](inner=FedAvgM(0.5), bits=12)
    drop = "drop(schedule=[[2, 3, update], [3, 3, update], [4, 3, update], [6, 0, update]])"
    play = stage(strategy, dropout=drop, rounds=7)
    play.play(7)
    models = {int(memory["round"]): memory["model"] for memory in play.memories.values()}
    for round_, model in models.items():
        assert np.array_equal(model[None], reference(strategy, round_, {2: [3], 3: [3], 4: [3], 6: [0]}, {}))
    assert all(np.array_equal(memory["model"], models[int(memory["round"])]) for memory in play.memories.values())


def test_only_who_missed_more_than_a_sum_is_sent_a_model() -> None:
    """And nobody is sent anything twice: the bytes of a round are one sum, or one sealed model."""
    sent = []

    def look(letter: Letter) -> None:
        if letter.down and letter.kind == "train":
            names = {name.partition("-")[0] for name in letter.arrays}
            sent.append((letter.round, letter.office, "".join(sorted(names))))

    stage(Quantised(), look=look, dropout="drop(schedule=[[3, 1, update], [4, 2, update], [5, 2, update]])").play(6)
    found = {(round_, office): what for round_, office, what in sent}
    assert {found[1, office] for office in range(4)} == {"state"}
    assert {what for (round_, office), what in found.items() if round_ > 1 and office == 0} == {""}, "it has evaluated"
    assert [found[round_, 1] for round_ in (2, 4, 5, 6)] == ["sum", "state", "sum", "sum"]
    assert [found[round_, 2] for round_ in (2, 3, 6)] == ["sum", "sum", "state"]
    assert [found[round_, 3] for round_ in range(2, 7)] == ["sum"] * 5


# --- Adding


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(8, 32), st.integers(1, 40_000), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_packed_slots_add_up_as_slots(bits: int, count: int, a: int, b: int) -> None:
    one, two = (Slots(integers(None, count, bits), check, bits) for check in (a, b))
    packed = pack(one), pack(two)
    before = [array.copy() for array in packed]
    total, slots = unpack(add_packed(*packed, count, bits), count, bits), add(one, two)
    assert (total.check, total.values.tobytes()) == (slots.check, slots.values.tobytes())
    assert all(np.array_equal(array, copy) for array, copy in zip(packed, before, strict=True))


@pytest.mark.parametrize("protocol", PROTECTED)
@pytest.mark.parametrize("bits", [12, 16])
def test_the_server_adds_one_update_at_a_time(protocol: str, bits: int) -> None:
    """Its memory while it adds thirty is that of two or three, whatever they are made of."""
    strategy, count = PROTECTED[protocol](bits=bits), 40_000
    vault = vault_for(strategy, 30)
    if protocol == "paillier":  # of short keys Python's objects weigh more than the numbers
        vault = replace(vault, keys={protocol: committed_key("safe-2048").jwk()})
    form = Form(vault.run, 30, 30, bits, count)
    holder = strategy.key_holder(vault, form)
    adder = strategy.adder(holder.public(), form)
    payload, note = one_message(strategy, holder, form)
    total: Any = adder.add(None, payload)  # what is made once: tables, parameters
    total = adder.add(total, payload)
    tracemalloc.start()
    try:
        before, total = tracemalloc.get_traced_memory()[0], None
        for _ in range(30):
            adder.check(payload, note)
            total = adder.add(total, payload)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert total is not None
    assert peak < 3 * payload.nbytes, f"{peak / payload.nbytes:.1f} updates"


def one_message(strategy: Protected, holder: Any, form: Form) -> tuple[Any, Any]:
    """An office's payload; secagg's is of the same form as masked_sum's, and wants a whole round of keys."""
    from strategies.protection.context import Context

    slots = Slots(integers(None, form.count, form.bits) >> np.uint32(6), 1, form.bits)
    if type(strategy).__name__ == "SecAgg":
        return pack(slots), np.empty(0, np.uint8)
    context = Context(form.run, 1, 0, 1, "", "", form.offices, form.bits)
    payload, note, _ = holder.protect(slots, context, {})
    return payload, note


def test_a_whole_aggregation_takes_no_more() -> None:
    """Of the server as it is, with thirty replies that somebody else holds."""
    from strategies.protection.context import Context
    from strategies.protection.protocol import ClearAdder

    strategy, count = Quantised(), 50_000
    server = ProtectedServer(strategy, Federation(30, 30))
    server.place = Context("run", 0, 0, 1, "key", "layout", 30, 16)
    server.form = Form("run", 30, 30, 16, count)
    server.adder = server.clear = ClearAdder(server.form)
    replies, kept = [], []
    for office in range(30):
        letter = Told({}, {"payload": np.zeros(2 * count + 8, np.uint8), "note": np.empty(0, np.uint8)})
        letter.config |= replace(server.place, round=1, office=office).config()
        replies.append((office, letter))
        kept.append(letter)
    tracemalloc.start()
    try:
        server.take(1, replies, None)  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert server.last is not None
    assert server.last.offices == tuple(range(30))
    assert peak < 3 * (2 * count + 8)
