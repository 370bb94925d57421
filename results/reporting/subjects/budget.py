"""Accuracy against the budget of tuning: a strategy that is best after 60 trials may be worst after five.

The expected best of n random trials, from the N that were made (Dodge et al. 2019, "Show Your Work", equations 4-7):
with the sorted values v_(1) <= ... <= v_(N) as the distribution that trials are drawn from,

    E[max of n] = sum_i v_(i) ((i / N)^n - ((i - 1) / N)^n),    n = 1, ..., N

which needs trials that are random and ran to the end: those of a study's first two batches but the default. The best so
far of the whole study (TPE, halving) is another thing: one path a study, so that it takes several (`tune --seed 1`,
`--seed 2`) to see how much it varies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from results.reporting import captions, layout, titles
from results.reporting.render import Table
from results.reporting.style import Look, looks, wrapped
from results.reporting.subjects.tuning import LOCAL, in_order, keys_of, names_of
from results.reporting.text import NOTHING
from results.rules import family
from results.tuned.tuned import Winner

RANDOM_BATCHES = 2  # from the first
RUNS = 5  # of a trial, where a study does not name its seeds
STANDING = "Five seeds a trial, no test row: no claim"
Floats = NDArray[np.float64]


def expected_maximum(values: ArrayLike) -> Floats:
    """Expected best of n = 1, ..., N draws from N values, (N,), in their unit; none of no values."""
    v = np.sort(np.asarray(values, dtype=float))
    n = np.arange(1, len(v) + 1)
    share = np.arange(len(v) + 1) / max(len(v), 1)
    powers = share[None, :] ** n[:, None]  # (N draws, N + 1)
    return np.asarray(np.diff(powers, axis=1) @ v)


def random_values(winner: Winner) -> list[float]:
    """Values of the random trials that ran to the end, the default left out: it is no draw."""
    return [
        one.value for one in winner.trials if one.batch < RANDOM_BATCHES and one.state == "complete" and one.number != 0
    ]


def best_so_far(winner: Winner) -> tuple[Floats, Floats]:
    """Rounds spent by the whole study and the best complete value until then, a point a trial."""
    spent, best, points = 0, -np.inf, []
    for one in sorted(winner.trials, key=lambda trial: trial.number):
        spent += one.rounds * runs_a_trial(winner)
        if one.state == "complete":
            best = max(best, one.value)
        if np.isfinite(best):
            points.append((spent, best))
    found = np.asarray(points, dtype=float).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def studies_of(winner: Winner, others: Sequence[Winner]) -> list[Winner]:
    """A cell's study, and those of the others that searched the same cell as long."""
    longest = winner.study.get("rounds")
    return [winner, *(one for one in others if one.name == winner.name and one.study.get("rounds") == longest)]


def runs_a_trial(winner: Winner) -> int:
    """How many runs a trial's value is the mean of."""
    seeds = winner.study.get("seeds")
    return len(seeds) if isinstance(seeds, Sequence) and not isinstance(seeds, str) else RUNS


def budgets(winners: Sequence[Winner]) -> Iterator[tuple[dict[str, str], Winner, Floats, Floats]]:
    """Names, winner, rounds and expected best [0, 1] of every cell that has random trials."""
    winners = [one for one in in_order(winners) if random_values(one)]
    for names, one in zip(names_of(winners), winners, strict=True):
        expected = expected_maximum(random_values(one))
        rounds = max(trial.rounds for trial in one.trials if trial.batch < RANDOM_BATCHES)
        yield names, one, np.arange(1.0, len(expected) + 1) * (rounds * runs_a_trial(one)), expected


SHOWN = (1, 2, 5, 10, 20)  # trials


