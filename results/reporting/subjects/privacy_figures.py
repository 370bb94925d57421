"""Privacy and utility in two figures: scores against epsilon, and against how many persons share one noise.

Epsilon is on a logarithmic axis, from which runs without noise stand apart, beyond a gap: clipped, and as plain as the
same sampler trains. Marks of runs whose noise is simulated are open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from results.reporting import captions, layout
from results.reporting.differences import span_of_least
from results.reporting.study import Study, summary
from results.reporting.style import DOUBLE, SINGLE, Look, looks, wrapped
from results.reporting.subjects.privacy import (
    by_persons,
    costs,
    inner_rules,
    persons_needed,
    persons_words,
    private,
    unaudited,
)

AUDIT = "audit"  # the option: audited runs stand in the same figure as those that are not
ACROSS = 3  # panels side by side
USUAL = (0.5, 16.0)  # what the axis of epsilon shows at least
_ROWS = {
    "score": "Score [%]",
    "worst_f1": "Worst-class F1 [%]",
    "audit_auc": "Audit:\nAUC",
    "audit_lower_bound": "Audit:\nbound",
}
_HEIGHTS = {"score": 1.75, "worst_f1": 1.75, "audit_auc": 0.65, "audit_lower_bound": 0.75}  # inches
_DASHES: dict[str, Any] = {"own": "-", "shared": (0, (4, 1.5)), "server": (0, (1, 1))}
_INK = "#555555"


@dataclass(frozen=True)
class _Line:
    """How a line is drawn: the colour is its inner rule's, the dashes its noise's, the marker its own."""

    label: str
    look: Look
    dashes: Any
    shift: float  # of its marks, in octaves, so that equal ones are seen to be two

    def handle(self) -> Line2D:
        return Line2D([], [], color=self.look.colour, marker=self.look.marker, linestyle=self.dashes)


def privacy(study: Study, look: dict[str, Look], label: str = "") -> list[Figure]:
    """Score and worst-class F1 against epsilon, the audit beneath where there is one; a page a unit, a column a
    partition. Mean over seeds and its 95 % t interval. Nothing where no run kept a promise of its own.

    Args:
        look: of the study's strategies; here every epsilon is a strategy, so that lines have looks of their own.
    """
    runs = private(study)
    runs = runs[~runs["nested"] & runs["finished"] & runs["simulated_units"].isna()]
    figures = []
    for (unit, place), part in _pages(runs):
        partitions = list(part["partition"].cat.remove_unused_categories().cat.categories)
        of_unit = runs[runs["unit"] == unit]
        lines = _lines(of_unit)
        rows = [name for name in _ROWS if part[name].notna().any()]
        figure, panels = _figure(len(partitions), [_HEIGHTS[name] for name in rows])
        axis = _Epsilons.of(of_unit["x"])
        for down, name in enumerate(rows):
            panels[down][0].set_ylabel(_ROWS[name])
            if name == "audit_lower_bound":  # the claim goes far above what can be shown
                top = float(part[[name, "audit_ceiling"]].max().max()) + 1e-3
                panels[down][0].set_ylim(-0.1 * top, 1.15 * top)
            for across, partition in enumerate(partitions):
                panel = panels[down][across]
                axis.draw(panel)
                if name.startswith("audit"):
                    _audit(panel, part[part["partition"] == partition], name, lines, axis)
                else:
                    _scores(panel, unaudited(part[part["partition"] == partition]), name, lines, axis)
        for panel, partition in zip(panels[0], partitions, strict=True):
            panel.set_title(wrapped(str(partition), 40))
        figure.supxlabel(wrapped(f"Epsilon of one {unit} ({_claims(of_unit)})", _width(figure)))
        what = f"privacy and utility, unit {unit}" + (f", continued ({place + 1})" if place else "")
        over = f"{_seeds(of_unit)}; epsilon of each run alone"
        if "audit_lower_bound" in rows:
            over += "\nAudit: lower bound on epsilon, – its ceiling, dashed: the claim"
        heading = layout.heading(study, what, label, over, least(study, unit))
        shown = [line for line in lines if (part["label"] == line.label).any()]
        _above(figure, shown, heading)
        figures.append(figure)
    return figures


def _pages(runs: pd.DataFrame) -> Iterator[tuple[tuple[str, int], pd.DataFrame]]:
    """The runs of a page: a unit (windows first) and up to ACROSS partitions."""
    for unit in sorted(runs["unit"].unique(), key=lambda name: (name != "window", name)):
        part = runs[runs["unit"] == unit]
        found = sorted(part["partition"].unique(), key=list(part["partition"].cat.categories).index)
        for place, start in enumerate(range(0, len(found), ACROSS)):
            yield (str(unit), place), part[part["partition"].isin(found[start : start + ACROSS])]


def _lines(runs: pd.DataFrame) -> list[_Line]:
    """All lines in the order of their labels."""
    known = runs.drop_duplicates("label").sort_values("label", kind="stable")
    names = list(inner_rules(known))
    seen = looks(dict.fromkeys(names))
    middle = (len(known) - 1) / 2
    step = min(0.07, 0.5 / len(known))
    marks = looks(known["label"])
    return [
        _Line(label, replace(marks[label], colour=seen[name].colour), _DASHES.get(noise, "-"), (place - middle) * step)
        for place, (label, noise, name) in enumerate(zip(known["label"], known["noise"], names, strict=True))
    ]


@dataclass(frozen=True)
class _Epsilons:
    """The axis: epsilons in octaves, then a gap, then what has none.

    Attributes:
        low, high: epsilons, powers of two.
        infinite: which of `clipped` and `plain` there are.
    """

    low: float
    high: float

    @classmethod
    def of(cls, values: pd.Series[float]) -> _Epsilons:
        finite = values[np.isfinite(values) & (values > 0)]
        low, high = min([USUAL[0], *finite]), max([USUAL[1], *finite])
        return cls(2.0 ** np.floor(np.log2(low)), 2.0 ** np.ceil(np.log2(high)))

    @property
    def octaves(self) -> float:
        return float(np.log2(self.high / self.low))

    def beyond(self, clipped: bool) -> float:
        """Where runs without noise stand."""
        return float(self.high * 2.0 ** ((0.32 if clipped else 0.6) * max(self.octaves, 5.0)))

    def at(self, x: pd.Series[float], clipped: pd.Series[bool], shift: float) -> pd.Series[float]:
        """Positions on the axis."""
        infinite = clipped.map({True: self.beyond(True), False: self.beyond(False)})
        found: pd.Series[float] = x.where(np.isfinite(x), infinite) * 2.0**shift
        return found

    def draw(self, panel: Axes) -> None:
        """Scale, ticks and the gap."""
        stride = int(np.ceil(self.octaves / 6))
        ticks = [self.low * 2.0**power for power in range(0, round(self.octaves) + 1, stride)]
        names = {tick: f"{tick:.2g}" if tick < 1 else f"{tick:g}" for tick in ticks}
        names |= {self.beyond(True): "∞\nclipped", self.beyond(False): "∞"}
        panel.set_xscale("log", base=2)
        panel.set_xlim(self.low / 2**0.5, self.beyond(False) * 2**0.9)
        panel.xaxis.set_major_locator(FixedLocator(list(names)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: names.get(value, "")))
        gap = (self.high * self.beyond(True)) ** 0.5
        panel.axvspan(gap * 2**-0.15, gap * 2**0.15, color="#eeeeee", linewidth=0)


def _scores(panel: Axes, runs: pd.DataFrame, name: str, lines: Sequence[_Line], axis: _Epsilons) -> None:
    """Means with their intervals; a line joins the finite epsilons alone, dots lead on to what has no noise."""
    for line, means in _means(runs, lines, (name,)):
        where = axis.at(means["x"], means["clipped"], line.shift)
        mean, half = 100 * means[name], 100 * means[f"{name}_half"]
        _marks(panel, where, mean, half, line.look, line.look.colour)
        finite = np.isfinite(means["x"])
        panel.plot(where[finite], mean[finite], color=line.look.colour, linestyle=line.dashes)
        last = where[finite].index[-1:]
        rest = [*last, *where.index[~finite]]
        panel.plot(where[rest], mean[rest], color=line.look.colour, linestyle=(0, (1, 2)), linewidth=0.7)


def _marks(panel: Axes, where: Any, mean: pd.Series[float], half: pd.Series[float], look: Look, fill: str) -> None:
    """Means with their intervals, where there is more than one seed."""
    panel.errorbar(
        where,
        mean,
        yerr=None if half.isna().all() else half.fillna(0.0),
        color=look.colour,
        marker=look.marker,
        markerfacecolor=fill,
        linestyle="",
        elinewidth=0.8,
        capsize=1.5,
    )


def _audit(panel: Axes, runs: pd.DataFrame, name: str, lines: Sequence[_Line], axis: _Epsilons) -> None:
    """What an attack found: its AUC over that of guessing, or its bound with the ceiling and the claim."""
    bound = name == "audit_lower_bound"
    if runs[name].isna().all():
        panel.text(0.5, 0.5, "not audited", transform=panel.transAxes, ha="center", va="center", color=_INK)
        return
    for line, means in _means(runs, lines, (name, "audit_ceiling")):
        where = axis.at(means["x"], means["clipped"], line.shift)
        panel.plot(where, means[name], color=line.look.colour, marker=line.look.marker, linestyle="")
        if bound:
            panel.plot(where, means["audit_ceiling"], color=line.look.colour, marker="_", linestyle="", markersize=5)
    if bound:
        claims = np.geomspace(axis.low, axis.high, 50)
        panel.plot(claims, claims, color=_INK, linewidth=0.7, linestyle=(0, (3, 2)))
    else:
        panel.axhline(0.5, color=_INK, linewidth=0.7, linestyle=(0, (3, 2)))
    panel.yaxis.set_major_locator(MaxNLocator(3))


def _means(runs: pd.DataFrame, lines: Sequence[_Line], names: tuple[str, ...]) -> Iterator[tuple[_Line, pd.DataFrame]]:
    """The means of every line that has some, by epsilon."""
    for line in lines:
        part = runs[(runs["label"] == line.label) & runs[names[0]].notna()]
        if not part.empty:
            yield (
                line,
                summary(part, ["x", "clipped"], names)
                .reset_index()
                .sort_values(["x", "clipped"], ascending=[True, False], ignore_index=True),
            )


def _claims(runs: pd.DataFrame) -> str:
    """Delta, relation and accountant of a figure's runs."""
    deltas = "/".join(f"{value:g}" for value in sorted(runs["delta"].dropna().unique()))
    relations, accountants = ("/".join(sorted(runs[name].dropna().unique())) for name in ("relation", "accountant"))
    return f"delta {deltas}, neighbours: {relations}, accountant {accountants}"


