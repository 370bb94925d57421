"""The data room: `load("watch")` gives a Dataset, `split` its training and test rows.

A data set is one file in this folder: its name is the module's name (a hyphen for an underscore) and its options are
the fields of the one `Source` in it, as in `table(label=activity, person=respondent)`.
"""

from __future__ import annotations

from pathlib import Path

from experiments.config.errors import UserError
from experiments.config.notation import build, parse
from experiments.config.registry import Folder
from experiments.data.dataset import FORMS, DataError, DataNotFound, Dataset, Source, split

__all__ = ["FORMS", "SOURCES", "DataError", "DataNotFound", "Dataset", "Source", "load", "load_default", "split"]

SOURCES = Folder(__name__, Source)


def load(name: str | Source, *, form: str = "features", path: str | Path | None = None) -> Dataset:
    """The data set of that name (in notation, or already built) in a form: "features", "extracted" or "raw".

    path is the command line's `--data`. Raises UserError for an unknown name, form or option, DataError for anything
    wrong with the data and DataNotFound where there is none.
    """
    source = name if isinstance(name, Source) else build(parse(name), SOURCES, "data set")
    if form not in FORMS:
        raise UserError(f"form must be one of {', '.join(FORMS)}; found {form!r}")
    dataset: Dataset = source.load(form, None if path is None else Path(path))
    return dataset


def load_default(form: str = "features", path: str | Path | None = None) -> tuple[Dataset, str | None]:
    """What a grid that names no data set runs on: UCI HAR, or `watch` and one line that says so.

    Only a UCI HAR that is nowhere and cannot be downloaded is replaced: one that was named (by path or by
    $UCI_HAR_ZIP) and is missing or broken is an error.
    """
    try:
        return load("uci-har", form=form, path=path), None
    except DataNotFound as reason:
        return load("watch", form=form), f"{reason}. Running on watch, the recordings that come with seglearn."
