"""A sweep on a cluster of two Ray nodes, one of which is killed in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from results.store import Store
from tests.experiments.sweep.test_sweep import ROOT, command, outcomes, stored, sweep, tables

RAY = Path(sys.executable).with_name("ray")
GRID = """
title: A sweep on a cluster
dataset: watch
partition: [iid, dirichlet_even(0.3)]
strategy: [fedavg, local, centralised]
seed: [0, 1, 2, 3]
rounds: 10
model: mlp(hidden=[64])
"""


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """A Ray node with one core, in a process group of its own."""
    command = [str(RAY), "start", "--num-cpus=1", "--disable-usage-stats", "--block", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def kill(node: subprocess.Popen[bytes]) -> None:
    """A machine that loses power: every process of the node at once."""
    family = [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]
    for process in family:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    node.wait(10)


@pytest.fixture
def cluster() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tempfile.mkdtemp(prefix="ray-")  # short: the paths of sockets are; and not where a user's own Ray lives
    port = address.rpartition(":")[2]
    nodes = [start("--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false")]
    try:
        wait_for(address)
        nodes.append(start(f"--address={address}"))
        yield address, nodes[1]
    finally:
        for node in nodes:
            if node.poll() is None:
                kill(node)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(address: str) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(address)


@pytest.mark.slow
def test_a_node_lost_in_the_middle_changes_nothing(
    cluster: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address, second = cluster
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID)
    assert sweep(str(grid), tmp_path / "alone", "--workers", "2").returncode == 0

    shared = tmp_path / "shared"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    child = subprocess.Popen(
        command(str(grid), shared, "--address", address), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 180
    while stored(shared) < 6 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.02)
    assert 6 <= stored(shared) < 24, "the node is lost in the middle"
    kill(second)
    _, told = child.communicate(timeout=240)
    assert child.returncode == 0, told
    assert "24 run, 0 skipped, 0 failed" in told
    assert outcomes(shared) == outcomes(tmp_path / "alone")
    assert tables(shared) == tables(tmp_path / "alone")
    assert {record.environment.commit for record in Store(shared).records()} == {
        record.environment.commit for record in Store(tmp_path / "alone").records()
    }
