"""Parsed data sets on disk, so that a second start reads one file.

An entry is one npz, named by the content it came from and by this room's own sources: an edit of a
parser or of a formula makes all older entries unreachable. It appears whole or not at all, and zip's
CRC-32 guards what is inside: a damaged entry is built again. The cache is a convenience, so a folder
that cannot be written costs time, never a run.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np

from experiments.data.dataset import Dataset

KEPT = 4  # newest entries of one data set and form; older ones are removed


def cache_dir() -> Path:
    """$FEDERATED_OFFICES_CACHE, or the platform's cache folder of `federated-offices`."""
    named = os.environ.get("FEDERATED_OFFICES_CACHE")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("federated-offices"))


def file_hash(path: Path) -> str:
    """sha256 (hex) of a file's bytes; 60 MB take about 0.05 s, so it is not itself cached."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _sources_hash() -> str:
    here = Path(__file__).parent
    digest = hashlib.sha256(np.__version__.encode())
    for path in sorted([*here.glob("*.py"), *here.glob("*.csv")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def cached(name: str, form: str, content: list[str], build: Callable[[], Dataset]) -> Dataset:
    """The data set `build` makes, from the cache where it is there. content: all that decides the result
    (hashes of files, options)."""
    key = hashlib.sha256(json.dumps([_sources_hash(), *content]).encode()).hexdigest()[:24]
    folder = cache_dir() / "parsed"
    path = folder / f"{name}-{form}-{key}.npz"
    # BadZipFile, ValueError (also JSON's), KeyError and EOFError are what a damaged entry raises.
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return _read(path)
    dataset = build()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, dataset)
        _remove_old(folder, f"{name}-{form}-*.npz")
    return dataset


def _read(path: Path) -> Dataset:
    with np.load(path, allow_pickle=False) as entry:
        values = json.loads(str(entry["meta"]))
        values |= {key: entry[key] for key in entry.files if key != "meta"}
    return Dataset(**{**values, "classes": tuple(values["classes"]), "notes": tuple(values["notes"])})


def _write(path: Path, dataset: Dataset) -> None:
    values = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
    arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
    meta = json.dumps({key: value for key, value in values.items() if key not in arrays})
    with atomic(path) as file:
        np.savez(file, allow_pickle=False, meta=np.array(meta), **arrays)


def _remove_old(folder: Path, pattern: str) -> None:
    entries = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[KEPT:]:
        path.unlink(missing_ok=True)


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears at `path` whole when the block ends well, and never otherwise."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
