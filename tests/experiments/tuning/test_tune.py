"""Tuning end to end: the same trials and the same winner whatever happens on the way, and no test row in sight."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from experiments.__main__ import main
from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.federation.provenance import ROOT
from experiments.sweep.plan import load_data
from experiments.tuning.search import storage_of
from experiments.tuning.study import FOLDS, FRESH_SEED, SEED, Cell
from experiments.tuning.trials import alone
from results.store import Store
from results.tuned import tuned
from tests.experiments.problems import dataset

GRID = """
dataset: table
partition: iid
strategy: [fedavg, local]
seed: [0, 1]
model: mlp(hidden=[8])
clients: 2
min_examples: 8
"""


def command(grid: Path, results: Path, *arguments: str) -> list[str]:
    own = ["--trials", "30", "--rounds", "4", "--results", str(results), "--data", str(grid.with_name("rows.csv"))]
    return [sys.executable, "-m", "experiments", "tune", str(grid), *own, *arguments]


def tune(grid: Path, results: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(grid, results, *arguments), cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strategies on made-up rows of ten persons, of whom two are kept for testing."""
    folder, made = tmp_path_factory.mktemp("grid"), dataset()
    rows = pd.DataFrame(made.x, columns=list("abcdef"))
    split = np.where(made.official_test, "test", "train")
    rows.assign(label=made.y, person=made.person, split=split).to_csv(folder / "rows.csv", index=False)
    path = folder / "small.yaml"
    path.write_text(GRID)
    return path


