"""Contestants timed in turn (A B C A B C ...), so that a busy moment of the machine falls on all of them alike."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import comb
from statistics import median
from time import perf_counter


def interleave(contestants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each contestant, after one warm-up each."""
    for contestant in contestants.values():
        contestant()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, contestant in contestants.items():
            started = perf_counter()
            contestant()
            seconds[name].append(perf_counter() - started)
    return {name: median(each) for name, each in seconds.items()}


@contextmanager
def pinned() -> Iterator[None]:
    """This process, and what it starts meanwhile, stays on one core: the last, as the system itself prefers the first.

    Where the system cannot do that, nothing changes.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Lower end, upper end and coverage of an interval for the median, which supposes nothing of how values spread.

    The ends are the k-th smallest and the k-th largest of n values. They miss the median where fewer than k values
    lie on one side of it, which coins tell: the coverage is 1 - 2 P(Binomial(n, 1/2) < k). Seven values give their
    smallest and largest, and 98.4 %. Under six values the ends are these, too, and cover less than `level`.

    Args:
        values: at least one.
        level: k is the largest that covers as much.
    """
    ordered, n = sorted(values), len(values)
    ends = (ordered[0], ordered[-1], _coverage(n, 1))
    for k in range(2, n // 2 + 1):
        if _coverage(n, k) < level:
            break
        ends = (ordered[k - 1], ordered[n - k], _coverage(n, k))
    return ends


def _coverage(n: int, k: int) -> float:
    missed = 2 * sum(comb(n, below) for below in range(k)) / float(2**n)
    return max(0.0, 1.0 - missed)


def progress(text: str) -> None:
    """One line for whoever waits."""
    print(text, file=sys.stderr, flush=True)
