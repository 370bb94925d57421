"""Many runs on Ray: one task a run, one thread a task, every finished run stored at once.

The driver alone writes results, so workers on other machines need no shared disk. Training and test rows are put into
Ray's object store once and mapped by every worker. A kill loses only the runs in flight; started again, the sweep
goes on with what is missing.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.federation import provenance
from experiments.federation.run import RunData, attempt, failed
from experiments.sweep.plan import DataKey, data_key
from experiments.sweep.progress import Progress
from results.record import RunRecord
from results.store import Store
from strategies.protection.keys import Keys


@dataclass
class Summary:
    """How a sweep ended: runs by status (`ok`, `diverged`, `failed`), and those in flight when it was interrupted."""

    counts: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False

    @property
    def exit_status(self) -> int:
        """0 all well, 1 some failed, 3 diverged only, 130 interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.counts["failed"] else 3 if self.counts["diverged"] else 0


def sweep(
    todo: Sequence[RunSpec],
    data: Mapping[DataKey, RunData],
    store: Store,
    *,
    engine: str = "inprocess",
    workers: int | None = None,
    address: str | None = None,
    moved: int = 0,
    keys: Mapping[str, Keys] | None = None,
) -> Summary:
    """Make every run of `todo` and store each as it ends.

    Args:
        workers: runs at a time; all cores by default.
        address: a Ray cluster to join, instead of starting Ray here.
        moved: as in `run.run_models`, in process alone; such runs belong in no store that is kept.
        keys: of protected runs that have rounds measured, by run_id (see `experiments.federation.keys`).

    Raises:
        UserError: no cluster at `address`.
    """
    summary = Summary()
    if not todo:
        return summary
    lent = keys or {}
    with Progress(len(todo)) as progress:
        if engine != "inprocess":
            records = one_by_one(todo, data, engine, lent)
        else:
            records = on_ray(todo, data, progress, workers, address, moved, lent)
        try:
            for record in records:
                store.put(record)
                summary.counts[record.status] += 1
                progress.finished(record, record.cost.wall_s)
        except KeyboardInterrupt:
            summary.interrupted = True
        finally:
            records.close()
    return summary


def one_by_one(
    todo: Sequence[RunSpec], data: Mapping[DataKey, RunData], engine: str, keys: Mapping[str, Keys]
) -> Generator[RunRecord]:
    """Runs under an engine that brings a Ray of its own: a child process each, never inside a Ray task."""
    for spec in todo:
        yield attempt(spec, data[data_key(spec)], engine, keys=keys.get(spec.run_id))[0]


def on_ray(
    todo: Sequence[RunSpec],
    data: Mapping[DataKey, RunData],
    progress: Progress,
    workers: int | None,
    address: str | None,
    moved: int = 0,
    keys: Mapping[str, Keys] = MappingProxyType({}),
) -> Generator[RunRecord]:
    """Records as they end; `progress` is told how many runs go on at a time. Closing the generator cancels what is in
    flight and leaves Ray."""
    import ray

    connect(workers, address)
    try:
        task = ray.remote(num_cpus=1, max_retries=3)(_run)
        shared = {key: _put(rows) for key, rows in data.items()}
        slots = workers or int(ray.cluster_resources()["CPU"])  # type: ignore[no-untyped-call]
        progress.workers = slots
        waiting = iter(todo)
        flying: dict[Any, RunSpec] = {}
        while True:
            # Two tasks a worker keep it busy while the driver writes; the rest wait here: Ctrl-C has little to cancel.
            for spec in waiting:
                flying[task.remote(spec, *shared[data_key(spec)], moved, keys.get(spec.run_id))] = spec
                if len(flying) >= 2 * slots:
                    break
            if not flying:
                return
            [ready], _ = ray.wait(list(flying), num_returns=1)
            spec = flying.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:  # the worker itself died, and died again
                yield failed(spec, data[data_key(spec)], "inprocess", f"{type(error).__name__}: {error}")
    finally:
        ray.shutdown()


def connect(workers: int | None, address: str | None) -> None:
    """Start Ray here, or join a cluster.

    Raises:
        UserError: no cluster at the address.
    """
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([str(provenance.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    if address is None:
        # Workers inherit this process's environment; a Ray runtime environment would cost ten seconds at the start.
        os.environ |= environment
        cores = workers or len(os.sched_getaffinity(0))
        ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
        return
    environment[provenance.COMMIT] = provenance.commit() or ""
    shipped = {"working_dir": str(provenance.ROOT), "excludes": _NOT_SHIPPED, "env_vars": environment}
    try:
        _probe(address)
        ray.init(address=address, runtime_env=shipped, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster answers ({error}); start one with `ray start --head`"
        ) from None


def _probe(address: str) -> None:
    """Refuse an address that nobody listens at; Ray itself would try it for minutes.

    Raises:
        OSError: nobody answers.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


_ENVIRONMENT = (
    *("MKL_CBWR", "OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "NPY_DISABLE_CPU_FEATURES"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "FLWR_TELEMETRY_ENABLED"),
)
_NOT_SHIPPED = ["/.venv", "/.git", "/results/runs", "/results/report", "/tests", "__pycache__"]


def _put(data: RunData) -> tuple[Any, Any]:
    """Training and test rows as two objects of Ray's store."""
    import ray

    return ray.put(replace(data, test=None)), ray.put(data.test)


def _run(spec: RunSpec, train: RunData, test: Any, moved: int, keys: Keys | None) -> RunRecord:
    """The Ray task. Ray has mapped the rows already."""
    return attempt(spec, replace(train, test=test), moved=moved, keys=keys)[0]
