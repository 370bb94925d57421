"""A protected run scores what its plain run scores, in every cell of the default grid."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from experiments.config.grid import load_grid
from experiments.config.notation import canonical
from experiments.config.spec import RunSpec
from experiments.federation.run import RunData, run, run_models
from experiments.sweep.plan import data_key, load_data
from strategies.fedavg import FedAvg
from strategies.quantised import Quantised

DRAWS = 6  # of first weights that are moved by one unit in the last place


@pytest.fixture(scope="module")
def cells() -> dict[str, tuple[RunSpec, RunData]]:
    """FedAvg's spec and data in each partition of the grid `pilot`, seed 0."""
    plain = [spec for spec in load_grid("pilot").specs() if spec.strategy == FedAvg() and spec.seed == 0]
    loaded = load_data(plain, None, may_fall_back=False)
    return {canonical(spec.partition): (spec, loaded.data[data_key(spec)]) for spec in loaded.specs}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not os.environ.get("UCI_HAR_ZIP"), reason="$UCI_HAR_ZIP is not set")
def test_protection_costs_less_than_the_last_place_of_the_first_weights(
    cells: dict[str, tuple[RunSpec, RunData]],
) -> None:
    """At most 0.3 points, or what the plain run itself moves by when its first weights move in their last place.

    `quantised` has the integers of every protocol, and so their scores.
    """
    assert len(cells) == 11
    too_far = {}
    for partition, (spec, data) in cells.items():
        plain = run(spec, data).final.score
        difference = abs(run(replace(spec, strategy=Quantised()), data).final.score - plain)
        if difference > 0.003:
            moved = [run_models(spec, data, moved=draw)[0].final.score for draw in range(1, DRAWS + 1)]
            own = max(abs(score - plain) for score in moved)
            print(f"{partition}: protected {100 * difference:.2f} points away, moved by an ulp {100 * own:.2f}")
            if difference > own:
                too_far[partition] = (difference, own)
    assert not too_far
