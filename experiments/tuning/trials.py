"""Tuning on Ray: all studies together, in a session of its own that has no test row.

All studies advance together, the first ones first, so that the end of a batch leaves no worker idle. A run that
halving lets go on continues from its checkpoint, which stays in Ray's store. Every record is kept under
`RESULTS/tuned/runs`, so tuning that is killed goes on where it was; a study does not depend on the number of workers,
because it is told the answers to what it asked in the order it asked (see `study` and `search`).
"""

from __future__ import annotations

import fcntl
import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.federation.rounds import Checkpoint
from experiments.federation.run import RunData, advance, failed, sources
from experiments.sweep.plan import DataKey, data_key
from experiments.sweep.progress import Progress
from experiments.sweep.workers import connect
from experiments.tuning.study import Ask, Asking, Cell, Study, Terms
from results.record import RunRecord
from results.store import Store
from results.tuned import tuned


class TuningError(Exception):
    """A run of a study failed: a value for it would be made up."""


def tune(
    cells: Sequence[Cell], data: Mapping[DataKey, RunData], folder: Path, terms: Terms, storage: Any,
    workers: int | None = None,
) -> Iterator[tuned.Winner]:  # fmt: skip
    """Tune every cell, and write each winner into `folder` as its study ends.

    Args:
        data: without test rows.
        folder: of winners, with the runs below it; the caller holds it (see `alone`).
        workers: runs at a time; all cores by default.

    Raises:
        TuningError: a run failed.
        UserError: the storage does not answer.
        ValueError: there are test rows in the data.
    """
    if any(own.test is not None for own in data.values()):
        raise ValueError("tuning is given no test rows: load the data with tuning=True")
    studies = [Study(cell, terms, storage) for cell in cells]
    crew = Crew(data, Store(folder), workers)
    try:
        asks = sum(study.asks for study in studies)
        with Progress(asks, crew.slots, divergence_is_news=False) as progress:
            for winner in crew.serve([study.run() for study in studies], progress):
                tuned.write(folder, winner)
                yield winner
    finally:
        crew.leave()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else tunes into this folder, where two drivers would make every run twice.

    Raises:
        UserError: somebody does, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --results") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{folder}: another process is tuning into it; wait for it, or choose another --results"
            ) from None
        yield


@dataclass
class _Order:
    """What a study has asked for, and the answers so far by place."""

    asking: Asking
    wanted: list[Ask] = field(default_factory=list)
    answers: dict[int, RunRecord] = field(default_factory=dict)

    @property
    def answered(self) -> bool:
        """Whether the study can go on."""
        return len(self.answers) == len(self.wanted)

    def go_on(self) -> None:
        """Tell it, and hear what it wants next.

        Raises:
            StopIteration: it has its winner.
        """
        records = [self.answers[place] for place in range(len(self.wanted))]
        self.wanted = self.asking.send(records) if records else next(self.asking)
        self.answers = {}


class Crew:
    """Workers that studies share: a Ray session of its own, the training rows in its store."""

    def __init__(self, data: Mapping[DataKey, RunData], store: Store, workers: int | None) -> None:
        import ray

        self.store = store
        connect(workers, None)
        self.slots = workers or int(ray.cluster_resources()["CPU"])  # type: ignore[no-untyped-call]
        self.task = ray.remote(num_cpus=1, max_retries=3, num_returns=2)(_segment)
        self.shared = {key: ray.put(rows) for key, rows in data.items()}
        self.checkpoints: dict[str, Any] = {}  # run_id -> where it goes on from, in Ray's store
        self.spent: dict[str, float] = {}  # run_id -> seconds up to there

    def leave(self) -> None:
        """End the session; what is in flight is lost."""
        import ray

        ray.shutdown()

    def serve(self, studies: Sequence[Asking], progress: Progress) -> Iterator[tuned.Winner]:
        """Run what the studies ask for; their winners as they end."""
        import ray

        orders = [_Order(asking) for asking in studies]
        waiting: list[tuple[int, int]] = []  # study and place: the first study's runs come first
        flying: dict[Any, tuple[int, int, Any]] = {}
        for number in range(len(orders)):
            yield from self._go_on(number, orders[number], waiting, progress)
        while waiting or flying:
            # Two tasks a worker keep it busy while the driver writes.
            while waiting and len(flying) < 2 * self.slots:
                number, place = heapq.heappop(waiting)
                record, checkpoint = self._submit(orders[number].wanted[place])
                flying[record] = (number, place, checkpoint)
            [ready], _ = ray.wait(list(flying), num_returns=1)
            number, place, checkpoint = flying.pop(ready)
            order = orders[number]
            record = order.answers[place] = self._answer(ready, order.wanted[place], checkpoint)
            progress.finished(record, record.cost.wall_s - self.spent.pop(record.run_id, 0.0))
            if record.status == "stopped":
                self.spent[record.run_id] = record.cost.wall_s
            yield from self._go_on(number, order, waiting, progress)

    def _go_on(
        self, number: int, order: _Order, waiting: list[tuple[int, int]], progress: Progress
    ) -> Iterator[tuned.Winner]:
        """Take a study as far as the store has what it asks for; its winner if that is the end."""
        while order.answered:
            before = {ask.spec.run_id for ask in order.wanted}
            try:
                order.go_on()
            except StopIteration as end:
                yield end.value
                return
            for run_id in before - {ask.spec.run_id for ask in order.wanted}:
                self.checkpoints.pop(run_id, None)  # halving stopped it
            for place, ask in enumerate(order.wanted):
                stored = self._stored(ask)
                if stored is None:
                    heapq.heappush(waiting, (number, place))
                else:
                    order.answers[place] = stored
                    progress.finished(stored)

    def _stored(self, ask: Ask) -> RunRecord | None:
        """A record of the present code that reaches as far as is asked, or that diverged."""
        glance = self.store.glance(ask.spec.run_id, "inprocess")
        if glance is None or glance.status == "failed":
            return None
        if glance.sources_hash != sources(ask.spec, "inprocess"):
            return None
        record = self.store.get(ask.spec.run_id, "inprocess")
        return record if record.status == "diverged" or len(record.rounds) >= ask.until else None

    def _submit(self, ask: Ask) -> Any:
        start = self.checkpoints.pop(ask.spec.run_id, None)
        return self.task.remote(ask.spec, self.shared[data_key(ask.spec)], start, ask.until)

    def _answer(self, ready: Any, ask: Ask, checkpoint: Any) -> RunRecord:
        """Store what came back.

        Raises:
            TuningError: the run failed, or its worker died again and again.
        """
        import ray

        try:
            record: RunRecord = ray.get(ready)
        except ray.exceptions.RayError as error:
            raise TuningError(f"a worker died: {type(error).__name__}: {error}") from None
        if record.status == "failed":
            raise TuningError(f"{ask.spec.rule} on {record.spec['partition']}: {record.error}")
        self.store.put(record)
        if record.status == "stopped":
            self.checkpoints[ask.spec.run_id] = checkpoint
        return record


def _segment(spec: RunSpec, data: RunData, start: Checkpoint | None, until: int) -> tuple[RunRecord, Checkpoint | None]:
    """The Ray task."""
    try:
        return advance(spec, data, start, until)
    except Exception as error:
        return failed(spec, data, "inprocess", f"{type(error).__name__}: {error}"), None
