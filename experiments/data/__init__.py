"""The data room: `load(name)` gives a Dataset, `split` its training and test rows.

A data set is one file in this folder: its name is the module's name (a hyphen for an underscore) and
its options are the fields of the one `Source` in it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from experiments.data.dataset import FORMS, DataError, DataNotFound, Dataset, Source, split
from experiments.registry import Folder

__all__ = [
    "FORMS",
    "DataError",
    "DataNotFound",
    "Dataset",
    "Source",
    "load",
    "load_default",
    "sources",
    "split",
]


def sources() -> dict[str, type[Source]]:
    """Every data set's class by its name. Cheap: what is heavy is imported when data is read."""
    return {name.replace("_", "-"): source for name, source in Folder(__name__, Source).items()}


def load(name: str | Source, *, form: str = "features", path: str | Path | None = None, **options: object) -> Dataset:
    """The data set called `name` (or one already built) in a form: "features", "extracted" or "raw".

    path is the command line's `--data`; options are the data set's own. Raises DataError for an unknown
    name, form or option and for anything wrong with the data; DataNotFound where there is none."""
    source = name if isinstance(name, Source) else _build(name, options)
    if form not in FORMS:
        raise DataError(f"no form {form!r}: expected one of {', '.join(FORMS)}")
    return source.load(form, None if path is None else Path(path))


def _build(name: str, options: dict[str, object]) -> Source:
    offered = sources()
    if name not in offered:
        raise DataError(f"no data set {name!r}: expected one of {', '.join(offered)}")
    known = [field.name for field in dataclasses.fields(offered[name])]  # type: ignore[arg-type]
    for option in options:
        if option not in known:
            expected = f"expected one of {', '.join(known)}" if known else "it has none"
            raise DataError(f"{name}: no option {option!r}: {expected}")
    return offered[name](**options)


def load_default(form: str = "features", path: str | Path | None = None) -> tuple[Dataset, str | None]:
    """What a grid that names no data set runs on: UCI HAR, or `watch` and one line that says so.

    Only a UCI HAR that is nowhere and cannot be downloaded is replaced: one that was named (by path or by
    $UCI_HAR_ZIP) and is missing or broken is an error."""
    try:
        return load("uci-har", form=form, path=path), None
    except DataNotFound as reason:
        return load("watch", form=form), f"{reason}. Running on watch, the recordings that come with seglearn."
