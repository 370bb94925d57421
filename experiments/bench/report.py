"""What the bench prints and leaves behind: aligned Markdown tables, and every cell as a line of a CSV file.

Nothing here is dated: a file is named after the machine, and says which versions and which commit it was made with.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.bench.figures import Figures
from experiments.bench.targets import Target
from experiments.federation import provenance


def slug(text: str) -> str:
    """A file name, `amd-epyc-linux-2-cores`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def conditions(data: str, repeats: int, versions: Mapping[str, str]) -> list[str]:
    """What the figures were taken on, a line each."""
    libraries = provenance.versions()
    libraries = libraries | {name: number for name, number in versions.items() if number not in libraries.values()}
    return [
        f"machine: {provenance.machine()}, {cores()} cores; one thread a process",
        f"versions: {', '.join(f'{name} {version}' for name, version in libraries.items())}",
        f"commit: {provenance.commit() or 'unknown'}; CPU path: {provenance.cpu_path()}; {blas()}",
        f"data: {data}",
        f"medians of {repeats} turns, contestants in turn; Flower, fluke and pfl once, as whole processes, and without "
        "evaluation",
    ]


def blas() -> str:
    """The libraries behind matrix products (NumPy and SciPy may bring one each; PyTorch's MKL has its own version)."""
    from threadpoolctl import threadpool_info

    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return ", ".join(sorted({f"{library['internal_api']} {library['version']}" for library in found})) or "BLAS unknown"


def markdown(figures: Figures, targets: Sequence[Target], lines: Sequence[str]) -> str:
    """The whole report."""
    parts = ["# Bench", "\n".join(f"- {line}" for line in lines), "## Targets", target_table(targets)]
    for section in dict.fromkeys(cell.section for cell in figures.cells):
        parts += [f"## {section}", pivot(figures, section)]
    if figures.notes:
        parts += ["## Remarks", "\n".join(f"- {note}" for note in figures.notes)]
    return "\n\n".join(parts) + "\n"


def target_table(targets: Sequence[Target]) -> str:
    """A line a target, with *yes* or *no* for each bar."""
    rows = [["", "measured", "reach", "reached", "stretch", "reached"]]
    for target in targets:
        sign = ">=" if target.at_least else "<="
        cells = [target.name, "not measured" if target.measured is None else number(target.measured, target.unit)]
        for bar in (target.reach, target.stretch):
            held = target.holds(bar)
            cells += ["" if bar is None else f"{sign} {number(bar, target.unit)}"]
            cells += ["" if held is None else "yes" if held else "no"]
        rows.append(cells)
    return table(rows)


def pivot(figures: Figures, section: str) -> str:
    """A section's cells as rows and columns, in the order they came."""
    cells = {(cell.row, cell.column): cell for cell in figures.cells if cell.section == section}
    columns = list(dict.fromkeys(column for _, column in cells))
    rows = [["", *columns]]
    for row in dict.fromkeys(row for row, _ in cells):
        found = [cells.get((row, column)) for column in columns]
        rows.append([row, *("" if cell is None else number(cell.value, cell.unit) for cell in found)])
    return table(rows)


def number(value: float, unit: str) -> str:
    """Three figures, and no more decimals than a measurement of this kind bears."""
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{decimals}f}{f' {unit}' if unit else ''}"


def table(rows: list[list[str]]) -> str:
    """A Markdown table that reads well as plain text: first column to the left, others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    first, *others = widths
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
    padded = [[row[0].ljust(first), *map(str.rjust, row[1:], others)] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (padded[0], rule, *padded[1:]))


def write_csv(path: Path, figures: Figures) -> None:
    """Every cell as a line."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["table", "row", "column", "value", "unit"])
        for cell in figures.cells:
            writer.writerow([cell.section, cell.row, cell.column, f"{cell.value:.4g}", cell.unit])
