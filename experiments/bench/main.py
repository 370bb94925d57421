"""`python -m experiments bench`: measure, print, and leave the tables under `results/bench`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from experiments import provenance
from experiments.bench import report
from experiments.bench.clock import progress
from experiments.bench.figures import Figures
from experiments.bench.frameworks import measure_frameworks
from experiments.bench.generic import measure_generic, write_choices
from experiments.bench.sweeping import measure_sweeps
from experiments.bench.targets import targets
from experiments.bench.training import measure_evaluation, measure_runs, measure_training
from experiments.bench.work import Work, measured_data
from experiments.errors import UserError
from experiments.run import RunData

SMALL, PILOT = (561, 128, 64, 6), ((561, 512, 512, 6), (561, 437, 312, 6))
SWEEP_RUNS = 200
QUICK_REPEATS = 5


def bench(out: Path, repeats: int, quick: bool, peers: bool) -> str:
    """Measure everything and write it; the report.

    Args:
        out: folder to write into.
        repeats: turns that a median is taken over.
        quick: in this process only, no sweep and no framework; the table of trainers is left as it is.
        peers: also fluke and pfl.

    Raises:
        UserError: options that make no sense.
    """
    if repeats < 1:
        raise UserError(f"--repeats must be at least 1; found {repeats}")
    if quick and peers:
        raise UserError("--peers measures whole processes, which --quick leaves out; give one of them")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: a folder is expected, this is a file")
    return measure(out, measured_data(), min(repeats, QUICK_REPEATS) if quick else repeats, quick, peers)


def measure(
    out: Path, data: RunData, repeats: int, quick: bool, peers: bool, small: tuple[int, ...] = SMALL,
    pilot: tuple[tuple[int, ...], ...] = PILOT,
) -> str:  # fmt: skip
    """As `bench`, on this data and these models."""
    torch.set_num_threads(1)
    # Ray lowers the priority of its workers; on a machine with other work that would measure the other work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    progress(f"data: {data.about.title}")
    features, classes = data.train.x.shape[1], len(data.about.classes)
    x, y = data.train.x, data.train.y
    few = Work(x, y, (features, *small[1:-1], classes), clients=4)
    many = replace(few, clients=30)
    large = [replace(few, widths=(features, *widths[1:-1], classes), clients=8) for widths in pilot]
    figures = Figures()
    measure_training([few, many, *large], figures, repeats)
    measure_evaluation([few, *large], data, figures, repeats)
    measure_runs([few, many], data, figures, repeats)
    measure_generic(figures, repeats)
    column = None
    if quick:
        figures.notes.append("not measured: the sweep, Flower's simulation, fluke and pfl (--quick)")
    else:
        workers = sorted({1, 2, report.cores()})
        measure_sweeps(few, data, figures, SWEEP_RUNS, workers)
        column = f"{workers[-1]} workers"
        measure_frameworks([few, many, *large], figures, peers)
        if not peers:
            figures.notes.append("not measured: fluke and pfl (give --peers)")
    held = targets(figures, few, many, large[-1], column)
    text = report.markdown(figures, held, report.conditions(data.about.title, repeats, figures.versions))
    out.mkdir(parents=True, exist_ok=True)
    name = report.slug(provenance.machine(), report.cores()) + ("-quick" if quick else "")
    (out / f"{name}.md").write_text(text)
    report.write_csv(out / f"{name}.csv", figures)
    if not quick:
        write_choices(out / "trainers.csv", figures)
    progress(f"written: {out / name}.md and .csv")
    return text
