"""What a Dataset promises, who is held out, and how data sets are found."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import data
from experiments.config.errors import UserError
from experiments.data import SOURCES, DataError, DataNotFound, Dataset, load, load_default, split, uci_har
from experiments.data.dataset import content_hash
from partitions.folds import Fold


def small(**changes: object) -> Dataset:
    """Six persons, two rows each, of two classes; persons 5 and 6 test."""
    person = np.repeat(np.arange(1, 7), 2)
    fields = {
        "name": "table",
        "title": "table small.csv",
        "form": "features",
        "x": np.arange(24, dtype=np.float32).reshape(12, 2),
        "y": np.tile([0, 1], 6),
        "person": person,
        "recording": person.copy(),
        "classes": ("sit", "walk"),
        "official_test": person >= 5,
        "standardise": True,
        "overlap": 0,
        "hash": "0" * 64,
    }
    return Dataset(**{**fields, **changes})  # type: ignore[arg-type]


def test_official_split_is_by_person_and_complete() -> None:
    train, test = split(small(), "official")
    assert test.tolist() == [8, 9, 10, 11]
    assert train.tolist() == list(range(8))


def test_folds_test_every_person_once() -> None:
    dataset = small()
    held_out = [split(dataset, Fold(i, 3))[1] for i in range(3)]
    assert sorted(np.concatenate(held_out).tolist()) == list(range(12))
    for i, test in enumerate(held_out):
        train = split(dataset, Fold(i, 3))[0]
        assert not set(dataset.person[train]) & set(dataset.person[test])


def test_without_official_persons_the_remedy_is_named() -> None:
    with pytest.raises(DataError, match=r'no official test persons.*--test-persons "fold\(0, of=5\)"'):
        split(small(official_test=None), "official")


def test_other_words_than_official_are_refused() -> None:
    with pytest.raises(DataError, match="'offical': expected \"official\" or fold"):
        split(small(), "offical")  # type: ignore[arg-type]


@pytest.mark.parametrize(("test_rows", "empty"), [(True, "training"), (False, "test")])
def test_neither_side_may_be_empty(test_rows: bool, empty: str) -> None:
    with pytest.raises(DataError, match=f"leaves no {empty} person of 6"):
        split(small(official_test=np.full(12, test_rows)), "official")


def test_a_class_in_test_only_is_an_error() -> None:
    y = np.zeros(12, dtype=np.int64)
    y[-1] = 1
    with pytest.raises(DataError, match=r"class 'walk' is in test only \(person 6\)"):
        split(small(y=y), "official")


def test_one_class_only_is_an_error() -> None:
    with pytest.raises(DataError, match=r"one class only \(sit\)"):
        small(classes=("sit",), y=np.zeros(12, dtype=np.int64))


def test_columns_are_as_long_as_the_rows() -> None:
    with pytest.raises(DataError, match=r"person has shape \(11,\), expected \(12,\)"):
        small(person=np.arange(11))


def test_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        small().x[0, 0] = 1


def test_content_hash_tells_values_types_and_names_apart() -> None:
    x = np.arange(6.0)
    different = [
        content_hash(["a", "b"], [x]),
        content_hash(["ab"], [x]),
        content_hash(["a", "b"], [x.reshape(2, 3)]),
        content_hash(["a", "b"], [x.astype(np.float32)]),
        content_hash(["a", "b"], [x + 1]),
    ]
    assert len(set(different)) == len(different)
    assert content_hash(["a", "b"], [x.astype(">f8")]) == different[0]  # the machine's byte order is no content


def test_one_file_is_one_data_set() -> None:
    assert {"table", "uci_har", "watch"} <= set(SOURCES)
    for source in SOURCES.values():
        assert dataclasses.is_dataclass(source)
        assert source() == source()


def test_listing_data_sets_imports_nothing_heavy() -> None:
    heavy = "{'scipy', 'pandas', 'pyarrow', 'rich', 'sklearn', 'seglearn', 'torch'}"
    code = f"import sys; from experiments.data import SOURCES; list(SOURCES); print({heavy} & set(sys.modules))"
    root = Path(data.__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("walking", {}, "unknown data set 'walking'; known: "),
        ("watch", {"form": "wide"}, "form must be one of features, extracted, raw; found 'wide'"),
        ("watch(label=y)", {}, "watch: no option 'label'; known: none"),
        ("table(lable=y)", {}, "table: no option 'lable'; did you mean 'label'?"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(name: str, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load(name, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, target: Path) -> None:
        raise DataNotFound(f"{url} could not be downloaded (no network)")

    monkeypatch.setattr(uci_har, "fetch", fail)


@pytest.mark.usefixtures("offline")
def test_the_default_falls_back_on_watch_and_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, shared_cache: Path
) -> None:
    monkeypatch.setenv("FEDERATED_OFFICES_CACHE", str(shared_cache))
    dataset, message = load_default("raw")
    assert dataset.name == "watch"
    assert message is not None
    assert "\n" not in message
    for part in ("UCI HAR is not on this machine", "no network", "--data", "$UCI_HAR_ZIP", "Running on watch"):
        assert part in message


@pytest.mark.usefixtures("offline")
def test_a_named_data_set_never_falls_back() -> None:
    with pytest.raises(DataNotFound, match="no network"):
        load("uci-har")


@pytest.mark.usefixtures("offline")
def test_a_named_place_that_is_empty_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"--data: there is no file or folder .*gone\.zip") as named:
        load_default(path=tmp_path / "gone.zip")
    monkeypatch.setenv("UCI_HAR_ZIP", str(tmp_path / "lost.zip"))
    with pytest.raises(DataError, match=r"\$UCI_HAR_ZIP: there is no file or folder .*lost\.zip") as variable:
        load_default()
    assert not isinstance(named.value, DataNotFound)
    assert not isinstance(variable.value, DataNotFound)


def test_a_broken_zip_that_was_named_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    monkeypatch.setenv("UCI_HAR_ZIP", str(tmp_path / "broken.zip"))
    with pytest.raises(DataError, match="not a whole zip"):
        load_default()
