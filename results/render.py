"""A table as CSV (for programs: full columns, plain numbers), Markdown (for readers) and LaTeX (for papers).

Nothing here depends on a date, a locale or a terminal: the same table gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

LONG = 40  # rows from which a LaTeX table breaks over pages


@dataclass(frozen=True)
class Table:
    """A table in its two forms.

    Attributes:
        name: of its files, without ending.
        title: one line.
        caption: sentences that belong under or over it.
        raw: for CSV.
        shown: text as readers see it; its column names are the headings.
        left: how many columns, from the first, are names rather than numbers.
    """

    name: str
    title: str
    caption: tuple[str, ...]
    raw: pd.DataFrame
    shown: pd.DataFrame
    left: int = 2


def to_csv(table: Table) -> str:
    """Comma-separated, one heading line, numbers with four decimals, empty where there is none."""
    return table.raw.to_csv(index=False, lineterminator="\n", float_format="%.4f")


def to_markdown(table: Table, heading: str = "#") -> str:
    """Title, caption and an aligned pipe table, which also reads well on a terminal."""
    rows = [[_markdown(text) for text in row] for row in _rows(table)]
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    rule = ["-" * width if column < table.left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    rows.insert(1, rule)
    lines = ["| " + " | ".join(_padded(row, widths, table.left)) + " |" for row in rows]
    return "\n\n".join([f"{heading} {table.title}", " ".join(table.caption), "\n".join(lines)]) + "\n"


def to_text(table: Table) -> str:
    """Title, caption and columns for a terminal."""
    rows = _rows(table)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_padded(row, widths, table.left)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([table.title, *table.caption, "", *lines]) + "\n"


def to_latex(table: Table) -> str:
    """A booktabs table; a long one is a `longtable`, whose heading repeats on every page."""
    head, *body = [" & ".join(latex(text) for text in row) + r" \\" for row in _rows(table)]
    columns = "l" * table.left + "r" * (len(table.shown.columns) - table.left)
    caption = latex(" ".join((f"{table.title}.", *table.caption)))
    label = rf"\label{{tab:{table.name}}}"
    note = "% needs \\usepackage{booktabs}" + (" and \\usepackage{longtable}" if len(body) > LONG else "")
    if len(body) > LONG:
        top = [r"\toprule", head, r"\midrule"]
        lines = [
            r"{\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\begin{{longtable}}{{@{{}}{columns}@{{}}}}",
            rf"\caption{{{caption}}}{label}\\",
            *top,
            r"\endfirsthead",
            *top,
            r"\endhead",
            r"\bottomrule",
            r"\endlastfoot",
            *body,
            r"\end{longtable}}",
        ]
    else:
        lines = [
            r"\begin{table*}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{caption}}}{label}",
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
        ]
    return "\n".join([note, *lines]) + "\n"


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "–": "--",
    "\n": " ",
}


def latex(text: str) -> str:
    """Text as LaTeX shows it: special characters escaped, a number's sign a minus."""
    escaped = "".join(_SPECIAL.get(character, character) for character in text)
    return re.sub(r"(?<![\w.\-])-(?=\d)", "$-$", escaped)


def _markdown(text: str) -> str:
    """Text in a cell of a Markdown table."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"([\\|*`]|(?<=\])\()", r"\\\1", plain)  # `](` would be a link


def _rows(table: Table) -> list[list[str]]:
    """Headings, then the cells."""
    shown = table.shown.astype(str)
    return [list(map(str, shown.columns)), *shown.to_numpy().tolist()]


def _padded(row: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    cells = enumerate(zip(row, widths, strict=True))
    return [text.ljust(width) if column < left else text.rjust(width) for column, (text, width) in cells]
