"""Size skew as asked for: office sizes by given shares, or by a given Gini. Labels alike at every office."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from partitions.base import Floats, Ints, Partition, PartitionError, Pool
from partitions.counts import apportion, fill, stratify
from partitions.measures import gini as gini_of


@dataclass(frozen=True)
class Sizes(Partition):
    """`sizes(shares=[0.55, 0.25, 0.15, 0.05])`: office k holds that share of all rows, and the pooled labels.

    `sizes(gini=g)`: shares proportional to r^k, k = 0..K-1, with r in (0, 1] solved for a Gini of g, so the
    first office is the largest; g = 0 is equal sizes. g is below (K-1)/K, the Gini of one office holding all.
    Sizes are exact to a row. The size axis of a benchmark: unlike those of `quantity` they hold for every
    seed, but for a row where two offices have equal remainders.

    shares: one above 0 for each office, summing to 1 within 1e-6. Give one of shares and gini.
    """

    shares: tuple[float, ...] | None = None
    gini: float | None = None
    examples = ({"shares": (0.55, 0.25, 0.15, 0.05)}, {"gini": 0.4})

    def __post_init__(self) -> None:
        if (self.shares is None) == (self.gini is None):
            raise PartitionError(
                f"sizes: shares is {self.shares} and gini is {self.gini}, expected one of them; for example "
                "sizes(shares=[0.55, 0.25, 0.15, 0.05]) or sizes(gini=0.4)"
            )
        if self.gini is not None:
            self.require_number("gini", 0, 1)
        else:
            object.__setattr__(self, "shares", _checked(self.shares))

    def prescribed_clients(self, persons: int) -> int | None:
        return None if self.shares is None else len(self.shares)

    def split(self, pool: Pool, clients: int, rng: np.random.Generator) -> list[Ints]:
        sizes = apportion(len(pool), self._office_shares(clients), rng)
        return fill(pool.labels, stratify(pool.class_counts, sizes), rng)

    def _office_shares(self, clients: int) -> Floats:
        if self.gini is not None:
            return geometric_shares(self.gini, clients)
        assert self.shares is not None
        if len(self.shares) != clients:
            raise PartitionError(
                f"sizes: {len(self.shares)} shares for {clients} offices, expected one for each: "
                f"set --clients {len(self.shares)} or give {clients} shares"
            )
        return np.array(self.shares)


def geometric_shares(g: float, clients: int) -> Floats:
    """Shares (K,) proportional to r^k with Gini g; as r goes from 0 to 1, G falls from (K-1)/K to 0."""
    top = (clients - 1) / clients
    if g >= top and g > 0:
        raise PartitionError(
            f"sizes: gini is {g:g}, expected below {top:g}, the most that {clients} offices can reach: set a "
            "lower gini or more --clients"
        )
    power = np.arange(clients, dtype=np.float64)
    low, high = 0.0, 1.0
    for _ in range(60):  # bisection, to the last bit of r
        r = (low + high) / 2
        low, high = (r, high) if gini_of(np.power(r, power)) > g else (low, r)
    return np.power(high, power)


def _checked(shares: object) -> tuple[float, ...]:
    """The shares as a tuple, which unlike the list of a grid file can be hashed."""
    if not isinstance(shares, list | tuple) or not shares or not all(_positive(share) for share in shares):
        raise PartitionError(
            f"sizes: shares is {shares!r}, expected a list of numbers above 0, one for each office; "
            "for example [0.55, 0.25, 0.15, 0.05]"
        )
    if abs(math.fsum(shares) - 1) > 1e-6:
        raise PartitionError(
            f"sizes: shares {list(shares)} sum to {math.fsum(shares):g}, expected 1: divide each by the sum"
        )
    return tuple(float(share) for share in shares)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
