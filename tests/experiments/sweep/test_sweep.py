"""A sweep: the same bits whatever the number of workers and however often it was killed; nothing finished is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from experiments.sweep.workers import Summary
from results.store import Store

ROOT = Path(__file__).parents[3]
GRID = """
title: A small sweep
dataset: watch
partition: [iid, dirichlet_even(0.3)]
strategy: [fedavg, local]
seed: [0, 1]
rounds: 2
local_steps: 500  # a twentieth of a second a run, so that a signal can come between two
model: mlp(hidden=[8])
"""


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("grid") / "small.yaml"
    path.write_text(GRID)
    return str(path)


def command(grid: str, results: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "experiments", "sweep", grid, "--results", str(results), *arguments]


def sweep(grid: str, results: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(grid, results, *arguments), cwd=ROOT, capture_output=True, text=True, check=False)


def tables(results: Path) -> dict[str, bytes]:
    """Every result table; costs are measured and outside the promise."""
    return {
        str(path.relative_to(results)): path.read_bytes()
        for path in sorted(results.rglob("tables/**/*"))
        if path.is_file() and "cost" not in path.name
    }


@pytest.fixture(scope="module")
def whole(grid: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep, uninterrupted, on two workers."""
    results = tmp_path_factory.mktemp("whole")
    done = sweep(grid, results, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "8 run, 0 skipped, 0 failed, 0 diverged" in done.stderr
    assert "tables and figures" in done.stdout
    return results


def outcomes(results: Path) -> list[object]:
    return [(record.key, record.rounds, record.offices, record.final) for record in Store(results).records()]


def test_one_worker_gives_the_same_bits(grid: str, whole: Path, tmp_path: Path) -> None:
    assert sweep(grid, tmp_path, "--workers", "1").returncode == 0
    assert outcomes(tmp_path) == outcomes(whole)
    assert tables(tmp_path) == tables(whole)
    assert len(tables(whole)) > 3


def test_what_exists_is_skipped(grid: str, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("runs/*/*.json")}
    done = sweep(grid, whole)
    assert "0 run, 8 skipped" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("runs/*/*.json")} == before


def stored(results: Path) -> int:
    return len(list(results.rglob("runs/*/*.json")))


