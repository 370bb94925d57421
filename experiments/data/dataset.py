"""What a data set is to the rest of the benchmark: rows, labels, persons, recordings and who tests.

A row is a feature vector or a window of signals. Persons are whole: a person's rows are all in
training or all in test, because neighbouring windows share half their samples and a person in both
is scored on what was learnt by heart (it lifts a linear SVM on UCI HAR from 96.0 to 98.3 %).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from partitions.folds import Fold

FORMS = ("features", "extracted", "raw")


class DataError(ValueError):
    """A mistake in the data or in how it was named: the file, the value, what to do."""


class DataNotFound(DataError):
    """The data is nowhere on this machine and could not be fetched; the default grid falls back on it."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One data set in one form. Arrays are read-only; all have one entry a row."""

    name: str  # "uci-har", "watch" or "table"
    title: str  # for captions and figures: "UCI HAR", "UCI HAR (not the official zip)", "table mydata.csv"
    form: str  # "features", "extracted" or "raw"
    x: NDArray[np.float32]  # (n, d), or windows (n, 128, 9): body_acc [g], body_gyro [rad/s], total_acc [g]; xyz
    y: NDArray[np.int64]  # (n,) codes 0..C-1
    person: NDArray[np.int64]  # (n,) ids as in the source; codes where those are text
    recording: NDArray[np.int64]  # (n,) rows of one recording follow each other in time
    classes: tuple[str, ...]  # names; the index is the code
    official_test: NDArray[np.bool_] | None  # (n,) rows of the official test persons; None: there are none
    standardise: bool  # what `--standardise auto` does
    overlap: int  # how many following rows of a recording share samples with a row
    hash: str  # sha256 (hex) of what was read; see `content_hash`
    notes: tuple[str, ...] = ()  # caveats for captions, a line each

    def __post_init__(self) -> None:
        n = len(self.x)
        for field in ("y", "person", "recording", "official_test"):
            column = getattr(self, field)
            if column is not None and column.shape != (n,):
                raise DataError(f"{self.title}: {field} has shape {column.shape}, expected ({n},)")
        if len(self.classes) < 2:
            raise DataError(
                f"{self.title}: one class only ({', '.join(self.classes) or 'none'}); "
                "a classifier needs at least two, so add rows of another class"
            )
        for column in (self.x, self.y, self.person, self.recording, self.official_test):
            if column is not None:
                column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.x)


class Source(ABC):
    """Where a data set comes from. A subclass is a frozen dataclass of its options, alone in its module;
    the module's name, hyphens for underscores, is the data set's name."""

    notation: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """The data set's name, as it is written and hashed."""
        cls.notation = cls.__module__.rpartition(".")[2].replace("_", "-")

    @abstractmethod
    def load(self, form: str, path: Path | None) -> Dataset:
        """Read the data set in one of FORMS; `path` is the command line's `--data`.

        Raises DataError for anything wrong with the data, DataNotFound where there is none."""


def content_hash(texts: Iterable[str], arrays: Iterable[NDArray[np.generic]]) -> str:
    """sha256 (hex) of what was read: names and arrays, with their types and shapes.

    Extracted features are named by what they were extracted from and the extractor's version, not by
    their own last bits: an FFT may round differently on another machine, and that is not other data."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{len(text)}:{text}".encode())
    for array in arrays:
        little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{little.dtype.str}{little.shape}".encode())
        digest.update(little.data.cast("B"))
    return digest.hexdigest()


Rows = NDArray[np.int64]


def split(dataset: Dataset, test_persons: Literal["official"] | Fold) -> tuple[Rows, Rows]:
    """(training rows, test rows), ascending, by persons: the official ones or those a fold holds out.

    Raises DataError where the data has no official test persons, where either side would be empty and
    where a class would be in test only (nothing could learn it)."""
    if isinstance(test_persons, str):
        if test_persons != "official":
            raise DataError(f'test persons {test_persons!r}: expected "official" or fold(i, of=6)')
        if dataset.official_test is None:
            raise DataError(
                f"{dataset.title} has no official test persons (no `split` column): "
                'name some, as with --test-persons "fold(0, of=5)"'
            )
        test = np.asarray(dataset.official_test)
    else:
        test = np.isin(dataset.person, test_persons.holds_out(np.unique(dataset.person)))
    if not test.any() or test.all():
        empty, persons = "training" if test.all() else "test", len(np.unique(dataset.person))
        raise DataError(
            f"{dataset.title}: {test_persons} leaves no {empty} person of {persons}; "
            'hold out other persons, as with --test-persons "fold(0, of=5)"'
        )
    unseen = np.setdiff1d(dataset.y[test], dataset.y[~test])
    if len(unseen):
        holders = np.unique(dataset.person[test & (dataset.y == unseen[0])])
        raise DataError(
            f"{dataset.title}: class {dataset.classes[unseen[0]]!r} is in test only "
            f"(person {', '.join(map(str, holders[:5]))}), so no office can learn it; "
            "move one of these persons to training or leave the class out"
        )
    return np.flatnonzero(~test), np.flatnonzero(test)
