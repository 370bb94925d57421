"""Reading UCI HAR in its three shapes, and every way in which a copy can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments.data import DataError, features, load, split, uci_har
from experiments.data.uci_archive import git_blob

Files = dict[str, bytes]
WriteZip = Callable[..., Path]


def unpack(files: Files, root: Path) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def edit(files: Files, member: str, row: int, column: int, value: bytes) -> None:
    """Replace one cell, counted from 1."""
    lines = files[member].splitlines(keepends=True)
    cells = lines[row - 1].split()
    cells[column - 1] = value
    lines[row - 1] = b" ".join(cells) + b"\n"
    files[member] = b"".join(lines)


def test_features(small_uci: Files, write_zip: WriteZip) -> None:
    dataset = load("uci-har", path=write_zip(small_uci))
    assert dataset.x.shape == (360, 561)
    assert dataset.x.dtype == np.float32
    assert np.abs(dataset.x).max() <= 1
    assert dataset.classes == ("WALKING", "UP", "DOWN", "SITTING", "STANDING", "LAYING")
    assert dataset.y[:5].tolist() == [0, 0, 1, 1, 2]
    assert not dataset.standardise
    assert dataset.overlap == 1
    train, test = split(dataset, "official")
    assert set(dataset.person[test].tolist()) == uci_har.TEST_PERSONS
    assert not set(dataset.person[train].tolist()) & uci_har.TEST_PERSONS
    # Two windows that share a half are one recording: 30 persons x 6 activities.
    assert dataset.recording.tolist() == np.repeat(np.arange(180), 2).tolist()


def test_raw_and_extracted_are_the_windows_and_their_features(small_uci: Files, write_zip: WriteZip) -> None:
    path = write_zip(small_uci)
    raw, extracted = load("uci-har", form="raw", path=path), load("uci-har", form="extracted", path=path)
    assert raw.x.shape == (360, 128, 9)
    text = small_uci["train/Inertial Signals/body_gyro_y_train.txt"].split()
    np.testing.assert_array_equal(raw.x[0, :, 4], np.array(text[:128], dtype=np.float32))
    after = np.full((360, 9), np.nan)
    after[::2] = raw.x[1::2, 64]  # windows come in pairs
    ours = features.official_scale(features.extract(raw.x, after))
    steady = ["entropy" not in name for name in features.feature_names()]  # no grey levels to fall over
    np.testing.assert_allclose(extracted.x[:, steady], ours[:, steady], rtol=1e-3, atol=1e-3)
    assert len({raw.hash, extracted.hash}) == 2


def test_outer_zip_inner_zip_and_folders_hold_the_same(small_uci: Files, write_zip: WriteZip, tmp_path: Path) -> None:
    inner = write_zip(small_uci)
    held = {"UCI HAR Dataset.names": b"", "__MACOSX/._UCI HAR Dataset.zip": b"\0"}
    outer = write_zip({**held, "UCI HAR Dataset.zip": inner.read_bytes()}, name="outer.zip", root="")
    folder = unpack(small_uci, tmp_path / "above" / "UCI HAR Dataset")
    loaded = [load("uci-har", path=path) for path in (inner, outer, folder, folder.parent)]
    assert len({dataset.hash for dataset in loaded}) == 1
    for dataset in loaded[1:]:
        np.testing.assert_array_equal(dataset.x, loaded[0].x)


def test_the_hash_follows_the_content(small_uci: Files, write_zip: WriteZip) -> None:
    before = load("uci-har", path=write_zip(small_uci)).hash
    edit(small_uci, "train/X_train.txt", 3, 4, b"0.125")
    after = load("uci-har", path=write_zip(small_uci))
    assert after.x[2, 3] == 0.125
    assert after.hash != before


def test_what_is_not_the_official_zip_is_said_to_be_so(
    small_uci: Files, write_zip: WriteZip, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilt = load("uci-har", path=write_zip(small_uci))
    assert rebuilt.title == "UCI HAR (not the official zip)"
    assert "not the official zip" in rebuilt.notes[0]
    blobs = {part: git_blob(small_uci[f"{part}/X_{part}.txt"]) for part in uci_har.PARTS}
    monkeypatch.setattr(uci_har, "OFFICIAL_BLOBS", blobs)
    monkeypatch.setenv("FEDERATED_OFFICES_CACHE", str(write_zip(small_uci).parent / "another"))
    official = load("uci-har", path=write_zip(small_uci))
    assert (official.title, official.notes) == ("UCI HAR", ())
    assert official.hash == rebuilt.hash


def test_git_blob_is_what_git_says() -> None:
    assert git_blob(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


X, Y, WHO = "train/X_train.txt", "test/y_test.txt", "test/subject_test.txt"
ACC = "train/Inertial Signals/total_acc_x_train.txt"


@pytest.mark.parametrize(
    ("member", "row", "column", "value", "message"),
    [
        (X, 7, 20, b"NaN", r"X_train.txt: line 7, column 20 is 'NaN', expected a finite number"),
        (X, 7, 20, b"-inf", r"line 7, column 20 is '-inf'"),
        (X, 2, 561, b"1,5", r"line 2, column 561 is '1,5'"),
        (X, 9, 1, b"", r"X_train.txt: line 9 has 560 columns, expected 561"),
        (X, 5, 6, b"1.5", r"X_train.txt: line 5, column 6 is 1.5, expected a value in \[-1, 1\]"),
        (Y, 1, 1, b"7", r"y_test.txt: labels 1, 2, 3, 4, 5, 6, 7, expected 1, 2, 3, 4, 5, 6;"),
        (Y, 1, 1, b"1.5", r"y_test.txt: labels 1, 1.5, 2, 3"),
        (WHO, 1, 1, b"3", r"subject_test.txt: persons 2, 3, 4, .*expected 2, 4, 9, "),
        (ACC, 12, 128, b"", r"total_acc_x_train.txt: line 12 has 127 columns, expected 128"),
    ],
)
def test_a_wrong_cell_is_named(
    small_uci: Files, write_zip: WriteZip, member: str, row: int, column: int, value: bytes, message: str
) -> None:
    edit(small_uci, member, row, column, value)
    path = write_zip(small_uci)
    with pytest.raises(DataError, match=message) as raised:
        load("uci-har", path=path)
    assert str(raised.value).startswith(str(path))
    assert "--data or $UCI_HAR_ZIP" in str(raised.value)


@pytest.mark.parametrize("member", [X, Y, WHO, ACC])
def test_a_missing_row_is_named(small_uci: Files, write_zip: WriteZip, member: str) -> None:
    small_uci[member] = small_uci[member].split(b"\n", 1)[1]
    expected = 252 if "train" in member else 108
    with pytest.raises(DataError, match=rf"{member}: {expected - 1} rows, expected {expected}"):
        load("uci-har", path=write_zip(small_uci))


@pytest.mark.parametrize("member", [X, Y, WHO, ACC, "activity_labels.txt"])
def test_a_missing_file_is_named(small_uci: Files, write_zip: WriteZip, tmp_path: Path, member: str) -> None:
    del small_uci[member]
    message = f"no file {member} in it"
    with pytest.raises(DataError, match=message):
        load("uci-har", path=write_zip(small_uci))
    folder = unpack(small_uci, tmp_path / "UCI HAR Dataset")
    with pytest.raises(DataError, match="no train/X_train.txt in this folder" if member == X else message):
        load("uci-har", path=folder)


def test_signals_of_unequal_length_are_named(small_uci: Files, write_zip: WriteZip) -> None:
    gyro = "train/Inertial Signals/body_gyro_z_train.txt"
    small_uci[gyro] = small_uci[gyro].split(b"\n", 1)[1]
    with pytest.raises(DataError, match=rf"{gyro}: 251 rows, expected 252"):
        load("uci-har", form="raw", path=write_zip(small_uci))


def test_an_empty_file_is_named(small_uci: Files, write_zip: WriteZip) -> None:
    small_uci[ACC] = b""
    with pytest.raises(DataError, match=r"total_acc_x_train.txt: it is empty"):
        load("uci-har", path=write_zip(small_uci))


def test_activities_need_their_names(small_uci: Files, write_zip: WriteZip) -> None:
    small_uci["activity_labels.txt"] = b"1 WALKING\n2 UP\n"
    with pytest.raises(DataError, match=r"activity_labels.txt: .*expected a name for each of 1 to 6"):
        load("uci-har", path=write_zip(small_uci))


def test_a_truncated_zip(small_uci: Files, write_zip: WriteZip) -> None:
    path = write_zip(small_uci)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"uci\.zip: not a whole zip \(100,000 bytes"):
        load("uci-har", path=path)


def test_a_truncated_zip_in_the_zip(small_uci: Files, write_zip: WriteZip) -> None:
    inner = write_zip(small_uci).read_bytes()[:100_000]
    outer = write_zip({"UCI HAR Dataset.zip": inner}, name="outer.zip", root="")
    with pytest.raises(DataError, match=r"outer\.zip: UCI HAR Dataset\.zip in it is damaged"):
        load("uci-har", path=outer)


def test_a_wrong_checksum(small_uci: Files, write_zip: WriteZip) -> None:
    path = write_zip(small_uci)
    content = bytearray(path.read_bytes())
    place = content.index(small_uci[X][:60]) + 9
    content[place] ^= 1  # another digit
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train/X_train.txt is damaged \(Bad CRC-32"):
        load("uci-har", path=path)


def test_another_zip(write_zip: WriteZip) -> None:
    with pytest.raises(DataError, match=r"no file train/X_train.txt in it \(it holds photos/cat.jpg\)"):
        load("uci-har", path=write_zip({"cat.jpg": b"meow"}, root="photos/"))


def test_another_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no train/X_train.txt in this folder"):
        load("uci-har", path=tmp_path)


def test_the_variable_names_a_copy(small_uci: Files, write_zip: WriteZip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UCI_HAR_ZIP", str(write_zip(small_uci)))
    assert len(load("uci-har")) == 360


def test_a_download_is_kept_and_found_again(
    small_uci: Files, write_zip: WriteZip, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(url: str, target: Path) -> None:
        asked.append(url)
        target.parent.mkdir(parents=True)
        write_zip(small_uci).rename(target)

    monkeypatch.setattr(uci_har, "fetch", fetch)
    assert load("uci-har").hash == load("uci-har").hash
    assert asked == [uci_har.URL]
