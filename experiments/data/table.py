"""Table: bring your own CSV, Parquet or npz, named with `--data`.

A CSV or Parquet file holds one row an example: features (every column that has no role), a label, a
person and, where there are any, a recording and a split (train, test). An npz holds the same as arrays,
and its `x` may be windows of 128 samples at 50 Hz, in g and rad/s: (n, 128, 9) body_acc, body_gyro,
total_acc, or (n, 128, 6) total_acc, body_gyro straight from the sensors. Of windows, `features` are the
extracted ones.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.data import features
from experiments.data.cache import cached, file_hash
from experiments.data.dataset import DataError, Dataset, Source, content_hash
from experiments.data.table_files import Columns, Roles, check_path, read
from experiments.data.windows import FILTERS, SAMPLES, filter_windows, follows, sample_after

PLAUSIBLE_G = (0.3, 3.0)  # median magnitude of a worn sensor's acceleration; people's lie at 1.0 g


@dataclass(frozen=True)
class Table(Source):
    """Which column is what. Labels and persons are text or whole numbers."""

    label: str = "label"
    person: str = "person"
    recording: str = "recording"
    split: str = "split"

    def load(self, form: str, path: Path | None) -> Dataset:
        if path is None:
            raise DataError("table: no file named; give a CSV, Parquet or npz with --data")
        check_path(path)
        content = [file_hash(path), path.name, *astuple(self)]
        return cached("table", form, content, lambda: self._parse(form, path))

    def _parse(self, form: str, path: Path) -> Dataset:
        columns = read(path, Roles(*astuple(self)))
        for field in fields(self):
            name = getattr(self, field.name)
            if name != field.default and name not in columns.by_role:
                raise DataError(f"{path}: no column {name!r}, which table({field.name}={name}) names")
        y, classes = _codes(path, columns, self.label, "class")
        person, persons = _codes(path, columns, self.person, "person")
        recording = _recordings(person, columns.by_role.get(self.recording))
        official_test = _official_test(path, columns.by_role.get(self.split), person, persons)
        ids = columns.by_role[self.person]
        if ids.dtype.kind == "i":
            person = ids.astype(np.int64)
        x, overlap, notes = _in_form(path, form, columns.x, recording, self.recording in columns.by_role)
        versions = [f"filters {FILTERS}", f"extractor {features.VERSION}"] if columns.x.ndim == 3 else []
        read_arrays = [columns.x, y, person, recording, *([] if official_test is None else [official_test])]
        return Dataset(
            name="table",
            title=f"table {path.name}",
            form=form,
            x=x,
            y=y,
            person=person,
            recording=recording,
            classes=classes,
            official_test=official_test,
            standardise=True,
            overlap=overlap,
            hash=content_hash(["table", form, *versions, *columns.names, *classes], read_arrays),
            notes=notes,
        )


def _codes(path: Path, columns: Columns, name: str, what: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(n,) codes 0.. in the order of the sorted values, and the values' names. At least two are needed."""
    values, codes = np.unique(columns.by_role[name], return_inverse=True)
    if len(values) < 2:
        raise DataError(
            f"{path}: column {name!r} holds one {what} only ({values[0]}), expected at least two; "
            f"add rows of another {what}, or name the right column in table(...)"
        )
    return codes.astype(np.int64), tuple(str(value) for value in values)


def _recordings(person: NDArray[np.int64], column: NDArray[np.generic] | None) -> NDArray[np.int64]:
    """(n,) a number for each recording of each person (two may both have a 1); without any, the person."""
    if column is None:
        return person
    codes = np.unique(column, return_inverse=True)[1].astype(np.int64)
    return np.unique(person * (codes.max() + 1) + codes, return_inverse=True)[1].astype(np.int64)


def _official_test(
    path: Path, column: NDArray[np.generic] | None, person: NDArray[np.int64], persons: tuple[str, ...]
) -> NDArray[np.bool_] | None:
    """(n,) rows whose split is "test". A person is on one side only."""
    if column is None:
        return None
    side = column.astype(str)
    other = np.flatnonzero((side != "train") & (side != "test"))
    if len(other):
        row = int(other[0])
        raise DataError(f"{path}: the split of row {row + 1} is {str(side[row])!r}, expected train or test")
    test: NDArray[np.bool_] = side == "test"
    both = np.intersect1d(person[test], person[~test])
    if len(both):
        raise DataError(
            f"{path}: person {persons[both[0]]} has rows in both train and test, expected one side a person; "
            'mend the column or drop it and use --test-persons "fold(0, of=5)"'
        )
    return test


def _in_form(
    path: Path, form: str, x: NDArray[np.floating], recording: NDArray[np.int64], named: bool
) -> tuple[NDArray[np.float32], int, tuple[str, ...]]:
    """The rows in a form, how many neighbours share samples, and caveats.

    Rows of features that name their recordings are taken to be cut from it with overlap, as windows usually are.
    """
    if x.ndim == 2:
        if form != "features":
            raise DataError(f"{path}: form {form!r} needs windows, found rows of features; use --form features")
        return x.astype(np.float32), int(named), ()
    if x.shape[1:] not in ((SAMPLES, 6), (SAMPLES, 9)):
        raise DataError(
            f"{path}: x has shape {x.shape}, expected windows of (n, {SAMPLES}, 9), body_acc, body_gyro and "
            f"total_acc, or of (n, {SAMPLES}, 6), total_acc and body_gyro; resample to 50 Hz and cut again"
        )
    next_ones = follows(x, recording)
    nine = filter_windows(x, next_ones) if x.shape[2] == 6 else x
    magnitude = float(np.median(np.linalg.norm(nine[..., 6:], axis=-1)))
    odd = not PLAUSIBLE_G[0] <= magnitude <= PLAUSIBLE_G[1]
    notes = (f"the median acceleration is {magnitude:.3g}: is it in g?",) if odd else ()
    overlap = int(next_ones.any())
    if form == "raw":
        return nine.astype(np.float32), overlap, notes
    return features.official_scale(features.extract(nine, sample_after(nine, next_ones))), overlap, notes
