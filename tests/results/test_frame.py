"""Frames: what becomes a row, what counts as a repetition, and the Parquet file they may come from."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from results import ResultsError
from results.compact import SCHEMA, table
from results.frame import Frames, frames
from results.store import Store
from tests.results.builder import HAR, record, records

SMALL = list(records(partitions=("iid", "shards(classes=2)"), strategies=("fedavg", "local"), seeds=2, rounds=3))
MIXED = [
    *SMALL,
    record(seed=7, status="failed"),
    record(seed=8, status="diverged"),
    record(seed=9, validation=0.0),
    record(seed=10, test=False),
    record(seed=11, clients=1, classes=("no", "yes"), title="T"),
    record(seed=12, strategy="masked_sum", measured=1),
    record(seed=13, strategy="secagg(bits=12)"),
]


def same(a: Frames, b: Frames) -> None:
    for name in ("runs", "rounds", "offices", "classes", "persons", "protection"):
        assert_frame_equal(getattr(a, name), getattr(b, name), check_exact=True)
    assert a.options == b.options


def test_rows() -> None:
    found = frames(SMALL)
    assert len(found.runs) == 8
    assert len(found.rounds) == 8 * 3
    assert len(found.offices) == 8 * 4
    assert len(found.classes) == 8 * len(HAR)
    one = found.rounds[found.rounds["run"] == 5]
    assert list(one["round"]) == [1, 2, 3]
    assert list(found.offices.loc[found.offices["run"] == 3, "name"]) == ["CBS", "ISTAT", "ONS", "STATCAN"]


def test_values_are_those_of_the_records() -> None:
    found = frames(MIXED)
    by_key = {one.key: one for one in MIXED}
    for place, row in found.runs.iterrows():
        made = by_key[(row["run_id"], row["engine"])]
        assert row["strategy"] == made.spec["strategy"]
        assert row["status"] == made.status
        if made.final is not None and made.final.score is not None:
            assert row["score"] == made.final.score
            f1 = found.classes.loc[found.classes["run"] == place, "f1"]
            assert tuple(f1) == made.final.test_f1_per_class
        else:
            assert np.isnan(row["score"])
        accuracies = found.rounds.loc[found.rounds["run"] == place, "test_accuracy"]
        assert [None if np.isnan(value) else value for value in accuracies] == [r.test_accuracy for r in made.rounds]
        offices = found.offices[found.offices["run"] == place]
        assert [tuple(row) for row in offices["class_counts"]] == [one.class_counts for one in made.offices]


def test_the_order_of_records_does_not_matter() -> None:
    shuffled = list(MIXED)
    random.Random(3).shuffle(shuffled)
    same(frames(shuffled), frames(MIXED))


def test_a_cell_is_the_spec_without_its_seed() -> None:
    found = frames(SMALL).runs
    assert found["cell"].nunique() == 4
    assert (found.groupby("cell")["seed"].nunique() == 2).all()
    more = frames([*SMALL, record(rounds=3, options=(("client_lr", 0.1),))]).runs
    assert more["cell"].nunique() == 5


def test_an_option_that_an_older_record_does_not_know_is_one_that_is_off() -> None:
    old, new = record(seed=0), record(seed=1, options=(("dropout", None),))
    assert "dropout" not in old.spec
    assert frames([old, new]).runs["cell"].nunique() == 1
    set_ = record(seed=2, options=(("dropout", "drop(rate=0.1)"),))
    assert frames([old, new, set_]).runs["cell"].nunique() == 2


def test_whole_numbers_stay_whole_beside_a_missing_option() -> None:
    found = frames([record(seed=0), record(seed=1, options=(("min_offices", 3),))]).runs
    assert sorted(found["min_offices"].dropna()) == [3]
    assert all(isinstance(value, int) for value in found["min_offices"].dropna())


def test_a_seed_counts_once_in_a_cell() -> None:
    twice = [record(seed=0), record(seed=0, engine="simulation"), record(seed=0, options=(("trainer", "reference"),))]
    found = frames(twice).runs
    assert found["cell"].nunique() == 1
    assert found.loc[found["primary"], ["engine", "trainer"]].to_numpy().tolist() == [["inprocess", "auto"]]
    # One that finished counts before one that did not.
    found = frames([record(seed=0, status="failed"), record(seed=0, engine="simulation")]).runs
    assert list(found.loc[found["primary"], "engine"]) == ["simulation"]


def test_same_content_of_another_name_is_other_data() -> None:
    found = frames([record(seed=0), record(seed=1, title="UCI HAR (rebuilt zip)")]).runs
    assert found["cell"].nunique() == 2


def test_some_runs() -> None:
    found = frames(MIXED)
    part = found.of(found.runs["strategy"] == "local")
    assert set(part.runs["strategy"]) == {"local"}
    assert set(part.rounds["run"]) == set(part.runs.index)


def test_no_runs() -> None:
    with pytest.raises(ResultsError, match="no runs to report"):
        frames([])


def test_the_table_has_a_column_for_every_field() -> None:
    found = table(MIXED)
    assert found.schema == SCHEMA
    assert found.num_rows == len(MIXED)
    assert found["run_id"].to_pylist() == sorted(one.run_id for one in MIXED)


def test_frames_of_a_store_are_those_of_its_records(store: Store) -> None:
    for one in MIXED:
        store.put(one)
    same(frames(store.compact()), frames(MIXED))
    same(frames(Store(store.root).compact()), frames(MIXED))  # this time from Parquet


def test_the_parquet_file_follows_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in SMALL:
        store.put(one)
    store.compact()
    read: list[object] = []
    get = Store.get
    monkeypatch.setattr(Store, "get", lambda self, *key: (read.append(key), get(self, *key))[1])
    assert store.compact().num_rows == 8
    assert read == []  # nothing changed, nothing read

    new, changed, gone = record(seed=20), record(**_like(SMALL[0]), status="diverged"), SMALL[1]
    assert changed.key == SMALL[0].key
    store.put(new)
    store.put(changed)
    store.rm(*gone.key)
    same(frames(store.compact()), frames([changed, *SMALL[2:], new]))
    assert sorted(read) == sorted([new.key, changed.key])


@pytest.mark.parametrize("content", [b"", b"not parquet"])
def test_a_broken_parquet_file_is_made_again(store: Store, content: bytes) -> None:
    store.put(SMALL[0])
    store.compact()
    (store.runs / "runs.parquet").write_bytes(content)
    assert store.compact().num_rows == 1
    assert (store.runs / "runs.parquet").read_bytes()[:4] == b"PAR1"


def test_an_old_layout_is_made_again(store: Store) -> None:
    store.put(SMALL[0])
    pd.DataFrame({"run_id": ["x"]}).to_parquet(store.runs / "runs.parquet")
    assert store.compact().num_rows == 1


def _like(made: object) -> dict[str, object]:
    spec = made.spec  # type: ignore[attr-defined]
    return {name: spec[name] for name in ("partition", "strategy", "seed", "rounds")}