def killed(grid: str, results: Path, after: int, signal_: int, wait: float = 0.0) -> subprocess.Popen[str]:
    """Start a sweep, and stop it by a signal once `after` runs are stored and `wait` seconds have passed."""
    child = subprocess.Popen(
        command(grid, results, "--workers", "1"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    deadline = time.monotonic() + 120
    while stored(results) < after and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(wait)
    child.send_signal(signal_)
    child.wait(60)
    return child


def test_a_killed_sweep_goes_on_and_ends_in_the_same_table(grid: str, whole: Path, tmp_path: Path) -> None:
    killed(grid, tmp_path, 2, signal.SIGKILL)
    kept = stored(tmp_path)
    assert 2 <= kept < 8, "killed in the middle"
    done = sweep(grid, tmp_path)
    assert done.returncode == 0
    assert f"{8 - kept} run, {kept} skipped" in done.stderr
    assert outcomes(tmp_path) == outcomes(whole)
    assert tables(tmp_path) == tables(whole)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(4))
def test_killed_at_any_moment(attempt: int, grid: str, whole: Path, tmp_path: Path) -> None:
    chance = random.Random(attempt)
    while stored(tmp_path) < 6:
        killed(grid, tmp_path, min(stored(tmp_path) + 1, 8), signal.SIGKILL, wait=chance.uniform(0, 1.0))
    assert sweep(grid, tmp_path).returncode == 0
    assert tables(tmp_path) == tables(whole)


def test_ctrl_c_keeps_what_is_finished_and_exits_130(grid: str, tmp_path: Path) -> None:
    child = killed(grid, tmp_path, 1, signal.SIGINT)
    assert child.returncode == 130
    assert "goes on with what is missing" in (child.stderr.read() if child.stderr else "")
    assert 1 <= stored(tmp_path) < 8
    assert all(record.status == "ok" for record in Store(tmp_path).records())


def test_diverged_and_failed_runs_stop_nothing_and_are_told(tmp_path: Path) -> None:
    grid = tmp_path / "bad.yaml"
    grid.write_text(
        "dataset: watch\nrounds: 2\nlocal_steps: 3\nmodel: mlp(hidden=[8])\n"
        "strategy: [fedavg, 'flower(path=flwr.serverapp.strategy.Bulyan, num_malicious_nodes=1)']\n"
        "client_lr: [0.05, 1e6]\n"
    )
    done = sweep(str(grid), tmp_path, "--workers", "1")  # with a report, which tells of both
    assert done.returncode == 1
    assert "1 run, 0 skipped, 2 failed, 1 diverged" in done.stderr
    again = sweep(str(grid), tmp_path, "--dry-run")
    assert "4 runs, 2 in the store, 2 to make" in again.stdout, "failed runs are tried again, diverged ones are not"


@pytest.mark.parametrize(
    ("counts", "status"),
    [({"ok": 2}, 0), ({"ok": 2, "diverged": 1}, 3), ({"failed": 1, "diverged": 1}, 1), ({"failed": 1, "ok": 1}, 1)],
)
def test_exit_status_tells_failed_before_diverged(counts: dict[str, int], status: int) -> None:
    assert Summary(Counter(counts)).exit_status == status
    assert Summary(Counter(counts), interrupted=True).exit_status == 130


def test_dry_run_prints_the_plan_and_runs_nothing(grid: str, tmp_path: Path) -> None:
    done = sweep(grid, tmp_path, "--dry-run")
    assert done.returncode == 0
    assert "on Watch: 8 runs, 0 in the store, 8 to make" in done.stdout
    assert "2 x local on dirichlet_even(alpha=0.3)" in done.stdout
    assert "seconds of one core's work" in done.stdout
    assert stored(tmp_path) == 0


def test_stale_runs_are_counted_refused_or_made_again(grid: str, whole: Path, tmp_path: Path) -> None:
    copy = Store(tmp_path)
    for record in Store(whole).records():
        other = msgspec.structs.replace(record.environment, sources_hash="0" * 16)
        copy.put(msgspec.structs.replace(record, environment=other))
    used = sweep(grid, tmp_path, "--no-report")
    assert "8 of those skipped were made by other code" in used.stderr
    refused = sweep(grid, tmp_path, "--strict")
    assert refused.returncode == 2
    assert "--rerun-stale" in refused.stderr
    again = sweep(grid, tmp_path, "--rerun-stale", "--only", "strategy=fedavg", "--dry-run")
    assert "4 runs, 0 in the store, 4 to make" in again.stdout


def test_an_address_without_a_cluster_is_told(grid: str, tmp_path: Path) -> None:
    done = sweep(grid, tmp_path, "--address", "127.0.0.1:1")
    assert done.returncode == 2
    assert "no Ray cluster answers" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_flowers_simulation_can_make_a_sweep(grid: str, whole: Path, tmp_path: Path) -> None:
    one = ("--only", "seed=0", "--only", "strategy=fedavg", "--only", "partition=iid")
    done = sweep(grid, tmp_path, "--engine", "simulation", "--no-report", *one)
    assert done.returncode == 0, done.stderr
    [record] = Store(tmp_path).records()
    twin = Store(whole).get(record.run_id, "inprocess")
    assert (record.rounds, record.final) == (twin.rounds, twin.final)


def test_environment_is_set_before_anything_loads() -> None:
    code = "import experiments, os; from experiments.federation.provenance import cpu_path"
    code += "\nprint(os.environ['OMP_NUM_THREADS'])"
    code += "\nprint(cpu_path())\nimport torch; print(torch.backends.cpu.get_cpu_capability())"
    ours = ("MKL", "OMP", "OPENBLAS", "NPY", "ATEN", "ONEDNN")
    bare = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, env=bare, capture_output=True, text=True, check=True
    )
    threads, path, torchs = done.stdout.splitlines()
    assert threads == "1"
    if "avx2" in Path("/proc/cpuinfo").read_text().split():  # whatever wider units there are
        assert (path, torchs) == ("AVX2, OpenBLAS Haswell, MKL_CBWR=AVX2", "AVX2")
    chosen = {**bare, "OPENBLAS_CORETYPE": "Nehalem", "MKL_CBWR": "COMPATIBLE"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=chosen, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1].endswith("OpenBLAS Nehalem, MKL_CBWR=COMPATIBLE"), "another may be asked for"
