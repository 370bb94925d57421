"""Engines: the same bits whatever runs the clients, replies in office order, and Flower's internals as we know them."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from typing import Any

import flwr
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

from experiments.config.errors import UserError
from experiments.engines import engine, flower, inprocess, simulation
from experiments.engines.flower import (
    InProcessGrid,
    NumpyArray,
    addressed,
    array_bytes,
    arrays_in,
    arrays_record,
    content_of,
    counts_record,
)
from experiments.federation.clients import ClientSide, PlainOffices
from experiments.federation.provenance import ROOT
from experiments.federation.run import Sides, deal_rows, set_up
from experiments.federation.transport import OrderedGrid, update_lengths, who_is_who
from strategies import Federation, Job, Update
from strategies.flower import everyone
from tests.experiments.problems import problem
from tests.experiments.toys import Remembering


def test_flower_is_the_version_that_our_contact_with_its_internals_was_written_for() -> None:
    assert flwr.__version__.startswith(flower.FLOWER_VERSION + ".")
    for record in (ArrayRecord(), MetricRecord(), ConfigRecord(), RecordDict()):
        assert {"_data", "_check_key_fn", "_check_value_fn"} <= set(vars(record)), "records are copied by these"


def test_a_reply_is_the_one_that_flower_would_make() -> None:
    """Also to a message that has been under way, with everything that Flower's servers note on it."""
    flower.identify()
    asked = Message(RecordDict(), dst_node_id=7, message_type=MessageType.TRAIN, group_id="3", dst_task_id=5)
    vars(asked.metadata).update(_message_id="one", _reply_to_message_id="none", _delivered_at="yesterday")
    content = RecordDict()
    ours, theirs = flower.reply(asked, content), Message(content, reply_to=asked)
    assert vars(ours).keys() == vars(theirs).keys()
    assert ours.content is content
    assert not ours.has_error()
    a, b = vars(ours.metadata), vars(theirs.metadata)
    clock = {"_created_at", "_ttl"}
    assert {key: a[key] for key in a.keys() - clock} == {key: b[key] for key in b.keys() - clock}
    assert [a[key] for key in sorted(clock)] == pytest.approx([b[key] for key in sorted(clock)], abs=1)


def test_messages_to_several_nodes_are_those_that_flower_makes() -> None:
    flower.identify()
    content = RecordDict()
    assert addressed(content, [], MessageType.TRAIN) == []
    ours = addressed(content, [7, 3, 9], MessageType.TRAIN)
    for message, node in zip(ours, (7, 3, 9), strict=True):
        theirs = Message(content, dst_node_id=node, message_type=MessageType.TRAIN)
        assert message.content is content
        a, b = vars(message.metadata), vars(theirs.metadata)
        assert a.pop("_created_at") == pytest.approx(b.pop("_created_at"), abs=1)
        assert a == b
        assert {**vars(message), "_metadata": None} == {**vars(theirs), "_metadata": None}


def both(**options: Any) -> tuple[Any, Any]:
    spec, data = problem(**{k: v for k, v in options.items() if k != "strategy"})
    strategy = options.get("strategy", spec.strategy)
    if isinstance(strategy, str):
        spec, data = problem(**options)
    else:
        spec = replace(spec, strategy=strategy)
    sides = set_up(spec, data, deal_rows(spec, data))
    server, clients = sides.server, sides.clients
    return tuple(run(server, clients, len(clients.workloads)) for run in (inprocess.run, simulation.run))


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": Remembering(), "fraction": 0.5, "partition": "dirichlet_even(0.3)"},
        pytest.param({"strategy": "local", "optimizer": "sgd(momentum=0.9)"}, marks=pytest.mark.slow),
        pytest.param({"strategy": "dp_sgd(epsilon=8)"}, marks=pytest.mark.slow),
    ],
    ids=["memory and cohorts", "local", "noise"],
)
def test_flowers_simulation_gives_the_same_bits(options: dict[str, Any]) -> None:
    here, there = both(rounds=3, **options)
    assert np.array_equal(here.models, there.models)
    assert here.rounds == there.rounds
    assert (here.bytes_up, here.bytes_down) == (there.bytes_up, there.bytes_down)


def test_memory_matters_in_that_test() -> None:
    spec, data = problem(rounds=3)
    finals = []
    for strategy in (spec.strategy, Remembering()):
        sides = set_up(replace(spec, strategy=strategy), data, deal_rows(spec, data))
        finals.append(inprocess.run(sides.server, sides.clients, 4).models)
    assert not np.array_equal(*finals)


@pytest.mark.slow
def test_a_simulation_that_fails_says_why() -> None:
    from tests.experiments.toys import Failing

    spec, data = problem(rounds=2)
    sides = set_up(replace(spec, strategy=Failing()), data, deal_rows(spec, data))
    with pytest.raises(RuntimeError, match="the disk is full"):
        simulation.run(sides.server, sides.clients, 4)


def small(**options: Any) -> Sides:
    spec, data = problem(**options)
    return set_up(spec, data, deal_rows(spec, data))


def reached(grid: type[InProcessGrid], side: ClientSide) -> InProcessGrid:
    """Four clients in this process, through a Grid of this class."""
    flower.identify()
    return grid(side.start().answer, 4)


