"""Reading a user's CSV, Parquet or npz into plain columns. Every fault names the file, column, row and value.

Rows are counted from 1, a CSV's header not among them.
"""

from __future__ import annotations

import contextlib
import csv
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.dataset import DataError

FINITE = "a finite number"
KINDS = (".csv", ".parquet", ".npz")


@dataclass(frozen=True)
class Roles:
    """The names of the columns that are not features. The first two must be there."""

    label: str
    person: str
    recording: str
    split: str

    def names(self) -> tuple[str, ...]:
        return (self.label, self.person, self.recording, self.split)


@dataclass(frozen=True)
class Columns:
    """A file's columns as read; label, person, recording and split are integers or text."""

    x: NDArray[np.floating]  # (n, d) features, or (n, 128, 6 or 9) windows; finite
    names: tuple[str, ...]  # (d) names of the features; empty for an npz
    by_role: dict[str, NDArray[np.generic]]  # the role columns that the file has, by their name, (n,) each


def check_path(path: Path) -> None:
    """Raises DataError where no file of a known kind is there."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; name a CSV, Parquet or npz file with --data")
    if path.suffix.lower() not in KINDS:
        raise DataError(f"{path}: the name ends in {path.suffix!r}, expected one of {', '.join(KINDS)}")


def read(path: Path, roles: Roles) -> Columns:
    """Raises DataError for an unreadable file and any fault in a column."""
    readers = dict(zip(KINDS, (_read_csv, _read_parquet, _read_npz), strict=True))
    columns = readers[path.suffix.lower()](path, roles)
    if len(columns.x) == 0:
        raise DataError(f"{path}: it has no rows; write the file again")
    return columns


def _unreadable(path: Path, error: Exception) -> DataError:
    kind, reason = path.suffix.lower()[1:], (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DataError(f"{path}: cannot be read as {kind} ({reason}); write the file again")


def _check_names(path: Path, names: Sequence[str], roles: Roles) -> list[str]:
    """The names of the feature columns."""
    for role in (roles.label, roles.person):
        if role not in names:
            raise _missing(path, role, names)
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: two columns are called {name!r}; rename one")
        # A data frame's index, written along by accident, would let a model read the row's place in the file.
        if not name.strip() or name.startswith(("Unnamed:", "__index_level_")):
            raise DataError(f"{path}: column {names.index(name) + 1} has no name ({name!r}); drop or name it")
    features = [name for name in names if name not in roles.names()]
    if not features:
        raise DataError(f"{path}: no feature column beside {', '.join(names)}")
    return features


def _missing(path: Path, role: str, names: Iterable[str]) -> DataError:
    held = list(names)
    shown = ", ".join(map(repr, held[:12])) + (f" and {len(held) - 12} more" if len(held) > 12 else "")
    return DataError(
        f"{path}: no column {role!r}; it has {shown or 'none'}; name yours as in table(label=activity, person=subject)"
    )


def _bad_value(path: Path, column: str, row: int, value: object, expected: str) -> DataError:
    place = f"{path}: column {column!r}, row {row}"
    return DataError(f"{place} is {value!r}, expected {expected}; mend it, or drop the row or the column")


def _read_csv(path: Path, roles: Roles) -> Columns:
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            names = next(csv.reader(file), [])
        features = _check_names(path, names, roles)
        # Types are given, not guessed: a guess from the first block fails on a later "0.5".
        types = {name: pa.float64() if name in set(features) else pa.string() for name in names}
        table = pa_csv.read_csv(path, convert_options=pa_csv.ConvertOptions(column_types=types))
    except DataError:
        raise
    except pa.ArrowInvalid as error:
        raise _first_text(path, features) or _unreadable(path, error) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from None
    return _from_arrow(path, table, features, roles)


# What the fast reader takes for a number; Python's float would take "1_0" too.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE | re.ASCII)


def _first_text(path: Path, features: list[str]) -> DataError | None:
    """The first feature cell that is not a number; the slow way, once the fast reader has refused."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file, contextlib.suppress(csv.Error):
        for number, row in enumerate(csv.DictReader(file), start=1):
            for name in features:
                if not _NUMBER.fullmatch((row[name] or "nan").strip()):
                    return _bad_value(path, name, number, row[name], FINITE)
    return None


def _read_parquet(path: Path, roles: Roles) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pa_parquet

    try:
        table = pa_parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    return _from_arrow(path, table, _check_names(path, table.column_names, roles), roles)


def _from_arrow(path: Path, table: Any, features: list[str], roles: Roles) -> Columns:
    import pyarrow as pa

    x = np.empty((table.num_rows, len(features)))
    for index, name in enumerate(features):
        column = table.column(name)
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        values = column.to_numpy()
        if values.dtype.kind not in "iufb" and column.null_count < len(column):
            row = next(i for i, value in enumerate(column.to_pylist()) if value is not None)
            raise _bad_value(path, name, row + 1, column[row].as_py(), "a number")
        x[:, index] = values.astype(np.float64)  # a missing value becomes NaN
    _check_finite(path, x, features)
    held = {role: table.column(role).to_pylist() for role in roles.names() if role in table.column_names}
    return Columns(x, tuple(features), {role: _plain(path, role, values) for role, values in held.items()})


def _check_finite(path: Path, x: NDArray[np.floating], names: Sequence[str]) -> None:
    bad = np.argwhere(~(np.abs(x) <= np.finfo(np.float32).max))  # also what would overflow as float32
    if len(bad):
        row, *place = (int(i) for i in bad[0])
        name = names[place[0]] if names else f"x[{', '.join(map(str, (row, *place)))}]"
        raise _bad_value(path, name, row + 1, float(x[tuple(bad[0])]), FINITE)


def _plain(path: Path, name: str, values: list[Any]) -> NDArray[np.generic]:
    """A role's values as integers where all are whole numbers, else as text; none may be missing."""
    values = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values]
    for row, value in enumerate(values, start=1):
        if value is None or value == "" or value != value:
            raise _bad_value(path, name, row, value, "a value")
        if isinstance(value, float) and not value.is_integer():
            raise _bad_value(path, name, row, value, "text or a whole number")
    try:
        whole = [int(value) for value in values]
        if all(isinstance(v, float) or str(w) == str(v) for w, v in zip(whole, values, strict=True)):
            return np.array(whole, dtype=np.int64)
    except (ValueError, TypeError, OverflowError):
        pass
    return np.array([str(value) for value in values])  # "007" stays text


def _read_npz(path: Path, roles: Roles) -> Columns:
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in ("x", *roles.names()) if name in file.files}
            present = file.files
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from None
    for name in ("x", roles.label, roles.person):
        if name not in held:
            raise _missing(path, name, present)
    x = held.pop("x")
    if x.dtype.kind not in "iuf" or x.ndim not in (2, 3) or 0 in x.shape[1:]:
        raise DataError(
            f"{path}: x has type {x.dtype} and shape {x.shape}, expected numbers of shape (n, d), "
            "(n, 128, 6) or (n, 128, 9)"
        )
    for name, column in held.items():
        if column.shape != (len(x),):
            raise DataError(f"{path}: {name!r} has shape {column.shape}, expected ({len(x)},), as x has rows")
    if x.dtype.kind != "f":
        x = x.astype(np.float64)
    _check_finite(path, x, ())
    return Columns(x, (), {name: _plain(path, name, column.tolist()) for name, column in held.items()})
