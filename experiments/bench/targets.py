"""What is to be reached, as ratios and shares within one run on one machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.bench.figures import Figures
from experiments.bench.frameworks import CORES, FLOWER, PEERS
from experiments.bench.frameworks import SECTION as FRAMEWORKS
from experiments.bench.sweeping import SECTION as SWEEP
from experiments.bench.training import BATCHED, OURS, PLAIN, PRODUCTS, WRITTEN
from experiments.bench.work import ROUNDS, SHORT, Work


@dataclass(frozen=True)
class Target:
    """A figure with its bars; `measured` is None where this run of the bench left it out.

    Attributes:
        at_least: larger is better (else smaller is).
        reach, stretch: the bars; None for none.
    """

    name: str
    measured: float | None
    reach: float | None
    stretch: float | None = None
    unit: str = ""
    at_least: bool = False

    def holds(self, bar: float | None) -> bool | None:
        """Whether a bar is reached; None where there is nothing to say."""
        if bar is None or self.measured is None:
            return None
        return self.measured >= bar if self.at_least else self.measured <= bar


def targets(figures: Figures, few: Work, many: Work, pilot: Work, sweep_column: str | None) -> list[Target]:
    """Every target with what was measured.

    Args:
        few, many: the small model with 4 and with 30 clients.
        pilot: the pilot's larger model.
        sweep_column: the sweep that targets are held to, None if there was none.
    """
    look = figures.look
    found: list[Target] = []
    for work in (few, many):
        ours = look("Training, a round", OURS, work.name)
        others = [look("Training, a round", name, work.name) for name in (WRITTEN, BATCHED)]
        k = f"{work.clients} clients"
        found += [
            Target(f"training over the best written-out kernel, {k}", _over(ours, _least(others)), 1.05, 0.9),
            Target(f"training over the products alone, {k}", _cell(figures, PRODUCTS, work), None, 1.2),
        ]
    large = f"training over the plain loop, {pilot.name}"
    growth = _over(look("Training, a round", OURS, many.name), look("Training, a round", OURS, few.name))
    found += [
        Target(large, _cell(figures, PLAIN, pilot), 0.7, 0.55),
        Target(f"training, {many.clients} clients over {few.clients}", growth, 1.2, 1.05),
        Target("evaluation over its forward products", look("Evaluation", "ratio", few.model), 1.3),
    ]
    for work, share in ((few, 5), (many, 10)):
        share_of = look("A run of", "Flower and messages, of training", work.name)
        found.append(Target(f"Flower and messages, {work.clients} clients", share_of, share, unit="%"))
    return found + _of_sweeps(figures, few, sweep_column)


def _of_sweeps(figures: Figures, few: Work, column: str | None) -> list[Target]:
    def seen(row: str) -> float | None:
        return figures.look(SWEEP, row, column) if column else None

    floor = figures.look("A run of", "products alone", few.name)
    alone = f"a run of {ROUNDS} rounds in a sweep, over its products alone"
    found = [
        Target(alone, _over(seen(f"a worker's time for {ROUNDS} rounds"), floor), 1.7, 1.4),
        Target("the same by core time", _over(seen(f"core time of {ROUNDS} rounds"), floor), 1.7, 1.4),
    ]
    cores = int(column.split()[0]) if column else CORES
    hourly = _over(seen(f"runs of {SHORT} rounds an hour"), cores / CORES)
    for name, reach, stretch in ((FLOWER, 28, 40), *((peer.name, 7, 9) for peer in PEERS)):
        other = figures.look(FRAMEWORKS, f"{name}, runs an hour on {CORES} cores", few.name)
        found.append(Target(f"runs an hour over {name}", _over(hourly, other), reach, stretch, at_least=True))
    return [
        *found,
        Target("workers' time inside runs", seen("workers' time inside runs"), 95, unit="%", at_least=True),
        Target("Ray, a run", seen("between two runs of a worker"), 20, unit="ms"),
        Target("largest worker's memory", seen("largest worker's memory"), 600, unit="MB"),
    ]


def _cell(figures: Figures, base: str, work: Work) -> float | None:
    return figures.look(f"Training, over the {base}", OURS, work.name)


def _over(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b


def _least(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return min(known) if known else None
