"""One run, start to end: spec and data in, record out.

    deal the training rows -> corrupt -> standardise -> an engine runs the federation -> the record

The caller loads the data and hands training and test rows apart; a tuning run is given no test rows.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments.config.errors import UserError
from experiments.config.notation import canonical
from experiments.config.spec import DEFAULT_CLIENTS, RunSpec
from experiments.data.dataset import Dataset, split
from experiments.data.offices import OFFICES
from experiments.engines import engine as engine_of
from experiments.federation import provenance
from experiments.federation.clients import ClientSide, measured
from experiments.federation.rounds import Checkpoint, Outcome, ServerSide
from experiments.federation.seeds import Purpose, sequence, stream
from experiments.federation.transport import cohort_of
from experiments.training.evaluation import Evaluation, Rows
from experiments.training.schedule import learning_rate, steps_a_round
from partitions import Deal, Fold, Pool, deal
from results.record import RunRecord, decode_fields
from strategies.base import Prepared, Setting, Strategy, Workload

LAST_ROUNDS = 5  # the score is the mean over these; fixed before any run


@dataclass(frozen=True)
class About:
    """What a record says of its data."""

    name: str
    title: str
    form: str
    classes: tuple[str, ...]
    hash: str
    notes: tuple[str, ...]
    standardise: bool
    overlap: int


@dataclass(frozen=True)
class RunData:
    """Training and test rows apart, as a run takes them.

    Attributes:
        train, test: rows; test is None in a tuning run.
        recording: of the training rows.
    """

    about: About
    train: Rows
    recording: NDArray[np.int64]
    test: Rows | None

    @cached_property
    def persons(self) -> int:
        """How many persons train or validate."""
        return len(np.unique(self.train.person))


def prepare(dataset: Dataset, test_persons: Literal["official"] | Fold, tuning: bool = False) -> RunData:
    """Split a data set into training and test rows by persons; all are copies, and tuning is given no test row."""
    train, test = split(dataset, test_persons)
    about = About(**{field.name: getattr(dataset, field.name) for field in dataclasses.fields(About)})
    return RunData(
        about,
        Rows(dataset.x[train], dataset.y[train], dataset.person[train]),
        dataset.recording[train],
        None if tuning else Rows(dataset.x[test], dataset.y[test], dataset.person[test]),
    )


def resolved(spec: RunSpec, data: RunData) -> RunSpec:
    """The spec as it runs on this data: with its hash, and the number of offices if the partition prescribes it."""
    clients = spec.clients or spec.partition.prescribed_clients(data.persons) or DEFAULT_CLIENTS
    return dataclasses.replace(spec, data_hash=data.about.hash, clients=clients)


Models = NDArray[np.float32]


def run(spec: RunSpec, data: RunData, engine: str = "inprocess", keys: Any = None) -> RunRecord:
    """Run a (resolved) spec; the record alone of `run_models`."""
    return run_models(spec, data, engine, keys=keys)[0]


def run_models(
    spec: RunSpec, data: RunData, engine: str = "inprocess", moved: int = 0, keys: Any = None
) -> tuple[RunRecord, Models | None]:
    """Run a (resolved) spec.

    Args:
        moved: number of a draw that moves the first weights by one ulp each (see `one_ulp`); 0 leaves them.
        keys: of a protected run; by default (as in a tuning run) none, and its integers travel in clear.

    Returns:
        the record, of status `ok` or `diverged`, and the last models, (M, d) with M = 1 or one an office (None if not
        even a first round could be scored).

    Raises:
        UserError, PartitionError, StrategyError: the spec does not fit the data; nothing was trained.
        RuntimeError: the run failed.
    """
    _make_ready(spec, data, engine)
    wall, cpu = perf_counter(), process_time()
    if spec.audit:
        _audit().check(spec, engine)
    offices = deal_rows(spec, data)
    sides = set_up(spec, data, offices, moved, keys)
    outcome = engine_of(engine)(sides.server, sides.clients, len(sides.clients.workloads))
    outcome.seconds |= {"wall_s": perf_counter() - wall, "cpu_s": process_time() - cpu}
    record = _record(spec, data, offices, outcome, engine)
    _add_sections(record, spec, data, offices, sides, outcome)
    return decode_fields(record), outcome.models


def _make_ready(spec: RunSpec, data: RunData, engine: str) -> None:
    """What is done once a process or once a machine, and before the clock, for it is no cost of a run: load what
    trains and scores, compile it on a new machine, hash the sources."""
    from experiments.training.kernels import machine_code  # numba, which what only plans or reads runs does without

    machine_code.make_ready(spec, data.train.x.shape[1:], len(data.about.classes))
    sources(spec, engine)


def _add_sections(
    record: dict[str, Any], spec: RunSpec, data: RunData, offices: Deal, sides: Sides, outcome: Outcome
) -> None:
    """Add what wrappers and the audit say to a record, in place."""
    record["cost"] |= outcome.seconds
    sections, record["cost"] = sides.prepared.report(outcome, record["cost"])
    record |= sections
    if spec.audit:
        _audit().add_audit(record, spec, data, offices, sides, outcome)


def _audit() -> Any:
    """Imported by its name, so that the code of a run without an audit does not include it."""
    return importlib.import_module("experiments.federation.audit")


def advance(
    spec: RunSpec, data: RunData, start: Checkpoint | None = None, until: int | None = None
) -> tuple[RunRecord, Checkpoint | None]:
    """Run a (resolved) spec in process to the end of round `until`, from a checkpoint of it or from the beginning.

    Returns:
        the record, of status `stopped` where rounds are left, with the figures of the rounds so far and the bits of a
        run that was never stopped; and where to go on from, None if it diverged.
    """
    _make_ready(spec, data, "inprocess")
    wall, cpu = perf_counter(), process_time()
    offices = deal_rows(spec, data)
    sides = set_up(spec, data, offices)
    if sides.prepared.unresumable:
        raise UserError(sides.prepared.unresumable)
    inprocess = importlib.import_module("experiments.engines.inprocess")
    outcome, end = inprocess.advance(
        sides.server, sides.clients, len(sides.clients.workloads), start, until or spec.rounds
    )
    record = _record(spec, data, offices, outcome, "inprocess")
    if end and end.round < spec.rounds:
        record["status"] = "stopped"
    for name, spent in (("wall_s", perf_counter() - wall), ("cpu_s", process_time() - cpu)):
        outcome.seconds[name] = outcome.seconds.get(name, 0.0) + spent  # the checkpoint's outcome: later rounds add up
    _add_sections(record, spec, data, offices, sides, outcome)
    return decode_fields(record), end


def attempt(
    spec: RunSpec, data: RunData, engine: str = "inprocess", moved: int = 0, keys: Any = None
) -> tuple[RunRecord, Models | None]:
    """As `run_models`, but a run that raises comes back as a record of status `failed` with its error."""
    try:
        return run_models(spec, data, engine, moved, keys)
    except Exception as error:
        where = "" if isinstance(error, ValueError) else "\n" + "".join(traceback.format_tb(error.__traceback__)[-3:])
        spent = {"privacy": _all_spent(spec, data)} if spec.strategy.protects else {}
        return failed(spec, data, engine, f"{type(error).__name__}: {error}{where}", spent), None


def failed(
    spec: RunSpec, data: RunData, engine: str, error: str, sections: Mapping[str, Any] | None = None
) -> RunRecord:
    """The record of a run that raised; `sections` are what it says besides."""
    return decode_fields(_frame(spec, data, engine) | {"status": "failed", "error": error} | dict(sections or {}))


def _all_spent(spec: RunSpec, data: RunData) -> dict[str, Any] | None:
    """What a run may have spent that failed: how far it came is lost with it, so all of its budget. None where it
    could not even be set up."""
    with suppress(Exception):
        prepared = set_up(spec, data, deal_rows(spec, data)).prepared
        rounds = [spec.rounds] * len(prepared.workloads)
        found: dict[str, Any] = prepared.privacy.report(Outcome(rounds=[{}] * spec.rounds, trained=rounds), {})[0]
        return found
    return None


def deal_rows(spec: RunSpec, data: RunData) -> Deal:
    """Who trains and validates on which rows. Depends on data, partition and seed, never on the strategy."""
    pool = Pool(data.train.y, data.train.person, data.recording, len(data.about.classes))
    return deal(
        spec.partition,
        pool,
        spec.clients,
        min_examples=spec.min_examples,
        validation=spec.validation,
        overlap=data.about.overlap,
        rng_partition=stream(spec.split_seed, Purpose.PARTITION),
        rng_validation=stream(spec.split_seed, Purpose.VALIDATION),
    )


@dataclass(frozen=True)
class Sides:
    """What the two sides of a run are given, and what is known of it besides.

    Attributes:
        server: everything the server needs.
        clients: everything the clients need.
        prepared: the strategy's plan for the run, with its reports, which neither side is given.
        first: makes the first weights (d,).
    """

    server: ServerSide
    clients: ClientSide
    prepared: Prepared
    first: Callable[[], Models]


def set_up(spec: RunSpec, data: RunData, offices: Deal, moved: int = 0, keys: Any = None) -> Sides:
    """Prepare the strategy and the rows; `moved` and `keys` as in `run_models`."""
    data = corrupted(spec, data, offices)
    classes, shape, strategy = len(data.about.classes), data.train.x.shape[1:], spec.strategy
    canaries = _audit().plan(spec, data, offices) if spec.audit else None
    rows_of = map(canaries.planned, offices.train) if canaries else offices.train
    workloads = strategy.regroup([Workload(rows, steps_a_round(spec, len(rows))) for rows in rows_of])
    setting = setting_of(spec, data, workloads, moved, keys)
    strategy.check(setting)
    prepared = strategy.prepare(setting)
    held = prepared.workloads
    if canaries:
        held = canaries.drawn(held, data.train.person)
        offices = dataclasses.replace(offices, train=tuple(work.rows for work in held))
    scale = standardiser(spec, data, offices)
    shift = prepared.shift and prepared.shift(data.train.x, held)
    if shift is not None:
        scale = partial(np.add, -shift)
    x = scale(data.train.x)
    validation = tuple(Rows(x[rows], data.train.y[rows], data.train.person[rows]) for rows in offices.validation)
    test = None if data.test is None else dataclasses.replace(data.test, x=scale(data.test.x))
    first = partial(first_weights, spec, shape, classes, moved)
    lean = dataclasses.replace(prepared, privacy=None, protection=None)
    # The plan of protection holds the offices' keys.
    for_server = dataclasses.replace(lean, offices=None, strategy=strategy if strategy.protected else prepared.strategy)
    for_clients = dataclasses.replace(lean, server=None, flower=None)
    clients = ClientSide(spec, for_clients, x, data.train.y, classes, held)
    if strategy.overrides("personal"):
        clients = dataclasses.replace(clients, validation=validation)
    if not strategy.protected:
        server = ServerSide(spec, for_server, first(), len(held), classes, shape, test, validation)
        return Sides(server, clients, prepared, first)
    # The model lives with the offices, and so do the rows that it is scored on.
    server = ServerSide(spec, for_server, np.empty(0, np.float32), len(held), classes, shape, None, ())
    return Sides(server, dataclasses.replace(clients, test=test, validation=validation), prepared, first)


def corrupted(spec: RunSpec, data: RunData, offices: Deal) -> RunData:
    """The data as it is trained on: with the rows of one office spoilt, where `--corrupt` asks for it.

    The deal is left alone, so a record counts labels as they were dealt.

    Raises:
        UserError: the run has no such office.
    """
    corruption = spec.corrupt
    if corruption is None:
        return data
    corruption.check(len(offices.train))
    # Which rows are spoilt belongs to the split: a fixed partition seed fixes it, too.
    rng = stream(spec.split_seed, Purpose.CORRUPTION, client=corruption.office)
    rows, classes = data.train, len(data.about.classes)
    x, y = corruption.applied(rows.x, rows.y, offices.train, offices.validation, classes, rng)
    return dataclasses.replace(data, train=dataclasses.replace(rows, x=x, y=y))


def setting_of(
    spec: RunSpec, data: RunData, workloads: Sequence[Workload], moved: int = 0, keys: Any = None
) -> Setting:
    """What a strategy may know of a run before anything is trained; it pickles."""
    classes, shape, clients = len(data.about.classes), data.train.x.shape[1:], len(workloads)
    return Setting(
        workloads=tuple(workloads),
        rounds=spec.rounds,
        cohort=spec.cohort(clients),
        lr=partial(learning_rate, spec),
        layout=partial(spec.model.layout, shape, classes),
        persons=data.train.person,
        seed=spec.seed,
        batch_size=spec.batch_size,
        local_epochs=spec.local_epochs,
        local_steps=spec.local_steps,
        optimizer=spec.optimizer,
        loss=spec.loss,
        standardise=spec.standardise,
        overlap=data.about.overlap,
        one_person=spec.partition.one_person,
        cohort_of=partial(_members, spec.seed, clients, spec.cohort(clients)),
        stream=partial(_entropy, spec.seed),
        first=partial(first_weights, spec, shape, classes, moved),
        keys=keys,
        text=canonical,
    )


def _members(seed: int, clients: int, cohort: int, number: int) -> list[int]:
    """Client numbers of a round's cohort."""
    return cohort_of(seed, number, clients, cohort)


