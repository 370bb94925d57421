"""The figures of a study, one function each. Every axis has its unit; every figure says how many seeds it stands on.

Each returns finished figures, several where partitions or strategies do not fit on one page. They are to be drawn and
saved within `style.style()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from results.reporting import layout
from results.reporting.captions import span
from results.reporting.study import Study, cells, summary
from results.reporting.style import DOUBLE, FONT, SINGLE, Look, class_look, shortened, wrapped
from results.statistics import half_width

DOTS = 70  # rows of a dot plot on a page
LONGEST = 22  # characters of a class under a heat map
NAMED_OFFICES = 6  # up to so many, an office's name fits under its bar
_ACCURACY = "Test accuracy [%]"


def class_counts(study: Study, label: str = "") -> list[Figure]:
    """Rows of each class at each office, a panel a partition: the first seed's draw, with its Gini and JS distance."""
    runs = study.primary[study.primary["partition_hash"].notna()].sort_values(["partition", "seed", "strategy"])
    drawn = runs.drop_duplicates("partition").reset_index(names="run")
    seeds = study.primary.groupby("partition", observed=True)["seed"].nunique()
    figures = []
    for figure, page in layout.sheets(list(drawn.iterrows()), 1.4):
        for (_, run), panel in page:
            offices = study.frames.offices[study.frames.offices["run"] == run["run"]].sort_values("office")
            counts = np.stack([np.asarray(row) for row in offices["class_counts"]])  # (K, C)
            _stack(panel, counts, list(offices["name"]))
            name = f"{wrapped(run['partition'], 27)}\nGini {run['gini']:.2f}, JS {run['js_distance']:.2f}"
            panel.set_title(f"{name}, seed {run['seed']}")
        shown = f"One draw of {span(int(seeds.min()), int(seeds.max()), 'seed')}"
        _class_legend(figure, study.classes, layout.heading(study, "training rows by office and class", label, shown))
        layout.axes(figure, "Office", "Training rows")
        figures.append(figure)
    return figures


def _stack(panel: Axes, counts: Any, names: Sequence[str]) -> None:
    """Stacked bars of counts (K, C)."""
    offices = np.arange(len(counts))
    bottoms = np.cumsum(counts, axis=1) - counts
    edge = 0.3 if len(counts) <= 40 else 0.0
    for place in range(counts.shape[1]):
        colour, hatch = class_look(place)
        drawn: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": edge}
        panel.bar(offices, counts[:, place], 0.85, bottoms[:, place], **drawn)
    panel.grid(axis="x", visible=False)
    if len(counts) <= NAMED_OFFICES:
        panel.set_xticks(offices, names, rotation=35, ha="right", rotation_mode="anchor")
    else:
        step = max(1, round(len(counts) / 6 / 5) * 5)
        panel.set_xticks([0, *range(step - 1, len(counts), step)] if step > 1 else offices)
        panel.set_xticklabels([str(int(tick) + 1) for tick in panel.get_xticks()])


def curves(study: Study, look: dict[str, Look], label: str = "") -> list[Figure]:
    """Test accuracy by round: mean over seeds and its 95 % t interval as a band, a panel a partition."""
    runs = study.scored
    joined = study.frames.rounds.merge(runs[["partition", "strategy"]], left_on="run", right_index=True)
    groups = joined.groupby(["partition", "strategy", "round"], observed=True, sort=True)["test_accuracy"]
    line = pd.DataFrame({"mean": 100 * groups.mean(), "n": groups.count()})
    line["half"] = half_width(100 * groups.std(), line["n"])
    shown = list(runs["partition"].cat.categories[runs["partition"].cat.categories.isin(runs["partition"])])
    figures = []
    for figure, page in layout.sheets(shown, 1.25):
        for partition, panel in page:
            part = line.loc[partition]
            panel.set_title(wrapped(partition, 27))
            for place, strategy in enumerate(part.index.unique("strategy")):
                _curve(panel, part.loc[strategy], look[strategy], place, lines=len(look))
            panel.margins(x=0.02)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        heading = layout.heading(study, "test accuracy by round", label, layout.mean_over(study, "band"))
        layout.legend(figure, look, runs["strategy"], heading)
        layout.axes(figure, "Round", _ACCURACY)
        figures.append(figure)
    return figures


