"""A cache of their own for all tests of the data room, and a UCI HAR small enough to write in a second."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments.data import uci_har

Files = dict[str, bytes]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests that only read: what one of them parsed, the next one finds."""
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache or environment."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FEDERATED_OFFICES_CACHE", str(folder))
    monkeypatch.delenv(uci_har.VARIABLE, raising=False)
    return folder


def as_text(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savetxt(buffer, array.reshape(len(array), -1), fmt="%d" if array.dtype.kind == "i" else "%16.7e")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def official_like() -> Files:
    """The files of UCI HAR with 30 persons, each doing 6 activities for two overlapping windows."""
    rng = np.random.default_rng(0)
    files = {"activity_labels.txt": b"1 WALKING\n2 UP\n3 DOWN\n4 SITTING\n5 STANDING\n6 LAYING\n"}
    for part in uci_har.PARTS:
        persons = sorted(uci_har.TEST_PERSONS if part == "test" else uci_har.PERSONS - uci_har.TEST_PERSONS)
        recordings = rng.normal(size=(len(persons) * 6, 192, 9)).round(5)
        windows = np.stack([recordings[:, :128], recordings[:, 64:]], axis=1).reshape(-1, 128, 9)
        files[f"{part}/X_{part}.txt"] = as_text(rng.uniform(-1, 1, (len(windows), 561)))
        files[f"{part}/y_{part}.txt"] = as_text(np.tile(np.repeat(np.arange(1, 7), 2), len(persons)))
        files[f"{part}/subject_{part}.txt"] = as_text(np.repeat(persons, 12))
        for index, channel in enumerate(uci_har.CHANNELS):
            files[f"{part}/Inertial Signals/{channel}_{part}.txt"] = as_text(windows[..., index])
    return files


@pytest.fixture
def small_uci(official_like: Files, monkeypatch: pytest.MonkeyPatch) -> Files:
    """`official_like` for a test to change, with the counts of rows that go with it."""
    monkeypatch.setattr(uci_har, "ROWS", {"train": 21 * 12, "test": 9 * 12})
    return dict(official_like)


@pytest.fixture
def write_zip(tmp_path: Path) -> Callable[..., Path]:
    """Writes a zip of files and says where; below `root`, as in the official inner zip."""

    def write(files: Files, name: str = "uci.zip", root: str = "UCI HAR Dataset/") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for member, content in files.items():
                archive.writestr(root + member, content)
        return path

    return write
