"""Tables and figures of stored runs, and an index that names them.

    OUT/index.md   OUT/tables/<data set>-<table>.csv|md|tex   OUT/figures/<data set>[-<settings>]-<figure>.pdf|png
    and, of tuned cells, OUT/tables/tuned|tuned-fixed-epochs|importance|budget.csv|md|tex   OUT/figures/budget.pdf|png

The same records give the same bytes, but for the costs, which are measured. What another report left in OUT is
overwritten where names agree and otherwise left alone; the index names what is current.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from results import ResultsError
from results.frame import Frames, Skewed, frames, skewed_unless_known
from results.reporting import captions, figures, tables
from results.reporting.captions import plural
from results.reporting.differences import detectable
from results.reporting.render import Table, to_csv, to_latex, to_markdown, to_text
from results.reporting.study import Study, cells, ordered, plain, studies
from results.reporting.style import Look, looks, save, style
from results.reporting.subjects.budget import STANDING, budget, budget_table
from results.reporting.subjects.comparisons import best_table, differences_table, ranks_table
from results.reporting.subjects.persons import FOLDED, folded, persons, persons_table
from results.reporting.subjects.privacy import needed_table, offices_table, privacy_table
from results.reporting.subjects.privacy_figures import AUDIT, privacy, privacy_persons, standing, standing_of_persons
from results.reporting.subjects.protection import learns_table, protection, protection_table
from results.reporting.subjects.sensitivity import RATE, sensitivity, sensitivity_table, swept
from results.reporting.subjects.tuning import Pair, gains_table, importance_table, tuned_table
from results.rules import BASELINE
from results.store import Store
from results.tuned.tuned import FIXED_EPOCHS, KEY, OPTIONAL, Winner, everything, part, repeats

PARTS = 4  # settings of one data set that figures are drawn for

Draw = Callable[[Study, dict[str, Look], str], list[Figure]]
TABLES: tuple[Callable[[Study, int], Table | None], ...] = (
    tables.score_table,
    differences_table,
    best_table,
    ranks_table,
    tables.class_table,
    persons_table,
    sensitivity_table,
    tables.unevenness_table,
    tables.costs_table,
    protection_table,
    learns_table,
    privacy_table,
    offices_table,
    needed_table,
)
FIGURES: dict[str, tuple[str, Draw]] = {
    "counts": ("training rows by office and class", lambda study, look, label: figures.class_counts(study, label)),
    "curves": ("test accuracy by round", figures.curves),
    "scores": ("score by partition and strategy", figures.scores),
    "classes": ("F1 by class", figures.class_scores),
}
SWEPT: dict[str, tuple[str, Draw]] = {"sensitivity": ("score by learning rate", sensitivity)}
FOLDS: dict[str, tuple[str, Draw]] = {"persons": ("accuracy by person", persons)}
PROTECTED: dict[str, tuple[str, Draw]] = {"protection": ("cost of protection", protection)}
PRIVATE: dict[str, tuple[str, Draw]] = {"privacy": ("privacy and utility", privacy)}
PERSONS: dict[str, tuple[str, Draw]] = {"privacy-persons": ("score by number of persons, simulated", privacy_persons)}
MEASURED = "Measured: seconds differ by machine and by day"


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
    tuned: Path | None = None,
    pairs: Sequence[Pair] = (),
    origins: Mapping[str, str] | None = None,
    label_skewed: Skewed = skewed_unless_known,
) -> Report:
    """Write tables and figures of a store's runs.

    Args:
        out: folder to write into; made if need be.
        keys: the runs to report, by (run_id, engine); all by default. Those that are not in the store are counted.
        title: of the index.
        stale: how many of them were made by other code than the present, where the caller has compared them.
        tuned: folder of winners; those of the runs' cells are reported, whatever the strategy.
        pairs: run_ids of a default run and the tuned run of the same seed, for what tuning gained on test rows.
        origins: by run_id, where a run's hyper-parameters are from (see `frames`): a column *Tuned* in the tables.
        label_skewed: of partitions of which no record says so (see `frames`).

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
    found = frames(runs, origins, label_skewed)
    shown = list(studies(found))
    names = pd.concat([study.frames.runs["strategy"].astype(str) for study in shown])
    look = looks(ordered(names, "strategy").categories)
    folder = _Folder(Path(out))
    parts = [
        f"# {title}",
        plural(runs.num_rows, "run").capitalize() + (f", {missing} not made yet." if missing else "."),
    ]
    main = []
    for study in shown:
        table = tables.main_table(study, stale)
        main.append(to_text(table))
        parts += [f"## {study.title}", to_markdown(table, "###").rstrip()]
        tables_ = [table, *(one(study, stale) for one in TABLES), gains_table(study, pairs, stale)]
        parts += ["### Tables", "\n".join(_written(folder, [*tables_, tables.problems_table(study)]))]
        parts += [
            "### Figures",
            *_figures(folder, study, look),
            *_costs(folder, study, look),
            *_private(folder, study, look),
        ]
    if tuned is not None and (winners := _winners(found, tuned)):
        parts += ["## Tuning", *_tuning(folder, winners, tuned, found, look)]
    index = folder.text("index.md", "\n\n".join(parts) + "\n")
    return Report(index, tuple(folder.written), "\n".join(main))


