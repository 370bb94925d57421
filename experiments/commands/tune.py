"""`tune`: tune the cells of a grid."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from experiments.commands import say
from experiments.commands.grids import check_workers
from experiments.config.errors import UserError
from experiments.config.grid import load_grid
from experiments.federation.describe import percent
from experiments.sweep.plan import check, load_data
from experiments.tuning.search import storage_of
from experiments.tuning.study import Cell, Terms, cells_of, runs_to_check, several
from experiments.tuning.trials import TuningError, alone
from experiments.tuning.trials import tune as tune_all
from experiments.tuning.winners import named
from results import ResultsError
from results.store import Store, check_writable
from results.tuned.tuned import FIXED_EPOCHS, Winner, find


def main(options: argparse.Namespace) -> int:
    """Tune, and print each winner as its study ends."""
    check_workers(options)
    terms = Terms(options.trials, options.rounds, options.seed, not options.no_halving)
    grid = load_grid(options.grid, options.only, options.set)
    loaded = load_data(grid.specs(), options.data, may_fall_back=not grid.names_dataset, tuning=True)
    say(loaded.message)
    cells = cells_of(loaded.specs, ("local_epochs",) if options.fixed_epochs else ())
    for name, values in several(loaded.specs).items():
        say(f"{name} is {', '.join(values)} in the grid; tuning starts from the first that a cell has")
    folder = options.results / "tuned"
    folder = folder / FIXED_EPOCHS if options.fixed_epochs else folder
    folder = folder / f"seed-{terms.seed}" if terms.seed else folder
    check_effort(cells, terms, folder)
    check_writable(folder)
    Store(folder).check_writable()
    check(loaded, runs_to_check(cells, terms))
    started = perf_counter()
    with alone(folder):
        storage = storage_of(options.storage or f"journal:{folder / 'studies.journal'}")
        count = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
        say(f"{count}, {terms.trials} trials each of {terms.rounds} rounds")
        try:
            for winner in tune_all(cells, loaded.data, folder, terms, storage, options.workers):
                print(chosen(winner), flush=True)
        except TuningError as error:
            say(f"error: {error}\nnothing finished is lost; the same command goes on")
            return 1
    say(f"{count} tuned in {(perf_counter() - started) / 60:.1f} minutes")
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