@pytest.fixture(scope="module")
def whole(grid: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tuned on two workers without a break."""
    results = tmp_path_factory.mktemp("whole")
    done = tune(grid, results, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("on fresh seeds") == 2
    return results


def winners(results: Path) -> list[tuned.Winner]:
    return tuned.everything(results / "tuned")


def test_a_winner_is_the_best_of_five_on_fresh_seeds(whole: Path) -> None:
    found = winners(whole)
    assert [winner.key["strategy"] for winner in found] == ["fedavg", "local"]
    for winner in found:
        assert len(winner.trials) == 30
        assert [trial.number for trial in winner.trials] == list(range(30))
        assert winner.trials[0].params["client_lr"] == 0.05
        assert len(winner.finalists) == 5
        assert winner.finalists[0].fresh == max(one.fresh for one in winner.finalists)
        whole_trials = [trial for trial in winner.trials if trial.state == "complete"]
        best = sorted(whole_trials, key=lambda trial: (-trial.value, trial.number))[:5]
        assert {one.number for one in winner.finalists} == {trial.number for trial in best}
        won = winner.trials[winner.finalists[0].number].params
        assert winner.options["client_lr"] == won["client_lr"]
        assert winner.cost.rounds == 4
        assert (winner.cost.bytes == 0) == (winner.key["strategy"] == "local")


def test_two_batches_run_to_the_end_and_the_third_is_halved(whole: Path) -> None:
    for winner in winners(whole):
        assert all(trial.state == "complete" and trial.rounds == 4 for trial in winner.trials[:20])
        third = winner.trials[20:]
        assert [trial.state for trial in third].count("complete") == 4
        assert {trial.rounds for trial in third if trial.state == "pruned"} == {3}


def test_the_arms_cost_what_they_train(whole: Path) -> None:
    """Steps and rows of a winner, counted again from its runs."""
    for winner in winners(whole):
        spec = RunSpec.from_options({"clients": 2, **winner.options})
        runs = [r for r in Store(whole / "tuned").records() if r.spec["seed"] >= FRESH_SEED]
        own = [
            record
            for record in runs
            if all(record.spec[name] == value for name, value in winner.options.items() if name != "optimizer")
        ]
        rows = [sum(office.num_examples for office in record.offices) for record in own]
        assert winner.cost.forward_passes == pytest.approx(4 * spec.local_epochs * np.mean(rows))
        assert winner.cost.gradient_steps < winner.cost.forward_passes


def test_records_of_tuning_have_no_test_figure_and_seeds_of_their_own(whole: Path) -> None:
    records = list(Store(whole / "tuned").records())
    assert len(records) > 2 * 5 * 20
    for record in records:
        assert record.spec["seed"] in range(SEED, FRESH_SEED + FOLDS)
        assert record.spec["validation"] == f"fold(i={(record.spec['seed'] - SEED) % FOLDS}, of={FOLDS})"
        assert all(row.test_accuracy is None and row.test_loss is None for row in record.rounds)
        if record.final is not None:
            final = record.final
            assert (final.score, final.test_accuracy, final.test_macro_f1, final.test_f1_per_class) == (None,) * 4
            assert final.test_correct_by_person is None
            assert final.validation_score is not None
    assert any(record.status == "stopped" and len(record.rounds) == 3 for record in records)


def files(results: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((results / "tuned").glob("*.yaml"))}


@pytest.mark.parametrize("kills", [(130,), pytest.param((40, 130), marks=pytest.mark.slow)])
def test_killed_it_goes_on_to_the_same_winner(kills: tuple[int, ...], grid: Path, whole: Path, tmp_path: Path) -> None:
    """Killed in the batch that is halved, or in a random one too; resumed on one worker; in SQLite all along."""
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    only = ("--only", "strategy=fedavg", "--storage", url)
    for runs in kills:
        child = subprocess.Popen(
            command(grid, tmp_path, "--workers", "2", *only),
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 200
        while stored(tmp_path) < runs and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert child.poll() is None, "killed in the middle"
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    kept = stored(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "tuned" / "runs").rglob("*.json")}
    done = tune(grid, tmp_path, *only, "--workers", "1")
    assert done.returncode == 0, done.stderr
    [name] = files(tmp_path)
    assert files(tmp_path)[name] == files(whole)[name]
    untouched = [path for path, when in before.items() if path.stat().st_mtime_ns == when]
    assert len(untouched) > 0.8 * kept, "what was finished was not run again"
    assert len(optuna.get_all_study_names(url)) == 1


def stored(results: Path) -> int:
    return len(list(results.rglob("tuned/runs/*/*.json")))


def test_a_finished_study_is_not_run_again(grid: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "tuned" / "runs")  # Optuna's storage alone is left: only finalists run again
    done = tune(grid, tmp_path / "copy", "--only", "strategy=local")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "copy") == files(whole)
    assert stored(tmp_path / "copy") == 5 * FOLDS


def test_optuna_reads_the_journal(whole: Path) -> None:
    storage = storage_of(f"journal:{whole / 'tuned' / 'studies.journal'}")
    names = optuna.get_all_study_names(storage)
    assert len(names) == 2
    for name, winner in zip(sorted(names), winners(whole), strict=True):
        study = optuna.load_study(study_name=name, storage=storage)
        assert name == winner.study["name"]
        assert [trial.value for trial in study.trials] == [trial.value for trial in winner.trials]
        states = [TrialState.COMPLETE if trial.state == "complete" else TrialState.PRUNED for trial in winner.trials]
        assert [trial.state for trial in study.trials] == states


@pytest.mark.slow
def test_postgresql_gives_the_same_winner(grid: Path, whole: Path, tmp_path: Path, postgres: str) -> None:
    done = tune(grid, tmp_path, "--only", "strategy=fedavg", "--storage", postgres)
    assert done.returncode == 0, done.stderr
    [name] = files(tmp_path)
    assert files(tmp_path)[name] == files(whole)[name]
    [study] = optuna.get_all_study_names(postgres)
    assert len(optuna.load_study(study_name=study, storage=postgres).trials) == 30
    again = tune(grid, tmp_path, "--only", "strategy=fedavg", "--storage", postgres)
    assert again.returncode == 0
    assert len(optuna.load_study(study_name=study, storage=postgres).trials) == 30


@pytest.fixture
def postgres() -> Iterator[str]:
    """A real server (Debian's package) on loopback, in a folder of its own that another user may enter."""
    [*_, binaries] = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []  # the server refuses to run as root
    name = (user and "postgres") or None
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        data, port = Path(folder) / "pg", 54_000 + os.getpid() % 1000
        data.mkdir()
        if user:
            data.parent.chmod(0o755)
            shutil.chown(data, "postgres")
        subprocess.run(
            [*user, str(binaries / "initdb"), "-D", str(data), "-A", "trust", *(["-U", name] if name else [])],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        options = f"-p {port} -h 127.0.0.1 -k {data}"
        control = [*user, str(binaries / "pg_ctl"), "-D", str(data), "-w", "-o", options, "-l", str(data / "log")]
        subprocess.run([*control, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        try:
            yield f"postgresql+psycopg://{name or os.environ['USER']}@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")


def test_no_test_row_can_be_reached_from_what_tuning_is_given() -> None:
    """The rows themselves are looked for, in what a worker is sent and in all that its arrays hold on to."""
    specs = [RunSpec.from_options({"dataset": "watch"})]
    planted = load_data(specs, None, may_fall_back=False)
    [open_] = planted.data.values()
    assert open_.test is not None
    secret = open_.test.x[:1].tobytes()
    assert secret in open_.test.x.tobytes()
    loaded = load_data(specs, None, may_fall_back=False, tuning=True)
    [own] = loaded.data.values()
    assert own.test is None
    assert secret not in pickle.dumps(own)
    for array in (own.train.x, own.train.y, own.train.person, own.recording):
        whole = array
        while isinstance(whole.base, np.ndarray):  # a view would hold on to the rows it was cut from
            whole = whole.base
        assert secret not in whole.tobytes()


def test_two_drivers_do_not_tune_into_one_folder(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(UserError, match="another process is tuning"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--storage", "postgresql+psycopg://nobody@127.0.0.1:1/x"], "cannot be opened"),
        (["--trials", "7"], "multiple of 10"),
        (["--set", "local_steps=3"], "local_steps"),
        (["--only", "strategy=fedprox"], "fedprox"),
        (["--set", "min_examples=5000"], "--min-examples"),
        (["--workers", "0"], "--workers"),
        (["--results", "/proc/nowhere"], "choose another --results"),
        (["--storage", "journal:/proc/nowhere"], "cannot be opened"),
        (["--storage", "studies.db"], "expected journal:FILE"),
    ],
)
def test_bad_input_is_told_before_anything_is_trained(
    arguments: list[str], message: str, grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(grid, tmp_path, *arguments)[3:]) == 2
    assert message in capsys.readouterr().err
    assert stored(tmp_path) == 0


@pytest.mark.parametrize(
    ("flags", "folder", "epochs"),
    [
        ([], "tuned", 3),
        (["--seed", "2"], "tuned/seed-2", 3),
        (["--fixed-epochs"], "tuned/fixed-epochs", 1),
        (["--fixed-epochs", "--seed", "2"], "tuned/fixed-epochs/seed-2", 1),
    ],
)
def test_further_studies_have_folders_of_their_own(
    flags: list[str],
    folder: str,
    epochs: int,
    grid: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Else a study that answers another question would overwrite the winners that sweeps take."""
    asked: list[tuple[Path, int]] = []

    def noted(cells: list[Cell], data: object, where: Path, *_: object) -> list[tuned.Winner]:
        asked.append((where, len(cells[0].space.distributions["local_epochs"].choices)))  # type: ignore[attr-defined]
        return []

    monkeypatch.setattr("experiments.commands.tune.tune_all", noted)
    assert main(command(grid, tmp_path, *flags)[3:]) == 0
    assert asked == [(tmp_path / folder, epochs)]
    assert (tmp_path / folder / "studies.journal").exists()
    assert "2 cells tuned in 0.0 minutes" in capsys.readouterr().err


def test_tuned_records_pickle_as_json(whole: Path) -> None:
    """A winner holds nothing but plain values, so that its YAML is readable by anything."""
    for winner in winners(whole):
        json.dumps([winner.key, winner.options, winner.study])
