"""The store: a run is there whole or not at all, whatever happens to its writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from results import ResultsError
from results.record import Key, decode, encode
from results.reporting.listing import ls, merged, show
from results.store import LEFTOVER_S, Store, check_writable
from tests.results.builder import record, records

ROOT = Path(__file__).parents[2]
A, B = record(seed=0), record(seed=1)


def run(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A Python process of its own, from the project's folder."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stderr=subprocess.PIPE)


def test_a_run_lies_where_it_should(store: Store) -> None:
    path = store.put(A)
    assert path == store.root / "runs" / A.run_id[:2] / f"{A.run_id}-inprocess.json"
    assert decode(path.read_bytes()) == A


def test_put_get_has_rm(store: Store) -> None:
    assert not store.has(*A.key)
    assert store.keys() == []
    store.put(A)
    store.put(B)
    assert store.has(*A.key)
    assert store.get(*B.key) == B
    assert len(store) == 2
    assert list(store.records()) == sorted([A, B], key=lambda one: one.key)
    assert list(store.records([B.key, A.key])) == [B, A]
    store.rm(*A.key)
    assert store.keys() == [B.key]
    with pytest.raises(ResultsError, match="no such run"):
        store.rm(*A.key)
    with pytest.raises(ResultsError, match="no such run"):
        store.get(*A.key)


def test_engines_stand_apart(store: Store) -> None:
    other = record(seed=0, engine="simulation")
    store.put(A)
    store.put(other)
    assert store.keys() == [Key(A.run_id, "inprocess"), Key(A.run_id, "simulation")]
    assert store.find(A.run_id[:6]) == [A, other]


def test_status_tells_what_is_to_be_run(store: Store) -> None:
    for status, seed in (("ok", 0), ("diverged", 1), ("failed", 2)):
        store.put(record(seed=seed, status=status))
    found = [store.status(record(seed=seed).key) for seed in range(4)]
    assert found == ["ok", "diverged", "failed", None]


def test_a_later_run_replaces_an_earlier_one(store: Store) -> None:
    store.put(record(status="failed"))
    store.put(record())
    assert store.status(A.key) == "ok"
    assert len(store) == 1


@pytest.mark.parametrize("name", [("../../etc", "inprocess"), ("abc/def0", "x"), ("ABCD", "x"), ("abcd", "In Process")])
def test_names_that_are_no_runs_are_refused(store: Store, name: tuple[str, str]) -> None:
    with pytest.raises(ResultsError, match="expected 4 to 64 hexadecimal digits"):
        store.path(*name)


def test_find_says_what_it_found_instead(store: Store) -> None:
    store.put(A)
    store.put(B)
    with pytest.raises(ResultsError, match="no run 'zz' in"):
        store.find("zz")
    with pytest.raises(ResultsError, match="fits 2 runs"):
        store.find("")


def test_a_broken_file_is_named(store: Store) -> None:
    path = store.put(A)
    path.write_bytes(path.read_bytes()[:100])
    for read in (lambda: store.get(*A.key), lambda: store.status(A.key), lambda: list(store.records())):
        with pytest.raises(ResultsError, match=str(path)):
            read()


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(ResultsError, match="expected a folder of runs"):
        Store(tmp_path)
    other = Store(tmp_path / "other")
    other.runs.mkdir(parents=True)
    other.path(*A.key).parent.write_text("a file where a folder should be")
    with pytest.raises(ResultsError, match=r"cannot be written .*another --results"):
        other.put(A)
    assert other.keys() == []


def test_a_store_says_beforehand_that_it_cannot_be_written_and_leaves_nothing(tmp_path: Path) -> None:
    Store(tmp_path).check_writable()
    assert list(tmp_path.rglob("*")) == [tmp_path / "runs"]
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(ResultsError, match=r"taken.runs: cannot be written \(.+\); .*another --results"):
        check_writable(tmp_path / "taken" / "runs")
    with pytest.raises(ResultsError, match=r"/proc/no: cannot be written .*another --out"):
        check_writable(Path("/proc/no"), "--out")


def test_a_run_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path(*A.key).mkdir(parents=True)
    with pytest.raises(ResultsError, match=r"cannot be removed .*another --results"):
        store.rm(*A.key)


DIE_AT_FSYNC = """
import os, signal, sys
from results.store import Store
from results.record import decode
store = Store(sys.argv[1])
record = decode(open(sys.argv[2], "rb").read())
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)  # the content is written, the name is not yet given
store.put(record)
"""


@pytest.mark.parametrize("existing", [None, "failed"])
def test_a_writer_killed_before_the_rename_leaves_nothing_to_be_seen(
    store: Store, tmp_path: Path, existing: str | None
) -> None:
    if existing:
        store.put(record(status=existing))
    else:
        store.path(*A.key).parent.mkdir(parents=True)
    (tmp_path / "a.json").write_bytes(encode(A))
    assert run(DIE_AT_FSYNC, store.root, tmp_path / "a.json").wait() == -signal.SIGKILL
    (leftover,) = store.path(*A.key).parent.glob(".*.tmp")
    assert Store(store.root).status(A.key) == existing
    assert Store(store.root).keys() == ([A.key] if existing else [])

    # It is swept away when it is old, and not before: its writer might be at work.
    assert leftover.exists()
    past = time.time() - LEFTOVER_S - 60
    os.utime(leftover, (past, past))
    Store(store.root)
    assert not leftover.exists()
    store.put(A)
    assert store.get(*A.key) == A


WRITE_FOR_EVER = """
import sys, msgspec
from results.store import Store
from results.record import decode
store = Store(sys.argv[1])
record = decode(open(sys.argv[2], "rb").read())
print("ready", file=sys.stderr, flush=True)
n = 0
while True:
    n += 1
    store.put(msgspec.structs.replace(record, error=str(n) * 200_000))
