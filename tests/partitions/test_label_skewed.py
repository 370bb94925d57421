"""Which partitions are label-skewed: the line, by class and options, and that it is where it is said to be."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.config.spec import PARTITIONS, label_skewed
from partitions import Partition
from partitions.base import SKEWED_ALPHA, SKEWED_RATIO
from partitions.measures import measure
from tests.partitions.pools import EXAMPLES, make_pool, offices_for, split, uci_like

OFFICES, CLASSES, DRAWS = 4, 6, 40
BALANCED = make_pool(np.repeat(np.arange(CLASSES), 600), np.zeros(CLASSES * 600))


def distance(name: str, **options: float) -> float:
    """Mean Jensen-Shannon distance of the offices' labels to the pooled ones."""
    partition = PARTITIONS[name](**options)
    draws = [measure(BALANCED, split(partition, BALANCED, OFFICES, seed)).js_distance for seed in range(DRAWS)]
    return float(np.mean(draws))


@pytest.mark.parametrize(
    "partition",
    [
        "shards(1)",
        "shards(6)",
        "dirichlet(.3)",
        "dirichlet_even(1e-5)",
        "majority(1)",
        "majority_even(.8)",
        "pick_two(.8)",
    ],
)
def test_labels_are_skewed(partition: str) -> None:
    assert label_skewed(partition)


@pytest.mark.parametrize(
    "partition",
    [
        *("iid", "stratified", "by_person", "one_person_per_client", "quantity(.1)", "sizes(gini=.6)"),
        *("dirichlet(.5)", "dirichlet_even(.31)", "majority(.7)", "majority_even(.7)", "pick_two(0)"),
    ],
)
def test_labels_are_not_skewed(partition: str) -> None:
    assert not label_skewed(partition)


def test_a_partition_that_is_not_here_counts_as_skewed() -> None:
    assert label_skewed("of_a_plugin(beta=2)")


@pytest.mark.parametrize("name", ["majority", "majority_even"])
def test_a_majority_at_the_line_is_as_far_from_the_pool_as_dirichlet_at_its_line(name: str) -> None:
    line = distance("dirichlet_even", alpha=SKEWED_ALPHA)
    less, there, more = (abs(distance(name, ratio=SKEWED_RATIO + step) - line) for step in (-0.1, 0.0, 0.1))
    assert there < 0.03
    assert there < min(less, more)


@pytest.mark.parametrize("partition", EXAMPLES)
def test_the_skewed_ones_are_further_from_the_pool(partition: Partition) -> None:
    pool = uci_like()
    clients = offices_for(partition, pool)
    draws = [measure(pool, split(partition, pool, clients, seed)).js_distance for seed in range(10)]
    assert (np.mean(draws) > 0.3) == partition.label_skewed
