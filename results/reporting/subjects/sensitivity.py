"""How much a strategy depends on its learning rate: robustness to bad tuning is a result.

Drawn where `client_lr` is an axis: three values or more for one strategy and partition. A rate at which a run diverged
or failed counts as out of range, whatever the others scored.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.reporting import captions, layout, titles
from results.reporting.render import Table
from results.reporting.study import Study, cells
from results.reporting.style import Look, wrapped

RATE = "client_lr"  # the option
LEAST = 3  # rates that make an axis
MARGIN = 0.01  # of the score, in [0, 1]: one point


def swept(study: Study) -> bool:
    """Whether the learning rate is an axis of the study."""
    if RATE not in study.panels:
        return False
    others = [name for name in study.panels if name != RATE]
    rates = study.primary.groupby(["partition", "strategy", *others], observed=True)[RATE].nunique()
    return bool(rates.max() >= LEAST)


def lines(study: Study) -> pd.DataFrame:
    """The cells with their rate as a number, ascending within a line; a line is all of `by(study)`.

    Returns:
        columns of `study.cells`; rate; whole (all runs of the cell finished).
    """
    found = cells(study)
    found = found.assign(rate=found[RATE].astype(str).astype(float), whole=found["finished"] == found["runs"])
    return found.sort_values([*by(study), "rate"], kind="stable").reset_index(drop=True)


def by(study: Study) -> list[str]:
    """What names a line."""
    return ["partition", "strategy", *(name for name in study.panels if name != RATE)]


def sensitivity_table(study: Study, stale: int = 0) -> Table | None:
    """For each strategy its best rate and the range of rates within one point of it; None where no rate was swept."""
    if not swept(study):
        return None
    shown, raw = [], []
    for _, line in lines(study).groupby(by(study), observed=True, sort=True):
        names = {name: str(line[name].iloc[0]) for name in by(study)}
        usable = line[line["whole"] & line["score"].notna()]
        numbers: dict[str, object] = {"rates": len(line), "rates_unfinished": int((~line["whole"]).sum())}
        numbers["rates_filtered"] = int((line["filtered"] > 0).sum())
        text = {"Rates": str(len(line)), "Unfinished": str(numbers["rates_unfinished"])}
        text["Filtered"] = str(numbers["rates_filtered"])
        if usable.empty:
            text |= {"Best rate": "–", "Score there [%]": "–", "Within one point": "–", "Factor": "–"}
        else:
            best = usable.iloc[int(usable["score"].argmax())]
            low, high, within = _around(line, float(best["rate"]))
            numbers |= {
                "best_rate": f"{best['rate']:g}",
                "best_score_percent": 100 * best["score"],
                "lowest_rate_within": f"{low:g}",
                "highest_rate_within": f"{high:g}",
                "rates_within": within,
                "factor": high / low,
            }
            text |= {
                "Best rate": f"{best['rate']:g}",
                "Score there [%]": f"{100 * best['score']:.2f}",
                "Within one point": f"{low:g}–{high:g}" if high > low else f"{low:g} alone",
                "Factor": f"{high / low:.3g}",
            }
        raw.append(names | numbers)
        shown.append(names | text)
    caption = (
        captions.seeds(cells(study)["runs"]),
        captions.SCORE,
        "Within one point: the learning rates around the best one, without a gap, whose mean score is at most one "
        "point below it; factor: the highest over the lowest. A rate of which a run did not finish is not among them.",
        "Read from test scores: it describes how forgiving a strategy is, and chooses no rate.",
        *titles.ending(study, stale),
    )
    return titles.table(study, "sensitivity", caption, pd.DataFrame(raw), pd.DataFrame(shown), left=len(by(study)))


def _around(line: pd.DataFrame, best: float) -> tuple[float, float, int]:
    """Lowest and highest rate reached from the best without leaving one point of it, and how many they are."""
    rates, scores = line["rate"].to_numpy(), line["score"].to_numpy()
    middle = int(np.flatnonzero(rates == best)[0])
    # A difference of exactly one point must not be lost to rounding.
    good = line["whole"].to_numpy() & (scores >= scores[middle] - MARGIN - 1e-12)
    low = high = middle
    while low > 0 and good[low - 1]:
        low -= 1
    while high + 1 < len(good) and good[high + 1]:
        high += 1
    return float(rates[low]), float(rates[high]), high - low + 1


def sensitivity(study: Study, look: dict[str, Look], label: str = "") -> list[Figure]:
    """Score over the learning rate, a panel a partition: mean and its 95 % t interval; a cross where a run failed."""
    if not swept(study) or study.scored.empty:
        return []
    found = lines(study)
    figures = []
    for figure, page in layout.sheets(list(found.groupby("partition", observed=True, sort=True)), 1.5):
        crosses = False
        for (partition, part), panel in page:
            panel.set_xscale("log")
            panel.set_title(wrapped(str(partition), 27))
            for strategy, line in part.groupby("strategy", observed=True, sort=True):
                crosses |= _line(panel, line, look[str(strategy)], len(look))
        over = layout.mean_over(study, "band") + ("\n×: a run did not finish" if crosses else "")
        layout.legend(figure, look, found["strategy"], layout.heading(study, "score by learning rate", label, over))
        layout.axes(figure, "Learning rate of the offices", "Score [%]")
        figures.append(figure)
    return figures


def _line(panel: Axes, line: pd.DataFrame, look: Look, lines: int) -> bool:
    """One strategy, broken where a rate has no score; whether a cross was drawn."""
    mean, half = 100 * line["score"].where(line["whole"]), 100 * line["score_half"].where(line["whole"])
    panel.plot(line["rate"], mean, **look.strokes)
    layout.band(panel, line["rate"], mean, half, look.colour, lines)
    lost = line.loc[~line["whole"], "rate"]
    if len(lost):
        # At the foot of the panel, whatever its scale: such a rate has no mean to stand at.
        cross = look.strokes | {"linestyle": "", "marker": "x", "markersize": 4.5}
        panel.plot(lost, np.full(len(lost), 0.04), **cross, transform=panel.get_xaxis_transform())
    return bool(len(lost))
