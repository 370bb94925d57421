"""Watch: 10 persons, 7 shoulder exercises, a smart watch on either wrist, at 50 Hz; needs no download.

Burns, Leung, Hardisty, Whyne, Henry and McLachlin, "Shoulder physiotherapy exercise recognition: machine
learning the inertial signals from a smartwatch", Physiological Measurement 39, 2018. The recordings are
the ones that the package `seglearn` ships (acceleration in g with gravity, rotation in rad/s): 140, one a
person, exercise and side. They are filtered as UCI HAR's are, cut into the same windows inside each
recording, and given the same 561 features.

PEN pendulum, ABD abduction, FEL forward elevation, IR / ER internal / external rotation, TRAP trapezius
extension, ROW upright row.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data import features
from experiments.data.cache import cached
from experiments.data.dataset import DataError, Dataset, Source, content_hash
from experiments.data.statistics import Array
from experiments.data.windows import FILTERS, cut, filter_recording, sample_after

SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
TEST_PERSONS = slice(7, 10)  # persons 8 to 10 of the sorted ids
REMEDY = "install the package again: pip install --force-reinstall --no-deps seglearn"


@dataclass(frozen=True)
class Watch(Source):
    """The recordings in the installed `seglearn`; `--data` names another copy of its watch_dataset.npy."""

    def load(self, form: str, path: Path | None) -> Dataset:
        content = read_checked(path or locate(), REMEDY if path is None else "--data names another file; leave it out")
        return cached("watch", form, [SHA256], lambda: _parse(content, form))


def locate() -> Path:
    """seglearn's data file, found without importing seglearn, which would import scikit-learn."""
    spec = find_spec("seglearn")
    if spec is None or spec.origin is None:
        raise DataError("watch: its recordings come with the package seglearn, which is not here: pip install seglearn")
    return Path(spec.origin).parent / "data" / "watch_dataset.npy"


def read_checked(path: Path, remedy: str = REMEDY) -> bytes:
    """The file's bytes. It is a pickle, which can run anything when it is opened, so only the one known
    content is: raises DataError for another."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"watch: {path} cannot be read ({error.strerror}); {remedy}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise DataError(f"watch: {path} has SHA-256 {found}, expected {SHA256}: not opened; {remedy}")
    return content


@dataclass(frozen=True)
class Windows:
    """All windows, recording after recording."""

    x: Array  # (n, 128, 9)
    y: NDArray[np.int64]
    person: NDArray[np.int64]
    recording: NDArray[np.int64]
    classes: tuple[str, ...]


def read_windows(content: bytes) -> Windows:
    """The filtered windows of all recordings."""
    held: dict[str, Any] = np.load(io.BytesIO(content), allow_pickle=True).item()
    windows = [cut(filter_recording(signal[:, :3], signal[:, 3:6])) for signal in held["X"]]
    counts = [len(cuts) for cuts in windows]

    def spread(values: object) -> NDArray[np.int64]:
        return np.repeat(np.asarray(values, dtype=np.int64), counts)

    return Windows(
        x=np.concatenate(windows),
        y=spread(held["y"]),
        person=spread(held["subject"]),
        recording=spread(np.arange(len(counts))),
        classes=tuple(str(name) for name in held["y_labels"]),
    )


def _parse(content: bytes, form: str) -> Dataset:
    windows = read_windows(content)
    if form == "raw":
        x, versions = windows.x.astype(np.float32), [f"filters {FILTERS}"]
    else:
        first = np.diff(windows.recording, prepend=-1) != 0
        x = features.official_scale(features.extract(windows.x, sample_after(windows.x, ~first)))
        versions = [f"filters {FILTERS}", f"extractor {features.VERSION}"]
    persons = np.unique(windows.person)
    return Dataset(
        name="watch",
        title="Watch",
        form=form,
        x=x,
        y=windows.y,
        person=windows.person,
        recording=windows.recording,
        classes=windows.classes,
        official_test=np.isin(windows.person, persons[TEST_PERSONS]),
        standardise=True,
        overlap=1,
        hash=content_hash(["watch", form, SHA256, *versions], []),
        notes=("seven shoulder exercises by ten persons, recorded by a smart watch",),
    )
