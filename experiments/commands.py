"""What each command of the command line does."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from shlex import join
from time import perf_counter

from experiments.describe import describe, percent
from experiments.engines import engine as check_engine
from experiments.errors import UserError
from experiments.grid import Grid, load_grid
from experiments.keys import keys_of_run, keys_of_sweep, sampled_runs
from experiments.plan import Loaded, Plan, check, data_key, estimate, load_data, plan
from experiments.run import attempt, save, sources
from experiments.spec import RunSpec
from experiments.study import Cell, Terms
from experiments.sweep import Summary
from experiments.sweep import sweep as sweep_all
from experiments.winners import Arms, arms, named
from results import ResultsError, listing
from results.record import Key, encode
from results.store import Store
from results.study import slug
from results.tuned import FIXED_EPOCHS, Winner, find


def run(options: argparse.Namespace) -> int:
    """One run, from the store if it is there."""
    check_engine(options.engine)
    names = [field.name for field in dataclasses.fields(RunSpec)]
    given = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    loaded = load_data([RunSpec.from_options(given)], options.data, may_fall_back="dataset" not in given)
    _say(loaded.message)
    spec, data = loaded.specs[0], loaded.data[data_key(loaded.specs[0])]
    store = Store(options.results)
    record = None
    anew = options.no_store or options.save_model
    if not anew and store.status(Key(spec.run_id, options.engine)) in ("ok", "diverged"):
        record = store.get(spec.run_id, options.engine)
        other = record.environment.sources_hash != sources(spec, options.engine)
        by = ", made by other code" if other else ""
        _say(f"run {spec.run_id} is in {options.results} already{by}; --no-store runs it again")
    if record is None:
        check(loaded, engine=options.engine)
        if options.save_model:
            check_writable(options.save_model)
            if spec.strategy.protected and options.engine != "inprocess":
                raise UserError(
                    "--save-model: under protection the model stays in the simulated offices' processes; "
                    "--engine inprocess can save it"
                )
        with keys_of_run(spec, options.crypto_processes) as keys:
            record, models = attempt(spec, data, options.engine, keys=keys)
        if not options.no_store:
            store.put(record)
        if options.save_model and models is not None:
            save(options.save_model, spec, data, models)
    if options.json:
        print(encode(record).decode(), end="")
    else:
        print(describe(record))
    if record.error:
        _say(f"{record.status}: {record.error}")
    return Summary(Counter([record.status])).exit_status


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written before anything is trained.

    Raises:
        UserError: its folder cannot be made or written, or it is a folder itself.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise UserError(f"--save-model {path}: cannot be written ({error.strerror}); name a file elsewhere") from None


def sweep(options: argparse.Namespace) -> int:
    """Make what is missing of a grid, then its tables and figures."""
    check_engine(options.engine)
    _check_workers(options)
    grid, loaded, found = _load_grid(options)
    store = Store(options.results)
    todo = plan(loaded.specs, store, options.engine, options.rerun_stale)
    check(loaded, todo.todo, options.engine)
    if options.strict and todo.stale:
        raise UserError(f"{len(todo.stale)} stored runs were made by other code; --rerun-stale makes them again")
    if options.dry_run:
        print(outlook(grid, loaded, todo))
        return 0
    summary = sweep_all(
        todo.todo,
        loaded.data,
        store,
        engine=options.engine,
        workers=options.workers,
        address=options.address,
        keys=keys_of_sweep(todo.todo),
    )
    _say(conclusion(todo, summary))
    if summary.interrupted:
        _say("interrupted; the same command goes on with what is missing")
    elif not options.no_report:
        _write_report(store, report_folder(options, grid), options, grid, found, len(todo.stale))
    return summary.exit_status


def outlook(grid: Grid, loaded: Loaded, todo: Plan) -> str:
    """What a sweep would do."""
    titles = ", ".join(sorted({data.about.title for data in loaded.data.values()}))
    counts = f"{len(loaded.specs)} runs, {len(todo.done)} in the store, {len(todo.todo)} to make"
    lines = [f"{grid.title} ({grid.name}) on {titles}: {counts}"]
    missing = Counter((str(spec.options()["partition"]), spec.rule) for spec in todo.todo)
    lines += [f"  {number:4} x {rule} on {partition}" for (partition, rule), number in missing.items()]
    if todo.stale:
        lines.append(f"{len(todo.stale)} of the stored runs were made by other code (--rerun-stale makes them again)")
    if todo.todo:
        seconds = estimate(todo.todo, loaded.data)
        span = f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"
        lines.append(f"about {span} of one core's work, by a short trial of the same work on this machine")
    sampled = sampled_runs(todo.todo)
    if sampled:
        lines.append(
            f"and the cost of protection, measured on one round of one seed of each of {len(sampled)} protected cells"
        )
    return "\n".join(lines)


def conclusion(todo: Plan, summary: Summary) -> str:
    """The line a sweep ends with."""
    counts = summary.counts
    text = f"{counts['ok']} run, {len(todo.done)} skipped, {counts['failed']} failed, {counts['diverged']} diverged"
    return text + (f"; {len(todo.stale)} of those skipped were made by other code" if todo.stale else "")


def report(options: argparse.Namespace) -> int:
    """Tables and figures of a grid's runs, or of all."""
    store = Store(options.results)
    if options.grid is None:
        if options.only or options.set:
            raise UserError("--only and --set narrow a grid, and none is named: report GRID --only ...")
        out = options.out or options.results / "report"
        _write_report(store, out, options, None, None, 0)
        return 0
    grid, loaded, found = _load_grid(options)
    stale = len(plan(loaded.specs, store, options.engine).stale)
    _write_report(store, report_folder(options, grid), options, grid, found, stale)
    return 0


