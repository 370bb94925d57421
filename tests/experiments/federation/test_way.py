"""How many files a reader has to open who follows a round, or a run: bounds that hold, to be lowered and not raised."""

from __future__ import annotations

import pytest

from tests.way import Entered, of_a_round, of_a_run, of_a_spec, told

BESIDE = ("strategies/privacy/", "strategies/protection/", "experiments/federation/audit.py", "experiments/bench/")
MOST_OF_A_ROUND, MOST_OF_A_RUN, MOST_OF_A_SPEC = 12, 26, 5


@pytest.fixture(scope="module")
def a_round() -> Entered:
    return of_a_round()


@pytest.fixture(scope="module")
def a_run() -> Entered:
    return of_a_run()


def test_files_that_a_round_of_fedavg_goes_through(a_round: Entered) -> None:
    assert len(a_round) <= MOST_OF_A_ROUND, told("A round of FedAvg", a_round)
    assert not [file for file in a_round if file.startswith(BESIDE)]


def test_files_that_a_plain_run_goes_through(a_run: Entered) -> None:
    assert len(a_run) <= MOST_OF_A_RUN, told("A plain run", a_run)
    assert not [file for file in a_run if file.startswith(BESIDE)]


def test_files_that_a_plain_run_hands_its_spec() -> None:
    """The options of a run are read in few places."""
    found = of_a_spec()
    assert {"run_models", "set_up"} <= found["experiments/federation/run.py"]
    assert len(found) <= MOST_OF_A_SPEC, told("A RunSpec's way", found)
    assert not [file for file in found if file.startswith(BESIDE)]


def test_the_profile_sees_the_whole_way(a_round: Entered, a_run: Entered) -> None:
    """A count that misses files would be low."""
    assert {"rounds", "PlainServer.take", "_Watch.score"} <= a_round["experiments/federation/rounds.py"]
    assert {"FusedTrainer.train"} <= a_round["experiments/training/kernels/fused.py"]
    assert {"run_models", "set_up", "_record"} <= a_run["experiments/federation/run.py"]
    assert set(a_round) <= set(a_run)
