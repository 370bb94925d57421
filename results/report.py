"""Tables and figures of stored runs, and an index that names them.

    OUT/index.md   OUT/tables/<data set>-<table>.csv|md|tex   OUT/figures/<data set>[-<settings>]-<figure>.pdf|png

The same records give the same bytes, but for the costs, which are measured. What another report left in OUT is
overwritten where names agree and otherwise left alone; the index names what is current.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from results import ResultsError, figures, tables
from results.captions import plural
from results.frame import frames
from results.render import Table, to_csv, to_latex, to_markdown, to_text
from results.store import Store
from results.study import Study, ordered, studies
from results.style import Look, looks, save, style

PARTS = 4  # settings of one data set that figures are drawn for

FIGURES: dict[str, tuple[str, Callable[[Study, dict[str, Look], str], list[Figure]]]] = {
    "counts": ("training rows by office and class", lambda study, look, label: figures.class_counts(study, label)),
    "curves": ("test accuracy by round", figures.curves),
    "scores": ("score by partition and strategy", figures.scores),
    "classes": ("F1 by class", figures.class_scores),
}


@dataclass(frozen=True)
class Report:
    """What a report wrote.

    Attributes:
        index: the file that names all others.
        written: every file, the index last.
        main: the main table of every data set, as text for a terminal.
    """

    index: Path
    written: tuple[Path, ...]
    main: str


def report(
    store: Store,
    out: str | Path,
    keys: Collection[tuple[str, str]] | None = None,
    title: str = "All runs",
    stale: int = 0,
) -> Report:
    """Write tables and figures of a store's runs.

    Args:
        out: folder to write into; made if need be.
        keys: the runs to report, by (run_id, engine); all by default. Those that are not in the store are counted.
        title: of the index.
        stale: how many of them were made by other code than the present, where the caller has compared them.

    Raises:
        ResultsError: no runs, a broken record, or a folder that cannot be written.
    """
    runs = store.compact()
    if runs.num_rows == 0:
        raise ResultsError(
            f"{store.root}: no runs to report; make some with `sweep` or `run`, or choose another --results"
        )
    missing = 0
    if keys is not None:
        runs = _chosen(runs, keys)
        missing = len(set(keys)) - runs.num_rows
        if runs.num_rows == 0:
            raise ResultsError(
                f"{store.root}: none of the {missing} runs asked for is in the store; make them with `sweep`"
            )
    found = frames(runs)
    look = looks(ordered(found.runs["strategy"], "strategy").categories)
    folder = _Folder(Path(out))
    parts = [
        f"# {title}",
        plural(runs.num_rows, "run").capitalize() + (f", {missing} not made yet." if missing else "."),
    ]
    main = []
    for study in studies(found):
        table = tables.main_table(study, stale)
        main.append(to_text(table))
        parts += [f"## {study.title}", to_markdown(table, "###").rstrip()]
        parts += ["### Tables", "\n".join(_tables(folder, study, table, stale))]
        parts += ["### Figures", *_figures(folder, study, look)]
    index = folder.text("index.md", "\n\n".join(parts) + "\n")
    return Report(index, tuple(folder.written), "\n".join(main))


def _chosen(runs: pa.Table, keys: Collection[tuple[str, str]]) -> pa.Table:
    names = pc.binary_join_element_wise(runs["run_id"], runs["engine"], "-")
    return runs.filter(pc.is_in(names, pa.array(sorted({"-".join(key) for key in keys}), pa.string())))


def _tables(folder: _Folder, study: Study, main: Table, stale: int) -> Iterator[str]:
    """Write every table of a study; a line for each."""
    found = [
        main,
        tables.score_table(study, stale),
        tables.differences_table(study, stale),
        tables.class_table(study, stale),
        tables.unevenness_table(study, stale),
        tables.problems_table(study),
        tables.costs_table(study, stale),
    ]
    for table in found:
        if table is not None:
            stem = f"tables/{table.name}"
            folder.text(f"{stem}.csv", to_csv(table))
            folder.text(f"{stem}.md", to_markdown(table))
            folder.text(f"{stem}.tex", to_latex(table))
            yield f"- {table.title}: [CSV]({stem}.csv), [Markdown]({stem}.md), [LaTeX]({stem}.tex)"


def _figures(folder: _Folder, study: Study, look: dict[str, Look]) -> Iterator[str]:
    """Draw every figure of a study; a paragraph for each."""
    parts = study.split()
    with style():
        for label, part in parts[:PARTS]:
            for name, (what, draw) in FIGURES.items():
                for page, figure in enumerate(draw(part, look, label), 1):
                    stem = f"figures/{part.slug}-{name}" + (f"-{page}" if page > 1 else "")
                    folder.figure(stem, figure)
                    text = ", ".join(
                        filter(None, (f"{study.title}: {what}", label, f"page {page}" if page > 1 else ""))
                    )
                    yield f"{text} ([PDF]({stem}.pdf))\n\n![{text}]({stem}.png)"
    if len(parts) > PARTS:
        yield f"Drawn for the first {PARTS} of {len(parts)} settings; narrow the report with `--only` for the others."


class _Folder:
    """Where a report goes, and what it has written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.written: list[Path] = []
        for folder in ("tables", "figures"):
            self._try(lambda path: path.mkdir(parents=True, exist_ok=True), root / folder)

    def text(self, name: str, content: str) -> Path:
        """Write one text file."""
        self._try(lambda path: path.write_bytes(content.encode()), self.root / name)
        self.written.append(self.root / name)
        return self.root / name

    def figure(self, stem: str, figure: Figure) -> None:
        """Write one figure in both formats."""
        self._try(lambda path: self.written.extend(save(figure, path)), self.root / stem)

    def _try(self, write: Callable[[Path], object], path: Path) -> None:
        try:
            write(path)
        except OSError as error:
            raise ResultsError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