def results(options: argparse.Namespace) -> int:
    """Look into the store."""
    store = Store(options.results)
    if options.action == "ls":
        print(listing.ls(store))
    elif options.action == "show":
        for record in store.find(options.run_id):
            print(listing.show(record))
    elif options.action == "rm":
        for record in [record for run_id in options.run_id for record in store.find(run_id)]:
            store.rm(record.run_id, record.engine)
    else:
        print(listing.merged(store.merge(Store(options.other))))
    return 0


def bench(options: argparse.Namespace) -> int:
    """What it costs."""
    from experiments.bench.main import bench as measure  # imports what nothing else needs

    print(
        measure(options.out, options.repeats, options.quick, options.peers, options.protection, options.privacy), end=""
    )
    return 0


def baselines(options: argparse.Namespace) -> int:
    """Do the strategies still score what they did; or record what they score now."""
    from experiments.check import Options
    from experiments.check import check as check_baselines

    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(Options)}
    text, status = check_baselines(Options(**given))
    print(text, end="")
    return status


def tune(options: argparse.Namespace) -> int:
    """Tune the cells of a grid."""
    from experiments.search import storage_of
    from experiments.study import cells_of, runs_to_check, several
    from experiments.tune import TuningError, alone
    from experiments.tune import tune as tune_all

    _check_workers(options)
    terms = Terms(options.trials, options.rounds, options.seed, not options.no_halving)
    grid = load_grid(options.grid, options.only, options.set)
    loaded = load_data(grid.specs(), options.data, may_fall_back=not grid.names_dataset, tuning=True)
    _say(loaded.message)
    cells = cells_of(loaded.specs, ("local_epochs",) if options.fixed_epochs else ())
    for name, values in several(loaded.specs).items():
        _say(f"{name} is {', '.join(values)} in the grid; tuning starts from the first that a cell has")
    check(loaded, runs_to_check(cells, terms))
    folder = options.results / "tuned"
    folder = folder / FIXED_EPOCHS if options.fixed_epochs else folder
    folder = folder / f"seed-{terms.seed}" if terms.seed else folder
    check_effort(cells, terms, folder)
    started = perf_counter()
    with alone(folder):
        storage = storage_of(options.storage or f"journal:{folder / 'studies.journal'}")
        count = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
        _say(f"{count}, {terms.trials} trials each of {terms.rounds} rounds")
        try:
            for winner in tune_all(cells, loaded.data, folder, terms, storage, options.workers):
                print(chosen(winner), flush=True)
        except TuningError as error:
            _say(f"error: {error}\nnothing finished is lost; the same command goes on")
            return 1
    _say(f"{count} tuned in {(perf_counter() - started) / 60:.1f} minutes")
    return 0


