"""What the commands of a grid share: the grid with its data and its tuned values, and checks of their options."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from shlex import join

from experiments.commands import say
from experiments.config.errors import UserError
from experiments.config.grid import Grid, load_grid
from experiments.sweep.plan import Loaded, load_data
from experiments.tuning.winners import Arms, arms


def check_workers(options: argparse.Namespace) -> None:
    """Refuse `--workers` below 1."""
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers must be at least 1; found {options.workers}")


def load_grid_with_data(options: argparse.Namespace) -> tuple[Grid, Loaded, Arms]:
    """A grid with its data, every run resolved and, where the grid or `--tuned` says so, tuned."""
    grid = load_grid(options.grid, options.only, options.set)
    loaded = load_data(grid.specs(), options.data, may_fall_back=not grid.names_dataset)
    say(loaded.message)
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
