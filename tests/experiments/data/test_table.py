"""A user's own table: what is read, and every way in which it can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.data import DataError, Dataset, features, load, split
from experiments.data.table import Table
from experiments.data.windows import cut, filter_recording


def frame() -> pd.DataFrame:
    """Four persons, three rows each."""
    return pd.DataFrame(
        {
            "speed": np.arange(12) / 4,
            "label": ["walk", "sit", "NA"] * 4,
            "steps": np.arange(12),
            "person": np.repeat([11, 12, 13, 20], 3),
        }
    )


Writer = Callable[[pd.DataFrame], Path]


@pytest.fixture(params=["csv", "parquet"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Writer:
    def to_file(table: pd.DataFrame) -> Path:
        path = tmp_path / f"mine.{request.param}"
        if request.param == "csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False)
        return path

    return to_file


def write_npz(tmp_path: Path, **arrays: Any) -> Path:
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    return path


def table(path: Path, form: str = "features", **options: str) -> Dataset:
    return load(Table(**options), form=form, path=path)


def test_columns_without_a_role_are_features(write: Writer) -> None:
    dataset = table(write(frame()))
    np.testing.assert_array_equal(dataset.x, np.stack([np.arange(12) / 4, np.arange(12)], axis=1))
    assert dataset.classes == ("NA", "sit", "walk")  # "NA" is a label like any other
    assert dataset.y[:4].tolist() == [2, 1, 0, 2]
    assert dataset.person.tolist() == np.repeat([11, 12, 13, 20], 3).tolist()
    assert dataset.recording.tolist() == np.repeat([0, 1, 2, 3], 3).tolist()
    assert dataset.title.startswith("table mine.")
    assert dataset.official_test is None
    assert dataset.standardise
    assert dataset.overlap == 0


def test_csv_parquet_and_npz_are_one_data_set(tmp_path: Path) -> None:
    rows = frame()
    rows.to_csv(tmp_path / "a.csv", index=False)
    rows.to_parquet(tmp_path / "a.parquet", index=False)
    x = rows[["speed", "steps"]].to_numpy()
    npz = table(write_npz(tmp_path, x=x, label=rows["label"].to_numpy(dtype=str), person=rows["person"]))
    csv, parquet = table(tmp_path / "a.csv"), table(tmp_path / "a.parquet")
    assert csv.hash == parquet.hash
    for other in (parquet, npz):
        for field in ("x", "y", "person", "recording"):
            np.testing.assert_array_equal(getattr(csv, field), getattr(other, field))
        assert csv.classes == other.classes


def test_persons_and_labels_may_be_text_or_numbers(write: Writer) -> None:
    rows = frame().assign(label=[10, 9, 9] * 4, person=np.repeat(["d", "a", "c", "b"], 3))
    dataset = table(write(rows))
    assert dataset.classes == ("9", "10")  # sorted as numbers
    assert dataset.person.tolist() == np.repeat([3, 0, 2, 1], 3).tolist()


def test_codes_with_leading_zeros_stay_text(write: Writer) -> None:
    dataset = table(write(frame().assign(label=["01", "1", "007"] * 4)))
    assert dataset.classes == ("007", "01", "1")


def test_options_name_the_columns(write: Writer) -> None:
    rows = frame().rename(columns={"label": "activity", "person": "subject"})
    rows["trip"] = np.tile([1, 1, 2], 4)
    rows["part"] = np.repeat(["train", "train", "train", "test"], 3)
    path = write(rows)
    dataset = table(path, label="activity", person="subject", recording="trip", split="part")
    assert dataset.x.shape == (12, 2)
    # Recording 1 of one person is not recording 1 of another.
    assert dataset.recording.tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7]
    assert split(dataset, "official")[1].tolist() == [9, 10, 11]


def test_a_parquet_of_decimals_and_categories(tmp_path: Path) -> None:
    rows = frame().assign(speed=[Decimal(i) / 4 for i in range(12)])
    rows["label"] = rows["label"].astype("category")
    rows.to_parquet(tmp_path / "mine.parquet", index=False)
    dataset = table(tmp_path / "mine.parquet")
    np.testing.assert_array_equal(dataset.x[:, 0], np.arange(12) / 4)
    assert dataset.classes == ("NA", "sit", "walk")


def test_a_csv_with_a_byte_order_mark_and_late_fractions(tmp_path: Path) -> None:
    """Whole numbers for more than a reader's first block, then a fraction: not an error."""
    n = 200_000
    lines = ["speed,label,person", *(f"{i % 7},{'ab'[i % 2]},{i % 5}" for i in range(n)), "0.5,a,0"]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    assert table(path).x[-1, 0] == 0.5


