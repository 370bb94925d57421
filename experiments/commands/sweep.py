"""`sweep`: make what is missing of a grid, then its tables and figures."""

from __future__ import annotations

import argparse
from collections import Counter

from experiments.commands import say
from experiments.commands.grids import check_workers, load_grid_with_data
from experiments.commands.report import report_folder, write_report
from experiments.config.errors import UserError
from experiments.config.grid import Grid
from experiments.engines import engine as check_engine
from experiments.federation.keys import keys_of_sweep, sampled_runs
from experiments.sweep.plan import Loaded, Plan, check, estimate, plan
from experiments.sweep.workers import Summary
from experiments.sweep.workers import sweep as sweep_all
from results.store import Store, check_writable


def main(options: argparse.Namespace) -> int:
    """Make the runs, or say what there is to do."""
    check_engine(options.engine)
    check_workers(options)
    grid, loaded, found = load_grid_with_data(options)
    store = Store(options.results)
    todo = plan(loaded.specs, store, options.engine, options.rerun_stale)
    if todo.todo and not options.dry_run:
        store.check_writable()
    if not (options.no_report or options.dry_run):
        check_writable(report_folder(options, grid), "--out")
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
    say(conclusion(todo, summary))
    if summary.interrupted:
        say("interrupted; the same command goes on with what is missing")
    elif not options.no_report:
        write_report(store, report_folder(options, grid), options, grid, found, len(todo.stale))
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
