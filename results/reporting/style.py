"""How figures look: a paper's column widths, fonts of at least 7 pt, and colours that colour-blind readers tell apart.

Strategies take the palette of Okabe and Ito (Color Universal Design, 2008), each with a marker and a line of its own,
so that no figure needs colour to be read; the reference arms are black and grey. Classes take Paul Tol's *muted*
scheme (Colour Schemes, SRON/EPS/TN/09-002), so that no class is taken for a strategy.

Figures are made without pyplot: nothing global is set, and nothing is left open.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.typing import LineStyleType

from results.rules import Rule

SINGLE = 3.35  # inches: one column of a two-column page
DOUBLE = 7.0  # both columns
FONT = 7.0  # points, the smallest
DPI = 200  # of the PNG

_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # yellow is lost on white
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES: tuple[LineStyleType, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
_MUTED = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
_HATCHES = ("", "////", "....", "xxxx")

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT + 0.5,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "legend.title_fontsize": FONT + 0.5,
    "figure.titlesize": FONT + 0.5,
    "figure.labelsize": FONT + 0.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "hatch.linewidth": 0.4,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.4,
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
}


@dataclass(frozen=True)
class Look:
    """How a strategy is drawn, everywhere."""

    colour: str
    marker: str
    line: LineStyleType

    @property
    def strokes(self) -> dict[str, Any]:
        """As `Axes.plot` takes it."""
        return {"color": self.colour, "linestyle": self.line, "marker": self.marker}


def looks(strategies: Iterable[str]) -> dict[str, Look]:
    """A look for every rule, in their order; the arms' are fixed. Six colours by seven markers: 42 differ."""
    found: dict[str, Look] = {}
    place = arms = 0
    for strategy in strategies:
        arm = Rule.parse(strategy).arm
        if arm is not None:
            colour, marker = {"local": ("#777777", "x"), "centralised": ("#000000", "*")}[arm]
            found[strategy] = Look(colour, marker, (0, (1 + 3 * (arms % 3), 1.2)))
            arms += 1
        else:
            line = _LINES[place // len(_OKABE_ITO) % len(_LINES)]
            found[strategy] = Look(_OKABE_ITO[place % len(_OKABE_ITO)], _MARKERS[place % len(_MARKERS)], line)
            place += 1
    return found


def class_look(place: int) -> tuple[str, str]:
    """Colour and hatch of a class."""
    return _MUTED[place % len(_MUTED)], _HATCHES[place // len(_MUTED) % len(_HATCHES)]


@contextmanager
def style() -> Iterator[None]:
    """Our settings within the block, the caller's after it."""
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's matplotlibrc must not change our figures
        mpl.rcParams.update(_RC)
        yield


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PDF and PNG, without a date: the same figure gives the same bytes."""
    pdf, png = stem.with_name(f"{stem.name}.pdf"), stem.with_name(f"{stem.name}.png")
    figure.savefig(pdf, metadata={"CreationDate": None})
    figure.set_layout_engine("none")  # what was laid out for one stays for the other, at half the time
    figure.savefig(png, dpi=DPI, metadata={"Software": None})
    return [pdf, png]


def wrapped(text: str, width: int) -> str:
    """A long name over several lines, broken at spaces, and inside a word only where it must be."""
    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False)) or text


def shortened(text: str, width: int) -> str:
    """A name too long for its place, cut with an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


def columns(labels: Iterable[str], inches: float, handle: float = 0.55) -> int:
    """How many columns of a legend fit into a width."""
    widest = max(len(label) for label in labels) * FONT * 0.6 / 72 + handle
    return max(1, int(inches / widest))