def _chosen(runs: pa.Table, keys: Collection[tuple[str, str]]) -> pa.Table:
    names = pc.binary_join_element_wise(runs["run_id"], runs["engine"], "-")
    return runs.filter(pc.is_in(names, pa.array(sorted({"-".join(key) for key in keys}), pa.string())))


def _written(folder: _Folder, found: Iterable[Table | None]) -> Iterator[str]:
    """Write tables; a line for each."""
    for table in found:
        if table is not None:
            stem = f"tables/{table.name}"
            folder.text(f"{stem}.csv", to_csv(table))
            folder.text(f"{stem}.md", to_markdown(table))
            folder.text(f"{stem}.tex", to_latex(table))
            yield f"- {table.title}: [CSV]({stem}.csv), [Markdown]({stem}.md), [LaTeX]({stem}.tex)"


def _figures(folder: _Folder, study: Study, look: dict[str, Look]) -> Iterator[str]:
    """Draw every figure of a study; a paragraph for each. Axes that have a figure of their own split no other."""
    whole = [(SWEPT, RATE)] * swept(study) + [(FOLDS, FOLDED)] * folded(study)
    with style():
        for chosen, axis in whole:
            for label, part in study.split(keep=(axis,))[:PARTS]:
                yield from _drawn(folder, part, chosen, look, label)
        if whole:
            axes = " and ".join(axis for _, axis in whole)
            yield f"Other figures are not drawn for every {axes}: narrow the report to one value with `--only`."
            return
        parts = study.split()
        for label, part in parts[:PARTS]:
            yield from _drawn(folder, part, FIGURES, look, label)
    if len(parts) > PARTS:
        yield f"Drawn for the first {PARTS} of {len(parts)} settings; narrow the report with `--only` for the others."


def _costs(folder: _Folder, study: Study, look: dict[str, Look]) -> Iterator[str]:
    """Draw what protection costs, in every part of a study."""
    with style():
        for label, part in study.split()[:PARTS]:
            yield from _drawn(folder, part, PROTECTED, look, label, MEASURED)


def _private(folder: _Folder, study: Study, look: dict[str, Look]) -> Iterator[str]:
    """Draw what privacy costs, in every part of a study that has private runs."""
    with style():
        for label, part in study.split(keep=(AUDIT,))[:PARTS]:
            if not part.frames.privacy.empty:
                yield from _drawn(folder, part, PRIVATE, look, label, standing(part))
                yield from _drawn(folder, part, PERSONS, look, label, standing_of_persons(part))


def _drawn(
    folder: _Folder,
    study: Study,
    chosen: dict[str, tuple[str, Draw]],
    look: dict[str, Look],
    label: str,
    standing: str = "",
) -> Iterator[str]:
    """Draw some figures of one part of a study."""
    if not standing:
        seeds = captions.seeds(cells(study)["runs"]).partition(".")[0]
        standing = f"{seeds}. {detectable(study)} (paired, to {BASELINE})"
    for name, (what, draw) in chosen.items():
        shown = ", ".join(filter(None, (f"{study.title}: {what}", label)))
        yield from _saved(folder, f"{study.slug}-{name}", shown, standing, draw(study, look, label))


def _saved(folder: _Folder, name: str, what: str, standing: str, made: Sequence[Figure]) -> Iterator[str]:
    """Write the pages of a figure."""
    for page, figure in enumerate(made, 1):
        stem = f"figures/{name}" + (f"-{page}" if page > 1 else "")
        folder.figure(stem, figure)
        text = what + (f", page {page}" if page > 1 else "")
        yield f"{text} ([PDF]({stem}.pdf)). {standing}.\n\n![{text}]({stem}.png)"


def _winners(found: Frames, folder: Path) -> list[Winner]:
    """The winners of what the report is about: of all that makes a cell but the rule."""
    options = [name for name in (*KEY, *OPTIONAL) if name not in ("strategy", "loss")]
    runs = found.runs.reindex(columns=options)  # older records do not know every option
    held = set(runs.map(plain).itertuples(index=False, name=None))
    return [one for one in everything(folder) if tuple(plain(part(one, name)) for name in options) in held]


def _tuning(
    folder: _Folder, winners: Sequence[Winner], tuned: Path, found: Frames, look: dict[str, Look]
) -> Iterator[str]:
    """What tuning found: tables and the figure of its budget."""
    others, hashes = repeats(tuned), set(found.runs["data_hash"])
    made = [
        tuned_table(winners, hashes),
        tuned_table(_winners(found, tuned / FIXED_EPOCHS), hashes, fixed_epochs=True),
        importance_table(winners),
        budget_table(winners, others),
    ]
    yield "### Tables"
    yield "\n".join(_written(folder, made))
    with style():
        pages = budget(winners, look, others)
        drawn = list(_saved(folder, "budget", "Tuning: accuracy against budget", STANDING, pages))
    if drawn:
        yield "### Figures"
        yield from drawn


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