def test_a_second_load_reads_the_cache(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(frame())
    first = table(path)
    monkeypatch.setattr("experiments.data.table.read", lambda *_: pytest.fail("parsed again"))
    assert table(path).hash == first.hash


def test_another_content_or_option_is_parsed_anew(write: Writer) -> None:
    rows = frame()
    first = table(write(rows))
    path = write(rows.assign(speed=rows["speed"] + 1, group=np.repeat([1, 2], 6)))
    assert table(path).hash != first.hash
    assert table(path).x.shape == (12, 3)
    assert table(path, recording="group").x.shape == (12, 2)


def test_no_file_named() -> None:
    with pytest.raises(DataError, match="no file named; give a CSV, Parquet or npz with --data"):
        load("table")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mine\.csv: there is no such file"):
        table(tmp_path / "mine.csv")


def test_another_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "mine.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=r"ends in '\.xlsx', expected one of \.csv, \.parquet, \.npz"):
        table(tmp_path / "mine.xlsx")


@pytest.mark.parametrize("ending", ["parquet", "npz"])
@pytest.mark.parametrize("content", [b"", b"not one", b"PK\x03\x04" * 20, b"PAR1" * 20])
def test_an_unreadable_file(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"mine.{ending}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"mine\.{ending}: cannot be read as {ending} \(.+\)"):
        table(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column 'label'; it has none"),
        (b"a,label,person\n1,x\n", "cannot be read as csv"),
        (b"a,label,person\n1,\xff,2\n", "cannot be read as csv"),
        (b"\xff\xfe\x00a", "cannot be read as csv"),
        (b"a,label,person\n", "it has no rows"),
        (b"label,person\nx,1\n", "no feature column beside label, person"),
        (b"a,a,label,person\n1,2,x,1\n", "two columns are called 'a'"),
        (b",a,label,person\n0,2,x,1\n", "column 1 has no name"),
        (b"a,label,person\n1,x,1\n,y,2\n", "column 'a', row 2 is nan, expected a finite number"),
        (b"a,label,person\n1,x,1\n2,,2\n", "column 'label', row 2 is '', expected a value"),
    ],
)
def test_a_faulty_csv(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        table(path)
    assert str(raised.value).startswith(str(path))


def test_a_frames_index_is_no_feature(tmp_path: Path) -> None:
    rows = frame()
    rows.to_csv(tmp_path / "mine.csv")
    rows.sample(frac=1, random_state=0).to_parquet(tmp_path / "mine.parquet")
    for ending in ("csv", "parquet"):
        with pytest.raises(DataError, match=r"column \d has no name"):
            table(tmp_path / f"mine.{ending}")


def test_a_missing_column_is_named_with_those_there(write: Writer) -> None:
    with pytest.raises(
        DataError, match=r"no column 'person'; it has 'speed', 'label', 'steps'; name yours as in table\("
    ):
        table(write(frame().drop(columns="person")))
    with pytest.raises(DataError, match="no column 'activity'; it has 'speed', 'label', 'steps', 'person'"):
        table(write(frame()), label="activity")
    with pytest.raises(DataError, match=r"no column 'fold', which table\(split=fold\) names"):
        table(write(frame()), split="fold")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_value_that_is_not_finite_is_named(write: Writer, value: float) -> None:
    rows = frame()
    rows.loc[[4, 7], "speed"] = value  # 1e300 would be infinite as float32
    with pytest.raises(DataError, match=r"column 'speed', row 5 is .*, expected a finite number"):
        table(write(rows))


def test_text_among_the_features_is_named(write: Writer) -> None:
    rows = frame()
    rows["place"] = ["1", "2", "home"] * 4
    with pytest.raises(DataError, match=r"column 'place', row \d is '(1|home)', expected a"):
        table(write(rows))


@pytest.mark.parametrize("value", [None, 1.5])
def test_a_label_is_text_or_a_whole_number(tmp_path: Path, value: float | None) -> None:
    rows = frame().assign(label=[1.0, 2.0, value] * 4)
    rows.to_parquet(tmp_path / "mine.parquet", index=False)
    with pytest.raises(DataError, match=r"column 'label', row 3 is (None|nan|1.5), expected"):
        table(tmp_path / "mine.parquet")


def test_one_class_or_one_person_only(write: Writer) -> None:
    with pytest.raises(DataError, match=r"column 'label' holds one class only \(walk\), expected at least two"):
        table(write(frame().assign(label="walk")))
    with pytest.raises(DataError, match=r"column 'person' holds one person only \(7\), expected at least two"):
        table(write(frame().assign(person=7)))


def with_split(side: list[str], **columns: Any) -> pd.DataFrame:
    return frame().assign(split=np.repeat(side, 3), **columns)


def test_a_person_in_train_and_test_is_named(write: Writer) -> None:
    rows = with_split(["train", "test", "train", "train"])
    rows.loc[4, "split"] = "train"
    with pytest.raises(DataError, match="person 12 has rows in both train and test"):
        table(write(rows))


def test_a_split_is_train_or_test(write: Writer) -> None:
    with pytest.raises(DataError, match="the split of row 7 is 'dev', expected train or test"):
        table(write(with_split(["train", "train", "dev", "test"])))


def test_a_class_in_test_only_is_named(write: Writer) -> None:
    rows = with_split(["train", "train", "train", "test"])
    rows.loc[11, "label"] = "jump"
    with pytest.raises(DataError, match=r"class 'jump' is in test only \(person 20\)"):
        split(table(write(rows)), "official")


def test_features_have_no_windows(write: Writer) -> None:
    for form in ("raw", "extracted"):
        with pytest.raises(DataError, match=f"form '{form}' needs windows, found rows of features"):
            table(write(frame()), form=form)


# Windows.


def sensors(samples: int, seed: int) -> np.ndarray:
    """(samples, 6) total_acc [g] and gyro [rad/s]."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal([0, 0.6, 0.8], 0.2, (samples, 3)), rng.normal(0, 1, (samples, 3))], axis=1)


def recorded(channels: int) -> dict[str, Any]:
    """Two persons, a recording of 4 and one of 2 windows."""
    recordings = [sensors(320, 0), sensors(192, 1)]
    if channels == 9:
        recordings = [filter_recording(r[:, :3], r[:, 3:]) for r in recordings]
    person = np.repeat([1, 2], [4, 2])
    return {"x": np.concatenate([cut(r) for r in recordings]), "label": np.tile([0, 1], 3), "person": person}


def test_windows_from_sensors_and_filtered_windows_are_the_same(tmp_path: Path) -> None:
    six = table(write_npz(tmp_path, **recorded(6)), form="raw")
    nine = table(write_npz(tmp_path, **recorded(9)), form="raw")
    np.testing.assert_allclose(six.x, nine.x, atol=1e-6)
    assert six.x.shape == (6, 128, 9)
    assert six.overlap == nine.overlap == 1
    assert six.notes == ()


def test_features_of_windows_are_the_extracted_ones(tmp_path: Path) -> None:
    arrays = recorded(9)
    path = write_npz(tmp_path, **arrays)
    dataset = table(path)
    after = np.full((6, 9), np.nan)
    after[[0, 1, 2, 4]] = arrays["x"][[1, 2, 3, 5], 64]
    np.testing.assert_array_equal(dataset.x, features.official_scale(features.extract(arrays["x"], after)))
    np.testing.assert_array_equal(dataset.x, table(path, form="extracted").x)


def test_windows_that_do_not_overlap(tmp_path: Path) -> None:
    arrays = recorded(9)
    arrays["x"] = np.random.default_rng(0).permutation(arrays["x"])[:, :, :]
    arrays["x"][:, 0] += 0.001 * np.arange(6)[:, None]
    assert table(write_npz(tmp_path, **arrays), form="raw").overlap == 0


def test_units_that_look_wrong_are_noted(tmp_path: Path) -> None:
    arrays = recorded(9)
    arrays["x"] = arrays["x"] * 9.81
    assert "is it in g?" in table(write_npz(tmp_path, **arrays)).notes[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((6, 100, 9))}, r"x has shape \(6, 100, 9\), expected windows of \(n, 128, 9\)"),
        ({"x": np.zeros((6, 128, 3))}, r"x has shape \(6, 128, 3\)"),
        ({"x": np.zeros(6)}, r"x has type float64 and shape \(6,\), expected numbers"),
        ({"x": np.full((6, 2), "a")}, "x has type <U1"),
        ({"x": np.full((6, 2), None)}, "cannot be read as npz"),
        ({"x": np.where(np.arange(6)[:, None] == 4, np.nan, [[1.0, 2.0]])}, r"'x\[4, 0\]', row 5 is nan"),
        ({"label": np.arange(5)}, r"'label' has shape \(5,\), expected \(6,\)"),
        ({"person": np.zeros((6, 1))}, r"'person' has shape \(6, 1\)"),
        ({"x": np.zeros((0, 2)), "label": np.zeros(0), "person": np.zeros(0)}, "it has no rows"),
    ],
)
def test_a_faulty_npz(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(write_npz(tmp_path, **{**recorded(9), **changes}))


def test_an_npz_without_a_key(tmp_path: Path) -> None:
    arrays = recorded(9)
    del arrays["label"]
    with pytest.raises(DataError, match="no column 'label'; it has 'x', 'person'"):
        table(write_npz(tmp_path, **arrays))


def test_an_npz_of_bytes(tmp_path: Path) -> None:
    arrays = recorded(9)
    arrays["label"] = np.array([b"sit", b"walk"] * 3)
    assert table(write_npz(tmp_path, **arrays), form="raw").classes == ("sit", "walk")