def check_effort(cells: Sequence[Cell], terms: Terms, folder: Path) -> None:
    """Refuse to put a quick study's winner in the place of a thorough one's.

    Raises:
        UserError: which.
    """
    for cell in cells:
        with suppress(ResultsError):  # a spoilt file may be replaced
            old = find(folder, cell.key)
            rounds = 0 if old is None else int(old.study.get("rounds") or old.cost.rounds)
            if old is not None and (len(old.trials) > terms.trials or rounds > terms.rounds):
                raise UserError(
                    f"{folder / old.name}.yaml is the winner of {len(old.trials)} trials of {rounds} "
                    f"rounds, and would be replaced by that of {terms.trials} of {terms.rounds}: name another "
                    "--results, or remove it"
                )


def chosen(winner: Winner) -> str:
    """A winner in two lines."""
    first, default = winner.finalists[0], winner.trials[0]
    key, values = winner.key, ", ".join(f"{name} {value}" for name, value in winner.options.items())
    lines = [
        f"{named(key)}: trial {first.number}, {values}",
        f"  validation accuracy {percent(first.fresh)} on fresh seeds ({percent(first.value)} in the study; "
        f"default {percent(default.value)})",
    ]
    if winner.halving_loses is not None:
        lines.append(f"  halving would have stopped the best trial in {percent(winner.halving_loses)} of random deals")
    return "\n".join(lines)


def _check_workers(options: argparse.Namespace) -> None:
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers must be at least 1; found {options.workers}")


def _load_grid(options: argparse.Namespace) -> tuple[Grid, Loaded, Arms]:
    """A grid with its data, every run resolved and, where the grid or `--tuned` says so, tuned."""
    grid = load_grid(options.grid, options.only, options.set)
    loaded = load_data(grid.specs(), options.data, may_fall_back=not grid.names_dataset)
    _say(loaded.message)
    which = "yes" if options.tuned and grid.tuned == "no" else grid.tuned
    found = arms(loaded.specs, which, options.results / "tuned", grid.tuned_from, tuning_command(options))
    return grid, dataclasses.replace(loaded, specs=found.specs), found


def tuning_command(options: argparse.Namespace) -> str:
    """The command that tunes the cells of this one's grid, as a shell takes it."""
    command = ["python", "-m", "experiments", "tune", options.grid]
    command += [part for value in options.only for part in ("--only", value)]
    command += [part for value in options.set for part in ("--set", value)]
    command += ["--results", str(options.results)] if options.results != Path("results") else []
    return join([*command, "--data", str(options.data)] if options.data else command)


def report_folder(options: argparse.Namespace, grid: Grid) -> Path:
    """Where the report goes: what is narrowed or changed has a folder of its own, so that the whole grid's stays.

    Its name is readable as far as it goes, and told apart by a hash: a name drops what no folder should be called.
    """
    if options.out:
        return Path(options.out)
    changes = [f"engine={options.engine}"] if options.engine != "inprocess" else []
    changes += ["tuned"] if options.tuned and grid.tuned == "no" else []
    changes += [*sorted(options.only), *options.set]
    name = grid.name
    if changes:
        readable = "+".join(map(slug, changes))[:_READABLE]
        name += f"+{readable}-{sha256(repr(changes).encode()).hexdigest()[:6]}"
    return Path(options.results / "report" / name)


_READABLE = 100  # characters, where a file system takes 255 bytes


def _write_report(
    store: Store, out: Path, options: argparse.Namespace, grid: Grid | None, found: Arms | None, stale: int
) -> None:
    from results.report import report as write

    keys = None if found is None else [(spec.run_id, options.engine) for spec in found.specs]
    written = write(
        store,
        out,
        keys=keys,
        title="All runs" if grid is None else grid.title,
        stale=stale,
        tuned=store.root / "tuned",
        pairs=found.pairs if found else (),
        origins=found.origins if found else None,
    )
    print(written.main)
    print(f"tables and figures: {written.index}")


def _say(text: str | None) -> None:
    if text:
        print(text, file=sys.stderr, flush=True)
