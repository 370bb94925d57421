"""Folds of persons are dealt once, alike in every run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partitions import Fold
from tests.partitions.pools import error_of


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ids=st.sets(st.integers(-5, 10_000), min_size=2, max_size=40), of=st.integers(2, 12))
def test_folds_hold_every_person_once_as_evenly_as_possible(ids: set[int], of: int) -> None:
    of = min(of, len(ids))
    folds = [Fold(i, of).holds_out(np.array(sorted(ids))) for i in range(of)]
    assert sorted(np.concatenate(folds).tolist()) == sorted(ids)
    assert {len(fold) for fold in folds} <= {len(ids) // of, -(-len(ids) // of)}
    for fold in folds:
        assert (np.diff(fold) > 0).all()


def test_order_and_repeats_of_persons_do_not_matter() -> None:
    persons = np.arange(1, 31)
    shuffled = np.random.default_rng(0).permutation(np.repeat(persons, 3))
    for i in range(6):
        assert np.array_equal(Fold(i, 6).holds_out(shuffled), Fold(i, 6).holds_out(persons))


def test_the_published_deal_of_thirty_persons() -> None:
    """Golden: a changed deal changes every result by folds, so it must not change unnoticed."""
    folds = [Fold(i, 6).holds_out(np.arange(1, 31)).tolist() for i in range(6)]
    assert folds == GOLDEN


GOLDEN = [
    [4, 10, 23, 25, 30],
    [2, 12, 15, 21, 29],
    [7, 8, 9, 14, 19],
    [13, 18, 20, 22, 27],
    [1, 16, 17, 24, 28],
    [3, 5, 6, 11, 26],
]


def test_folds_are_dealt_at_random_not_in_order_of_id() -> None:
    assert not np.array_equal(Fold(0, 6).holds_out(np.arange(30)), np.arange(5))
    assert not np.array_equal(Fold(0, 6).holds_out(np.arange(30)), np.arange(0, 30, 6))


@pytest.mark.parametrize(
    ("i", "of", "expected"),
    [
        (0, 1, "of is 1, expected at least 2"),
        (0, 0, "of is 0, expected at least 2"),
        (5, 5, "i is 5, expected 0 to 4 with of=5"),
        (-1, 5, "i is -1, expected 0 to 4"),
        (0.5, 5, "i is 0.5, expected a whole number"),
        (0, "5", "of is '5', expected a whole number"),
        (True, 5, "i is True, expected a whole number"),
    ],
)
def test_impossible_folds_are_refused(i: int, of: int, expected: str) -> None:
    message = error_of(Fold, i, of)
    assert message.startswith("fold: ")
    assert expected in message


def test_more_folds_than_persons_are_refused() -> None:
    message = error_of(Fold(0, 6).holds_out, np.array([4, 4, 9, 2]))
    assert "needs 6 persons, found 3" in message
    assert "choose of=3 or fewer" in message
    assert "choose no fold" in error_of(Fold(0, 2).holds_out, np.array([4, 4]))
