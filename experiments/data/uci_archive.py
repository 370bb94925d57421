"""Reading the UCI HAR files out of whatever they come in, and checking that they are what they should be.

UCI serves data set 240 as a zip that holds `UCI HAR Dataset.zip`; older copies are the inner zip or
its unpacked folder. All three are read. A file of numbers is read strictly: its rows, its columns and
every value are checked, and what is wrong is named with its place.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data.cache import file_hash
from experiments.data.dataset import DataError
from experiments.data.statistics import Array

LANDMARK = "train/X_train.txt"  # the folder that holds it is the data set's
REMEDY = "name a copy of UCI data set 240 with --data or $UCI_HAR_ZIP"

# What reading a zip raises where it is truncated, altered, encrypted or packed by an unknown method.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError)


@dataclass(frozen=True)
class Archive:
    """The data set's files by their name below `UCI HAR Dataset/`."""

    path: Path
    _read: Callable[[str], bytes]

    def read(self, member: str) -> bytes:
        """Raises DataError where the file is missing or damaged."""
        try:
            return self._read(member)
        except (KeyError, FileNotFoundError):
            raise DataError(f"{self.path}: no file {member} in it; {REMEDY}") from None
        except DAMAGE as error:
            raise DataError(f"{self.path}: {member} is damaged ({error}); {REMEDY}") from None

    def numbers(self, member: str, columns: int) -> Array:
        """(rows, columns) from a text of numbers between blanks."""
        text = self.read(member)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # how numpy says "not a number"
                values = np.fromstring(text, dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            values = np.empty(0)
        rows = text.count(b"\n") + (not text.endswith(b"\n"))
        if len(values) != columns * rows or not np.isfinite(values).all():
            raise DataError(f"{self.path}: {member}: {_first_fault(text, columns)}; {REMEDY}")
        return values.reshape(-1, columns)


def _first_fault(text: bytes, columns: int) -> str:
    """What is wrong with a text of numbers, and where; the slow way, once it is known to be wrong."""
    for row, line in enumerate(text.splitlines(), start=1):
        cells = line.split()
        if len(cells) != columns:
            return f"line {row} has {len(cells)} columns, expected {columns}"
        for column, cell in enumerate(cells, start=1):
            try:
                finite = np.isfinite(float(cell))
            except ValueError:
                finite = False
            if not finite:
                value = cell.decode(errors="replace")
                return f"line {row}, column {column} is {value!r}, expected a finite number"
    return "it is empty"


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """The archive at `path`: UCI's outer zip, the inner zip, or the unpacked folder (or the one above it)."""
    if path.is_dir():
        root = path if (path / LANDMARK).is_file() else path / "UCI HAR Dataset"
        if not (root / LANDMARK).is_file():
            raise DataError(f"{path}: no {LANDMARK} in this folder; {REMEDY}")
        yield Archive(path, lambda member: (root / member).read_bytes())
        return
    try:
        outer = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        size = path.stat().st_size if path.is_file() else 0
        raise DataError(f"{path}: not a whole zip ({size:,} bytes; {error}); {REMEDY}") from None
    with outer:
        zips = [name for name in outer.namelist() if name.endswith(".zip") and "/._" not in f"/{name}"]
        if not zips or _root(outer) is not None:
            yield _zip_archive(path, outer)
            return
        try:
            held = zipfile.ZipFile(io.BytesIO(outer.read(zips[0])))
        except DAMAGE as error:
            raise DataError(f"{path}: {zips[0]} in it is damaged ({error}); {REMEDY}") from None
        with held:
            yield _zip_archive(path, held)


def _root(archive: zipfile.ZipFile) -> str | None:
    names = (name for name in archive.namelist() if f"/{name}".endswith(f"/{LANDMARK}"))
    return next((name.removesuffix(LANDMARK) for name in names), None)


def _zip_archive(path: Path, archive: zipfile.ZipFile) -> Archive:
    root = _root(archive)
    if root is None:
        held = ", ".join(archive.namelist()[:5]) or "nothing"
        raise DataError(f"{path}: no file {LANDMARK} in it (it holds {held}); {REMEDY}")
    return Archive(path, lambda member: archive.read(root + member))


def fingerprint(path: Path, members: Iterable[str]) -> str:
    """sha256 (hex) of the zip, or of those members of a folder."""
    if not path.is_dir():
        return file_hash(path)
    digest = hashlib.sha256()
    with open_archive(path) as archive:
        for member in members:
            digest.update(hashlib.sha256(archive.read(member)).digest())
    return digest.hexdigest()


def git_blob(content: bytes) -> str:
    """The SHA-1 (hex) under which git stores a file: the checksum that public copies can be compared by."""
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
