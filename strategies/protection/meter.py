"""What protection costs, counted where it is spent and never sent: seconds by phase, round and office, and counts.

The harness reads it when a run is over. Server and offices have one each, so that nothing passes between them by it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROTECTING = ("encrypt_s", "add_s", "decrypt_s")


class Meter:
    """Seconds by (phase, round, office), counts by name, and the largest value seen of each name. It pickles."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, int, int], float] = defaultdict(float)
        self.counts: Counter[str] = Counter()
        self.largest: dict[str, float] = {}
        self.round = 0
        self.expected: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the updates: a meter may be written to a file."""
        return {**vars(self), "expected": {}}

    @contextmanager
    def time(self, phase: str, round_: int = 0, office: int = -1) -> Iterator[None]:
        """Count the seconds of a block; the server is office -1."""
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[phase, round_, office] += perf_counter() - started

    def expect(self, round_: int, office: int, share: float, update: NDArray[np.float64]) -> None:
        """Keep what an office is about to send, to hold the opened sum against it."""
        if self.round != round_:
            self.round, self.expected = round_, {}
        self.expected[office] = (share, update)

    def met(self, round_: int, offices: Sequence[int], mean: NDArray[np.float64], bound: float) -> None:
        """A sum was opened: how far its mean lies from that of the updates as they were, if all of them are known."""
        from strategies.numerics.vectors import weighted_mean  # compiled: what only lists strategies does without

        self.saw("error_bound", bound)
        if self.round == round_ and set(offices) <= set(self.expected):
            known = [self.expected[office] for office in offices]
            exact = weighted_mean([update for _, update in known], [share for share, _ in known])
            exact /= sum(share for share, _ in known)
            self.saw("error", float(np.abs(np.subtract(mean, exact, out=exact), out=exact).max(initial=0)))

    def saw(self, name: str, value: float) -> None:
        """Keep the largest."""
        self.largest[name] = max(value, self.largest.get(name, value))


def total(meters: Iterable[Meter], measured: Collection[int] | None = None) -> dict[str, Any]:
    """All meters of a run in one: seconds by phase, the critical path, counts and largest values.

    Encrypting, adding and opening count in `measured` rounds alone (None is all): in the others it was not done.
    The critical path is what real offices would wait for beyond their training: in every round the slowest office's
    encryption, the server's additions and one decryption.
    """
    meters = list(meters)
    found: dict[str, Any] = dict.fromkeys((*PROTECTING, "keygen_s"), 0.0)
    slowest: dict[tuple[str, int], float] = defaultdict(float)
    for meter in meters:
        for (phase, round_, _), seconds in meter.seconds.items():
            if phase in PROTECTING and measured is not None and round_ not in measured:
                continue
            found[phase] = found.get(phase, 0.0) + seconds
            slowest[phase, round_] = max(slowest[phase, round_], seconds)
    found["critical_s"] = sum(seconds for (phase, _), seconds in slowest.items() if phase in PROTECTING)
    for meter in meters:
        for name, count in meter.counts.items():
            found[name] = found.get(name, 0) + count
        for name, value in meter.largest.items():
            found[name] = max(value, found.get(name, value))
    return found
