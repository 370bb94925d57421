"""Laws of every registered partition. A partition added as one file is tested here without a line more."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.config.spec import PARTITIONS
from partitions import Fold, Partition, PartitionError, Pool, deal
from tests.partitions.pools import EXAMPLES, har_like, offices_for, pools, split

every_partition = pytest.mark.parametrize("partition", EXAMPLES)
POOL = har_like()
ROOT = Path(__file__).parents[2]


def dealt(partition: Partition, pool: Pool, seed: int = 0, **options: object):
    settled = {"min_examples": 8, "validation": 0.2, "overlap": 1} | options
    streams = np.random.SeedSequence(seed).spawn(2)
    return deal(
        partition,
        pool,
        offices_for(partition, pool),
        rng_partition=np.random.default_rng(streams[0]),
        rng_validation=np.random.default_rng(streams[1]),
        **settled,
    )


def assert_disjoint_cover(offices: list[np.ndarray], clients: int, rows: int) -> None:
    assert len(offices) == clients
    assert sorted(int(row) for part in offices for row in part) == list(range(rows))
    for part in offices:
        assert np.issubdtype(part.dtype, np.integer)
        assert (np.diff(part) > 0).all()


@every_partition
def test_split_is_a_disjoint_cover_in_ascending_order(partition: Partition) -> None:
    clients = offices_for(partition, POOL)
    assert_disjoint_cover(split(partition, POOL, clients), clients, len(POOL))


@every_partition
@settings(max_examples=60, deadline=None, derandomize=True)
@given(pool=pools(), clients=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_split_is_a_disjoint_cover_of_any_pool_or_a_clear_error(
    partition: Partition, pool: Pool, clients: int, seed: int
) -> None:
    clients = offices_for(partition, pool, usual=clients)
    refusal = ""
    try:
        offices = split(partition, pool, clients, seed)
    except PartitionError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith(partition.name)
        assert "set " in refusal
    else:
        assert_disjoint_cover(offices, clients, len(pool))


@every_partition
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    pool=pools(),
    clients=st.integers(1, 12),
    minimum=st.integers(1, 12),
    validation=st.sampled_from([0, 0.2, 0.5, Fold(1, 3)]),
)
def test_deal_fills_every_office_from_any_pool_or_is_a_clear_error(
    partition: Partition, pool: Pool, clients: int, minimum: int, validation: float | Fold
) -> None:
    rng = np.random.default_rng(3)
    refusal = ""
    try:
        result = deal(
            partition,
            pool,
            offices_for(partition, pool, usual=clients),
            min_examples=minimum,
            validation=validation,
            overlap=0,
            rng_partition=rng,
            rng_validation=rng,
        )
    except PartitionError as error:
        refusal = str(error)
    if refusal:
        assert "set " in refusal or "choose " in refusal
        return
    assert min(len(rows) for rows in result.train) >= minimum
    both = np.concatenate([*result.train, *result.validation])
    assert sorted(both.tolist()) == list(range(len(pool)))  # without overlap no row is left out


@every_partition
def test_deal_leaves_no_office_empty_and_no_row_twice(partition: Partition) -> None:
    result = dealt(partition, POOL)
    assert min(len(rows) for rows in result.train) >= 8
    used = np.concatenate([*result.train, *result.validation])
    assert len(np.unique(used)) == len(used)
    alone = all(office.num_persons == 1 for office in result.unevenness.offices)
    if not alone:  # a person who is an office loses the window at the boundary of each recording
        assert len(used) == len(POOL)


@every_partition
def test_validation_persons_train_nowhere(partition: Partition) -> None:
    if isinstance(partition.prescribed_clients(10), int) and partition.own_persons:
        pytest.skip("each office is one person, who trains and validates on different rows")
    result = dealt(partition, POOL)
    train, held = (set(POOL.persons[np.concatenate(part)]) for part in (result.train, result.validation))
    assert held
    assert not train & held
    assert train | held == set(POOL.persons)


@every_partition
def test_a_person_of_an_own_persons_partition_is_at_one_office(partition: Partition) -> None:
    result = dealt(partition, POOL)
    homes: dict[int, set[int]] = {}
    for k, (train, held) in enumerate(zip(result.train, result.validation, strict=True)):
        for person in np.unique(POOL.persons[np.concatenate([train, held])]):
            homes.setdefault(int(person), set()).add(k)
    alone = all(len(offices) == 1 for offices in homes.values())
    assert alone == partition.own_persons


@every_partition
def test_same_seed_same_split(partition: Partition) -> None:
    assert dealt(partition, POOL, seed=3).hash == dealt(partition, POOL, seed=3).hash


@every_partition
def test_other_seeds_give_other_splits_if_the_partition_is_seeded(partition: Partition) -> None:
    clients = offices_for(partition, POOL)
    first, *others = (split(partition, POOL, clients, seed) for seed in range(3))
    for other in others:
        same = all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
        assert same != partition.seeded


def test_another_process_deals_alike() -> None:
    """Nothing depends on hash randomisation, import order or the state of global generators."""
    script = (
        "import json, random, numpy as np\n"
        "random.seed(99); np.random.seed(99)\n"
        "from tests.partitions.test_laws import hashes\n"
        "print(json.dumps(hashes()))\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout) == hashes()


def hashes() -> list[str]:
    return [dealt(parameter.values[0], POOL, seed=4).hash for parameter in EXAMPLES]


@every_partition
def test_global_generators_are_neither_read_nor_moved(partition: Partition) -> None:
    state, numpy_state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    before = dealt(partition, POOL).hash
    assert random.getstate() == state
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert dealt(partition, POOL).hash == before


@every_partition
def test_row_order_of_persons_and_labels_is_all_that_matters(partition: Partition) -> None:
    """Ids are names: other person ids in the same order give the same deal."""
    renamed = Pool(POOL.labels, POOL.persons * 7 + 100, POOL.recordings * 2, POOL.classes)
    assert dealt(partition, renamed).hash == dealt(partition, POOL).hash


@every_partition
def test_options_are_a_frozen_hashable_dataclass_with_a_docstring(partition: Partition) -> None:
    kind = type(partition)
    assert dataclasses.is_dataclass(partition)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    options = {field.name: getattr(partition, field.name) for field in dataclasses.fields(partition)}
    assert hash(kind(**options)) == hash(partition)
    assert kind(**options) == partition
    assert not (kind.__doc__ or "").startswith(f"{kind.__name__}(")  # what dataclass writes where there is none
    assert sys.modules[kind.__module__].__doc__


@every_partition
def test_one_office_gets_everything(partition: Partition) -> None:
    pool = har_like(persons=1)
    try:
        offices = split(partition, pool, 1)
    except PartitionError:
        pytest.skip("its options need more offices: a share each, a Gini above 0, fewer classes than there are")
    assert np.array_equal(offices[0], np.arange(len(pool)))


BUILT_IN = {
    "by_person",
    "dirichlet",
    "dirichlet_even",
    "iid",
    "majority",
    "majority_even",
    "one_person_per_client",
    "pick_two",
    "quantity",
    "shards",
    "sizes",
    "stratified",
}


def test_the_built_in_partitions_are_registered() -> None:
    assert set(PARTITIONS) >= BUILT_IN
    assert list(PARTITIONS) == sorted(PARTITIONS)