def _entropy(seed: int, purpose: str, number: int, client: int | None) -> np.random.SeedSequence:
    """The entropy of a purpose by its name, of a round and a client; of the server where there is no client."""
    if client is None:
        return np.random.SeedSequence(seed, spawn_key=(int(Purpose[purpose]), number))
    return sequence(seed, Purpose[purpose], number, client)


def first_weights(spec: RunSpec, shape: tuple[int, ...], classes: int, moved: int) -> Models:
    """The model's first weights (d,)."""
    first = spec.model.first_weights(shape, classes, stream(spec.seed, Purpose.INITIAL_WEIGHTS))
    return one_ulp(first, spec.seed, moved) if moved else first


def one_ulp(w: Models, seed: int, draw: int) -> Models:
    """Every weight moved to the next float up or down, by a coin of its own: what another CPU path does to a run.

    Not an option of a run, so it is in no hash: only `check` asks for it, to learn how far rounding moves a score.

    Args:
        draw: which set of coins, from 1; every seed and draw has its own.
    """
    up = stream(seed, Purpose.INITIAL_WEIGHTS, round_=draw).integers(2, size=w.shape, dtype=np.int8)
    return np.nextafter(w, np.where(up, np.float32(np.inf), np.float32(-np.inf)))


def standardiser(spec: RunSpec, data: RunData, offices: Deal) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """`--standardise`: subtract mean and divide by standard deviation of the training rows, or leave rows as they are.

    Pooled statistics are sums over offices (of counts, values and squares), which is all that an office would
    disclose; no epsilon pays for that, so `auto` leaves rows as they are under differential privacy. Windows are
    standardised by channel, feature rows by feature; a constant column is centred only.
    """
    automatic = spec.standardise == "auto" and data.about.standardise and spec.strategy.protects is None
    wanted = spec.standardise == "pooled" or automatic
    if not wanted:
        return lambda x: x
    axes = tuple(range(data.train.x.ndim - 1))
    parts = [data.train.x[rows].astype(np.float64) for rows in offices.train]
    count = sum(part[..., 0].size for part in parts)
    mean = sum(part.sum(axes) for part in parts) / count
    # The second pass is on centred values: the difference of two large sums would lose the small variances.
    variance = sum(((part - mean) ** 2).sum(axes) for part in parts) / count
    scale = np.where(variance > 0, np.sqrt(variance), 1.0)
    return lambda x: ((x - mean) / scale).astype(np.float32)


