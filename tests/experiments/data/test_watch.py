"""The embedded recordings: what is in them, and what is not opened."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import data
from experiments.data import DataError, load, split, watch

GOLDEN_SAMPLE = (0.085523, 0.093317, -0.215854, 0.642067, -3.072994, -0.507845, 0.131972, 1.041656, 0.096976)
GOLDEN_FEATURES = (0.397053, -0.439801, -0.452705, -0.385087, -0.441629, -1.0, -0.198128, -0.182188)


@pytest.fixture(autouse=True)
def _cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDERATED_OFFICES_CACHE", str(shared_cache))


def test_windows_persons_and_classes() -> None:
    raw = load("watch", form="raw")
    assert raw.x.shape == (3605, 128, 9)
    assert raw.classes == ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
    assert np.unique(raw.person).tolist() == list(range(1, 11))
    assert len(np.unique(raw.recording)) == 140
    assert (np.diff(raw.recording) >= 0).all()
    train, test = split(raw, "official")
    assert np.unique(raw.person[test]).tolist() == [8, 9, 10]
    assert np.unique(raw.person[train]).tolist() == list(range(1, 8))
    assert raw.standardise
    assert raw.overlap == 1


def test_every_recording_is_one_persons_one_exercise_on_each_side() -> None:
    raw = load("watch", form="raw")
    numbers, first = np.unique(raw.recording, return_index=True)
    pairs = np.stack([raw.person[first], raw.y[first]], axis=1)
    assert numbers.tolist() == list(range(140))
    assert (np.unique(pairs, axis=0, return_counts=True)[1] == 2).all()  # left and right
    for column in (raw.person, raw.y):
        assert (column == column[first][raw.recording]).all()


def test_windows_of_a_recording_share_their_halves_and_no_others_do() -> None:
    raw = load("watch", form="raw")
    shared = (raw.x[:-1, 64:] == raw.x[1:, :64]).all(axis=(1, 2))
    np.testing.assert_array_equal(shared, raw.recording[:-1] == raw.recording[1:])


def test_units_are_g_and_rad_per_second() -> None:
    raw = load("watch", form="raw")
    total = np.linalg.norm(raw.x[..., 6:], axis=-1)
    for person in range(1, 11):
        assert 1.0 < np.median(total[raw.person == person]) < 1.3  # g; in m/s^2 it would be 9.8
        turning = np.sqrt((raw.x[raw.person == person, :, 3:6] ** 2).mean())
        assert 1 < turning < 3  # rad/s; in degrees it would be 57 times that
    gravity = np.linalg.norm((raw.x[..., 6:] - raw.x[..., :3]).mean(axis=1), axis=-1)
    assert 0.95 < np.median(gravity) < 1.05


def test_features_are_the_extracted_ones_and_a_second_load_is_quick() -> None:
    features, extracted = load("watch"), load("watch", form="extracted")
    assert features.x.shape == (3605, 561)
    assert np.isfinite(features.x).all()
    assert (features.x.std(axis=0) > 0).all()
    np.testing.assert_array_equal(features.x, extracted.x)
    start = time.perf_counter()
    again = load("watch")
    assert time.perf_counter() - start < 1
    assert again.hash == features.hash


def test_golden_numbers() -> None:
    """A change of these values is another data set: raise windows.FILTERS or features.VERSION with it."""
    raw, features = load("watch", form="raw"), load("watch")
    np.testing.assert_allclose(raw.x[1000, 64], GOLDEN_SAMPLE, rtol=0, atol=2e-5)
    columns = [0, 3, 25, 40, 265, 450, 554, 560]
    np.testing.assert_allclose(features.x[1000, columns], GOLDEN_FEATURES, rtol=0, atol=2e-4)


def test_another_content_is_never_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "watch_dataset.npy"
    content = bytearray(watch.locate().read_bytes())
    content[-1] ^= 1
    trap.write_bytes(content)
    with pytest.raises(
        DataError, match=r"has SHA-256 [0-9a-f]{64}, expected eb122f23.*--data names another file"
    ) as raised:
        load("watch", path=trap)
    assert str(trap) in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.npy cannot be read \(No such file"):
        load("watch", path=tmp_path / "gone.npy")


def test_seglearn_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="pip install seglearn"):
        load("watch")


def test_seglearn_is_read_and_not_imported() -> None:
    code = "import sys; from experiments.data import load; load('watch'); "
    code += "print({'seglearn', 'sklearn'} & set(sys.modules))"
    root = Path(data.__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