"""


def test_readers_never_see_half_a_record(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(encode(A))
    for pause in (0.0, 0.013, 0.05, 0.11):
        writer = run(WRITE_FOR_EVER, store.root, tmp_path / "a.json")
        assert writer.stderr is not None
        writer.stderr.readline()
        until = time.monotonic() + pause
        while time.monotonic() < until:
            if store.has(*A.key):
                store.get(*A.key)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stderr.close()
        for one in store.records():
            assert one.rounds == A.rounds


def test_a_failed_write_leaves_no_temporary_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(B)

    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ResultsError, match="No space left on device"):
        store.put(A)
    assert not list(store.runs.rglob("*.tmp"))
    assert store.keys() == [B.key]


def test_other_files_are_no_runs(store: Store) -> None:
    store.put(A)
    for name in ("readme.txt", "ab/notes.json", f"{A.run_id[:2]}/.x.json.1.ab.tmp", "zz/0123-inprocess.json"):
        path = store.runs / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    assert store.keys() == [A.key]


def test_merge_copies_what_is_missing_and_keeps_what_is_here(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    c, d = record(seed=2), record(seed=3)
    changed = msgspec.structs.replace(d, rounds=d.rounds[:-1])
    slower = msgspec.structs.replace(B, cost=msgspec.structs.replace(B.cost, wall_s=99.0))
    for ours in (record(seed=0, status="failed"), B, d):
        store.put(ours)
    for theirs in (A, slower, c, changed):
        other.put(theirs)
    done = store.merge(other)
    assert set(done.copied) == {A.key, c.key}  # ours had failed; ours was missing
    assert done.same == (B.key,)  # costs may differ
    assert done.different == (d.key,)
    assert store.get(*d.key) == d
    assert store.status(A.key) == "ok"
    assert merged(done).startswith("2 runs copied, 1 here already\n1 differ from ours")
    with pytest.raises(ResultsError, match="no runs to merge"):
        store.merge(Store(tmp_path / "nothing"))


def test_listing(store: Store) -> None:
    store.put(record(seed=4))
    store.put(record(seed=5, status="failed"))
    lines = ls(store).splitlines()
    assert len(lines) == 2
    assert any("failed" in line and "seed" not in line and line.endswith("iid  fedavg  5") for line in lines)
    assert any(" %" in line for line in lines)
    assert len(ls(store, "failed").splitlines()) == 1
    assert ls(store, "diverged") == ""
    assert show(A).startswith('{\n  "schema": 1,')
    assert decode(show(A).encode()) == A


def test_the_store_loads_no_library_of_reports() -> None:
    code = "import sys, results.store, results.reporting.listing; print(sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"numpy", "pandas", "pyarrow", "scipy", "matplotlib", "torch", "experiments", "strategies", "partitions"}
    assert not heavy & set(eval(done.stdout))


def test_five_thousand_runs_are_listed_and_looked_up_fast(store: Store) -> None:
    one = encode(A)
    made = [Key(f"{n * 2654435761 % 2**32:08x}", "inprocess") for n in range(5000)]
    for key in made:
        path = store.path(*key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one)
    started = time.perf_counter()
    assert Store(store.root).keys() == sorted(made)
    assert time.perf_counter() - started < 0.5
    started = time.perf_counter()
    assert {store.status(key) for key in made} == {"ok"}
    assert time.perf_counter() - started < 2.5


def test_two_writers_of_different_runs_both_succeed(store: Store) -> None:
    for one in records(partitions=("iid",), strategies=("fedavg",), seeds=3):
        Store(store.root).put(one)
    assert len(store) == 3