def _frame(spec: RunSpec, data: RunData, engine: str) -> dict[str, Any]:
    """What every record says, whatever came out."""
    about = data.about
    return {
        "run_id": spec.run_id,
        "engine": engine,
        "status": "ok",
        "spec": spec.options(),
        "strategy_options": strategy_options(spec.strategy),
        "data": {
            "name": about.name,
            "title": about.title,
            "form": about.form,
            "classes": about.classes,
            "hash": about.hash,
            "notes": about.notes,
        },
        "environment": {
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "cpu_path": provenance.cpu_path(),
            "commit": provenance.commit(),
            "sources_hash": sources(spec, engine),
            "data_hash": about.hash,
        },
    }


def strategy_options(strategy: Strategy) -> dict[str, Any]:
    """Every hyper-parameter with its value, defaults included (the canonical text leaves those out)."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(strategy):  # type: ignore[arg-type]
        value = getattr(strategy, field.name)
        fields |= dict(value) if field.metadata.get("rest") else {field.name: value}
    return {key: canonical(value) if isinstance(value, Strategy) else value for key, value in fields.items()}


def save(path: Path, spec: RunSpec, data: RunData, models: Models) -> None:
    """Write the final model, (M, d) rows laid out as the module's parameters, with a card as metadata of the file."""
    import torch
    from safetensors.torch import save_file

    from experiments.training.flat import Flat

    flat = Flat(spec.model.module(data.train.x.shape[1:], len(data.about.classes)))
    tensors: dict[str, torch.Tensor] = {}
    for number, w in enumerate(models):
        flat.load(w)
        prefix = f"{OFFICES[number] if number < len(OFFICES) else number + 1}." if len(models) > 1 else ""
        for name, tensor in flat.module.state_dict().items():
            tensors[prefix + name] = tensor.detach().clone(memory_format=torch.contiguous_format)
    card = {
        "run_id": spec.run_id,
        "spec": json.dumps(spec.options()),
        "data": data.about.title,
        "classes": json.dumps(data.about.classes),
    }
    save_file(tensors, path, metadata=card)


