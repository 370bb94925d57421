"""`check`: through the command line, on a small grid."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from msgspec.structs import replace as with_
from threadpoolctl import threadpool_limits

from experiments.__main__ import main
from experiments.config.grid import load_grid
from experiments.config.spec import STRATEGIES, RunSpec
from experiments.federation.provenance import cpu_path
from experiments.federation.run import attempt, deal_rows, one_ulp, run_models, set_up
from experiments.regression import repeat
from experiments.regression.compare import Options, reproducible
from experiments.sweep.plan import data_key
from experiments.sweep.workers import Summary
from results.baselines.baselines import Baselines, Cell, Outcome, read, write
from results.record import RunRecord
from tests.experiments.problems import problem

GRID = """
dataset: watch
partition: iid
strategy: [fedavg, local]
seed: [0, 1, 2]
rounds: 2
local_steps: 3
model: mlp(hidden=[8])
"""


DRAWS = 2


class InProcess:
    """A sweep without Ray, which takes seconds to start; it counts what it is asked for."""

    records: ClassVar[dict[tuple[str, int], RunRecord]] = {}  # a run is the same whenever it is made: each is made once

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []  # (draw, runs)
        self.spoil: Callable[[RunRecord], RunRecord] = lambda record: record

    def __call__(self, todo: Any, data: Any, store: Any, *, workers: int | None = None, moved: int = 0) -> Summary:
        self.calls.append((moved, len(todo)))
        with threadpool_limits(1):  # as in every worker: two threads give other bits
            for spec in todo:
                if (spec.run_id, moved) not in self.records:
                    self.records[spec.run_id, moved] = attempt(spec, data[data_key(spec)], moved=moved)[0]
                store.put(self.spoil(self.records[spec.run_id, moved]))
        return Summary()


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grid") / "small.yaml"
    path.write_text(GRID)
    return path


@pytest.fixture
def sweep(grid: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """The small grid, in this process."""
    runner = InProcess()
    monkeypatch.setattr(repeat, "GRID", str(grid))
    monkeypatch.setattr(repeat, "sweep", runner)
    monkeypatch.setattr(repeat, "DRAWS", DRAWS)
    return runner


@pytest.fixture(scope="module")
def once(grid: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baselines of the small grid, made once."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeat, "GRID", str(grid))
        patch.setattr(repeat, "sweep", InProcess())
        patch.setattr(repeat, "DRAWS", DRAWS)
        assert main(["check", "--update", "--results", str(results)]) == 0
    return results


@pytest.fixture
def made(once: Path, tmp_path: Path) -> Path:
    """A copy of them to spoil."""
    shutil.copytree(once, tmp_path / "results")
    return tmp_path / "results"


def edit(results: Path, change: Callable[[Baselines], Baselines]) -> None:
    path = Options(results).path("watch")
    found = read(path)
    assert found is not None
    write(path, change(found))


def in_cell(strategy: str, change: Callable[[Cell], Cell]) -> Callable[[Baselines], Baselines]:
    """Change the cells of one strategy."""
    return lambda old: with_(
        old, cells=tuple(change(cell) if cell.strategy == strategy else cell for cell in old.cells)
    )


def shifted(cell: Cell, by: float, digest: str | None = None) -> Cell:
    seeds = {
        seed: Outcome(None if outcome.score is None else outcome.score + by, digest or outcome.digest)
        for seed, outcome in cell.seeds.items()
    }
    return with_(cell, seeds=seeds)


def verdicts(text: str) -> dict[tuple[str, str], str]:
    """(partition, strategy) -> verdict, as the tables print them."""
    cells = {}
    for line in text.splitlines():
        parts = [part.strip() for part in line.split("  ") if part.strip()]
        if len(parts) >= 8:
            cells[parts[0], parts[1]] = parts[2]
    return {key: value for key, value in cells.items() if key != ("Partition", "Strategy") and "---" not in key[0]}


CELLS = [("iid", "fedavg"), ("iid", "local")]


def test_right_after_an_update_all_is_identical_on_ray(
    made: Path, grid: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(repeat, "GRID", str(grid))
    before = sorted(path.name for path in made.rglob("*"))
    assert main(["check", "--results", str(made), "--workers", "1"]) == 0
    text = capsys.readouterr().out
    assert verdicts(text) == dict.fromkeys(CELLS, "identical")
    assert "2 cells: 2 identical" in text
    assert sorted(path.name for path in made.rglob("*")) == before, "nothing is kept in the user's store"


def test_means_only_looks_at_no_bits(made: Path, sweep: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    edit(made, in_cell("local", lambda cell: shifted(cell, 0.0, "f" * 16)))
    assert main(["check", "--means-only", "--results", str(made)]) == 0
    assert verdicts(capsys.readouterr().out) == dict.fromkeys(CELLS, "within jitter")


def test_changed_bits_warn_and_a_lower_score_fails(
    made: Path, sweep: InProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(made, in_cell("local", lambda cell: shifted(cell, 0.01, "f" * 16)))
    assert main(["check", "--results", str(made)]) == 0
    text = capsys.readouterr().out
    assert {key: word for key, word in verdicts(text).items() if word != "identical"} == {
        key: "changed, within jitter" for key in CELLS if key[1] == "local"
    }
    assert "warning: bits changed" in text
    edit(made, in_cell("local", lambda cell: with_(shifted(cell, 1.0), jitter=0.01)))
    for flags in ([], ["--means-only"]):
        assert main(["check", *flags, "--results", str(made)]) == 1
        text = capsys.readouterr().out
        assert {key for key, word in verdicts(text).items() if word == "regressed"} == {
            key for key in CELLS if key[1] == "local"
        }
        assert "failed: scores moved" in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cpu_path": "ASIMD"}, "CPU path"),
        ({"versions": {"python": "2.7"}}, "(baseline: 2.7)"),
        ({"data_hash": "0" * 64}, "other data content"),
    ],
)
def test_what_was_made_elsewhere_is_judged_by_means_and_says_so(
    change: dict[str, Any], told: str, made: Path, sweep: InProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(made, lambda old: with_(in_cell("fedavg", lambda cell: shifted(cell, 0.0, "f" * 16))(old), **change))
    assert main(["check", "--results", str(made)]) == 0
    text = capsys.readouterr().out
    assert told in text
    assert set(verdicts(text).values()) == {"within jitter"}


def test_a_strategy_without_baseline_is_new_and_one_without_strategy_is_gone(
    made: Path, sweep: InProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(made, in_cell("local", lambda cell: with_(cell, strategy="forgotten")))
    assert main(["check", "--results", str(made)]) == 1
    text = capsys.readouterr().out
    words = verdicts(text)
    assert {words[key] for key in CELLS if key[1] == "local"} == {"new"}
    assert words["iid", "forgotten"] == "gone"
    assert "no baseline yet: make baselines" in text
    assert main(["check", "--only", "strategy=fedavg", "--results", str(made)]) == 0, "what is left out is not gone"
    assert main(["check", "--update", "--results", str(made)]) == 0
    text = capsys.readouterr().out
    assert "iid, local: new" in text
    assert "iid, forgotten: gone" in text
    assert main(["check", "--results", str(made)]) == 0


def test_an_update_keeps_what_is_the_same_and_measures_the_rest(
    made: Path, sweep: InProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Options(made).path("watch")
    before = path.read_bytes()
    assert main(["check", "--update", "--results", str(made)]) == 0
    assert "nothing changed" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert sweep.calls == [(0, 6)]
    edit(made, in_cell("local", lambda cell: shifted(cell, 2.0)))
    sweep.calls.clear()
    assert main(["check", "--update", "--only", "strategy=local", "--results", str(made)]) == 0
    text = capsys.readouterr().out
    assert path.read_bytes() == before
    assert sweep.calls == [(draw, 3) for draw in range(DRAWS + 1)]
    assert text.count("-2.000 points; jitter") == 1


def test_a_failed_run_regresses_and_makes_no_baseline(
    made: Path, sweep: InProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(record: RunRecord) -> RunRecord:
        if record.spec["strategy"] != "local" or record.spec["seed"] != 1:
            return record
        return with_(record, status="failed", error="RuntimeError: no disk", rounds=(), final=None)

    sweep.spoil = spoil
    path = Options(made).path("watch")
    before = path.read_bytes()
    assert main(["check", "--results", str(made)]) == 1
    text = capsys.readouterr().out
    assert verdicts(text)["iid", "local"] == "regressed"
    assert "seed 1 failed: RuntimeError: no disk" in text
    assert main(["check", "--update", "--results", str(made)]) == 1
    assert "left as it was, failed: RuntimeError: no disk" in capsys.readouterr().out
    assert path.read_bytes() == before
    path.unlink()
    assert main(["check", "--update", "--results", str(made)]) == 1
    found = read(path)
    assert found is not None
    assert {cell.strategy for cell in found.cells} == {"fedavg"}


def test_runs_that_diverge_are_baselines_without_a_score(
    made: Path, sweep: InProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(record: RunRecord) -> RunRecord:
        if record.spec["strategy"] != "local":
            return record
        return with_(record, status="diverged", error="round 2: not finite", rounds=record.rounds[:1], final=None)

    sweep.spoil = spoil
    assert main(["check", "--results", str(made)]) == 1
    assert "seed 0 diverged: round 2: not finite" in capsys.readouterr().out
    assert main(["check", "--update", "--results", str(made)]) == 0
    assert "-> no score" in capsys.readouterr().out
    for flags in ([], ["--means-only"]):
        assert main(["check", *flags, "--results", str(made)]) == 0
    sweep.calls.clear()
    assert main(["check", "--update", "--results", str(made)]) == 0
    assert sweep.calls == [(0, 6)], "a cell that diverged as before keeps its line"


def test_a_cell_that_cannot_run_here_is_refused_without_stopping_the_others(
    made: Path, sweep: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "flower(path=flwr.serverapp.strategy.FedTrimmedAvg, beta=0.9)"
    other = tmp_path / "other.yaml"
    other.write_text(GRID.replace("[fedavg, local]", f'[fedavg, local, "{text}"]'))
    monkeypatch.setattr(repeat, "GRID", str(other))
    assert main(["check", "--results", str(made)]) == 0
    told = capsys.readouterr().out
    assert "2 identical; 1 refused" in told
    assert "beta" in told


def test_quick_is_two_seeds(made: Path, sweep: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--quick", "--results", str(made)]) == 0
    assert sweep.calls == [(0, 4)]
    assert set(verdicts(capsys.readouterr().out).values()) == {"identical"}


def test_without_uci_har_watch_is_checked_and_the_rest_is_said(
    made: Path, sweep: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("UCI_HAR_ZIP", raising=False)
    monkeypatch.setenv("FEDERATED_OFFICES_CACHE", str(tmp_path / "cache"))
    both = tmp_path / "both.yaml"
    both.write_text(GRID.replace("dataset: watch", "dataset: [watch, uci-har]"))
    monkeypatch.setattr(repeat, "GRID", str(both))
    assert main(["check", "--results", str(made)]) == 0
    assert "uci-har is not checked: it is not on this machine" in capsys.readouterr().out
    assert main(["check", "--only", "dataset=uci-har", "--results", str(made)]) == 2
    assert "nothing to check; uci-har" in capsys.readouterr().err
    assert main(["check", "--data", str(tmp_path / "no.zip"), "--results", str(made)]) == 2
    assert "no.zip" in capsys.readouterr().err


MISTAKES = [
    (["--update", "--quick"], "leave --quick out"),
    (["--update", "--means-only"], "leave --means-only out"),
    (["--update", "--only", "seed=0"], "takes every seed"),
    (["--workers", "0"], "--workers must be at least 1; found 0"),
    (["--only", "strategy=fedprx"], "did you mean 'fedprox'"),
    (["--only", "rounds"], "expected key=value"),
    (["--only", "strategy=scaffold"], "scaffold"),
    (["--only", "rounds=3"], "grid small has 2"),
]


@pytest.mark.parametrize(("flags", "told"), MISTAKES, ids=[" ".join(flags) for flags, _ in MISTAKES])
def test_mistakes_cost_no_run(
    flags: list[str], told: str, made: Path, sweep: InProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *flags, "--results", str(made)]) == 2
    error = capsys.readouterr().err.strip()
    assert told in error
    assert len(error.splitlines()) == 1
    assert sweep.calls == []


def test_files_that_do_not_fit_cost_no_run(made: Path, sweep: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    edit(made, lambda old: with_(old, cpu_path="ASIMD"))
    assert main(["check", "--update", "--only", "strategy=local", "--results", str(made)]) == 2
    assert "leave --only out" in capsys.readouterr().err
    edit(made, lambda old: with_(old, cpu_path=cpu_path(), draws=99))
    assert main(["check", "--update", "--only", "strategy=local", "--results", str(made)]) == 2
    assert "2 moved runs a seed (baseline: 99)" in capsys.readouterr().err
    edit(made, lambda old: with_(old, settings={"rounds": 99}))
    assert main(["check", "--results", str(made)]) == 2
    assert "{'rounds': 99}" in capsys.readouterr().err
    edit(made, lambda old: with_(old, dataset="uci-har"))
    assert main(["check", "--results", str(made)]) == 2
    assert "holds baselines of uci-har, expected watch" in capsys.readouterr().err
    Options(made).path("watch").write_text("{}")
    assert main(["check", "--results", str(made)]) == 2
    assert "not a file of baselines" in capsys.readouterr().err
    assert sweep.calls == []


def test_a_folder_that_cannot_be_written_costs_no_run(sweep: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--update", "--results", "/proc/nowhere"]) == 2
    assert "choose another --results" in capsys.readouterr().err
    assert sweep.calls == []


def test_the_grid_takes_every_strategy_there_is() -> None:
    specs = load_grid(repeat.GRID).specs()
    examples = {text for cls in STRATEGIES.values() if cls.twin is None for text in cls.examples}
    cells = {(spec.options()["dataset"], *repeat.cell_of(spec)) for spec in specs}
    assert len(cells) == 4 * len(examples)
    assert {type(spec.strategy) for spec in specs} == {cls for cls in STRATEGIES.values() if cls.twin is None}
    assert {spec.seed for spec in specs} == {0, 1, 2, 3, 4}


def test_one_ulp_moves_every_weight_to_a_neighbour() -> None:
    w = np.array([0.5, -0.25, 1e-3, 0.0] * 100, dtype=np.float32)
    moved = one_ulp(w, seed=3, draw=1)
    assert moved.dtype == np.float32
    up = moved > w
    assert np.array_equal(moved, np.nextafter(w, np.where(up, np.inf, -np.inf).astype(np.float32)))
    assert (moved != w).all()
    assert 100 < up.sum() < 300
    assert not np.array_equal(moved, one_ulp(w, seed=3, draw=2))
    assert not np.array_equal(moved, one_ulp(w, seed=4, draw=1))


def test_a_moved_run_starts_an_ulp_away_and_is_the_same_run_by_name() -> None:
    spec, data = problem()
    offices = deal_rows(spec, data)
    first, moved = (set_up(spec, data, offices, draw).server.first for draw in (0, 5))
    assert np.array_equal(moved, one_ulp(first, spec.seed, 5))
    plain, other, again = (run_models(spec, data, moved=draw) for draw in (0, 1, 1))
    assert plain[0].run_id == other[0].run_id
    assert plain[1] is not None
    assert not np.array_equal(plain[1], other[1])
    assert np.array_equal(again[1], other[1])
    assert np.allclose(plain[1], other[1], atol=1e-3)


@pytest.mark.parametrize(
    ("strategy", "same_bits"),
    [
        ("fedavg", True),
        ("dp_sgd(epsilon=8)", True),
        ("dp_sgd(epsilon=8, secure_rng=true)", False),
        ("masked_sum(inner=dp_fedavg(noise_multiplier=1, secure_rng=true))", False),
        ("dp_fedavg(epsilon=2, inner=dp_sgd(epsilon=8, secure_rng=true, inner=fedavg(weighting=uniform)))", False),
        ("flower(path=flwr.serverapp.strategy.FedAvg, arrayrecord_key='secure_rng=true')", True),
    ],
)
def test_only_noise_of_the_operating_system_has_other_bits_every_time(strategy: str, same_bits: bool) -> None:
    assert reproducible(RunSpec.from_options({"strategy": strategy}).strategy) == same_bits
