"""What `check` promises, measured on its own grid and the committed baselines; both are slow.

make test-slow ARGS="-s -k 'one_point or jittered'"        (-s shows the figures)
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.regression import repeat
from experiments.regression.compare import Options
from results.baselines.baselines import read
from results.baselines.changes import judge

ROOT = Path(__file__).parents[3]
PLANT = """    record = _record(spec, data, offices, outcome, engine)
    if type(spec.strategy).__name__ == "FedProx" and record["final"]:
        record["final"]["score"] -= 0.01
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_regression_of_one_point_in_one_strategy_is_caught_in_every_cell_that_can_tell(tmp_path: Path) -> None:
    """Planted in a copy of the project; the committed baselines judge it by means."""
    copy = tmp_path / "copy"
    for room in ("experiments", "strategies", "partitions", "results"):
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("runs", "report", "__pycache__"))
    source = copy / "experiments" / "federation" / "run.py"
    line = "    record = _record(spec, data, offices, outcome, engine)\n"
    assert source.read_text().count(line) == 1
    source.write_text(source.read_text().replace(line, PLANT))
    command = [sys.executable, "-m", "experiments", "check", "--means-only"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 1, done.stderr
    regressed, missed, wrong = [], [], []
    for line in done.stdout.splitlines():
        ours = re.search(r"\sfedprox\b", line)  # and not where it is inside another
        if "  regressed  " in line:
            (regressed if ours else wrong).append(line)
        elif ours and "guards bits only" not in line:
            missed.append(line)
    print(f"{len(regressed)} cells regressed, {len(missed)} of FedProx's missed, {len(wrong)} others accused")
    assert len(regressed) >= 4, done.stdout
    assert not missed
    assert not wrong


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_jittered_re_runs_raise_at_most_one_alarm() -> None:
    """Every run of the grid again, twenty times, from first weights that no baseline's jitter has seen."""
    parts, _ = repeat.prepare((), False, None)
    files = {part.name: read(Options(ROOT / "results").path(part.name)) for part in parts}
    alarms, worst = 0, 0.0
    for draw in range(repeat.DRAWS + 1, repeat.DRAWS + 21):
        found, _ = repeat.outcomes(parts, None, moved=draw)
        count = sum(len(cells) for cells in found.values())
        rows = [
            judge(file.by_key[key], runs, cells=count, bits=False)
            for name, cells in found.items()
            if (file := files[name]) is not None
            for key, runs in cells.items()
        ]
        assert len(rows) == count
        loud = [row for row in rows if row.verdict.fails]
        alarms += bool(loud)
        shares = [abs(row.difference) / row.limit for row in rows if row.limit and row.difference is not None]
        worst = max(worst, *shares)
        print(f"draw {draw}: {len(loud)} of {count} cells", json.dumps([row.key for row in loud]))
    print(f"{alarms} of 20 re-runs raised an alarm; the largest difference was {worst:.2f} of its limit")
    assert alarms <= 1