def sources(spec: RunSpec, engine: str) -> str:
    """Hash of the code that a run of this spec goes through; of a Flower strategy of the user's own, its module too."""
    strategies = nested(spec.strategy)
    modules = {"experiments.federation.run", f"experiments.engines.{engine}"}
    modules |= {type(part).__module__ for part in (spec.partition, spec.dataset, spec.loss, *strategies)}
    if any(strategy.private for strategy in strategies):
        modules.add("experiments.training.private")
    if spec.corrupt:
        modules.add(type(spec.corrupt).__module__)
    if spec.audit:
        modules.add("experiments.federation.audit")
    own = {path.rpartition(".")[0] for path in (getattr(strategy, "path", None) for strategy in strategies) if path}
    return provenance.sources_hash(frozenset(modules), tuple(measured().items()), frozenset(own))


def nested(strategy: Strategy) -> list[Strategy]:
    """A strategy and those given to it as options."""
    values = [getattr(strategy, field.name) for field in dataclasses.fields(strategy)]  # type: ignore[arg-type]
    values += [value for _, value in getattr(strategy, "options", ())]
    return [strategy, *(inner for value in values if isinstance(value, Strategy) for inner in nested(value))]


def _record(spec: RunSpec, data: RunData, offices: Deal, outcome: Outcome, engine: str) -> dict[str, Any]:
    federated = spec.strategy.federated
    evaluation = outcome.evaluation
    rows = [
        dataclasses.asdict(office)
        | {
            "name": OFFICES[k] if k < len(OFFICES) else f"Office {k + 1}",
            "validation_accuracy": evaluation.office_accuracy[k] if evaluation else None,
            "bytes_up": outcome.bytes_up[k] if federated else 0,
            "bytes_down": outcome.bytes_down[k] if federated else 0,
            "rejected": outcome.rejected[k] if k < len(outcome.rejected) else 0,
            "dropped": outcome.dropped[k] if k < len(outcome.dropped) else 0,
        }
        | ({"personal_accuracy": outcome.personal[k]} if outcome.personal else {})
        for k, office in enumerate(offices.unevenness.offices)
    ]
    overall = dataclasses.asdict(offices.unevenness)
    del overall["offices"]
    return _frame(spec, data, engine) | {
        "status": "diverged" if outcome.diverged else "ok",
        "error": outcome.diverged,
        "rounds": outcome.rounds,
        "offices": rows,
        "partition": overall
        | {"hash": offices.hash, "moved": offices.moved, "moved_share": offices.moved_share, "marked": offices.marked}
        | {"label_skewed": spec.partition.label_skewed},
        "final": None if outcome.diverged else final(outcome, rows),
        "cost": {key: sum(row[key] for row in rows) for key in ("bytes_up", "bytes_down")},
        "filtered": any(outcome.rejected),
    }