def _seeds(runs: pd.DataFrame) -> str:
    """What a mark and its bar are."""
    counts = runs.groupby(["partition", "label", "x", "clipped", "simulated_units"], observed=True, dropna=False)
    low, high = (int(how) for how in counts["seed"].nunique().agg(["min", "max"]))
    return (
        "One seed: no interval"
        if high == 1
        else f"Mean over {captions.span(low, high, 'seed')}, bar: its 95 % t interval"
    )


def least(study: Study, unit: str | None = None) -> str:
    """The least detectable cost of noise in words: to the same training and clip without noise.

    Args:
        unit: of the promises; all by default.
    """
    runs = private(study)
    chosen = runs if unit is None else runs[runs["unit"] == unit]
    return span_of_least(costs(study, chosen)["noise_least"], "in score to the same clip without noise")


def privacy_persons(study: Study, look: dict[str, Look], label: str = "") -> list[Figure]:
    """Score against how many persons share a noise of one epsilon, a column a partition and epsilon. Nothing where no
    run simulates any."""
    needed = persons_needed(study)
    if needed.empty:
        return []
    runs = private(study)
    runs = unaudited(runs[~runs["nested"] & runs["finished"] & runs["unit"].eq("person")])
    lines = _lines(runs[runs["label"].isin(needed["label"])])
    panels_ = list(needed.groupby(["partition", "epsilon"], observed=True, sort=True))
    figures = []
    for start in range(0, len(panels_), ACROSS):
        page = panels_[start : start + ACROSS]
        figure, panels = _figure(len(page), [2.1])
        for ((partition, epsilon), rows), panel in zip(page, panels[0], strict=True):
            panel.set_title(wrapped(f"{partition}, epsilon {epsilon:g}", 40))
            part = runs[(runs["partition"] == partition) & (runs["x"] == epsilon) & runs["label"].isin(rows["label"])]
            free = rows.set_index("label")["free"]
            for line in (one for one in lines if one.label in free):
                _persons(panel, part[part["label"] == line.label], float(free[line.label]), line)
            _ticks(panel, by_persons(part).index.to_list())
        panels[0][0].set_ylabel("Score [%]")
        figure.supxlabel("Persons whose noise is that of the epsilon (simulated)")
        told = f"{_seeds(runs)}; open: simulated; dashed: without clip and noise"
        words = "\n".join(needed_words(study))
        _above(figure, lines, layout.heading(study, "score by number of persons, simulated", label, told, words))
        figures.append(figure)
    return figures


