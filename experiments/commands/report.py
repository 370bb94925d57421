"""`report`: tables and figures of a grid's runs, or of all."""

from __future__ import annotations

import argparse
from hashlib import sha256
from pathlib import Path

from experiments.commands.grids import load_grid_with_data
from experiments.config.errors import UserError
from experiments.config.grid import Grid
from experiments.config.spec import label_skewed
from experiments.sweep.plan import plan
from experiments.tuning.winners import Arms
from results.files import slug
from results.store import Store


def main(options: argparse.Namespace) -> int:
    """Write what the stored runs say."""
    store = Store(options.results)
    if options.grid is None:
        if options.only or options.set:
            raise UserError("--only and --set narrow a grid, and none is named: report GRID --only ...")
        out = options.out or options.results / "report"
        write_report(store, out, options, None, None, 0)
        return 0
    grid, loaded, found = load_grid_with_data(options)
    stale = len(plan(loaded.specs, store, options.engine).stale)
    write_report(store, report_folder(options, grid), options, grid, found, stale)
    return 0


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


def write_report(
    store: Store, out: Path, options: argparse.Namespace, grid: Grid | None, found: Arms | None, stale: int
) -> None:
    """Write tables and figures of these runs (all by default), and print the main table."""
    # pandas and matplotlib: seconds that a sweep without a report does without
    from results.reporting.index import report as write

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
        label_skewed=label_skewed,
    )
    print(written.main)
    print(f"tables and figures: {written.index}")
