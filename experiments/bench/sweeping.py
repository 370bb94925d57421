"""A sweep of short runs in a process of its own: runs a minute, what workers do besides runs, and their memory.

Run as a script it is that process: it reads specs and data from a pickle, sweeps into a temporary store and leaves one
line a run (when it arrived, how long it took, how much of a core, how many rounds) beside the pickle.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from time import perf_counter

from experiments.bench.clock import progress
from experiments.bench.figures import Figures
from experiments.bench.work import ROUNDS, SHORT, Work
from experiments.config.spec import RunSpec
from experiments.federation.run import RunData, resolved
from experiments.sweep.plan import data_key
from experiments.sweep.workers import sweep
from results.record import RunRecord
from results.store import Store

ROOT = Path(__file__).parents[2]
SECTION = "A sweep"
BUSY = 0.9  # a smaller share of a core than this means that the machine had other work


@dataclass(frozen=True)
class Arrival:
    """A finished run: seconds after the sweep's start, its own seconds, those it had a core for, its rounds."""

    at: float
    wall: float
    cpu: float
    rounds: int


@dataclass(frozen=True)
class Swept:
    """What a sweep showed.

    Attributes:
        seconds: of the whole process.
        peak_mb: the largest worker's resident memory, None where the system does not tell.
        arrivals: runs in the order they ended.
    """

    workers: int
    seconds: float
    peak_mb: float | None
    arrivals: list[Arrival]

    @property
    def settled(self) -> tuple[float, list[Arrival]]:
        """Seconds and runs after every worker's first run, which pays for imports and compiled code."""
        start = self.arrivals[self.workers - 1].at
        return self.arrivals[-1].at - start, self.arrivals[self.workers :]

    @property
    def a_minute(self) -> float:
        """Runs a minute once workers are warm."""
        span, runs = self.settled
        return 60 * len(runs) / span

    @property
    def share_inside(self) -> float:
        """Of the workers' time, the share inside runs."""
        span, runs = self.settled
        return sum(run.wall for run in runs) / (self.workers * span)

    @property
    def between_runs(self) -> float:
        """Seconds of a worker from one run to the next: Ray, and waiting for the driver."""
        span, runs = self.settled
        return max(0.0, (self.workers * span - sum(run.wall for run in runs)) / len(runs))

    @property
    def share_of_a_core(self) -> float:
        """How much of a core the runs got; little less than 1 unless the machine had other work."""
        _, runs = self.settled
        return sum(run.cpu for run in runs) / sum(run.wall for run in runs)

    def cpu(self, rounds: int) -> float:
        """Core seconds of a run of so many rounds, whatever else the machine did."""
        _, runs = self.settled
        return mean(run.cpu for run in runs if run.rounds == rounds)

    def a_run(self, rounds: int) -> float:
        """All of a worker's seconds for a run of so many rounds."""
        _, runs = self.settled
        return mean(run.wall for run in runs if run.rounds == rounds) + self.between_runs


