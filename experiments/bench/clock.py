"""Contestants timed in turn (A B C A B C ...), so that a busy moment of the machine falls on all of them alike."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
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


def progress(text: str) -> None:
    """One line for whoever waits."""
    print(text, file=sys.stderr, flush=True)