def _curve(panel: Axes, line: pd.DataFrame, look: Look, place: int, lines: int) -> None:
    """One strategy; markers are set apart, so that lines that lie on each other are seen to be two."""
    step = max(1, len(line) // 5)
    panel.plot(line.index, line["mean"], **look.strokes, markevery=(place * max(1, step // 4) % len(line), step))
    layout.band(panel, line.index, line["mean"], line["half"], look.colour, lines)


def scores(study: Study, look: dict[str, Look], label: str = "") -> list[Figure]:
    """The score of every cell with its 95 % t interval: partitions down, strategies as dots."""
    if study.scored.empty:
        return []
    found = cells(study)
    partitions = list(found["partition"].unique())
    strategies = [strategy for strategy in look if (found["strategy"] == strategy).any()]
    a_page = max(1, DOTS // len(strategies))
    figures = []
    for start in range(0, len(partitions), a_page):
        page = partitions[start : start + a_page]
        band = 0.095 * len(strategies) + 0.08  # inches
        wide = DOUBLE if len(page) > 1 else SINGLE
        figure = Figure(figsize=(wide, 0.5 + max(band, 0.3) * len(page)))
        panel = figure.subplots()
        for row, partition in enumerate(page):
            if row % 2:
                panel.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", linewidth=0)
            _dots(panel, row, found[found["partition"] == partition], strategies, look)
        panel.set_ylim(len(page) - 0.5, -0.5)
        panel.set_yticks(range(len(page)), [wrapped(partition, 30) for partition in page])
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="y", visible=False)
        figure.supxlabel("Score [%] (test accuracy, last five rounds)")
        heading = layout.heading(study, "score", label, layout.mean_over(study, "bar"))
        layout.legend(figure, look, found["strategy"], heading, line=False)
        figures.append(figure)
    return figures


def _dots(panel: Axes, row: int, found: pd.DataFrame, strategies: Sequence[str], look: dict[str, Look]) -> None:
    """The cells of one partition, one under the other."""
    gap = 0.8 / len(strategies)
    for cell in found.to_dict("records"):
        height = row + (strategies.index(cell["strategy"]) - (len(strategies) - 1) / 2) * gap
        drawn = look[cell["strategy"]]
        note = "" if cell["finished"] == cell["runs"] else f"  {cell['finished']}/{cell['runs']} finished"
        if not cell["finished"]:
            panel.text(0.01, height, f"{cell['strategy']}:{note}", transform=panel.get_yaxis_transform(), va="center")
            continue
        mean, half = 100 * cell["score"], 100 * cell["score_half"]
        error = None if half != half else half
        panel.errorbar(
            mean, height, xerr=error, color=drawn.colour, marker=drawn.marker, linestyle="", elinewidth=0.9, capsize=1.6
        )
        end = mean + (0 if error is None else error)
        panel.annotate(note, (end, height), va="center", fontsize=FONT, color=drawn.colour)


def class_scores(study: Study, look: dict[str, Look], label: str = "") -> list[Figure]:
    """F1 of every class, mean over seeds: a panel a strategy, partitions down, classes across."""
    runs = study.scored
    joined = study.frames.classes.merge(runs[["partition", "strategy"]], left_on="run", right_index=True)
    if joined.empty:
        return []
    f1 = 100 * summary(joined, ["strategy", "partition", "class_"], ("f1",))["f1"].unstack("class_")
    strategies = [strategy for strategy in look if strategy in f1.index.unique("strategy")]
    partitions = list(f1.index.unique("partition").sort_values())
    most = max(1, min(3, 24 // len(study.classes)))
    a_page = most * max(1, 36 // (len(partitions) + 4))
    figures = []
    for start in range(0, len(strategies), a_page):
        page = strategies[start : start + a_page]
        down, across = layout.shape(len(page), most)
        wide = DOUBLE if across > 1 or len(study.classes) > 6 else SINGLE
        longest = max(len(name) for name in study.classes)
        tall = 0.7 + down * (0.17 * len(partitions) + 0.35) + 0.055 * min(longest, LONGEST) + 0.1
        figure = Figure(figsize=(wide, tall))
        panels = layout.filled(
            list(figure.subplots(down, across, sharey=True, squeeze=False).ravel()), len(page), across
        )
        figure.suptitle(layout.heading(study, "F1 by class", label, layout.mean_over(study)))
        for strategy, panel in zip(page, panels, strict=True):
            mesh = _heat(panel, f1.xs(strategy).reindex(partitions), study.classes)
            panel.set_title(wrapped(strategy, 36))
        figure.colorbar(mesh, ax=panels, label="F1 [%]", fraction=0.03, pad=0.01, aspect=30)
        figures.append(figure)
    return figures


def _heat(panel: Axes, f1: Any, classes: Sequence[str]) -> Any:
    """Values in percent as colours and as numbers."""
    values = f1.to_numpy(dtype=float)
    colours = colormaps["cividis"]
    mesh = panel.pcolormesh(
        np.ma.masked_invalid(values), cmap=colours, vmin=0, vmax=100, edgecolor="white", linewidth=0.4
    )
    for (row, column), value in np.ndenumerate(values):
        text = "–" if value != value else f"{value:.0f}"
        ink = "white" if value < 55 else "black"
        panel.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=FONT)
    panel.set_xticks(np.arange(len(classes)) + 0.5, [shortened(name, LONGEST) for name in classes], rotation=90)
    panel.set_yticks(np.arange(len(f1)) + 0.5, [wrapped(name, 30) for name in f1.index])
    panel.set_ylim(len(f1), 0)
    panel.grid(visible=False)
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)
    return mesh


def _class_legend(figure: Figure, classes: Sequence[str], title: str) -> None:
    handles = []
    for place in range(len(classes)):
        colour, hatch = class_look(place)
        handles.append(Patch(facecolor=colour, hatch=hatch, edgecolor="white"))
    layout.above(figure, handles, classes, title)
