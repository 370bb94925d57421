"""From a partition to what every office trains and validates on.

    1. validation persons are chosen before the split and train nowhere;
    2. the partition splits the other rows;
    3. offices under the minimum size take rows from the others, and how many moved is recorded;
    4. validation rows go to offices by the offices' shares of each class's training rows.

Where persons belong to offices (`own_persons`) the split comes first: validation persons are chosen inside
each office, and no row moves, since it would take a person's data to another office.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from partitions.base import Ints, Partition, PartitionError, Pool
from partitions.counts import apportion_classes, fill
from partitions.folds import Fold
from partitions.measures import Unevenness, class_table, measure

MARKED = 0.05  # share of rows moved above which a draw is marked


@dataclass(frozen=True, eq=False)
class Deal:
    """Who trains and validates on what: row numbers of the pool, ascending, an office.

    moved: rows that changed office to reach the minimum size. unevenness: of the training rows as dealt.
    hash: of all row numbers; two runs with one hash (on one pool) saw the same split.
    """

    train: tuple[Ints, ...]
    validation: tuple[Ints, ...]
    moved: int
    unevenness: Unevenness
    hash: str

    @property
    def moved_share(self) -> float:
        """Share of the training rows that moved, in [0, 1]."""
        return self.moved / sum(len(rows) for rows in self.train)

    @property
    def marked(self) -> bool:
        """More than 5 % of the rows moved: the split is no longer the partition's own."""
        return self.moved_share > MARKED


def deal(
    partition: Partition,
    pool: Pool,
    clients: int,
    *,
    min_examples: int,
    validation: float | Fold,
    overlap: int,
    rng_partition: np.random.Generator,
    rng_validation: np.random.Generator,
) -> Deal:
    """Split a pool over `clients` offices.

    min_examples: training rows every office ends with at least, 1 or more. validation: 0 for none, a share of
    the persons in (0, 1), or a fold of them. overlap: rows of a recording that share samples with the next
    one, 1 for half-overlapping windows. The split and the rows moved draw from `rng_partition`, the
    validation persons and the dealing of their rows from `rng_validation`.

    Raises PartitionError where options, persons or minimum size do not fit the pool, and for a partition that
    breaks its own law (a row lost or dealt twice).
    """
    _check_options(clients, min_examples, validation)
    if partition.own_persons:
        offices = _checked_split(partition, pool, clients, rng_partition)
        held = [_inside_office(pool, k, rows, validation, overlap, rng_validation) for k, rows in enumerate(offices)]
        train, held_out = [part[0] for part in held], [part[1] for part in held]
        _refuse_small(partition, train, min_examples)
        moved = 0
    else:
        chosen = np.isin(pool.persons, _validation_persons(pool.persons, validation, rng_validation))
        rows, validation_rows = np.flatnonzero(~chosen), np.flatnonzero(chosen)
        training = pool.take(rows)
        offices = _checked_split(partition, training, clients, rng_partition)
        offices, moved = raise_to_minimum(training.labels, offices, pool.classes, min_examples, rng_partition)
        train = [rows[part] for part in offices]
        held_out = _deal_validation(pool, train, validation_rows, rng_validation)
    _refuse_lost_class(pool, train)
    return Deal(tuple(train), tuple(held_out), moved, measure(pool, train), _hash(train, held_out))


def _check_options(clients: int, min_examples: int, validation: float | Fold) -> None:
    if clients < 1:
        raise PartitionError(f"clients is {clients}, expected at least 1: set --clients")
    if min_examples < 1:
        raise PartitionError(f"min_examples is {min_examples}, expected at least 1: set --min-examples")
    if not isinstance(validation, Fold) and not 0 <= validation < 1:
        raise PartitionError(
            f"validation is {validation}, expected 0 (none), a share of the persons below 1, "
            "or fold(i, of=5): set --validation"
        )


def _refuse_lost_class(pool: Pool, train: list[Ints]) -> None:
    """A class that only validation persons have would be tested, and learnt by nobody."""
    lost = np.setdiff1d(pool.labels, pool.labels[np.concatenate(train)])
    if len(lost):
        persons = np.unique(pool.persons[pool.labels == lost[0]])
        raise PartitionError(
            f"class {lost[0]}: all who have it (person {', '.join(map(str, persons[:5]))}) are validation persons, so "
            "no office would learn it: set --validation 0, or another --partition-seed"
        )