def measure_sweeps(work: Work, data: RunData, figures: Figures, runs: int, workers: Iterable[int]) -> None:
    """The same runs on different numbers of workers; the last one is what the targets are held to."""
    swept = []
    for count in workers:
        number = runs if count > 1 else max(8, runs // 4)
        column = f"{count} worker{'s' if count > 1 else ''}"
        progress(f"a sweep of {number} runs on {column}")
        done = sweep_apart(short_runs(work, data, number), data, count)
        swept.append(done)
        figures.add(SECTION, "runs", column, number)
        figures.add(SECTION, "runs a minute, start to end", column, 60 * number / done.seconds)
        figures.add(SECTION, "runs a minute, warm", column, done.a_minute)
        figures.add(SECTION, "workers' time inside runs", column, 100 * done.share_inside, "%")
        figures.add(SECTION, "between two runs of a worker", column, 1e3 * done.between_runs, "ms")
        for rounds in (SHORT, ROUNDS):
            figures.add(SECTION, f"a worker's time for {rounds} rounds", column, 1e3 * done.a_run(rounds), "ms")
            figures.add(SECTION, f"core time of {rounds} rounds", column, 1e3 * done.cpu(rounds), "ms")
        figures.add(SECTION, "a core's share that runs got", column, 100 * done.share_of_a_core, "%")
        figures.add(SECTION, f"runs of {SHORT} rounds an hour", column, 3600 * count / done.a_run(SHORT))
        if done.peak_mb is not None:
            figures.add(SECTION, "largest worker's memory", column, done.peak_mb, "MB")
        if done.share_of_a_core < BUSY:
            figures.notes.append(
                f"the machine had other work during the sweep on {column}: runs got {done.share_of_a_core:.0%} of a "
                "core, and seconds there are too long by as much"
            )
    for done in swept[1:]:
        figures.add(SECTION, "speed-up", f"{done.workers} workers", done.a_minute / swept[0].a_minute)


def short_runs(work: Work, data: RunData, number: int) -> list[RunSpec]:
    """So many runs that differ in seed, half of them of SHORT rounds."""
    texts = [work.spec(seed=seed, rounds=rounds) for seed in range((number + 1) // 2) for rounds in (SHORT, ROUNDS)]
    return [resolved(spec, data) for spec in texts[:number]]


def sweep_apart(specs: list[RunSpec], data: RunData, workers: int) -> Swept:
    """Sweep in a child process.

    Raises:
        RuntimeError: it failed; the message ends with what it printed last.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        task = Path(folder) / "task.pickle"
        task.write_bytes(pickle.dumps((specs, data, workers), protocol=5))
        started = perf_counter()
        command = [sys.executable, "-m", "experiments.bench.sweeping", str(task)]
        with (Path(folder) / "log").open("w+") as log:
            child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            with WorkerMemory(child.pid) as memory:
                child.wait()
            seconds = perf_counter() - started
            answer = task.with_suffix(".json")
            if not answer.exists():
                log.seek(0)
                raise RuntimeError("the sweep failed:\n" + "\n".join(log.read().splitlines()[-20:]))
        arrivals = [Arrival(*line) for line in json.loads(answer.read_text())]
        return Swept(workers, seconds, memory.peak_mb, arrivals)


class WorkerMemory:
    """Watches the Ray workers below a process: the most resident memory that any of them ever had."""

    def __init__(self, root: int, every: float = 0.5) -> None:
        self.root, self.every = root, every
        self.peak_mb: float | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> WorkerMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(self.every):
            for process in below(self.root):
                peak = peak_mb(process)
                if peak is not None:
                    self.peak_mb = max(peak, self.peak_mb or 0.0)


def below(root: int) -> list[int]:
    """Process ids of all descendants (none where there is no /proc)."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended meanwhile
            continue
        parents.setdefault(parent, []).append(int(stat.parent.name))
    found, left = [], [root]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def peak_mb(process: int) -> float | None:
    """Peak resident memory of a Ray worker; None for any other process."""
    try:
        name = Path(f"/proc/{process}/cmdline").read_bytes()
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    peak = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peak[0].split()[1]) / 1024 if name.startswith(b"ray::") and peak else None


class Arrivals(Store):
    """A store that notes when each run arrives."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.started, self.lines = perf_counter(), list[tuple[float, float, float, int]]()

    def put(self, record: RunRecord) -> Path:
        if record.status != "ok":
            raise RuntimeError(f"a run of the bench is {record.status}: {record.error}")
        self.lines.append((perf_counter() - self.started, record.cost.wall_s, record.cost.cpu_s, len(record.rounds)))
        return super().put(record)


def main(task: str) -> None:
    """The child."""
    specs, data, workers = pickle.loads(Path(task).read_bytes())
    store = Arrivals(Path(task).parent / "store")
    sweep(specs, {data_key(specs[0]): data}, store, workers=workers)
    Path(task).with_suffix(".json").write_text(json.dumps(store.lines))


if __name__ == "__main__":
    main(sys.argv[1])
