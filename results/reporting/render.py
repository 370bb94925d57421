"""A table as CSV (for programs: full columns, plain numbers), Markdown (for readers) and LaTeX (for papers).

Nothing here depends on a date, a locale or a terminal: the same table gives the same bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

LONG = 45  # rows beyond which a LaTeX table breaks over pages


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
        across: how many further columns fit side by side on a page or a terminal; 0 for all.
    """

    name: str
    title: str
    caption: tuple[str, ...]
    raw: pd.DataFrame
    shown: pd.DataFrame
    left: int = 2
    across: int = 0


def to_csv(table: Table) -> str:
    """Comma-separated, one heading line, numbers with four decimals, empty where there is none."""
    return table.raw.to_csv(index=False, lineterminator="\n", float_format="%.4f")


def to_markdown(table: Table, heading: str = "#") -> str:
    """Title, caption and one pipe table."""
    rows = [[_markdown(text) for text in row] for row in _rows(table.shown)]
    head, *body = _aligned(rows, table.left)
    rule = ["-" * len(cell) if column < table.left else "-" * (len(cell) - 1) + ":" for column, cell in enumerate(head)]
    lines = "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *body))
    return "\n\n".join([f"{heading} {table.title}", " ".join(table.caption), lines]) + "\n"


def to_text(table: Table) -> str:
    """Title, caption and columns for a terminal, in blocks of at most `across` columns."""
    parts = ["\n".join([table.title, *table.caption])]
    for shown in _blocks(table):
        head, *body = _aligned(_rows(shown), table.left)
        lines = [head, ["-" * len(cell) for cell in head], *body]
        parts.append("\n".join("  ".join(line).rstrip() for line in lines))
    return "\n\n".join(parts) + "\n"


def to_latex(table: Table) -> str:
    """A booktabs table, in blocks of at most `across` columns; a long one is a `longtable`, which breaks over pages."""
    blocks = _blocks(table)
    long = len(blocks) * len(table.shown) > LONG
    caption = rf"\caption{{{latex(' '.join((f'{table.title}.', *table.caption)))}}}\label{{tab:{table.name}}}"
    lines = ["% needs \\usepackage{booktabs}" + (" and \\usepackage{longtable}" if long else "")]
    small = r"\footnotesize\setlength{\tabcolsep}{4pt}"
    lines += [rf"{{{small}"] if long else [r"\begin{table*}", rf"\centering{small}", caption]
    for place, shown in enumerate(blocks):
        head, *body = [" & ".join(latex(text) for text in row) + r" \\" for row in _rows(shown)]
        columns = "@{}" + "l" * table.left + "r" * (len(shown.columns) - table.left) + "@{}"
        top = [r"\toprule", head, r"\midrule"]
        if long:
            first = [caption + r"\\"] if place == 0 else []
            lines += [rf"\begin{{longtable}}{{{columns}}}", *first, *top, r"\endfirsthead", *top, r"\endhead"]
            lines += [r"\bottomrule", r"\endlastfoot", *body, r"\end{longtable}"]
        else:
            lines += [r"\par\medskip"] if place else []
            lines += [rf"\begin{{tabular}}{{{columns}}}", *top, *body, r"\bottomrule", r"\end{tabular}"]
    lines += ["}"] if long else [r"\end{table*}"]
    return "\n".join(lines) + "\n"


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
    escaped = re.sub(r"(?<![\w.\-])-(?=\d)", "$-$", escaped)
    return re.sub(r"^[\[*]", r"{\g<0>}", escaped)  # after a row's \\\\ they would be its argument


def _markdown(text: str) -> str:
    """Text in a cell of a Markdown table."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"([\\|*`]|(?<=\])\()", r"\\\1", plain)  # `](` would be a link


def _blocks(table: Table) -> list[pd.DataFrame]:
    """The table cut into parts of `across` columns, each with the names again."""
    names, values = table.shown.columns[: table.left], table.shown.columns[table.left :]
    across = table.across or max(1, len(values))
    starts = range(0, max(1, len(values)), across)
    return [table.shown[[*names, *values[start : start + across]]] for start in starts]


def _rows(shown: pd.DataFrame) -> list[list[str]]:
    """Headings, then the cells."""
    return [list(map(str, shown.columns)), *shown.astype(str).to_numpy().tolist()]


def _aligned(rows: list[list[str]], left: int) -> list[list[str]]:
    """Cells padded to their column's width: names to the left, numbers to the right."""
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    return [
        [cell.ljust(width) if column < left else cell.rjust(width) for column, (cell, width) in enumerate(pairs)]
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
