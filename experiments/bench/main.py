"""`python -m experiments bench`: measure, print, and leave the tables under `results/bench`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from experiments.bench import beside, privacy, protection, report, rules
from experiments.bench.clock import progress
from experiments.bench.figures import Figures
from experiments.bench.frameworks import measure_frameworks
from experiments.bench.generic import measure_generic, write_choices
from experiments.bench.sweeping import measure_sweeps
from experiments.bench.targets import Target, targets
from experiments.bench.training import measure_evaluation, measure_runs, measure_training
from experiments.bench.work import Work, measured_data
from experiments.config.errors import UserError
from experiments.federation import provenance
from experiments.federation.run import RunData

SMALL, PILOT = (561, 128, 64, 6), ((561, 512, 512, 6), (561, 437, 312, 6))
SWEEP_RUNS = 200
REPEATS, QUICK_REPEATS = 11, 5


def bench(
    out: Path, repeats: int | None, quick: bool, peers: bool, protected: bool = False, private: bool = False,
    of_rules: bool = False, commit: str | None = None,
) -> str:  # fmt: skip
    """Measure everything and write it; the report.

    Args:
        out: folder to write into.
        repeats: turns that a median is taken over; None for what is usual.
        quick: in this process only, no sweep and no framework; the table of trainers is left as it is. With `commit`,
            two pairs of the short runs.
        peers: also fluke and pfl.
        protected: what protection costs, and nothing else.
        private: what differential privacy costs, and nothing else.
        of_rules: what other rules cost in training, and nothing else.
        commit: what this tree costs beside that commit's, and nothing else.

    Raises:
        UserError: options that make no sense.
    """
    if repeats is not None and repeats < 1:
        raise UserError(f"--repeats must be at least 1; found {repeats}")
    if quick and peers:
        raise UserError("--peers measures whole processes, which --quick leaves out; give one of them")
    alone = [protected, private, of_rules, commit is not None]
    if sum(alone) > 1 or (any(alone) and peers) or (any(alone[:3]) and quick):
        raise UserError(
            "--protection, --privacy, --rules and --beside each measure one thing alone; leave the others out "
            "(--beside may be --quick)"
        )
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: a folder is expected, this is a file")
    if commit is not None:
        return measure_beside(out, commit, repeats, quick)
    repeats = repeats or REPEATS
    if of_rules:
        return measure_rules(out, repeats)
    if protected:
        return measure_protection(out, measured_data(), repeats)
    if private:
        return measure_privacy(out, measured_data(), repeats)
    return measure(out, measured_data(), min(repeats, QUICK_REPEATS) if quick else repeats, quick, peers)


def measure_protection(
    out: Path, data: RunData, repeats: int, small: tuple[int, ...] = SMALL, pilot: tuple[int, ...] = PILOT[-1],
    bits: int = 3072, sample: int = 20,
) -> str:  # fmt: skip
    """What protection costs, on this data, these models and keys of so many bits."""
    torch.set_num_threads(1)
    few, large = works(data, small, (pilot,))
    figures = Figures()
    keys = protection.make_keys(bits, report.cores(), figures)
    protection.measure_updates(keys, few, large[0], figures, repeats, sample)
    protection.measure_rounds(keys, few, data, figures, repeats, report.cores())
    protection.measure_memory(few, data, figures)
    return written(out, "-protection", figures, protection.protection_targets(figures), data.about.title, repeats)


def measure_privacy(out: Path, data: RunData, repeats: int, small: tuple[int, ...] = SMALL) -> str:
    """What differential privacy costs, on this data and model."""
    torch.set_num_threads(1)
    few, _ = works(data, small, ())
    figures = Figures()
    privacy.measure_privacy(few, figures, repeats)
    return written(out, "-privacy", figures, privacy.privacy_targets(figures), data.about.title, repeats)


def measure_rules(out: Path, repeats: int, **options: object) -> str:
    """What other rules cost in training, on UCI HAR or what stands in for it; `options` change those of the runs."""
    figures = Figures()
    title = rules.measure_rules(figures, repeats, **options)
    return written(out, "-rules", figures, rules.rule_targets(figures), title, repeats)


def measure_beside(out: Path, commit: str, pairs: int | None, quick: bool) -> str:
    """What this tree costs beside a commit's."""
    figures = Figures()
    pairs = pairs or (beside.QUICK_PAIRS if quick else beside.PAIRS)
    title, held = beside.measure_beside(commit, pairs, quick, figures)
    return written(out, f"-beside-{report.slug(commit)}{'-quick' if quick else ''}", figures, held, title, pairs)


def works(data: RunData, small: tuple[int, ...], pilot: Sequence[tuple[int, ...]]) -> tuple[Work, list[Work]]:
    """The small model with 4 clients, and the pilot's with 8, on this data."""
    features, classes = data.train.x.shape[1], len(data.about.classes)
    few = Work(data.train.x, data.train.y, (features, *small[1:-1], classes), clients=4)
    return few, [replace(few, widths=(features, *widths[1:-1], classes), clients=8) for widths in pilot]


def written(out: Path, kind: str, figures: Figures, held: Sequence[Target], title: str, repeats: int) -> str:
    """Leave the tables, and return the report; `title` is the data's."""
    text = report.markdown(figures, held, report.conditions(title, repeats, figures.versions))
    out.mkdir(parents=True, exist_ok=True)
    name = report.slug(f"{provenance.machine()} {report.cores()} cores") + kind
    (out / f"{name}.md").write_text(text)
    report.write_csv(out / f"{name}.csv", figures)
    progress(f"written: {out / name}.md and .csv")
    return text


def measure(
    out: Path, data: RunData, repeats: int, quick: bool, peers: bool, small: tuple[int, ...] = SMALL,
    pilot: tuple[tuple[int, ...], ...] = PILOT,
) -> str:  # fmt: skip
    """As `bench`, on this data and these models."""
    torch.set_num_threads(1)
    progress(f"data: {data.about.title}")
    few, large = works(data, small, pilot)
    many = replace(few, clients=30)
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
    text = written(out, "-quick" if quick else "", figures, held, data.about.title, repeats)
    if not quick:
        write_choices(out / "trainers.csv", figures)
    return text