def final(outcome: Outcome, offices: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a finished run: the score (mean of the last rounds) and the final model's own."""
    seen: Evaluation | None = outcome.evaluation
    assert seen is not None
    scored = [
        (row["validation_accuracy"], row["num_examples"]) for row in offices if row["validation_accuracy"] is not None
    ]
    personal = [value for value in outcome.personal if value is not None]
    accuracies, sizes = [accuracy for accuracy, _ in scored], [size for _, size in scored]
    return {
        "score": _last([row["test_accuracy"] for row in outcome.rounds]),
        "test_accuracy": seen.test_accuracy,
        "test_macro_f1": seen.test_macro_f1,
        "test_f1_per_class": seen.test_f1_per_class,
        "test_correct_by_person": seen.correct_by_person,
        "mean_office_accuracy": float(np.mean(accuracies)) if scored else None,
        "weighted_office_accuracy": float(np.average(accuracies, weights=sizes)) if scored else None,
        "worst_office_accuracy": min(accuracies) if scored else None,
        "validation_score": _last([row["validation_accuracy"] for row in outcome.rounds]),
        "mean_personal_accuracy": float(np.mean(personal)) if personal else None,
        "worst_personal_accuracy": min(personal) if personal else None,
    }


def _last(values: list[float | None]) -> float | None:
    """Mean over the last rounds; None where nothing was scored."""
    kept = [value for value in values[-LAST_ROUNDS:] if value is not None]
    return float(np.mean(kept)) if kept else None