def _checked_split(partition: Partition, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
    """The partition's split, held to its law: a partition is a file that anyone may add."""
    offices = partition.split(pool, clients, rng)
    dealt = np.bincount(np.concatenate(offices), minlength=len(pool))
    if len(offices) != clients or len(dealt) != len(pool) or (dealt != 1).any():
        lost, twice = int((dealt == 0).sum()), int((dealt > 1).sum())
        raise PartitionError(
            f"{partition.name}: {len(offices)} offices with {lost} of {len(pool)} rows lost and {twice} "
            f"dealt more than once, expected {clients} offices that share every row: correct its split()"
        )
    return offices


# Validation ------------------------------------------------------------------------------------------


def _validation_persons(persons: Ints, validation: float | Fold, rng: np.random.Generator) -> Ints:
    """The persons to hold out: max(1, round(share * persons)) of them drawn, or those of the fold."""
    if isinstance(validation, Fold):
        return validation.holds_out(persons)
    everyone = np.unique(persons)
    if validation == 0:
        return everyone[:0]
    number = max(1, round(validation * len(everyone)))
    if number >= len(everyone):
        raise PartitionError(
            f"validation {validation} holds out {number} of {len(everyone)} persons and none is left to "
            "train: set a lower --validation, or 0"
        )
    return rng.choice(everyone, number, replace=False)


def _inside_office(
    pool: Pool, office: int, rows: Ints, validation: float | Fold, overlap: int, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Training and validation rows of an office that owns its persons."""
    if not isinstance(validation, Fold) and validation == 0:
        return rows, rows[:0]
    persons = pool.persons[rows]
    if len(np.unique(persons)) < 2:
        return _end_of_recordings(pool.recordings, rows, validation, overlap)
    try:
        chosen = np.isin(persons, _validation_persons(persons, validation, rng))
    except PartitionError as error:
        raise PartitionError(f"inside office {office + 1}: {error}; or use fewer --clients") from error
    return rows[~chosen], rows[chosen]


def _end_of_recordings(recordings: Ints, rows: Ints, validation: float | Fold, overlap: int) -> tuple[Ints, Ints]:
    """Training and validation rows of one person: of each recording the last share, or the fold's stretch.

    Fold i of f is the i-th of f equal stretches, so that fold(4, of=5) is the last 20 %. The `overlap`
    windows of the stretch next to training rows share samples with them: they are in neither part.
    """
    train, held_out = [rows[:0]], [rows[:0]]
    for recording in np.unique(recordings[rows]):
        own = rows[recordings[rows] == recording]
        n = len(own)
        if isinstance(validation, Fold):
            start, stop = validation.i * n // validation.of, (validation.i + 1) * n // validation.of
        else:
            start, stop = n - round(validation * n), n
        train += [own[:start], own[stop:]]
        held_out.append(own[start + overlap * (start > 0) : max(start, stop - overlap * (stop < n))])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(held_out))


def _deal_validation(pool: Pool, train: list[Ints], rows: Ints, rng: np.random.Generator) -> list[Ints]:
    """Validation rows an office, so that an office is scored on the labels it trains on.

    Of a class's validation rows office k gets its share of the class's training rows.
    """
    trained = class_table(pool.labels, train, pool.classes)  # (C, K)
    totals = trained.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, trained / np.maximum(totals, 1), 1 / len(train))
    labels = pool.labels[rows]
    counts = apportion_classes(np.bincount(labels, minlength=pool.classes), shares, rng)
    return [rows[part] for part in fill(labels, counts, rng)]


# Minimum sizes ---------------------------------------------------------------------------------------


def raise_to_minimum(
    labels: Ints, offices: list[Ints], classes: int, minimum: int, rng: np.random.Generator
) -> tuple[list[Ints], int]:
    """Move rows until every office holds at least `minimum`; the new split and how many rows moved.

    The smallest office first (ties by index): it takes rows one at a time, of its own largest class (ties by
    code), from the office that holds most of it (ties by index) and stays at the minimum or above; where
    there is none, of its next class. Which of the giver's rows goes is a seeded order. Raises PartitionError
    for more than all rows.
    """
    sizes = np.array([len(rows) for rows in offices])
    if minimum * len(offices) > sizes.sum():
        reachable = sizes.sum() // len(offices)
        lower = f"--min-examples {reachable} or lower, or " if reachable else ""
        raise PartitionError(
            f"{len(offices)} offices of at least {minimum} rows need {minimum * len(offices)}, found "
            f"{sizes.sum()} training rows: set {lower}fewer --clients"
        )
    if sizes.min() >= minimum:
        return offices, 0
    counts = class_table(labels, offices, classes)  # (C, K)
    order = rng.permutation(len(labels))
    holder = np.empty(len(labels), dtype=np.int64)
    for k, rows in enumerate(offices):
        holder[rows] = k
    moved = 0
    # An office raised to the minimum never gives, and one above it is never raised: a row moves at most once.
    while sizes.min() < minimum:
        taker = int(sizes.argmin())
        for c in np.argsort(-counts[:, taker], kind="stable"):
            held = order[labels[order] == c]
            while sizes[taker] < minimum:
                givable = np.where((sizes > minimum) & (counts[c] > 0), counts[c], 0)
                giver = int(givable.argmax())
                if not givable[giver]:
                    break
                row = held[np.argmax(holder[held] == giver)]
                holder[row] = taker
                counts[c, [giver, taker]] += [-1, 1]
                sizes[[giver, taker]] += [-1, 1]
                moved += 1
    return [np.flatnonzero(holder == k) for k in range(len(offices))], moved


def _refuse_small(partition: Partition, train: list[Ints], minimum: int) -> None:
    """Persons that belong to an office cannot be moved to fill another one."""
    for k, rows in enumerate(train):
        if len(rows) < minimum:
            remedy = f"--min-examples {len(rows)} or lower" if len(rows) else "a lower --validation"
            raise PartitionError(
                f"{partition.name}: office {k + 1} trains on {len(rows)} rows, expected at least {minimum}, "
                f"and a person's rows stay at one office: set {remedy}, or split into fewer offices"
            )


def _hash(train: list[Ints], validation: list[Ints]) -> str:
    """First 16 hex digits of the SHA-256 of all row numbers, with the number of rows before each office's."""
    digest = hashlib.sha256()
    for rows in (*train, *validation):
        digest.update(np.append(len(rows), rows).astype("<i8").tobytes())
    return digest.hexdigest()[:16]
