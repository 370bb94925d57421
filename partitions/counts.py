"""Splits by label are tables: `counts[c, k]` rows of class c go to office k.

A partition that looks at labels alone decides the table; which rows fill it is a seeded shuffle within each
class. These functions make tables and fill them; each sums to the pool's class counts exactly, row by row.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from partitions.base import Floats, Ints


def apportion(total: int, shares: Floats, rng: np.random.Generator) -> Ints:
    """`total` rows by shares (K,) that sum to 1: largest remainders, equal remainders in a seeded order."""
    exact: Floats = total * shares / shares.sum()
    whole: Ints = np.floor(exact).astype(np.int64)
    shuffled = rng.permutation(len(shares))
    # rounded so that remainders equal but for floating point count as equal
    remainder = np.round(exact - whole, 9)[shuffled]
    by_remainder = shuffled[np.argsort(-remainder, kind="stable")]
    whole[by_remainder[: total - whole.sum()]] += 1
    return whole


def apportion_classes(class_counts: Ints, shares: Floats, rng: np.random.Generator) -> Ints:
    """The table (C, K) in which class c is dealt by the shares of row c; shares (C, K), rows sum to 1."""
    return np.stack([apportion(int(n), row, rng) for n, row in zip(class_counts, shares, strict=True)])


def fill(labels: Ints, counts: Ints, rng: np.random.Generator) -> list[Ints]:
    """Rows an office, ascending, for a table (C, K) that sums to the class counts of `labels`."""
    classes, clients = counts.shape
    parts: list[list[Ints]] = [[] for _ in range(clients)]
    for c in range(classes):
        rows = rng.permutation(np.flatnonzero(labels == c))
        cuts = np.concatenate([[0], np.cumsum(counts[c])])
        for k, (start, stop) in enumerate(pairwise(cuts)):
            parts[k].append(rows[start:stop])
    return [np.sort(np.concatenate(part)) for part in parts]


def stratify(class_counts: Ints, sizes: Ints) -> Ints:
    """The table (C, K) with these office sizes and, in every office, the labels of the pool.

    The j-th row of an office of n rows claims place (j + 1/2) / n of the label-sorted rows; offices take
    places in that order. Every stretch of rows, so every class, is then shared in proportion to the sizes to
    within 1 + K n_k / n rows, sizes are exact, and equal sizes give the pilot's row number modulo K.
    """
    place = np.concatenate([(np.arange(n) + 0.5) / n for n in sizes])
    office = np.repeat(np.arange(len(sizes)), sizes)[np.argsort(place, kind="stable")]
    label = np.repeat(np.arange(len(class_counts)), class_counts)
    counts = np.zeros((len(class_counts), len(sizes)), dtype=np.int64)
    np.add.at(counts, (label, office), 1)
    return counts


def even_sizes(total: int, clients: int) -> Ints:
    """`total` rows in parts that differ by at most one, the larger ones first."""
    return np.full(clients, total // clients) + (np.arange(clients) < total % clients)


def majority_shares(majorities: list[Ints], classes: int, ratio: float) -> Floats:
    """Shares (C, K) of a class by office: `ratio` evenly to its majority offices, the rest evenly to others.

    majorities: arrays (K,), each naming a majority class of every office. A class that is a majority class of
    all offices, or of none, is shared evenly.
    """
    clients = len(majorities[0])
    majority = np.zeros((classes, clients), dtype=np.bool_)
    for chosen in majorities:
        majority[chosen, np.arange(clients)] = True
    holders = majority.sum(axis=1, keepdims=True)  # (C, 1)
    others = clients - holders
    shares: Floats = np.where(majority, ratio / np.maximum(holders, 1), (1 - ratio) / np.maximum(others, 1))
    shares[((holders == 0) | (others == 0))[:, 0]] = 1 / clients
    return shares
