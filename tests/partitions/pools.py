"""Pools and partitions the tests of this folder run on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from experiments.config.spec import PARTITIONS
from partitions import Partition, PartitionError, Pool

UCI_TRAIN = np.array([1226, 1073, 986, 1286, 1374, 1407])  # training rows of each class of UCI HAR

EXAMPLES = [
    pytest.param(kind(**example), id=f"{name}({', '.join(f'{k}={v}' for k, v in example.items())})")
    for name, kind in PARTITIONS.items()
    for example in kind.examples
]


def make_pool(
    labels: np.ndarray,
    persons: np.ndarray,
    recordings: np.ndarray | None = None,
    *,
    classes: int | None = None,
) -> Pool:
    """A pool whose arrays refuse to be written to; without recordings, a person's rows are one."""
    arrays = [np.array(a, dtype=np.int64) for a in (labels, persons, persons if recordings is None else recordings)]
    for array in arrays:
        array.flags.writeable = False
    return Pool(*arrays, classes=int(arrays[0].max()) + 1 if classes is None else classes)


def har_like(persons: int = 10, rows: int = 150, seed: int = 5) -> Pool:
    """Persons one after another, each with one recording a class, six classes of uneven size."""
    rng = np.random.default_rng(seed)
    labels = [np.sort(rng.choice(6, rows + rng.integers(-20, 20), p=UCI_TRAIN / 7352)) for _ in range(persons)]
    owner = np.repeat(np.arange(persons) * 3 + 1, [len(own) for own in labels])
    flat = np.concatenate(labels)
    return make_pool(flat, owner, owner * 6 + flat, classes=6)


def uci_like() -> Pool:
    """The class counts of the official training rows, in a seeded order, 21 persons."""
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(6), UCI_TRAIN))
    return make_pool(labels, np.sort(rng.integers(0, 21, len(labels))))


@st.composite
def pools(draw: st.DrawFn, max_rows: int = 120, max_classes: int = 7) -> Pool:
    """Any labels (classes uneven, some absent) and any persons."""
    classes = draw(st.integers(1, max_classes))
    used = draw(st.integers(1, classes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, max_rows))
    labels = rng.choice(rng.permutation(classes)[:used], n, p=rng.dirichlet(np.full(used, 0.7)))
    persons = rng.integers(0, draw(st.integers(1, 12)), n)
    return make_pool(labels, persons, persons * 3 + rng.integers(0, 3, n), classes=classes)


def offices_for(partition: Partition, pool: Pool, usual: int = 4) -> int:
    return partition.prescribed_clients(len(np.unique(pool.persons))) or usual


def split(partition: Partition, pool: Pool, clients: int, seed: int = 0) -> list[np.ndarray]:
    return partition.split(pool, clients, np.random.default_rng(seed))


def table(pool: Pool, offices: list[np.ndarray]) -> np.ndarray:
    """Rows of class c at office k by counting one by one, (C, K)."""
    counts = np.zeros((pool.classes, len(offices)), dtype=int)
    for k, rows in enumerate(offices):
        for row in rows:
            counts[pool.labels[row], k] += 1
    return counts


def error_of(call: object, *args: object, **kwargs: object) -> str:
    """The message of the PartitionError that a call must raise."""
    with pytest.raises(PartitionError) as caught:
        call(*args, **kwargs)  # type: ignore[operator]
    return str(caught.value)