class Shuffled(InProcessGrid):
    """Replies in order of arrival, as Flower's own Grids give them."""

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        replies = super().send_and_receive(messages, timeout=timeout)
        random.Random(len(replies)).shuffle(replies)
        return replies

    def get_node_ids(self) -> list[int]:
        return super().get_node_ids()[::-1]


def test_order_of_arrival_does_not_matter() -> None:
    sides = small(fraction=0.75)
    ordered, shuffled = (sides.server(reached(grid, sides.clients)) for grid in (InProcessGrid, Shuffled))
    assert np.array_equal(ordered.models, shuffled.models)
    assert ordered.rounds == shuffled.rounds


def test_nodes_are_asked_who_they_are() -> None:
    assert who_is_who(reached(Shuffled, small().clients), 4) == [1, 2, 3, 4]


def test_a_missing_node_is_told() -> None:
    grid = reached(InProcessGrid, small().clients)
    with pytest.raises(RuntimeError, match="4 of 5 clients are connected"):
        who_is_who(grid, 5, patience=0.2)


class Silent(InProcessGrid):
    """One client never answers."""

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        return super().send_and_receive(messages, timeout=timeout)[:-1]


def test_a_client_that_does_not_answer_fails_the_run() -> None:
    sides = small()
    grid = OrderedGrid(reached(Silent, sides.clients), [1, 2, 3, 4], 0, 4, True)
    strategy = FlowerFedAvg(**everyone(Federation(4, 4)))
    with pytest.raises(RuntimeError, match="3 of 4 clients answered"):
        strategy.start(grid, initial_arrays=arrays_record({"w": sides.server.first}), num_rounds=1)


def test_cohorts_are_those_of_the_seed_and_round() -> None:
    grids = [OrderedGrid(InnerOnly(), list(range(10, 20)), seed, 3, True) for seed in (1, 1, 2)]
    drawn = []
    for grid in grids:
        rounds = []
        for number in range(1, 6):
            grid.begin(number)
            rounds.append(grid.get_node_ids())
            grid.begin(number)
            assert grid.get_node_ids() == rounds[-1], "a round that has begun keeps its cohort"
        drawn.append(rounds)
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(cohort == sorted(cohort) and len(set(cohort)) == 3 for cohort in drawn[0])


class InnerOnly(InProcessGrid):
    def __init__(self) -> None:
        pass


def test_a_numpy_array_is_a_flower_array() -> None:
    w = np.arange(5, dtype=np.float32)
    ours, theirs = NumpyArray(w), Array(w)
    assert (ours.dtype, ours.shape, ours.stype, ours.data) == (theirs.dtype, theirs.shape, theirs.stype, theirs.data)
    assert ours.numpy() is w
    assert np.array_equal(arrays_in(ArrayRecord({"w": theirs}))["w"], w)
    assert array_bytes(RecordDict({"arrays": arrays_record({"w": w})})) == {"w": 20}
    assert array_bytes(RecordDict({"arrays": ArrayRecord({"w": theirs})})) == {"w": 20}
    inflated = Array.inflate(ours.deflate(), children=ours.children)
    assert np.array_equal(inflated.numpy(), w)


def test_an_updates_record_is_the_one_that_flowers_constructors_make() -> None:
    """Its object id is a hash of what Flower would send; the second has nothing of the first."""
    offices, w = PlainOffices(small().clients), np.arange(5, dtype=np.float32)
    for examples, loss in ((7, 0.25), (8, 0.5)):
        letter, _ = offices.close(Update(Job(w, 1), w, examples, 2, loss), 0, {})
        ours = content_of(letter, counts_record(examples, 2))
        metrics = MetricRecord({"num-examples": examples, "num-batches": 2, "num-clients": 1, "train_loss": loss})
        theirs = RecordDict({"arrays": ArrayRecord({"w": Array(w)}), "metrics": metrics})
        assert ours.object_id == theirs.object_id


def test_update_lengths() -> None:
    """Each reply is measured from what its own client was sent, whether that was the same record for all or not."""
    flower.identify()

    def message(*w: float) -> Message:
        content = RecordDict({"arrays": arrays_record({"w": np.array(w, np.float32)})})
        return Message(content, dst_node_id=1, message_type=MessageType.TRAIN)

    zero, one = message(0, 0), message(1, 1)
    back = [message(3, 4), message(4, 5), message(0, 2), message(np.nan, 1), message(np.inf, 1)]
    lengths = update_lengths([zero, one, zero, zero, zero], back)
    assert lengths[:3] == [5, 5, 2]
    assert not np.isfinite(lengths[3:]).any()


def test_a_round_gets_the_memory_that_the_last_one_freed() -> None:
    """In a process of its own: what glibc does by itself depends on what a process has freed before."""
    script = """
import resource
import experiments
import numpy as np
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    models = [np.ones(80_000, np.float32) for _ in range(30)]
    del models
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100, "each model has 79 pages; new ones would be met one by one"


def test_engines_by_name() -> None:
    assert engine("inprocess") is inprocess.run
    with pytest.raises(UserError, match="simulaton"):
        engine("simulaton")


def test_the_grid_is_a_whole_flower_grid() -> None:
    grid: Grid = OrderedGrid(reached(InProcessGrid, small().clients), [1, 2, 3, 4], 0, 4, True)
    assert [node.node_id for node in grid.get_nodes()] == [1, 2, 3, 4]
    message = grid.create_message(RecordDict(), MessageType.TRAIN, 1, "1")
    assert message.metadata.dst_node_id == 1