def budget_table(winners: Sequence[Winner], others: Sequence[Winner] = ()) -> Table | None:
    """The expected best of 1, 2, 5, ... random trials, a row a cell; every n in the CSV.

    Args:
        others: of further studies of the cells (`tuned.repeats`).
    """
    shown, raw = [], []
    keys = dict(zip((one.name for one in winners), keys_of(winners), strict=True))
    for names, one, rounds, expected in budgets(winners):
        ends = [100 * best_so_far(study)[1][-1] for study in studies_of(one, others)]
        shown.append(
            names
            | {"Random trials": str(len(expected))}
            | {f"Best of {n} [%]": f"{100 * expected[n - 1]:.2f}" if n <= len(expected) else NOTHING for n in SHOWN}
            | {"Whole study [%]": ", ".join(f"{end:.2f}" for end in ends)}
        )
        spent = {"trials": np.arange(1, len(expected) + 1), "rounds": rounds.astype(int)}
        raw.append(pd.DataFrame(keys[one.name] | spent).assign(expected_best_percent=100 * expected))
    if not shown:
        return None
    left = len(shown[0]) - len(SHOWN) - 2
    table = pd.DataFrame(shown)
    for n in SHOWN:  # no cell has so many
        if (table[f"Best of {n} [%]"] == NOTHING).all():
            table = table.drop(columns=f"Best of {n} [%]")
    caption = (
        "Expected best validation accuracy of n random trials (Dodge et al. 2019), from the random trials that ran to "
        "the end, the default not among them.",
        LOCAL * any(one.rule.arm == "local" for one in winners),
        "Whole study: the best value of all its complete trials; of each study, where a cell was tuned several times.",
        "A trial is five runs; the CSV gives every n with its rounds of training.",
    )
    return Table(
        "budget", "Tuning: accuracy against budget", caption, pd.concat(raw), table.rename(columns=titles.CAPITAL), left
    )


def budget(winners: Sequence[Winner], look: dict[str, Look], others: Sequence[Winner] = ()) -> list[Figure]:
    """Expected best over rounds of training spent on tuning, a panel a partition; thin: each study's best so far.

    Args:
        others: as `budget_table`'s.
    """
    found = list(budgets(winners))
    if not found:
        return []
    look = _look(look, [names["strategy"] for names, *_ in found])
    panels_: dict[str, list[Any]] = {}
    for names, one, rounds, expected in found:
        title = ", ".join(value for name, value in names.items() if name != "strategy")
        panels_.setdefault(title, []).append((names["strategy"], one, rounds, expected))
    figures = []
    for figure, page in layout.sheets(list(panels_.items()), 1.5):
        for (title, cells), panel in page:
            panel.set_title(wrapped(title, 27))
            panel.set_xscale("log")
            for strategy, one, rounds, expected in cells:
                drawn = look[strategy]
                panel.plot(rounds, 100 * expected, **drawn.strokes, markevery=max(1, len(rounds) // 5))
                for spent, best in map(best_so_far, studies_of(one, others)):
                    panel.step(spent, 100 * best, where="post", color=drawn.colour, linestyle=drawn.line, linewidth=0.5)
        drawn_here = [cell for (_, cells), _ in page for cell in cells]
        counts = [len(studies_of(one, others)) for _, one, *_ in drawn_here]
        studies = captions.span(min(counts), max(counts), "study")
        heading = (
            "Tuning: validation accuracy against budget\nThick: expected best of random trials;\n"
            f"thin: best so far of {studies} (TPE, halving)\n" + STANDING
        )
        layout.legend(figure, look, [strategy for strategy, *_ in drawn_here], heading)
        layout.axes(figure, "Rounds of training spent", "Validation accuracy [%]")
        figures.append(figure)
    return figures


def _look(look: dict[str, Look], strategies: Sequence[str]) -> dict[str, Look]:
    """The looks that these have in other figures: their own or their family's; new ones for the others."""
    by_family = {family(name): one for name, one in reversed(look.items())}
    known = {name: look.get(name, by_family.get(family(name))) for name in dict.fromkeys(strategies)}
    new = looks([*look, *(name for name, one in known.items() if one is None)])
    return {name: one or new[name] for name, one in known.items()}
