"""All runs of a store as one Arrow table, a row a run, and its Parquet file.

Thousands of small JSON files are safe to write but slow to read again and again. `runs/runs.parquet` holds the same
records column by column, with the size, time and inode of the file each came from: a report decodes only files that
are new or changed. The file is a cache, made again whenever it is missing, broken or of another layout; any Parquet
reader may use it too.

Structs and lists stay nested. Free dicts (the spec, versions, ...) are JSON text, since their keys differ between
runs; so are the sections of few runs (`results.sections`), in which a missing key and null say different things.
"""

from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from results.files import write_whole
from results.record import Key, RunRecord
from results.sections import Section

_SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_FILE = ("file_size", "file_mtime_ns", "file_inode")


def arrow_type(hint: Any) -> pa.DataType:
    """The Arrow type of a record's field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):  # `X | None`: every Arrow column may be null
        return arrow_type(next(part for part in arguments if part is not type(None)))
    if origin is typing.Literal or origin is dict:
        return pa.string()
    if origin is tuple:
        return pa.list_(arrow_type(arguments[0]))
    if isinstance(hint, type) and issubclass(hint, Section):
        return pa.string()
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return pa.struct([(name, arrow_type(part)) for name, part in typing.get_type_hints(hint).items()])
    return _SCALARS[hint]


SCHEMA = pa.schema([(name, arrow_type(hint)) for name, hint in typing.get_type_hints(RunRecord).items()])
STORED = pa.schema([*SCHEMA, *((name, pa.int64()) for name in _FILE)])


def table(records: Iterable[RunRecord]) -> pa.Table:
    """Records as a table of `SCHEMA`, sorted by key: what is made of them does not depend on the order they came in."""
    return pa.Table.from_pylist([_row(record) for record in sorted(records, key=lambda one: one.key)], schema=SCHEMA)


class Runs(Protocol):
    """A store of runs (`results.store.Store`) as far as it is read here."""

    @property
    def runs(self) -> Path:
        """The folder that holds them."""

    def files(self) -> Mapping[Key, tuple[int, int, int]]:
        """Size, time and inode of every run's file, in the order of the keys."""

    def records(self, keys: Iterable[tuple[str, str]] | None = None) -> Iterable[RunRecord]:
        """The records of some runs, or of all."""


def compact(store: Runs) -> pa.Table:
    """Every run of a store as a table of `SCHEMA`, sorted by key; the Parquet file is left up to date.

    Raises:
        ResultsError: a run's file is broken or of another schema version.
    """
    path = store.runs / "runs.parquet"
    files = store.files()
    old = _read(path)
    known = [Key(*key) for key in zip(old["run_id"].to_pylist(), old["engine"].to_pylist(), strict=True)]
    marks = zip(*(old[name].to_pylist() for name in _FILE), strict=True)
    fresh = np.array([files.get(key) == mark for key, mark in zip(known, marks, strict=True)], dtype=bool)
    kept = {key for key, good in zip(known, fresh, strict=True) if good}
    changed = [key for key in files if key not in kept]
    if changed or not fresh.all():
        new = table(store.records(changed))
        for place, name in enumerate(_FILE):  # `changed` is sorted, as `table` sorts
            new = new.append_column(name, pa.array([files[key][place] for key in changed], pa.int64()))
        both = pa.concat_tables([old.filter(pa.array(fresh)), new])
        old = both.sort_by([("run_id", "ascending"), ("engine", "ascending")])
        sink = pa.BufferOutputStream()
        pq.write_table(old, sink, compression="zstd")
        with contextlib.suppress(OSError):  # only a cache: a store that cannot be written can still be reported
            write_whole(path, sink.getvalue().to_pybytes())
    return old.drop_columns(list(_FILE))


def _read(path: Any) -> pa.Table:
    """The Parquet file, or an empty table where there is none that fits."""
    try:
        found = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return STORED.empty_table()
    return found if found.schema.equals(STORED) else STORED.empty_table()


def _row(record: RunRecord) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(record)
    _dicts_to_text(row, "spec", "strategy_options", "privacy", "protection")
    _dicts_to_text(row["environment"], "versions")
    if row["final"] is not None:
        _dicts_to_text(row["final"], "test_correct_by_person")
    return row


def _dicts_to_text(row: dict[str, Any], *names: str) -> None:
    for name in names:
        if row[name] is not None:
            row[name] = msgspec.json.encode(row[name]).decode()
