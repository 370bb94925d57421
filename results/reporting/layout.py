"""What all figures of a study are laid out with: pages, small multiples, one legend above them, and its lines of text.

Every figure says what it shows, over how many seeds, and the least difference to FedAvg that these could have detected:
a gap between two dots that is smaller than that is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from results.reporting.captions import span
from results.reporting.differences import detectable
from results.reporting.study import Study
from results.reporting.style import DOUBLE, SINGLE, Look, columns

PANELS = 12  # on a page
Item = TypeVar("Item")


def heading(study: Study, what: str, label: str, shown: str, least: str | None = None) -> str:
    """The lines over a figure: data and content, what is `shown` of the seeds, the least detectable difference.

    Args:
        least: the last line, where it is not about the scores paired by seed.
    """
    first = f"{study.title}: {what}" + (f" ({label})" if label else "")
    return "\n".join(line for line in (first, shown, detectable(study) if least is None else least) if line)


def mean_over(study: Study, interval: str = "") -> str:
    """`Mean over five seeds, bar: its 95 % t interval`; cells may have different numbers."""
    counts = study.scored.groupby(study.row, observed=True).size()
    low, high = int(counts.min()), int(counts.max())
    if high == 1:
        return "One seed: no interval"
    shown = f", {interval}: its 95 % t interval" if interval else ""
    return f"Mean over {span(low, high, 'seed')}{shown}"


def sheets(items: Sequence[Item], panel_height: float) -> Iterator[tuple[Figure, list[tuple[Item, Axes]]]]:
    """A figure for every PANELS items, each item with its panel."""
    for start in range(0, len(items), PANELS):
        page = items[start : start + PANELS]
        figure, panels = grid(len(page), panel_height)
        yield figure, list(zip(page, panels, strict=True))


def grid(count: int, panel_height: float) -> tuple[Figure, list[Axes]]:
    """Small multiples with a shared y axis: one panel in a single column, up to four across both."""
    down, across = shape(count, 4)
    wide = SINGLE if count == 1 else DOUBLE
    height = (2.0 if count == 1 else panel_height * down * (1 if across == 4 else 1.2)) + 0.45
    figure = Figure(figsize=(wide, height))
    panels = list(figure.subplots(down, across, sharex=False, sharey=True, squeeze=False).ravel())
    return figure, filled(panels, count, across)


def shape(count: int, most: int) -> tuple[int, int]:
    """Rows and columns: as few rows as `most` columns allow, then as few columns (four panels, three across: 2 x 2)."""
    down = -(-count // most)
    return down, -(-count // down)


def filled(panels: list[Axes], count: int, across: int) -> list[Axes]:
    """The panels in use. One with none below it shows its labels, which over a free place take no room of their own."""
    for panel in panels[count:]:
        panel.remove()
    for place, panel in enumerate(panels[:count]):
        panel.tick_params(axis="x", labelbottom=place + across >= count)
        panel.xaxis.set_in_layout(place + across < count or place // across == (count - 1) // across)
    return panels[:count]


def band(panel: Axes, x: Any, mean: pd.Series[float], half: pd.Series[float], colour: str, lines: int) -> None:
    """The intervals of means in percent, the fainter the more lines there are; nothing where no mean has one."""
    if half.notna().any():
        low, high = (mean - half).clip(0, 100), (mean + half).clip(0, 100)
        panel.fill_between(x, low, high, color=colour, alpha=min(0.15, 0.8 / lines), linewidth=0)


def axes(figure: Figure, x: str, y: str) -> None:
    """One name of the x axis for all panels, one of the y axis for each row."""
    figure.supxlabel(x)
    for panel in figure.axes:
        if panel.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            panel.set_ylabel(y)


def legend(figure: Figure, look: dict[str, Look], present: Iterable[str], title: str, line: bool = True) -> None:
    """One legend for all panels, above them."""
    held = set(present)
    names = [strategy for strategy in look if strategy in held]
    handles = [Line2D([], [], **look[name].strokes | ({} if line else {"linestyle": ""})) for name in names]
    above(figure, handles, names, title)


def above(figure: Figure, handles: Sequence[Line2D | Patch], names: Sequence[str], title: str) -> None:
    """A legend over the panels; the figure grows by its height, so that the panels keep theirs."""
    ncols = min(len(names), columns(names, figure.get_figwidth()))
    made = figure.legend(handles, names, loc="outside upper center", ncols=ncols, title=title)
    made.get_title().set_multialignment("center")
    rows = -(-len(names) // ncols) + title.count("\n") + 1
    figure.set_figheight(figure.get_figheight() + 0.15 * rows)
