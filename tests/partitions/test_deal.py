"""Validation persons, validation rows, minimum sizes and the hash."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partitions import Deal, Fold, Partition, PartitionError, Pool, deal
from partitions.by_person import ByPerson
from partitions.deal import _hash, raise_to_minimum
from partitions.dirichlet import Dirichlet
from partitions.iid import IID
from partitions.one_person_per_client import OnePersonPerClient
from partitions.shards import Shards
from partitions.sizes import Sizes
from tests.partitions.pools import error_of, har_like, make_pool, pools, table

POOL = har_like(persons=10)


def run(partition: Partition, pool: Pool, clients: int = 4, *, seed: int = 0, **options: object) -> Deal:
    settled = {"min_examples": 1, "validation": 0.2, "overlap": 1} | options
    return deal(
        partition,
        pool,
        clients,
        rng_partition=np.random.default_rng(seed),
        rng_validation=np.random.default_rng(seed + 1000),
        **settled,  # type: ignore[arg-type]
    )


def persons_of(pool: Pool, parts: tuple[np.ndarray, ...]) -> set[int]:
    return set(pool.persons[np.concatenate(parts)].tolist())


# Validation persons -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "number"), [(0.2, 2), (0.01, 1), (0.27, 3), (0.34, 3), (0.5, 5), (0.9, 9)])
def test_a_share_holds_out_that_many_persons_and_at_least_one(share: float, number: int) -> None:
    result = run(IID(), POOL, validation=share)
    held = persons_of(POOL, result.validation)
    assert len(held) == number
    assert not held & persons_of(POOL, result.train)


def test_validation_persons_are_drawn_by_their_own_stream() -> None:
    def held(seed_partition: int, seed_validation: int) -> set[int]:
        streams = np.random.default_rng(seed_partition), np.random.default_rng(seed_validation)
        result = deal(IID(), POOL, 4, min_examples=1, validation=0.3, overlap=1,
                      rng_partition=streams[0], rng_validation=streams[1])  # fmt: skip
        return persons_of(POOL, result.validation)

    assert held(0, 7) == held(1, 7)
    assert len({frozenset(held(0, seed)) for seed in range(10)}) > 1


def test_a_fold_holds_out_its_persons_whatever_the_seed() -> None:
    for i in range(5):
        expected = set(Fold(i, 5).holds_out(POOL.persons).tolist())
        for seed in (0, 1):
            assert persons_of(POOL, run(IID(), POOL, validation=Fold(i, 5), seed=seed).validation) == expected


@pytest.mark.parametrize("partition", [IID(), ByPerson()])
def test_validation_zero_trains_on_every_row(partition: Partition) -> None:
    result = run(partition, POOL, validation=0)
    assert sum(len(rows) for rows in result.train) == len(POOL)
    assert all(len(rows) == 0 for rows in result.validation)


def test_each_office_that_owns_its_persons_validates_on_some_of_them() -> None:
    result = run(ByPerson(), POOL, clients=3)
    for train, held in zip(result.train, result.validation, strict=True):
        assert len(np.unique(POOL.persons[held])) == 1
        assert not set(POOL.persons[train]) & set(POOL.persons[held])
    by_fold = run(ByPerson(), POOL, clients=3, validation=Fold(0, 3))
    for train, held in zip(by_fold.train, by_fold.validation, strict=True):
        persons = np.unique(POOL.persons[np.concatenate([train, held])])
        assert np.array_equal(np.unique(POOL.persons[held]), Fold(0, 3).holds_out(persons))


# One person at an office: the end of each recording ---------------------------------------------------


def test_one_person_validates_on_the_last_fifth_of_each_recording_less_a_window() -> None:
    # ten windows of recording 0, then five of recording 1, interleaved with another person's
    pool = make_pool([0] * 20, [1] * 10 + [2] * 5 + [1] * 5, [0] * 10 + [7] * 5 + [1] * 5)
    result = run(OnePersonPerClient(), pool, clients=2)
    assert result.train[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 18]
    assert result.validation[0].tolist() == [9]  # 8 and 19 share samples with 7 and 18
    assert result.train[1].tolist() == [10, 11, 12, 13]
    assert result.validation[1].tolist() == []


def test_rows_that_share_no_samples_lose_none() -> None:
    pool = make_pool([0] * 10, [1] * 10)
    result = run(OnePersonPerClient(), pool, clients=1, overlap=0)
    assert result.validation[0].tolist() == [8, 9]
    assert result.train[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_fold_of_one_person_is_a_stretch_of_each_recording() -> None:
    pool = make_pool([0] * 20, [1] * 20)
    expected = {0: [0, 1, 2], 2: [9, 10], 4: [17, 18, 19]}
    for i, rows in expected.items():
        result = run(OnePersonPerClient(), pool, clients=1, validation=Fold(i, 5))
        assert result.validation[0].tolist() == rows
        assert len(result.train[0]) == 16
    last = run(OnePersonPerClient(), pool, clients=1, validation=0.2)
    assert last.hash == run(OnePersonPerClient(), pool, clients=1, validation=Fold(4, 5)).hash


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    pool=pools(),
    overlap=st.integers(0, 3),
    validation=st.one_of(st.floats(0.05, 0.6), st.integers(0, 3).map(lambda i: Fold(i, 4))),
)
def test_no_training_window_shares_samples_with_a_validation_window(
    pool: Pool, overlap: int, validation: float | Fold
) -> None:
    persons = len(np.unique(pool.persons))
    try:
        result = run(OnePersonPerClient(), pool, persons, overlap=overlap, validation=validation)
    except ValueError as error:
        told = str(error)
        assert "trains on 0 rows" in told or "no office would learn it" in told
        return
    place = np.zeros(len(pool), dtype=int)  # of a row in its recording
    for recording in np.unique(pool.recordings):
        rows = np.flatnonzero(pool.recordings == recording)
        place[rows] = np.arange(len(rows))
    for train, held in zip(result.train, result.validation, strict=True):
        same = pool.recordings[train][:, None] == pool.recordings[held]
        apart = np.abs(place[train][:, None] - place[held])
        assert (apart[same] > overlap).all()


# Validation rows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("partition", [IID(), Dirichlet(0.2), Shards(2), Sizes((0.55, 0.25, 0.15, 0.05))])
def test_validation_rows_follow_the_offices_training_rows_class_by_class(partition: Partition) -> None:
    result = run(partition, POOL, min_examples=16)
    trained, held = table(POOL, list(result.train)), table(POOL, list(result.validation))
    for c in range(POOL.classes):
        exact = held[c].sum() * trained[c] / trained[c].sum()
        assert (np.abs(held[c] - exact) < 1).all()
        assert not held[c][trained[c] == 0].any()
    rows = np.concatenate(result.validation)
    assert len(np.unique(rows)) == len(rows)
    assert np.array_equal(np.sort(rows), np.flatnonzero(np.isin(POOL.persons, POOL.persons[rows])))


def test_a_class_that_only_validation_persons_have_is_refused() -> None:
    """Person 4, whom the fold holds out, is alone in doing class 1."""
    persons = np.repeat([1, 2, 3, 4], 12)
    fold = next(Fold(i, 4) for i in range(4) if Fold(i, 4).holds_out(persons).tolist() == [4])
    pool = make_pool([0] * 36 + [1] * 12, persons)
    with pytest.raises(PartitionError, match=r"class 1: all who have it \(person 4\) are validation persons"):
        run(IID(), pool, clients=4, validation=fold)


# Minimum sizes ----------------------------------------------------------------------------------------


def slowly_raised(
    labels: np.ndarray, offices: list[np.ndarray], classes: int, minimum: int, order: list[int]
) -> tuple[list[list[int]], int]:
    """The rule word by word, every choice made anew for every row."""
    held = [rows.tolist() for rows in offices]
    moved = 0
    while min(len(own) for own in held) < minimum:
        smallest = min(len(own) for own in held)
        taker = next(k for k, own in enumerate(held) if len(own) == smallest)
        while len(held[taker]) < minimum:

            def has(k: int, c: int) -> int:
                return sum(labels[row] == c for row in held[k])

            for c in sorted(range(classes), key=lambda c: (-has(taker, c), c)):
                givers = [k for k in range(len(held)) if k != taker and has(k, c) > 0 and len(held[k]) - 1 >= minimum]
                if givers:
                    giver = max(givers, key=lambda k: (has(k, c), -k))
                    row = next(row for row in order if row in held[giver] and labels[row] == c)
                    held[giver].remove(row)
                    held[taker].append(row)
                    moved += 1
                    break
    return [sorted(own) for own in held], moved


@settings(max_examples=80, deadline=None, derandomize=True)
@given(pool=pools(max_rows=60, max_classes=4), clients=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_minimum_sizes_follow_the_rule(pool: Pool, clients: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    office = rng.choice(clients, len(pool), p=rng.dirichlet(np.full(clients, 0.4)))
    offices = [np.flatnonzero(office == k) for k in range(clients)]
    minimum = int(rng.integers(0, len(pool) // clients + 1))
    order = np.random.default_rng(seed).permutation(len(pool)).tolist()
    raised, moved = raise_to_minimum(pool.labels, offices, pool.classes, minimum, np.random.default_rng(seed))
    expected, expected_moved = slowly_raised(pool.labels, offices, pool.classes, minimum, order)
    assert [rows.tolist() for rows in raised] == expected
    assert moved == expected_moved


def test_a_small_office_takes_its_own_largest_class_from_its_largest_holder() -> None:
    # office 0 holds one row of class 1; office 2 holds most of class 1
    labels = np.array([1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0])
    offices = [np.array([0]), np.arange(1, 6), np.arange(6, 12)]
    raised, moved = raise_to_minimum(labels, offices, 2, 3, np.random.default_rng(0))
    assert moved == 2
    assert labels[raised[0]].tolist() == [1, 1, 1]
    # the first from office 2, who holds three; then office 1, tied with two, comes before office 2
    assert [len(rows) for rows in raised] == [3, 4, 5]


def test_enough_rows_everywhere_moves_none_and_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    offices = [np.array([0, 1]), np.array([2, 3])]
    raised, moved = raise_to_minimum(np.zeros(4, dtype=int), offices, 1, 2, rng)
    assert moved == 0
    assert raised is offices
    assert rng.random() == np.random.default_rng(0).random()


def test_rows_moved_are_counted_and_many_are_marked() -> None:
    pool = make_pool([0] * 100, np.arange(100))
    skewed = Sizes((0.97, 0.03))
    result = run(skewed, pool, 2, validation=0, min_examples=5)
    assert (result.moved, result.moved_share, result.marked) == (2, 0.02, False)
    assert [office.num_examples for office in result.unevenness.offices] == [95, 5]
    result = run(skewed, pool, 2, validation=0, min_examples=8)
    assert (result.moved, result.marked) == (5, False)
    result = run(skewed, pool, 2, validation=0, min_examples=9)
    assert (result.moved, result.marked) == (6, True)


def test_the_minimum_counts_training_rows_not_validation_rows() -> None:
    result = run(Dirichlet(0.05), POOL, min_examples=64)
    assert min(len(rows) for rows in result.train) >= 64
    assert result.moved > 0


# Hash -------------------------------------------------------------------------------------------------


def test_the_hash_is_of_all_row_numbers() -> None:
    """The hash in a record must mean the same split for ever: counts and row numbers, 8 bytes each."""
    pool = make_pool([0, 1] * 4, [1, 1, 1, 1, 1, 2, 2, 2])
    result = run(OnePersonPerClient(), pool, clients=2, overlap=0)
    numbers = [4, 0, 1, 2, 3, 2, 5, 6, 1, 4, 1, 7]  # 4 + 2 training rows, 1 + 1 validation rows
    assert result.hash == hashlib.sha256(struct.pack("<12q", *numbers)).hexdigest()[:16]


def test_the_hash_tells_training_from_validation_and_one_office_from_another() -> None:
    a, b, none = np.array([0, 1]), np.array([2, 3]), np.array([], dtype=int)
    digests = [
        _hash([a, b], [none, none]),
        _hash([b, a], [none, none]),
        _hash([a, none], [b, none]),
        _hash([np.array([0, 1, 2, 3]), none], [none, none]),
        _hash([np.array([0]), np.array([1, 2, 3])], [none, none]),
    ]
    assert len(set(digests)) == len(digests)


# Errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"clients": 0}, "clients is 0, expected at least 1: set --clients"),
        ({"min_examples": 0}, "min_examples is 0, expected at least 1: set --min-examples"),
        (
            {"validation": 1},
            "validation is 1, expected 0 (none), a share of the persons below 1, or fold(i, of=5)",
        ),
        ({"validation": -0.1}, "validation is -0.1, expected"),
        ({"validation": float("nan")}, "validation is nan, expected"),
        ({"validation": 0.96}, "validation 0.96 holds out 10 of 10 persons and none is left to train"),
        ({"validation": Fold(0, 11)}, "fold(0, of=11) needs 11 persons, found 10"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], expected: str) -> None:
    message = error_of(run, IID(), POOL, **options)
    assert expected in message


def test_more_minimum_than_rows_is_refused_with_the_numbers() -> None:
    pool = make_pool([0] * 100, np.arange(100))
    message = error_of(run, IID(), pool, 4, validation=0, min_examples=26)
    assert message == (
        "4 offices of at least 26 rows need 104, found 100 training rows: set --min-examples 25 or lower, or "
        "fewer --clients"
    )
    message = error_of(run, IID(), make_pool([0] * 3, [1, 2, 3]), 4, validation=0)
    assert message == "4 offices of at least 1 rows need 4, found 3 training rows: set fewer --clients"


def test_a_small_office_that_owns_its_persons_is_refused() -> None:
    pool = make_pool([0] * 30, [1] * 10 + [2] * 20)
    message = error_of(run, OnePersonPerClient(), pool, 2, min_examples=9)
    assert message == (
        "one_person_per_client: office 1 trains on 8 rows, expected at least 9, and a person's rows stay at "
        "one office: set --min-examples 8 or lower, or split into fewer offices"
    )
    message = error_of(run, OnePersonPerClient(), pool, 2, validation=0.99)
    assert "office 1 trains on 0 rows" in message
    assert "set a lower --validation" in message


def test_too_few_persons_inside_an_office_names_the_office() -> None:
    message = error_of(run, ByPerson(), POOL, 4, validation=Fold(0, 3))
    assert message == (
        "inside office 3: fold(0, of=3) needs 3 persons, found 2: choose of=2 or fewer; or use fewer --clients"
    )
    message = error_of(run, ByPerson(), POOL, 5, validation=0.8)
    assert "inside office 1: validation 0.8 holds out 2 of 2 persons" in message


@dataclass(frozen=True)
class Faulty(Partition):
    """Breaks the law in the way asked for."""

    fault: str

    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[np.ndarray]:
        rows = np.arange(len(pool))
        return {
            "lost": [rows[::2], rows[3::2]],
            "twice": [rows, rows[:5]],
            "unknown": [rows, np.array([len(pool)])],
            "office": [rows],
        }[self.fault]


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("lost", "2 offices with 1 of 100 rows lost and 0 dealt more than once"),
        ("twice", "2 offices with 0 of 100 rows lost and 5 dealt more than once"),
        ("unknown", "2 offices with 0 of 100 rows lost"),
        ("office", "1 offices with 0 of 100 rows lost and 0 dealt more than once, expected 2 offices"),
    ],
)
def test_a_partition_that_breaks_the_law_is_named(fault: str, found: str) -> None:
    pool = make_pool([0] * 100, np.arange(100))
    message = error_of(run, Faulty(fault), pool, 2, validation=0)
    assert message.startswith("test_deal: ")
    assert found in message
    assert "correct its split()" in message


@pytest.mark.parametrize(
    ("labels", "persons", "classes", "expected"),
    [
        ([0, 1], [1], 2, "differ in length: [1, 2]"),
        ([], [], 2, "no training rows to split"),
        ([0, 2], [1, 1], 2, "labels run from 0 to 2, expected codes 0 to 1"),
        ([-1, 0], [1, 1], 2, "labels run from -1 to 0"),
    ],
)
def test_a_pool_that_is_none_is_refused(labels: list[int], persons: list[int], classes: int, expected: str) -> None:
    assert expected in error_of(make_pool, np.array(labels), np.array(persons), classes=classes)
