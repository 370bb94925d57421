"""A run that is stopped and goes on has the bits of one that is not."""

import pickle

import pytest

from experiments.config.spec import STRATEGIES
from experiments.federation.run import advance, run
from results.record import RunRecord
from tests.experiments.problems import problem

STATEFUL = ["FedAdam", "FedAvgM, server_momentum=0.9", "FedYogi"]  # Flower's, with moments at the server
NOTATIONS = sorted({text for cls in STRATEGIES.values() for text in cls.examples})
NOTATIONS += [f"flower(path=flwr.serverapp.strategy.{text})" for text in STATEFUL]


def told(record: RunRecord) -> object:
    """All of a record but its seconds."""
    return record.rounds, record.final, record.offices, record.partition, record.filtered


HALF = {"clients": 8, "fraction": 0.5, "lr_schedule": "cosine", "optimizer": "sgd(momentum=0.9)"}


@pytest.mark.parametrize("options", [{}, HALF])
@pytest.mark.parametrize("strategy", NOTATIONS)
def test_it_goes_on_with_the_same_bits(strategy: str, options: dict[str, object]) -> None:
    if "momentum" in problem(strategy=strategy)[0].strategy.search_space():  # it refuses any
        options = {**options, "optimizer": "sgd"}
    spec, data = problem(strategy=strategy, rounds=5, **options)
    whole = run(spec, data)
    first, checkpoint = advance(spec, data, until=1)
    assert first.status == "stopped"
    assert len(first.rounds) == 1
    assert checkpoint is not None
    checkpoint = pickle.loads(pickle.dumps(checkpoint))
    checkpoint.arrays.flags.writeable = False  # as Ray's object store maps it
    _, checkpoint = advance(spec, data, checkpoint, until=3)
    parts = [advance(spec, data, checkpoint)[0] for _ in range(2)]  # a checkpoint is not used up
    for last in parts:
        assert last.status == "ok"
        assert told(last) == told(whole)
        assert last.cost.wall_s > first.cost.wall_s, "seconds are the run's, not the last part's"
        assert last.cost.cpu_s > first.cost.cpu_s


def test_what_diverges_leaves_nothing_to_go_on_from() -> None:
    spec, data = problem(rounds=4, client_lr=1e6)
    record, checkpoint = advance(spec, data, until=3)
    assert record.status == "diverged"
    assert checkpoint is None
