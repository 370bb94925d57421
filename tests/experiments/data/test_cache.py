"""Cache entries: the same after as before, rebuilt where damaged, absent where the disk refuses."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from experiments.data import cache
from experiments.data.cache import atomic, cache_dir, cached
from experiments.data.dataset import Dataset


def build(official: bool = True, shift: float = 0.0) -> Dataset:
    return Dataset(
        name="table",
        title="table é.csv",
        form="features",
        x=np.arange(8, dtype=np.float32).reshape(4, 2) + np.float32(shift),
        y=np.array([0, 1, 0, 1]),
        person=np.array([7, 7, 9, 9]),
        recording=np.array([0, 0, 1, 1]),
        classes=("a", "b"),
        official_test=np.array([False, False, True, True]) if official else None,
        standardise=True,
        overlap=0,
        hash="f" * 64,
        notes=("a caveat",),
    )


def no_build() -> Dataset:
    raise AssertionError("built although cached")


@pytest.mark.parametrize("official", [True, False])
def test_an_entry_comes_back_as_it_was(official: bool) -> None:
    first = cached("table", "features", ["key"], lambda: build(official))
    second = cached("table", "features", ["key"], no_build)
    for field in fields(Dataset):
        before, after = getattr(first, field.name), getattr(second, field.name)
        np.testing.assert_array_equal(before, after)
        assert type(before) is type(after)
    assert not second.x.flags.writeable


def test_another_content_form_or_source_is_another_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    cached("table", "features", ["one"], build)
    for name, form, content in (("table", "features", "two"), ("table", "raw", "one"), ("watch", "features", "one")):
        assert cached(name, form, [content], lambda: build(shift=1)).x[0, 0] == 1
    monkeypatch.setattr(cache, "_sources_hash", lambda: "edited")
    assert cached("table", "features", ["one"], lambda: build(shift=2)).x[0, 0] == 2


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_a_damaged_entry_is_built_again(own_cache: Path, damage: str) -> None:
    cached("table", "features", ["key"], build)
    (entry,) = (own_cache / "parsed").iterdir()
    content = bytearray(entry.read_bytes())
    if damage == "flip":
        content[content.index(np.float32(3).tobytes())] ^= 1  # one bit of x
    entry.write_bytes({"truncate": content[:-100], "flip": content, "empty": b"", "text": b"?" * 500}[damage])
    assert cached("table", "features", ["key"], build).x[1, 1] == 3
    assert cached("table", "features", ["key"], no_build).x[1, 1] == 3


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FEDERATED_OFFICES_CACHE", str(tmp_path / "file"))
    assert len(cached("table", "features", ["key"], build)) == 4


def test_old_entries_are_removed(own_cache: Path) -> None:
    for i in range(cache.KEPT + 3):
        cached("table", "features", [str(i)], build)
    cached("watch", "features", ["other"], build)
    names = [path.name for path in (own_cache / "parsed").iterdir()]
    assert sum(name.startswith("table-features-") for name in names) == cache.KEPT
    assert sum(name.startswith("watch-features-") for name in names) == 1


def test_the_platforms_folder_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDERATED_OFFICES_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("FEDERATED_OFFICES_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert "federated-offices" in cache_dir().parts


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with atomic(target) as file:
        file.write(b"first")
        assert not target.exists()

    def interrupted() -> None:
        with atomic(target) as file:
            file.write(b"second")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == b"first"
    assert list(tmp_path.glob(".file*")) == []
