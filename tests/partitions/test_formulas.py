"""Each partition against its formula, computed another way: by hand, by loops, from the same draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partitions import Pool
from partitions.by_person import ByPerson
from partitions.counts import apportion, even_sizes, stratify
from partitions.dirichlet import Dirichlet
from partitions.dirichlet_even import DirichletEven
from partitions.iid import IID
from partitions.majority import Majority
from partitions.majority_even import MajorityEven
from partitions.measures import gini, measure
from partitions.one_person_per_client import OnePersonPerClient
from partitions.pick_two import PickTwo
from partitions.quantity import Quantity
from partitions.shards import Shards
from partitions.sizes import Sizes, geometric_shares
from partitions.stratified import Stratified
from tests.partitions.pools import UCI_TRAIN, error_of, har_like, make_pool, pools, split, table, uci_like

UCI = uci_like()
many = settings(max_examples=60, deadline=None, derandomize=True)
clients_strategy = st.integers(1, 12)


def balanced(classes: int, each: int) -> Pool:
    return make_pool(np.repeat(np.arange(classes), each), np.zeros(classes * each))


# Tables -----------------------------------------------------------------------------------------------


@many
@given(
    total=st.integers(0, 5000),
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=9).filter(lambda w: sum(w) > 0.01),
)
def test_apportion_rounds_up_the_largest_remainders(total: int, weights: list[float]) -> None:
    shares = np.array(weights) / sum(weights)
    counts = apportion(total, shares, np.random.default_rng(0))
    exact = total * shares
    assert counts.sum() == total
    assert (np.abs(counts - exact) < 1 + 1e-9).all()
    up, down = counts > exact, counts < exact
    if up.any() and down.any():
        assert (exact % 1)[up].min() >= (exact % 1)[down].max() - 1e-8


def test_apportion_breaks_ties_by_seed_and_not_by_index() -> None:
    winners = {tuple(apportion(1, np.full(3, 1 / 3), np.random.default_rng(seed))) for seed in range(30)}
    assert winners == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}


@many
@given(pool=pools(max_rows=400), seed=st.integers(0, 99), clients=clients_strategy)
def test_stratify_has_the_sizes_and_the_labels_of_the_pool(pool: Pool, seed: int, clients: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = apportion(len(pool), rng.dirichlet(np.full(clients, 0.5)), rng)
    counts = stratify(pool.class_counts, sizes)
    assert np.array_equal(counts.sum(axis=0), sizes)
    assert np.array_equal(counts.sum(axis=1), pool.class_counts)
    a = sizes / len(pool)
    assert (np.abs(counts - np.outer(pool.class_counts, a)) <= 1 + clients * a + 1e-9).all()


def test_a_small_office_takes_the_middle_of_the_label_sorted_rows() -> None:
    # places 1/8 3/8 5/8 7/8 of the large office, 1/2 of the small one
    assert stratify(np.array([2, 1, 2]), np.array([4, 1])).tolist() == [[2, 0], [0, 1], [2, 0]]


def test_even_sizes() -> None:
    assert even_sizes(11, 4).tolist() == [3, 3, 3, 2]


# Even splits ------------------------------------------------------------------------------------------


def test_iid_offices_are_equal_in_size_and_alike_in_labels() -> None:
    offices = split(IID(), UCI, 4)
    assert [len(rows) for rows in offices] == [1838] * 4
    # chi-squared of a random deal has mean 15 at 15 degrees of freedom; 37.7 is its 99.9 % point
    expected = UCI_TRAIN[:, None] / 4
    assert ((table(UCI, offices) - expected) ** 2 / expected).sum() < 37.7


def test_stratified_is_the_pilots_row_number_modulo_k() -> None:
    offices = split(Stratified(), UCI, 4)
    by_label = sorted(range(len(UCI)), key=lambda row: (UCI.labels[row], row))
    for k, rows in enumerate(offices):
        assert rows.tolist() == sorted(row for place, row in enumerate(by_label) if place % 4 == k)
    assert [len(rows) for rows in offices] == [1838] * 4


@many
@given(pool=pools(), clients=clients_strategy)
def test_stratified_classes_differ_by_at_most_one(pool: Pool, clients: int) -> None:
    counts = table(pool, split(Stratified(), pool, clients))
    assert (np.ptp(counts, axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= 1


# Dirichlet --------------------------------------------------------------------------------------------


@many
@given(pool=pools(max_rows=500), clients=clients_strategy, seed=st.integers(0, 2**32))
def test_dirichlet_deals_each_class_by_the_shares_drawn(pool: Pool, clients: int, seed: int) -> None:
    counts = table(pool, split(Dirichlet(0.3), pool, clients, seed))
    same = np.random.default_rng(seed)
    for c, n in enumerate(pool.class_counts):
        shares = same.dirichlet([0.3] * clients)
        assert (np.abs(counts[c] - n * shares) < 1 + 1e-6).all()


def test_dirichlet_sizes_have_the_known_mean_gini() -> None:
    """Four offices, alpha 0.1, the official class counts: 0.29 (standard error of 400 draws 0.006)."""
    ginis = [gini(np.array([len(rows) for rows in split(Dirichlet(0.1), UCI, 4, seed)])) for seed in range(400)]
    assert np.mean(ginis) == pytest.approx(0.295, abs=0.018)


def test_dirichlet_spans_one_office_a_class_to_the_even_deal() -> None:
    single = table(UCI, split(Dirichlet(1e-4), UCI, 4))
    assert np.array_equal(single.max(axis=1), UCI_TRAIN)
    even = table(UCI, split(Dirichlet(1e6), UCI, 4))
    assert (np.abs(even - UCI_TRAIN[:, None] / 4) <= 0.01 * UCI_TRAIN[:, None]).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(pool=pools(), clients=clients_strategy, seed=st.integers(0, 2**32), alpha=st.sampled_from([1e-6, 0.1, 5]))
def test_dirichlet_even_draws_row_by_row_without_replacement(pool: Pool, clients: int, seed: int, alpha: float) -> None:
    """The same draws, a row at a time: a class by inverse distribution among those with rows left."""
    counts = table(pool, split(DirichletEven(alpha), pool, clients, seed))
    rng = np.random.default_rng(seed)
    left = {c: int(n) for c, n in enumerate(pool.class_counts) if n}
    present, n = list(left), len(pool)
    q = rng.dirichlet([alpha * len(present) * left[c] / n for c in present], size=clients)
    expected = np.zeros_like(counts)
    for turn, u in enumerate(rng.random(n)):
        k = turn % clients
        weights = {c: q[k][present.index(c)] for c in left}
        if not any(weights.values()):
            weights = {c: pool.class_counts[c] for c in left}
        reached = np.cumsum(list(weights.values()))
        c = list(weights)[int((reached <= u * reached[-1]).sum())]
        expected[c, k] += 1
        left[c] -= 1
        if not left[c]:
            del left[c]
    assert np.array_equal(counts, expected)


@many
@given(pool=pools(), clients=clients_strategy)
def test_dirichlet_even_sizes_are_even(pool: Pool, clients: int) -> None:
    sizes = [len(rows) for rows in split(DirichletEven(0.1), pool, clients)]
    assert sizes == even_sizes(len(pool), clients).tolist()


def test_dirichlet_even_skews_labels_by_alpha_alone() -> None:
    """Label distance falls from strong skew to chance as alpha rises; sizes never move."""
    distances = []
    for alpha in (0.05, 0.5, 5.0, 1e6):
        results = [measure(UCI, split(DirichletEven(alpha), UCI, 4, seed)) for seed in range(10)]
        assert {result.gini for result in results} == {0.0}
        distances.append(np.mean([result.js_distance for result in results]))
    assert (np.diff(distances) < 0).all()
    assert distances[0] > 0.45
    assert distances[-1] < 0.03


# Shards -----------------------------------------------------------------------------------------------


@many
@given(
    shape=st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 12)).filter(
        lambda s: s[1] <= s[0] <= s[1] * s[2]
    ),
    seed=st.integers(0, 2**32),
)
def test_shards_are_exactly_c_distinct_classes_split_evenly(shape: tuple[int, int, int], seed: int) -> None:
    classes, own, clients = shape
    counts = table(*(lambda pool: (pool, split(Shards(own), pool, clients, seed)))(balanced(classes, 25)))
    held = counts > 0
    assert (held.sum(axis=0) == own).all()
    assert held.any(axis=1).all()
    for row in counts:
        assert np.ptp(row[row > 0]) <= 1


def test_shards_of_every_class_are_the_even_deal() -> None:
    counts = table(UCI, split(Shards(6), UCI, 4))
    assert (np.ptp(counts, axis=1) <= 1).all()


def test_shards_leave_absent_classes_aside() -> None:
    pool = make_pool(np.repeat([0, 2, 5], 20), np.zeros(60), classes=7)
    counts = table(pool, split(Shards(2), pool, 3))
    assert ((counts > 0).sum(axis=0) == 2).all()


def test_shards_are_dealt_to_different_offices_by_different_seeds() -> None:
    deals = {(table(UCI, split(Shards(2), UCI, 4, seed)) > 0).tobytes() for seed in range(20)}
    assert len(deals) == 20


def test_shards_refuse_too_few_and_too_many_classes() -> None:
    message = error_of(split, Shards(1), UCI, 4)
    assert message == (
        "shards: 4 offices x 1 classes leave some of 6 classes without an office: set classes=2 or more, or "
        "more --clients"
    )
    message = error_of(split, Shards(7), UCI, 4)
    assert "classes is 7, found 6 classes with training rows: set classes=6 or fewer" in message


# Sizes ------------------------------------------------------------------------------------------------


@many
@given(pool=pools(max_rows=500), clients=clients_strategy, seed=st.integers(0, 2**32))
def test_quantity_sizes_are_the_shares_drawn(pool: Pool, clients: int, seed: int) -> None:
    sizes = np.array([len(rows) for rows in split(Quantity(0.3), pool, clients, seed)])
    shares = np.random.default_rng(seed).dirichlet([0.3] * clients)
    assert (np.abs(sizes - len(pool) * shares) < 1 + 1e-6).all()


@pytest.mark.parametrize("partition", [Quantity(0.3), Sizes((0.55, 0.25, 0.15, 0.05)), Sizes(gini=0.6)])
def test_labels_stay_alike_where_sizes_vary(partition: Quantity | Sizes) -> None:
    result = measure(UCI, split(partition, UCI, 4, seed=2))
    assert result.gini > 0.3
    assert result.information < 1e-4
    assert result.js_distance < 0.01


def test_sizes_are_the_shares_of_the_rows() -> None:
    # 4043.6, 1838, 1102.8 and 367.6 rows: one row goes to .8, the other to either .6
    sizes = {tuple(len(rows) for rows in split(Sizes((0.55, 0.25, 0.15, 0.05)), UCI, 4, seed)) for seed in range(10)}
    assert sizes == {(4044, 1838, 1103, 367), (4043, 1838, 1103, 368)}


@pytest.mark.parametrize("g", [0, 0.2, 0.4, 0.6, 0.7])
@pytest.mark.parametrize("clients", [4, 9])
def test_sizes_have_the_gini_asked_for(g: float, clients: int) -> None:
    shares = geometric_shares(g, clients) / geometric_shares(g, clients).sum()
    assert gini(shares) == pytest.approx(g, abs=1e-12)
    assert np.allclose(shares[1:] / shares[:-1], shares[1] / shares[0])  # proportional to r^k
    sizes = np.array([len(rows) for rows in split(Sizes(gini=g), UCI, clients)])
    assert gini(sizes) == pytest.approx(g, abs=1e-3)
    assert (np.diff(sizes) <= 1).all()  # the first office is the largest


def test_two_offices_of_known_gini() -> None:
    # shares 1 and r: G = (1 - r) / (2 (1 + r)) = 0.25 at r = 1/3
    assert np.allclose(geometric_shares(0.25, 2), [1, 1 / 3])


def test_equal_sizes_reduce_to_the_stratified_split() -> None:
    expected = table(UCI, split(Stratified(), UCI, 4))
    assert np.array_equal(table(UCI, split(Sizes((0.25,) * 4), UCI, 4)), expected)
    assert np.array_equal(table(UCI, split(Sizes(gini=0), UCI, 4)), expected)


def test_shares_may_come_as_a_list_and_prescribe_the_offices() -> None:
    partition = Sizes([0.5, 0.5])  # type: ignore[arg-type]
    assert partition == Sizes((0.5, 0.5))
    assert hash(partition) == hash(Sizes((0.5, 0.5)))
    assert partition.prescribed_clients(21) == 2
    assert Sizes(gini=0.1).prescribed_clients(21) is None


def test_sizes_refuse_what_they_cannot_reach() -> None:
    message = error_of(split, Sizes((0.5, 0.5)), UCI, 4)
    assert message == ("sizes: 2 shares for 4 offices, expected one for each: set --clients 2 or give 4 shares")
    message = error_of(split, Sizes(gini=0.75), UCI, 4)
    assert "gini is 0.75, expected below 0.75, the most that 4 offices can reach" in message
    assert "more --clients" in message
    assert len(split(Sizes(gini=0), UCI, 1)) == 1
    assert "expected below 0, the most that 1 offices" in error_of(split, Sizes(gini=0.1), UCI, 1)


# Majorities -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partition", "classes", "clients", "expected"),
    [
        # two classes of 20 rows: 80 % to the class's own office
        (Majority(0.8), 2, 2, [[16, 4], [4, 16]]),
        # offices 0 and 2 share class 0, offices 1 and 3 class 1
        (Majority(0.8), 2, 4, [[8, 2, 8, 2], [2, 8, 2, 8]]),
        # nobody's majority, class 2 is dealt evenly
        (Majority(0.8), 3, 2, [[16, 4], [4, 16], [10, 10]]),
        (Majority(1.0), 2, 2, [[20, 0], [0, 20]]),
        (Majority(0.0), 2, 2, [[0, 20], [20, 0]]),
        # ratio 1/K is the even deal
        (Majority(0.25), 4, 4, [[5] * 4] * 4),
        # everybody's majority is dealt evenly
        (Majority(0.8), 1, 4, [[5] * 4]),
        # classes 0 and 1 at office 0, 2 and 3 at office 1
        (PickTwo(0.7), 4, 2, [[14, 6], [14, 6], [6, 14], [6, 14]]),
        # an odd number of classes: office 0 has 0 and 1, office 1 has 2 and 0
        (PickTwo(0.7), 3, 2, [[10, 10], [14, 6], [6, 14]]),
        # four offices over two pairs of classes
        (PickTwo(0.8), 4, 4, [[8, 2, 8, 2], [8, 2, 8, 2], [2, 8, 2, 8], [2, 8, 2, 8]]),
        (PickTwo(0.8), 1, 4, [[5] * 4]),
        (MajorityEven(0.8), 2, 2, [[16, 4], [4, 16]]),
        # office 0 holds all of class 0 and half of class 2 and so on: already even
        (MajorityEven(1.0), 3, 3, [[20, 0, 0], [0, 20, 0], [0, 0, 20]]),
        # majority(1) gives 10, 20, 10 rows: 40 in all, 14 + 13 + 13; office 1 can only give its own class
        (MajorityEven(1.0), 2, 3, None),
    ],
)
def test_majorities_of_small_pools(
    partition: Majority | PickTwo | MajorityEven, classes: int, clients: int, expected: list[list[int]] | None
) -> None:
    pool = balanced(classes, 20)
    counts = table(pool, split(partition, pool, clients))
    if expected is None:
        assert counts.sum(axis=0).tolist() == [14, 13, 13]
        assert counts[0].tolist() == [10, 0, 10]
    else:
        assert counts.tolist() == expected


@many
@given(
    pool=pools(max_rows=400),
    clients=clients_strategy,
    ratio=st.floats(0, 1),
    two=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_class_is_shared_by_the_ratio(pool: Pool, clients: int, ratio: float, two: bool, seed: int) -> None:
    counts = table(pool, split(PickTwo(ratio) if two else Majority(ratio), pool, clients, seed))
    for c, n in enumerate(pool.class_counts):
        wanted = [
            {(2 * k) % pool.classes, (2 * k + 1) % pool.classes} if two else {k % pool.classes} for k in range(clients)
        ]
        holders = [k for k in range(clients) if c in wanted[k]]
        for k in range(clients):
            if len(holders) in (0, clients):
                exact = n / clients
            elif k in holders:
                exact = n * ratio / len(holders)
            else:
                exact = n * (1 - ratio) / (clients - len(holders))
            assert abs(counts[c, k] - exact) < 1 + 1e-6


def test_pick_two_deals_on_where_the_pilots_ran_out_of_rows() -> None:
    """Eight offices, six classes, a ratio of 1 and a class of two rows: every row dealt, no office asked for
    more."""
    pool = make_pool(np.repeat(np.arange(6), [2, 90, 30, 40, 5, 60]), np.zeros(227))
    counts = table(pool, split(PickTwo(1.0), pool, 8))
    assert np.array_equal(counts.sum(axis=1), pool.class_counts)
    majority = np.zeros((6, 8), dtype=bool)
    for k in range(8):
        majority[[2 * k % 6, (2 * k + 1) % 6], k] = True
    assert not counts[~majority].any()


@many
@given(pool=pools(max_rows=400), clients=clients_strategy, ratio=st.floats(0, 1), seed=st.integers(0, 99))
def test_majority_even_moves_majority_rows_last(pool: Pool, clients: int, ratio: float, seed: int) -> None:
    before = table(pool, split(Majority(ratio), pool, clients, seed))
    after = table(pool, split(MajorityEven(ratio), pool, clients, seed))
    target = even_sizes(len(pool), clients)
    assert np.array_equal(after.sum(axis=0), target)
    for k in range(clients):
        own = k % pool.classes
        if before[:, k].sum() > target[k]:  # a giver
            assert (after[:, k] <= before[:, k]).all()
            others_gone = np.delete(after[:, k], own).sum() == 0
            assert after[own, k] == before[own, k] or others_gone
        else:
            assert (after[:, k] >= before[:, k]).all()


# Persons ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [1, 3, 4, 10])
def test_by_person_offices_are_even_in_persons(clients: int) -> None:
    pool = har_like(persons=10)
    offices = split(ByPerson(), pool, clients)
    persons = [set(pool.persons[rows].tolist()) for rows in offices]
    assert {len(own) for own in persons} <= {10 // clients, -(-10 // clients)}
    assert sum(len(own) for own in persons) == 10
    assert set.union(*persons) == set(pool.persons.tolist())


def test_one_person_per_client_is_the_persons_in_order() -> None:
    pool = make_pool([0, 0, 1, 1, 0], [9, 2, 9, 5, 2])
    assert [rows.tolist() for rows in split(OnePersonPerClient(), pool, 3)] == [[1, 4], [3], [0, 2]]
    assert OnePersonPerClient().prescribed_clients(21) == 21


def test_persons_and_offices_must_match() -> None:
    pool = har_like(persons=3)
    assert error_of(split, ByPerson(), pool, 4) == (
        "by_person: 3 training persons for 4 offices, expected at least one each: set --clients 3 or lower"
    )
    for clients in (2, 4):
        assert error_of(split, OnePersonPerClient(), pool, clients) == (
            f"one_person_per_client: 3 training persons for {clients} offices, expected one each: set "
            "--clients 3, or use by_person"
        )


# Options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Dirichlet, DirichletEven, Quantity])
@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf"), 2e6, "0.3", True, None])
def test_alpha_out_of_range_is_refused(kind: type[Dirichlet], alpha: float) -> None:
    message = error_of(kind, alpha)
    assert f"alpha is {alpha!r}, expected a number above 0 and at most 1e+06; for example {kind(1).name}(" in message


@pytest.mark.parametrize("kind", [Majority, MajorityEven, PickTwo])
@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan"), "most"])
def test_ratio_out_of_range_is_refused(kind: type[Majority], ratio: float) -> None:
    message = error_of(kind, ratio)
    assert f"ratio is {ratio!r}, expected a number at least 0 and at most 1; for example" in message


@pytest.mark.parametrize("classes", [0, -2, 1.5, 2.0, "2", True])
def test_shards_of_no_whole_number_are_refused(classes: int) -> None:
    message = error_of(Shards, classes)
    assert (
        message == f"shards: classes is {classes!r}, expected a whole number at least 1; for example shards(classes=2)"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "shares is None and gini is None, expected one of them"),
        ({"shares": (1.0,), "gini": 0.1}, "shares is (1.0,) and gini is 0.1, expected one of them"),
        ({"gini": -0.1}, "gini is -0.1, expected a number at least 0 and at most 1"),
        ({"gini": "much"}, "gini is 'much', expected a number"),
        ({"shares": 0.4}, "shares is 0.4, expected a list of numbers above 0"),
        ({"shares": []}, "shares is [], expected a list"),
        ({"shares": [1.5, -0.5]}, "shares is [1.5, -0.5], expected a list of numbers above 0"),
        ({"shares": [0.5, "half"]}, "expected a list of numbers above 0"),
        ({"shares": [0.5, 0.4]}, "shares [0.5, 0.4] sum to 0.9, expected 1: divide each by the sum"),
        ({"shares": [0.5, 0.500002]}, "expected 1"),
    ],
)
def test_sizes_refuse_shares_and_ginis_that_are_none(options: dict[str, object], expected: str) -> None:
    message = error_of(Sizes, **options)
    assert message.startswith("sizes: ")
    assert expected in message


def test_shares_may_miss_one_by_rounding() -> None:
    assert sum(len(rows) for rows in split(Sizes((0.3333333, 0.3333333, 0.3333333)), UCI, 3)) == 7352
