"""Measures of unevenness against their definitions, known values and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance
from scipy.stats import entropy

from partitions.measures import entropy_bits, gini, gini_normalised, js_distance, measure
from tests.partitions.pools import make_pool

sizes_strategy = st.lists(st.integers(0, 5000), min_size=1, max_size=12).filter(any)
tables = st.integers(1, 6).flatmap(
    lambda classes: st.lists(
        st.lists(st.integers(0, 9), min_size=classes, max_size=classes).filter(any), min_size=1, max_size=6
    )
)


def pool_of(table: list[list[int]]):
    """A pool and offices with these class counts, a row a list entry of each office."""
    labels = np.concatenate([np.repeat(np.arange(len(row)), row) for row in table])
    cuts = np.cumsum([sum(row) for row in table])[:-1]
    offices = np.split(np.arange(len(labels)), cuts)
    return make_pool(labels, np.arange(len(labels)), classes=len(table[0])), offices


@settings(max_examples=100, deadline=None, derandomize=True)
@given(sizes=sizes_strategy)
def test_gini_is_half_the_relative_mean_difference(sizes: list[int]) -> None:
    offices = len(sizes)
    differences = sum(abs(a - b) for a in sizes for b in sizes)
    assert gini(np.array(sizes)) == pytest.approx(differences / (2 * offices * sum(sizes)), abs=1e-12)
    if offices > 1:
        assert gini_normalised(np.array(sizes)) == pytest.approx(
            differences / (2 * (offices - 1) * sum(sizes)), abs=1e-12
        )


@pytest.mark.parametrize(
    ("sizes", "plain", "normalised"),
    [([5, 5, 5, 5], 0, 0), ([0, 0, 0, 9], 0.75, 1), ([9, 0], 0.5, 1), ([1, 3], 0.25, 0.5), ([7], 0, 0)],
)
def test_gini_of_known_sizes(sizes: list[int], plain: float, normalised: float) -> None:
    assert gini(np.array(sizes)) == pytest.approx(plain)
    assert gini_normalised(np.array(sizes)) == pytest.approx(normalised)


def test_the_largest_gini_with_a_minimum_of_64_rows() -> None:
    """Four offices of the official training rows: 0.72 with a minimum size, 0.75 without."""
    assert gini(np.array([64, 64, 64, 7352 - 3 * 64])) == pytest.approx(0.72, abs=0.005)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), classes=st.integers(1, 9), nearness=st.sampled_from([0, 1e-15, 1e-9, 1]))
def test_js_distance_is_scipys_in_base_two(seed: int, classes: int, nearness: float) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.3))
    q = (1 - nearness) * p + nearness * rng.dirichlet(np.full(classes, 0.3))
    ours = js_distance(p, q)
    with np.errstate(invalid="ignore"):
        theirs = distance.jensenshannon(p, q, base=2)
    assert 0 <= ours <= 1
    assert ours == pytest.approx(0 if math.isnan(theirs) else theirs, abs=1e-7)
    assert ours == pytest.approx(js_distance(q, p), abs=1e-7)


def test_js_distance_of_known_distributions() -> None:
    apart = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert js_distance(*apart) == 1
    assert js_distance(apart[0], apart[0]) == 0
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): H(m) - (H(p) + H(q)) / 2 = 2 - 3/4 log2 3 - 1/2
    assert js_distance(apart[0], np.array([0.5, 0.5])) == pytest.approx(math.sqrt(1.5 - 0.75 * math.log2(3)))


def test_entropy_of_known_distributions() -> None:
    assert entropy_bits(np.array([0.25] * 4)) == 2
    assert entropy_bits(np.array([1.0, 0.0])) == 0
    assert math.copysign(1, entropy_bits(np.array([1.0]))) == 1  # never -0.0, which a record would print
    assert entropy_bits(np.array([0.2, 0.3, 0.5])) == pytest.approx(entropy([0.2, 0.3, 0.5], base=2))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(table=tables)
def test_every_figure_of_a_split_follows_from_its_class_counts(table: list[list[int]]) -> None:
    pool, offices = pool_of(table)
    result = measure(pool, offices)
    n, classes = len(pool), len(table[0])
    joint = np.array(table) / n  # (K, C)
    pooled, a = joint.sum(axis=0), joint.sum(axis=1)
    entropies, distances = [], []
    for office, row in zip(result.offices, table, strict=True):
        assert office.num_examples == office.num_persons == sum(row)
        assert office.class_counts == tuple(row)
        p = np.array(row) / sum(row)
        entropies.append(0 if classes == 1 else entropy(p, base=2) / math.log2(classes))
        distances.append(
            math.sqrt(
                max(
                    0,
                    entropy((p + pooled) / 2, base=2) - entropy(p, base=2) / 2 - entropy(pooled, base=2) / 2,
                )
            )
        )
        assert office.entropy == pytest.approx(entropies[-1], abs=1e-12)
        assert office.js_distance == pytest.approx(distances[-1], abs=1e-7)
    assert result.entropy == pytest.approx(a @ entropies, abs=1e-12)
    assert result.js_distance == pytest.approx(a @ distances, abs=1e-7)
    # H(pooled) - sum a_i H(p_i) is the mutual information of label and office
    terms = [
        joint[k, c] * math.log2(joint[k, c] / (a[k] * pooled[c]))
        for k in range(len(table))
        for c in range(classes)
        if joint[k, c]
    ]
    assert result.information == pytest.approx(sum(terms), abs=1e-12)
    assert result.information >= 0


def test_two_offices_of_one_class_each() -> None:
    pool, offices = pool_of([[8, 0], [0, 8]])
    result = measure(pool, offices)
    assert (result.gini, result.entropy, result.information) == (0, 0, 1)
    assert result.js_distance == pytest.approx(math.sqrt(1.5 - 0.75 * math.log2(3)))


def test_an_even_split_is_even() -> None:
    pool, offices = pool_of([[4, 4], [4, 4], [4, 4]])
    result = measure(pool, offices)
    assert (result.gini, result.gini_normalised, result.js_distance, result.information) == (0, 0, 0, 0)
    assert result.entropy == 1


def test_persons_of_an_office_are_counted_once() -> None:
    pool = make_pool([0, 1, 0, 1], [7, 7, 7, 9])
    result = measure(pool, [np.array([0, 1]), np.array([2, 3])])
    assert [office.num_persons for office in result.offices] == [1, 2]


def test_an_empty_office_is_measured_without_a_warning() -> None:
    pool = make_pool([0, 1], [0, 1])
    with np.errstate(all="raise"):
        empty = measure(pool, [np.array([0, 1]), np.array([], dtype=int)]).offices[1]
    assert (empty.num_examples, empty.entropy, empty.js_distance) == (0, 0, 0)
