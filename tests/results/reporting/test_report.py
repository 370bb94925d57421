"""The report: what it writes, that it is the same again, and how long it takes."""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from results import ResultsError
from results.record import encode
from results.reporting.index import FIGURES, PARTS, report
from results.store import Store
from results.tuned.tuned import FIXED_EPOCHS, write
from tests.results.builder import record, records
from tests.results.reporting.test_tuning import both, winner

ROOT = Path(__file__).parents[3]
SMALL = [
    *records(("iid", "shards(classes=2)"), seeds=2),
    record(seed=2, status="failed"),
    record(seed=3, filtered=True),
]
NAMES = {"main", "scores", "differences", "best", "ranks", "classes", "unevenness", "costs", "unfinished"}


@pytest.fixture
def curves_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw one figure instead of four: drawing is what takes the time."""
    monkeypatch.setattr("results.reporting.index.FIGURES", {"curves": FIGURES["curves"]})


def filled(root: Path, made: list[object]) -> Store:
    """A store of records, written without waiting for the disk."""
    store = Store(root)
    for one in made:
        path = store.path(*one.key)  # type: ignore[attr-defined]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(one))  # type: ignore[arg-type]
    return store


def test_everything_is_written_and_named(tmp_path: Path) -> None:
    done = report(filled(tmp_path / "r", SMALL), tmp_path / "out", title="A small grid")
    assert all(path.is_file() for path in done.written)
    assert sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file()) == sorted(done.written)
    assert {path.name for path in (tmp_path / "out" / "tables").iterdir()} == {
        f"uci-har-{name}.{ending}" for name in NAMES for ending in ("csv", "md", "tex")
    }
    index = done.index.read_text("utf-8")
    assert index.startswith("# A small grid\n\n18 runs.\n")
    links = re.findall(r"\]\(([^)]+)\)", index)
    assert {tmp_path / "out" / link for link in links} == set(done.written) - {done.index}
    assert "Two seeds" not in index  # one cell has four
    assert "Two to four seeds, no claims." in index
    assert "[3/4] (f)" in index
    assert "iid" in done.main
    assert "fedprox(mu=0.01)" in done.main


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    shuffled = list(SMALL)
    random.Random(1).shuffle(shuffled)
    first = report(filled(tmp_path / "a", SMALL), tmp_path / "out-a")
    second = report(filled(tmp_path / "b", shuffled), tmp_path / "out-b")
    again = report(Store(tmp_path / "a"), tmp_path / "out-c")  # from Parquet
    for one, *others in zip(first.written, second.written, again.written, strict=True):
        for other in others:
            assert one.name == other.name
            if "costs" not in one.name:
                assert _digest(one) == _digest(other), one.name
    assert first.main == second.main == again.main


def test_in_another_process_too(tmp_path: Path) -> None:
    report(filled(tmp_path / "r", SMALL[:2]), tmp_path / "here")
    code = (
        "import sys; from results.store import Store; from results.reporting.index import report; "
        "report(Store(sys.argv[1]), sys.argv[2])"
    )
    arguments = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "r"), str(tmp_path / "there")]
    subprocess.run(arguments, cwd=ROOT, check=True, env={"PYTHONHASHSEED": "77", "PATH": "/usr/bin"})
    for path in (tmp_path / "here").rglob("*.*"):
        assert _digest(path) == _digest(tmp_path / "there" / path.relative_to(tmp_path / "here")), path.name


@pytest.mark.usefixtures("curves_only")
def test_some_runs_only(tmp_path: Path) -> None:
    store = filled(tmp_path / "r", SMALL)
    keys = [one.key for one in SMALL if one.spec["partition"] == "iid"]
    done = report(store, tmp_path / "out", keys=[*keys, ("00000000", "inprocess")], stale=3)
    assert "shards" not in done.main
    assert "\nTen runs, 1 not made yet.\n" in done.index.read_text()
    assert "Three runs of this report made by other code than the present." in done.main


@pytest.mark.usefixtures("curves_only")
def test_other_settings_have_figures_of_their_own(tmp_path: Path) -> None:
    sizes = range(16, 17 + PARTS)
    made = [one for size in sizes for one in records(("iid",), ("fedavg",), seeds=1, options=(("batch_size", size),))]
    done = report(filled(tmp_path / "r", made), tmp_path / "out")
    curves = sorted(path.name for path in done.written if path.name.endswith("curves.pdf"))
    assert curves[0] == "uci-har-batch-size-16-curves.pdf"
    assert len(curves) == PARTS
    assert f"first {PARTS} of {PARTS + 1} settings" in done.index.read_text()


@pytest.mark.usefixtures("curves_only")
def test_data_sets_have_tables_of_their_own(tmp_path: Path) -> None:
    made = [*records(("iid",), seeds=1), *records(("iid",), seeds=1, title="Watch", classes=("a", "b"))]
    done = report(filled(tmp_path / "r", made), tmp_path / "out")
    names = {path.name for path in done.written}
    assert {"uci-har-main.csv", "watch-main.csv", "uci-har-curves.pdf", "watch-curves.pdf"} <= names
    assert "## UCI HAR" in done.index.read_text()
    assert "## Watch" in done.index.read_text()


def test_learning_rates_are_the_axis_of_one_figure(tmp_path: Path) -> None:
    made = [
        one
        for rate in (0.01, 0.1, 1.0)
        for one in records(("iid",), ("fedavg", "local"), seeds=2, options=(("client_lr", rate),))
    ]
    done = report(filled(tmp_path / "r", made), tmp_path / "out")
    assert [path.name for path in done.written if path.suffix == ".png"] == ["uci-har-sensitivity.png"]
    assert "uci-har-sensitivity.csv" in {path.name for path in done.written}
    assert "Other figures are not drawn for every client_lr" in done.index.read_text("utf-8")


def test_folds_of_test_persons_are_one_figure(tmp_path: Path) -> None:
    made = [one for fold in range(3) for one in folds_of(fold)]
    done = report(filled(tmp_path / "r", made), tmp_path / "out")
    assert [path.name for path in done.written if path.suffix == ".png"] == ["uci-har-persons.png"]
    assert "uci-har-persons.csv" in {path.name for path in done.written}


def folds_of(fold: int) -> list[object]:
    """Records of one fold of test persons."""
    return list(records(("iid",), ("fedavg", "local"), seeds=2, options=(("test_persons", f"fold(i={fold}, of=3)"),)))


def test_tuned_cells_of_the_runs_have_a_section(tmp_path: Path) -> None:
    runs, pairs, origins = both()
    other = winner(key={**winner().key, "model": "cnn1d"})
    for one in (winner(), winner("fedprox"), winner(partition="shards(classes=2)"), other):
        write(tmp_path / "tuned", one)
    write(tmp_path / "tuned" / "seed-1", winner())
    write(tmp_path / "tuned" / FIXED_EPOCHS, winner(best=0))
    done = report(
        filled(tmp_path / "r", list(runs)), tmp_path / "out", tuned=tmp_path / "tuned", pairs=pairs, origins=origins
    )
    index = done.index.read_text("utf-8")
    assert "\n## Tuning\n" in index
    names = {path.name for path in done.written}
    assert {"tuned.csv", "importance.csv", "budget.csv", "budget.pdf", "uci-har-gains.csv"} <= names
    table = (tmp_path / "out" / "tables" / "tuned.csv").read_text()
    assert table.count("\n") == 3, "the winners of another partition and of another model are not of this report"
    assert "95.00, 95.00" in (tmp_path / "out" / "tables" / "budget.md").read_text(), "a study by another seed is"
    second = (tmp_path / "out" / "tables" / "tuned-fixed-epochs.md").read_text()
    assert second.count("fedavg") == second.count("(the default)") == 1
    assert "uci-har-tuned-scores.png" in names
    assert "uci-har-default-scores.png" in names

    # The order of winners' files, records, pairs and origins changes no byte.
    again = report(
        filled(tmp_path / "s", list(reversed(runs))),
        tmp_path / "again",
        tuned=tmp_path / "tuned",
        pairs=pairs[::-1],
        origins=dict(reversed(origins.items())),
    )
    for one, other in zip(done.written, again.written, strict=True):
        assert "costs" in one.name or _digest(one) == _digest(other), one.name


@pytest.mark.usefixtures("curves_only")
def test_without_winners_there_is_no_section(tmp_path: Path) -> None:
    done = report(filled(tmp_path / "r", SMALL[:2]), tmp_path / "out", tuned=tmp_path / "nothing")
    assert "Tuning" not in done.index.read_text("utf-8")


def test_every_figure_says_its_seeds_and_what_they_can_detect(tmp_path: Path) -> None:
    done = report(filled(tmp_path / "r", SMALL), tmp_path / "out")
    lines = [line for line in done.index.read_text("utf-8").splitlines() if line.endswith(".") and ".pdf)" in line]
    assert len(lines) == len(FIGURES)
    for line in lines:
        assert re.search(r"\. Two to four seeds, no claims\. Least detectable difference in score: [\d.]+ to ", line)


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"no runs to report; make some"):
        report(Store(tmp_path), tmp_path / "out")
    store = filled(tmp_path / "r", SMALL[:1])
    with pytest.raises(ResultsError, match="none of the 1 runs asked for"):
        report(store, tmp_path / "out", keys=[("abcdef", "inprocess")])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ResultsError, match=r"cannot be written .*another --out"):
        report(filled(tmp_path / "r", SMALL[:1]), tmp_path / "out")


def test_only_failed_runs(tmp_path: Path) -> None:
    done = report(filled(tmp_path / "r", [record(status="failed")]), tmp_path / "out")
    assert "– [0/1]" in done.main
    assert not list((tmp_path / "out" / "figures").iterdir())


@pytest.mark.usefixtures("curves_only")
def test_a_store_that_cannot_keep_its_parquet_file_is_still_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path / "r", SMALL[:2])

    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("results.compact.write_whole", refuse)
    assert "fedavg" in report(store, tmp_path / "out").main


@pytest.mark.slow
def test_five_thousand_runs_within_half_a_minute(tmp_path: Path) -> None:
    made = [one for n in range(23) for one in records(seeds=5, options=(("client_lr", (n + 1) / 100),))]
    store = filled(tmp_path / "r", list(made))
    assert len(store) == 5060
    started = time.perf_counter()
    report(store, tmp_path / "out")
    assert time.perf_counter() - started < 30


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
