"""UCI HAR: 30 persons, 6 activities, a phone at the waist, 10,299 windows of 2.56 s.

Anguita, Ghio, Oneto, Parra and Reyes-Ortiz, "A Public Domain Dataset for Human Activity Recognition
Using Smartphones", ESANN 2013; UCI data set 240. `features` are the official 561 columns, which their
authors scaled to [-1, 1] over all rows, test rows included; `extracted` are the same columns by our own
extractor; `raw` are the windows. The official split holds nine persons out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.data import features
from experiments.data.cache import cache_dir, cached
from experiments.data.dataset import DataError, DataNotFound, Dataset, Source, content_hash
from experiments.data.download import fetch
from experiments.data.statistics import Array
from experiments.data.uci_archive import REMEDY, Archive, fingerprint, git_blob, open_archive
from experiments.data.windows import SAMPLES, follows, number_runs, sample_after

URL = "https://archive.ics.uci.edu/static/public/240/human+activity+recognition+using+smartphones.zip"
VARIABLE = "UCI_HAR_ZIP"

PARTS = ("train", "test")
ROWS = {"train": 7352, "test": 2947}
PERSONS = frozenset(range(1, 31))
TEST_PERSONS = frozenset({2, 4, 9, 10, 12, 13, 18, 20, 24})
ACTIVITIES = 6
COLUMNS = 561
CHANNELS = tuple(f"{signal}_{axis}" for signal in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
# git's names of the official files, by which public copies can be told from rebuilt ones.
OFFICIAL_BLOBS = {
    "train": "b06f3e4c7cddf435f2f2b102b4824f51ee8a6298",
    "test": "f3c01cbd355e0000229bce4e38156ee338fa6b08",
}


@dataclass(frozen=True)
class UciHar(Source):
    """From `--data`, `$UCI_HAR_ZIP`, the cache, or downloaded: the outer zip, the inner one or a folder."""

    def load(self, form: str, path: Path | None) -> Dataset:
        path = locate(path)
        return cached("uci-har", form, [fingerprint(path, _members(form))], lambda: _parse(path, form))


def locate(path: Path | None) -> Path:
    """Where the data is. A place that was named and is not there is an error, never a reason to look on."""
    for name, value in (("--data", path), (f"${VARIABLE}", os.environ.get(VARIABLE))):
        if value:
            named = Path(value).expanduser()
            if not named.exists():
                raise DataError(f"{name}: there is no file or folder {named}; {REMEDY}")
            return named
    kept = downloaded()
    if not kept.exists():
        try:
            fetch(URL, kept)
        except DataNotFound as error:
            raise DataNotFound(f"UCI HAR is not on this machine and {error}; {REMEDY}") from None
    return kept


def downloaded() -> Path:
    """Where a download is kept, or would be."""
    return cache_dir() / "downloads" / "uci-har.zip"


def at_hand(path: Path | None) -> bool:
    """Whether somebody names the data or an earlier download is there: whether it can be had without a network."""
    return path is not None or bool(os.environ.get(VARIABLE)) or downloaded().exists()


def _tables(part: str) -> tuple[str, str, str]:
    return f"{part}/X_{part}.txt", f"{part}/y_{part}.txt", f"{part}/subject_{part}.txt"


def _signals(part: str, form: str) -> list[str]:
    # The features form needs one signal too: shared halves tell which windows follow each other.
    channels = ("total_acc_x",) if form == "features" else CHANNELS
    return [f"{part}/Inertial Signals/{channel}_{part}.txt" for channel in channels]


def _members(form: str) -> list[str]:
    return ["activity_labels.txt", *(name for part in PARTS for name in (*_tables(part), *_signals(part, form)))]


@dataclass(frozen=True)
class Part:
    """The official files of the training or of the test persons."""

    x: Array  # (n, 561) in [-1, 1]
    y: NDArray[np.int64]  # (n,) 1..6
    person: NDArray[np.int64]  # (n,)
    windows: Array  # (n, 128, 9), or (n, 128, 1) for the features form
    follows: NDArray[np.bool_]  # (n,) the window before it is its neighbour in the recording
    official: bool


def read_part(archive: Archive, part: str, form: str) -> Part:
    """The checked files of "train" or "test". Raises DataError for the first thing that is wrong."""
    x_file, y_file, person_file = _tables(part)
    x = _rows(archive, x_file, COLUMNS, ROWS[part])
    outside = np.argwhere(np.abs(x) > 1)
    if len(outside):
        row, column = outside[0]
        place = f"line {row + 1}, column {column + 1}"
        raise _wrong(archive, x_file, f"{place} is {x[row, column]:g}, expected a value in [-1, 1]")
    persons = TEST_PERSONS if part == "test" else PERSONS - TEST_PERSONS
    y = _codes(archive, y_file, "labels", range(1, ACTIVITIES + 1), ROWS[part])
    person = _codes(archive, person_file, "persons", persons, ROWS[part])
    signals = [_rows(archive, name, SAMPLES, ROWS[part]) for name in _signals(part, form)]
    windows = np.stack(signals, axis=-1)
    official = git_blob(archive.read(x_file)) == OFFICIAL_BLOBS[part]
    return Part(x, y, person, windows, follows(windows, person), official)


def _rows(archive: Archive, member: str, columns: int, rows: int) -> Array:
    """(rows, columns) of numbers."""
    values = archive.numbers(member, columns)
    if len(values) != rows:
        raise _wrong(archive, member, f"{len(values):,} rows, expected {rows:,}")
    return values


def _codes(archive: Archive, member: str, what: str, expected: Iterable[int], rows: int) -> NDArray[np.int64]:
    """(rows,) of the expected whole numbers, each at least once."""
    values = _rows(archive, member, 1, rows)[:, 0]
    found, wanted = np.unique(values).tolist(), sorted(expected)
    if found != wanted:
        shown = ", ".join(f"{value:g}" for value in found)
        raise _wrong(archive, member, f"{what} {shown}, expected {', '.join(map(str, wanted))}")
    return values.astype(np.int64)


def _wrong(archive: Archive, member: str, what: str) -> DataError:
    return DataError(f"{archive.path}: {member}: {what}; {REMEDY}")


def _class_names(archive: Archive) -> tuple[str, ...]:
    text = archive.read("activity_labels.txt").decode("ascii", "replace")
    names = dict(line.split(maxsplit=1) for line in text.splitlines() if len(line.split()) == 2)
    if list(names) != [str(i) for i in range(1, ACTIVITIES + 1)]:
        raise _wrong(archive, "activity_labels.txt", f"{text!r}, expected a name for each of 1 to {ACTIVITIES}")
    return tuple(names.values())


def extract_part(part: Part) -> Array:
    """(n, 561) our own features of the part's windows, not yet scaled."""
    return features.extract(part.windows, sample_after(part.windows, part.follows))


def _parse(path: Path, form: str) -> Dataset:
    with open_archive(path) as archive:
        classes = _class_names(archive)
        parts = [read_part(archive, part, form) for part in PARTS]
    read = np.concatenate([part.x if form == "features" else part.windows for part in parts])
    if form == "extracted":
        x = features.official_scale(np.concatenate([extract_part(part) for part in parts]))
        version = [f"extractor {features.VERSION}"]
    else:
        x, version = read.astype(np.float32), []
    y = np.concatenate([part.y for part in parts]) - 1
    person = np.concatenate([part.person for part in parts])
    recording = number_runs(np.concatenate([part.follows for part in parts]))
    official_test = np.repeat([False, True], [len(part.y) for part in parts])
    official = all(part.official for part in parts)
    return Dataset(
        name="uci-har",
        title="UCI HAR" if official else "UCI HAR (not the official zip)",
        form=form,
        x=x,
        y=y,
        person=person,
        recording=recording,
        classes=classes,
        official_test=official_test,
        standardise=False,
        overlap=1,
        hash=content_hash(["uci-har", form, *version, *classes], [read, y, person, recording, official_test]),
        notes=() if official else ("not the official zip: X_train.txt or X_test.txt differs from UCI's",),
    )
