"""What a sweep has to do: the runs of a grid, which of them exist, and what the others will cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from experiments.config.spec import STRATEGIES, RunSpec
from experiments.data import SOURCES, load, load_default
from experiments.engines import flower
from experiments.federation import audit
from experiments.federation.clients import ClientSide, trainer
from experiments.federation.run import RunData, deal_rows, prepare, resolved, setting_of, sources
from experiments.federation.seeds import Purpose, stream
from experiments.training.evaluation import Evaluator, Rows
from experiments.training.schedule import job, steps_a_round
from partitions import Deal
from results.store import Store
from strategies.base import Prepared, Workload

DataKey = tuple[str, ...]


def data_key(spec: RunSpec) -> DataKey:
    """What decides which rows a run needs."""
    options = spec.options()
    return tuple(options[name] for name in ("dataset", "form", "test_persons"))


@dataclass(frozen=True)
class Loaded:
    """Specs resolved on their data.

    Attributes:
        specs: with data hash and number of offices filled in.
        data: what they need, by `data_key`.
        message: one line about a data set that stands in for another, or None.
    """

    specs: list[RunSpec]
    data: dict[DataKey, RunData]
    message: str | None = None


def load_data(specs: Iterable[RunSpec], path: Path | None, may_fall_back: bool, tuning: bool = False) -> Loaded:
    """Load what the specs name, each data set once.

    Args:
        path: the command line's `--data`.
        may_fall_back: nobody named a data set, so `watch` may stand in for a UCI HAR that cannot be had.
        tuning: the test rows are dropped at once.

    Raises:
        DataError, UserError: the data cannot be had or does not fit a spec.
    """
    specs = list(specs)
    message = None
    data: dict[DataKey, RunData] = {}
    if may_fall_back:
        dataset, message = load_default(specs[0].form, path)
        if message:
            specs = [dataclasses.replace(spec, dataset=SOURCES["watch"]()) for spec in specs]
        data[data_key(specs[0])] = prepare(dataset, specs[0].test_persons, tuning)
    for spec in specs:
        if data_key(spec) not in data:
            data[data_key(spec)] = prepare(load(spec.dataset, form=spec.form, path=path), spec.test_persons, tuning)
    return Loaded([resolved(spec, data[data_key(spec)]) for spec in specs], data, message)


def check(loaded: Loaded, specs: Iterable[RunSpec] | None = None, engine: str = "inprocess") -> None:
    """Deal every split, build every model and server and hold every promise of privacy against its data once: what
    cannot run is told before anything is trained. Then the kernels are compiled, on a machine that never did.

    Args:
        specs: those that are to be run, all by default.

    Raises:
        PartitionError, StrategyError, UserError: as a run would.
    """
    from experiments.training.kernels import machine_code  # numba: a third of a second that planning alone does without

    flower.quiet()
    deals: dict[tuple[object, ...], Deal] = {}
    seen = set()
    kernels: set[str] = set()
    for spec in loaded.specs if specs is None else specs:
        data = loaded.data[data_key(spec)]
        split = (data_key(spec), spec.partition, spec.clients, spec.min_examples, spec.validation, spec.split_seed)
        if split not in deals:
            deals[split] = deal_rows(spec, data)
        cell = dataclasses.replace(spec, seed=0)
        if cell not in seen:
            seen.add(cell)
            audit.check(spec, engine)
            dealt = [Workload(rows, steps_a_round(spec, len(rows))) for rows in deals[split].train]
            workloads = spec.strategy.regroup(dealt)
            shape, classes = data.train.x.shape[1:], len(data.about.classes)
            kernels |= set(machine_code.modules_of(spec, shape, classes))
            if spec.model.widths(shape, classes) is None:  # else it takes any rows, and PyTorch is not needed
                spec.model.module(shape, classes)
            spec.strategy.check(setting_of(spec, data, workloads))
            if spec.corrupt:
                spec.corrupt.check(len(dealt))
            if spec.dropout:
                spec.dropout.check(spec.strategy.phases, len(workloads), spec.rounds)
    # Last, so that a mistake is told at once; and before any worker starts, so that all of them find it done.
    machine_code.load(kernels)


@dataclass(frozen=True)
class Plan:
    """What a sweep has to do.

    Attributes:
        todo: runs to make.
        done: runs that exist (also those that diverged: the same bits would diverge again).
        stale: those of `done` that were made by other code.
    """

    todo: list[RunSpec]
    done: list[RunSpec]
    stale: list[RunSpec]


def plan(specs: Iterable[RunSpec], store: Store, engine: str, rerun_stale: bool = False) -> Plan:
    """Hold the specs against the store. Failed runs are tried again."""
    todo, done, stale = [], [], []
    hashes: dict[tuple[object, ...], str] = {}
    for spec in specs:
        glance = store.glance(spec.run_id, engine)
        if glance is None or glance.status == "failed":
            todo.append(spec)
            continue
        key = (type(spec.partition), spec.strategy, type(spec.dataset), type(spec.loss), type(spec.corrupt), spec.audit)
        hashes.setdefault(key, sources(spec, engine))
        old = glance.sources_hash != hashes[key]
        if old and rerun_stale:
            todo.append(spec)
            continue
        done.append(spec)
        if old:
            stale.append(spec)
    return Plan(todo, done, stale)


def estimate(specs: Iterable[RunSpec], data: dict[DataKey, RunData]) -> float:
    """Worker seconds that the runs will take, from a fraction of a second of the same work on this machine."""
    rates: dict[tuple[object, ...], tuple[float, float]] = {}
    total = 0.0
    for spec in specs:
        own = data[data_key(spec)]
        key = (data_key(spec), spec.model, spec.batch_size, spec.optimizer)
        if key not in rates:
            rates[key] = _rates(spec, own)
        a_step, a_row = rates[key]
        rows = len(own.train.y)
        batch = rows // spec.clients if spec.batch_size == "full" else int(spec.batch_size)
        steps = spec.clients * spec.local_steps if spec.local_steps else spec.local_epochs * -(-rows // batch)
        models = spec.clients if spec.strategy.own_models else 1
        scored = models * (0 if own.test is None else len(own.test))
        total += spec.rounds * (spec.fraction * steps * a_step + scored * a_row)
    return total


def _rates(spec: RunSpec, data: RunData, steps: int = 20) -> tuple[float, float]:
    """Seconds a minibatch step and seconds a scored row."""
    shape, classes = data.train.x.shape[1:], len(data.about.classes)
    size = len(data.train.y) // spec.clients if spec.batch_size == "full" else int(spec.batch_size)
    rows = np.arange(min(size * steps, len(data.train.y)))
    work = (Workload(rows, steps),)
    plain = Prepared(STRATEGIES["fedavg"](), work)
    alone = trainer(ClientSide(spec, plain, data.train.x, data.train.y, classes, work))
    todo = job(spec, spec.model.first_weights(shape, classes, stream(0, Purpose.INITIAL_WEIGHTS)), 1, steps)
    first = Rows(data.train.x[:1000], data.train.y[:1000], data.train.person[:1000])
    evaluator = Evaluator(spec.model, classes, shape, first, [])
    alone.train([todo], [0])
    a_step = _median_seconds(lambda: alone.train([todo], [0])) / steps
    a_row = _median_seconds(lambda: evaluator(todo.w[None])) / len(first)
    return a_step, a_row


def _median_seconds(work: Callable[[], object], times: int = 3) -> float:
    seconds = []
    for _ in range(times):
        started = perf_counter()
        work()
        seconds.append(perf_counter() - started)
    return median(seconds)