def _persons(panel: Axes, runs: pd.DataFrame, free: float, line: _Line) -> None:
    """One line: open marks where persons are simulated, a full one where they are real."""
    means = by_persons(runs)
    real = means.index.isin(runs.loc[runs["simulated_units"].isna(), "units"])
    mean, half = 100 * means["score"], 100 * means["score_half"]
    where = means.index.to_numpy(dtype=float) * 2.0 ** (line.shift / 2)
    colour = line.look.colour
    panel.plot(where, mean, color=colour, linestyle=line.dashes)
    for chosen, fill in ((real, colour), (~real, "white")):
        if chosen.any():
            _marks(panel, where[chosen], mean[chosen], half[chosen], line.look, fill)
    if free == free:
        panel.axhline(100 * free, color=colour, linewidth=0.7, linestyle=(0, (3, 2)))


def _ticks(panel: Axes, counts: Sequence[float]) -> None:
    """A logarithmic axis with a tick at every number."""
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(list(counts)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def needed_words(study: Study) -> Iterator[str]:
    """How many persons it would take, a sentence a panel."""
    for (partition, epsilon), rows in persons_needed(study).groupby(["partition", "epsilon"], observed=True, sort=True):
        told = [
            f"{label} {' / '.join(_needed(value, offices) for value in (two, one))}"
            for label, two, one, offices in zip(
                rows["label"], rows["within_2"], rows["within_1"], rows["offices"], strict=True
            )
        ]
        yield (
            "Persons to come within 2 / 1 points of the score without clip and noise "
            f"({partition}, epsilon {epsilon:g}): {'; '.join(told)}."
        )


def _needed(value: float, offices: float) -> str:
    """`212 (53 an office)`, or in words."""
    return persons_words(value) + (
        f" ({np.ceil(value / offices):.0f} an office)" if np.isfinite(value / offices) else ""
    )


def _figure(across: int, heights: Sequence[float]) -> tuple[Figure, list[list[Axes]]]:
    """Panels of given heights, a row sharing its y axis."""
    figure = Figure(figsize=(SINGLE if across == 1 else DOUBLE, sum(heights) + 0.35))
    panels = figure.subplots(
        len(heights), across, sharex="col", sharey="row", squeeze=False, gridspec_kw={"height_ratios": list(heights)}
    )
    return figure, [list(row) for row in panels]


def _above(figure: Figure, lines: Sequence[_Line], heading: str) -> None:
    title = "\n".join(wrapped(part, _width(figure)) for part in heading.split("\n"))
    layout.above(figure, [line.handle() for line in lines], [line.label for line in lines], title)


def _width(figure: Figure) -> int:
    """Characters across a figure."""
    return 60 if figure.get_figwidth() == SINGLE else 125


def standing(study: Study) -> str:
    """What stands beside the figure of privacy and utility in a report."""
    runs = private(study)
    counts = runs[~runs["nested"]].groupby(study.row, observed=True)["seed"].nunique()
    return f"{captions.seeds(counts).partition('.')[0]}. {least(study)} (paired)"


def standing_of_persons(study: Study) -> str:
    """What stands beside the figure of persons: how many it would take."""
    said = " ".join(needed_words(study)).removesuffix(".")
    return f"Simulated: noise as small as so many persons would make it, and no promise to anybody. {said}"
