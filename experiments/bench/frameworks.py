"""The same 20 rounds in Flower's simulation, and in fluke and pfl, as whole processes and a round.

fluke and pfl are never a dependency: `--peers` installs them from PyPI into environments of their own under the cache
folder. None of the frameworks evaluates here, which our runs do in every round.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch

from experiments.bench.clock import progress
from experiments.bench.figures import Figures
from experiments.bench.sweeping import ROOT
from experiments.bench.work import SHORT, Work
from experiments.data.cache import cache_dir

FLOWER = "Flower's simulation"
SECTION = f"{SHORT} rounds in a framework"
CORES = 2  # what an hour of runs is counted on: Flower's actors share them, the others take one core a run


class BenchError(Exception):
    """A framework could not be installed or did not run; one line that says why."""


@dataclass(frozen=True)
class Peer:
    """A framework from PyPI.

    Attributes:
        name: as tables show it.
        requirement: for pip, with the version that the script was written for.
        script: what runs the work, in `peers/`.
    """

    name: str
    requirement: str
    script: str

    def python(self) -> Path:
        """The Python of its environment, which is made and filled at the first call.

        Raises:
            BenchError: pip cannot install it here.
        """
        folder = cache_dir() / "bench" / f"{self.name}-{torch.__version__}"
        python, installed = folder / "bin" / "python", folder / "installed"
        if not installed.exists() or installed.read_text() != self.requirement:
            progress(f"installing {self.requirement} into {folder}")
            try:
                venv.create(folder, with_pip=True, clear=True)
                pinned = f"torch=={torch.__version__.partition('+')[0]}"
                run([str(python), "-m", "pip", "install", "--quiet", self.requirement, pinned])
            except (BenchError, OSError, subprocess.CalledProcessError) as reason:
                raise BenchError(f"{self.name} could not be installed: {reason}") from None
            installed.write_text(self.requirement)
        return python


PEERS = (Peer("fluke", "fluke-fl==0.8.1", "run_fluke.py"), Peer("pfl", "pfl[pytorch]==0.6.0", "run_pfl.py"))


def run(command: list[str]) -> str:
    """Run to the end; what it printed.

    Raises:
        BenchError: it failed; the last line of its errors.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise BenchError((errors or lines)[-1])
    return done.stdout


def save_work(path: Path, work: Work, rounds: int) -> None:
    """The work as a file that any framework's script reads."""
    np.savez(
        path,
        x=work.x,
        y=work.y,
        widths=np.array(work.widths),
        clients=np.array(work.clients),
        batch=np.array(work.batch),
        lr=np.array(work.lr),
        rounds=np.array(rounds),
    )


def measure_frameworks(works: list[Work], figures: Figures, with_peers: bool) -> None:
    """Flower on every work; fluke and pfl, if asked for, on the first model. What does not run becomes a note."""
    scripts = {FLOWER: [sys.executable, "-m", "experiments.bench.flower_app"]}
    for peer in PEERS if with_peers else ():
        try:
            scripts[peer.name] = [str(peer.python()), str(Path(__file__).parent / "peers" / peer.script)]
        except BenchError as reason:
            _note(figures, str(reason))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for work in works:
            small = work.widths == works[0].widths
            rounds = SHORT if small else 5
            path = Path(folder) / f"{work.model}-{work.clients}.npz"
            save_work(path, work, rounds)
            for name, command in scripts.items():
                if small or name == FLOWER:
                    progress(f"{name}: {work.name}, {rounds} rounds")
                    _measure(name, [*command, str(path)], work, figures, whole=small)


def _measure(name: str, command: list[str], work: Work, figures: Figures, whole: bool) -> None:
    started = perf_counter()
    try:
        lines = run(command).splitlines()
    except BenchError as reason:
        _note(figures, f"{name} did not run on {work.name}: {reason}")
        return
    seconds = perf_counter() - started
    answer = json.loads(next(line for line in reversed(lines) if line.startswith('{"version"')))
    figures.versions[name], a_round = answer["version"], 1e3 * median(answer["rounds"])
    figures.add(SECTION, f"{name}, a round", work.name, a_round, "ms")
    ours = figures.look("Training, a round", "our trainer", work.name)
    if ours is not None:
        figures.add(SECTION, f"{name}, a round, over our trainer", work.name, a_round / ours)
    if whole:
        hourly = 3600 / seconds * (1 if name == FLOWER else CORES)
        figures.add(SECTION, f"{name}, whole process", work.name, seconds, "s")
        figures.add(SECTION, f"{name}, runs an hour on {CORES} cores", work.name, hourly)


def _note(figures: Figures, text: str) -> None:
    figures.notes.append(text)
    progress(text)
