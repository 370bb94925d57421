"""How often the tests and intervals are right, on made-up sweeps whose truth is known.

A sweep is ten seeds of FedAvg and of 13 strategies; differences to FedAvg share FedAvg's own luck, as real ones do.
Everything is in units of one strategy's noise, and every function takes its generator's seed: the figures that
`python -m results.statistics` prints are the same on every machine but for the last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from results.statistics.families import best_set, step_down
from results.statistics.person_intervals import crossed_interval
from results.statistics.values import SIGNIFICANCE, Floats

SEEDS = 10
STRATEGIES = 13
PERSONS = 9
FALL = 30.0  # how far a strategy falls in a bad seed


@dataclass(frozen=True)
class Figure:
    """One row of the table: what was counted, what came out, and what was wanted (both ends included)."""

    what: str
    reached: float
    low: float
    high: float

    @property
    def kept(self) -> bool:
        """Whether it came out as wanted."""
        return self.low <= self.reached <= self.high


def normal(rng: np.random.Generator) -> Floats:
    """Scores (seeds, 1 + strategies), FedAvg first, none better than another."""
    return rng.normal(size=(SEEDS, 1 + STRATEGIES))


def reference_falls(rng: np.random.Generator) -> Floats:
    """In one seed of ten FedAvg falls: every difference is shifted alike."""
    scores = normal(rng)
    scores[rng.integers(SEEDS), 0] -= FALL
    return scores


def some_fall(rng: np.random.Generator) -> Floats:
    """In one seed of ten each falls with a chance of one half."""
    scores = normal(rng)
    scores[rng.integers(SEEDS)] -= FALL * rng.integers(2, size=1 + STRATEGIES)
    return scores


def unequal(rng: np.random.Generator) -> Floats:
    """Spreads over strategies from a fifth of FedAvg's to ten times."""
    return np.asarray(normal(rng) * np.concatenate([[1.0], np.geomspace(0.2, 10, STRATEGIES)]))


NULLS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "normal noise": normal,
    "FedAvg falls in one seed": reference_falls,
    "some fall in one seed": some_fall,
    "unequal spreads": unequal,
}


def false_sweeps(scores: Callable[[np.random.Generator], Floats], sweeps: int, seed: int) -> int:
    """Sweeps in which `step_down` at 5 % finds any of the strategies, though none differs."""
    rng = np.random.default_rng(seed)
    return sum(
        bool((step_down(x[:, 1:] - x[:, :1]).p <= SIGNIFICANCE).any()) for x in (scores(rng) for _ in range(sweeps))
    )


def found_sweeps(effect: float, sweeps: int, seed: int, seeds: int = SEEDS) -> int:
    """Sweeps in which `step_down` finds one strategy planted `effect` sd of its paired difference away."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(sweeps):
        x = rng.normal(size=(seeds, 1 + STRATEGIES))
        x[:, 1] += effect * np.sqrt(2)  # a difference of two scores of sd 1 has sd sqrt(2)
        found += bool(step_down(x[:, 1:] - x[:, :1]).p[0] <= SIGNIFICANCE)
    return found


# sd of seeds, persons and rest, in points, as paired differences to FedAvg have them (METHODS, "What varies").
PROPORTIONS = ((2.0, 1.0, 1.0), (2.0, 3.0, 2.0), (5.0, 2.0, 3.0), (10.0, 3.0, 3.0), (10.0, 1.0, 2.0))


def crossed_coverage(sds: tuple[float, float, float], tables: int, seed: int) -> tuple[float, float]:
    """Share of ten-by-nine tables whose interval holds the true mean: by `crossed_interval`, and the pigeonhole's."""
    held = np.array(
        [
            (found.low <= 0 <= found.high, found.pigeonhole_low <= 0 <= found.pigeonhole_high)
            for found in (crossed_interval(table) for table in _tables(sds, tables, seed))
        ]
    )
    first, second = held.mean(axis=0)
    return float(first), float(second)


def _tables(sds: tuple[float, float, float], tables: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    of_seed, of_person, of_rest = sds
    for _ in range(tables):
        effects = rng.normal(0, of_seed, (SEEDS, 1)) + rng.normal(0, of_person, (1, PERSONS))
        yield effects + rng.normal(0, of_rest, (SEEDS, PERSONS))


def best_coverage(truth: Floats, sds: Floats, sweeps: int, seed: int, seeds: int = SEEDS) -> tuple[float, float]:
    """Share of sweeps in which the best set holds all true bests, and in which all its intervals hold the truth.

    Args:
        truth, sds: (m,) true means and sds of the strategies.
    """
    rng = np.random.default_rng(seed)
    others = np.array([np.delete(truth, k).max() for k in range(truth.size)])
    best = truth == truth.max()
    kept, held = 0, 0
    for _ in range(sweeps):
        found = best_set(truth + rng.normal(size=(seeds, truth.size)) * sds)
        # Of several true bests the guarantee is for each alone; the first stands for them.
        kept += bool(found.in_best[np.argmax(best)])
        held += bool(((found.low <= truth - others) & (truth - others <= found.high)).all())
    return kept / sweeps, held / sweeps


# True means and sds of 13 strategies, for `best_coverage`: the cases in which a set could be too small.
BEST_CASES: dict[str, tuple[Floats, Floats]] = {
    "none differs": (np.zeros(STRATEGIES), np.ones(STRATEGIES)),
    "one far ahead": (np.append(np.zeros(STRATEGIES - 1), 3.0), np.ones(STRATEGIES)),
    "a ladder, unequal spreads": (np.linspace(0, 6, STRATEGIES), np.geomspace(0.2, 10, STRATEGIES)),
}


def figures(scale: float = 1.0) -> Iterator[Figure]:
    """Everything that was promised, measured; `scale` shortens the simulations, and blurs them."""
    sweeps, tables = round(10_000 * scale), round(2_000 * scale)
    for name, scores in NULLS.items():
        rejected = 1_000 * false_sweeps(scores, sweeps, seed=11) / sweeps
        yield Figure(f"step_down: null sweeps of 1,000 with a finding, {name}", rejected, 0, 64)
    found = found_sweeps(2.0, tables, seed=12) / tables
    yield Figure("step_down: two sd in one of 13 strategies found", found, 0.95, 1)
    for sds in PROPORTIONS:
        of_seed, of_person, of_rest = sds
        name = f"sd of seeds {of_seed:g}, persons {of_person:g}, rest {of_rest:g}"
        covered, pigeonhole = crossed_coverage(sds, tables, seed=13)
        yield Figure(f"crossed_interval: coverage, {name}", covered, 0.93, 0.97)
        yield Figure(f"   pigeonhole beside it, {name}", pigeonhole, 0.92, 1)
    for name, (truth, spread) in BEST_CASES.items():
        kept, held = best_coverage(truth, spread, tables // 2, seed=14)
        yield Figure(f"best_set: holds the best, {name}", kept, 0.93, 1)
        yield Figure(f"   all intervals hold, {name}", held, 0.92, 1)
