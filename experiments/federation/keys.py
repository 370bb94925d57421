"""How a run comes by its keys: made once, kept in a file that only its owner may read, destroyed with the run.

A sweep makes one set for each kind of key, in the driver's memory, and lends it to the few runs whose cost it measures;
it protects simulated offices and nobody else. Where nothing is measured there are no keys at all.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from experiments.config.spec import RunSpec
from strategies.protection.base import Protected
from strategies.protection.keys import Keys as Keys  # also of this module, where other parts look for it
from strategies.protection.vault import Vault, make_vault

SAMPLE = 2  # the round that a sweep measures: the first one also warms up


@contextmanager
def keys_of_run(spec: RunSpec, processes: int | None = None) -> Iterator[Keys]:
    """Keys for a run whose every round is computed in earnest.

    Args:
        processes: that may share the work; all cores by default.
    """
    if not isinstance(spec.strategy, Protected):
        yield Keys()
        return
    processes = processes or len(os.sched_getaffinity(0))
    with _leaving_when_told(), tempfile.TemporaryDirectory(prefix="keys-") as folder:  # mode 0700
        started = perf_counter()
        vault = make_vault(spec.strategy.make_keys(spec.clients, processes))
        path = Path(folder) / "vault.json"
        vault.save(path)
        yield Keys(path, None, processes, perf_counter() - started)


@contextmanager
def _leaving_when_told() -> Iterator[None]:
    """SIGTERM, which schedulers send, ends the process as an exception would: the folder of keys goes with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def sampled_runs(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """One run of every protected cell, the first of its seeds: a sweep measures a round of it."""
    first = {replace(spec, seed=0): spec for spec in reversed(list(specs)) if isinstance(spec.strategy, Protected)}
    return list(reversed(first.values()))


def keys_of_sweep(specs: Iterable[RunSpec]) -> dict[str, Keys]:
    """Keys by run_id for the runs that have a round measured; one set for each kind of key."""
    found: dict[str, Keys] = {}
    vaults: dict[object, tuple[Vault, float]] = {}
    for spec in sampled_runs(specs):
        assert isinstance(spec.strategy, Protected)
        kind = spec.strategy.key_kind, spec.clients
        if kind not in vaults:
            started = perf_counter()
            vault = make_vault(spec.strategy.make_keys(spec.clients, len(os.sched_getaffinity(0))))
            vaults[kind] = vault, perf_counter() - started
        vault, seconds = vaults[kind]
        found[spec.run_id] = Keys(vault, frozenset({min(SAMPLE, spec.rounds)}), 1, seconds)
    return found
