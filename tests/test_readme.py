"""The README says what is so: its example runs, its targets and grids exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import strategies
from experiments.config import registry
from experiments.config.grid import FOLDER, load_grid
from experiments.federation.run import run
from tests.experiments.problems import problem

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_example_strategy_is_one_file_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the open, under protection and under differential privacy alike."""
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "fedsqrt.py").write_text(code)
    monkeypatch.setattr(strategies, "__path__", [*strategies.__path__, str(tmp_path)])
    registry._modules.cache_clear()
    skewed = {"partition": "sizes([.55, .25, .15, .05])", "batch_size": "full"}
    try:
        plain, fedavg, uniform, protected, private = (
            [row.test_loss for row in run(*problem(strategy=text, **skewed)).rounds]
            for text in (
                "fedsqrt",
                "fedavg",
                "fedavg(uniform)",
                "quantised(bits=32, inner=fedsqrt())",
                "dp_sgd(noise_multiplier=0, clip_norm=none, inner=fedsqrt())",
            )
        )
    finally:
        registry._modules.cache_clear()
    assert not np.allclose(plain, fedavg, rtol=1e-3), "neither weighting is the other"
    assert not np.allclose(plain, uniform, rtol=1e-3)
    np.testing.assert_allclose(protected, plain, rtol=1e-5)
    np.testing.assert_allclose(private, plain, rtol=1e-5)


def test_targets_and_grids_exist() -> None:
    targets = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)) - {"help"}:
        assert f"make {target} " in targets
    rows = dict(re.findall(r"^\| `([\w-]+)` \| .* \| ([\d,]+) \|$", README, re.MULTILINE))
    for name in (path.stem for path in FOLDER.glob("*.yaml") if path.stem != "baselines"):
        grid = load_grid(name)
        told = int(rows[name].replace(",", ""))
        assert told == len(grid.specs()) * (2 if grid.tuned == "both" else 1), name


def test_the_layout_names_every_folder_of_a_room() -> None:
    layout = README.partition("## Layout\n")[2].partition("\n##")[0]
    named: dict[str, set[str]] = {}
    room = ""
    for indent, folder in re.findall(r"^    ( *)(\w+)/ ", layout, re.MULTILINE):
        room = room if indent else folder
        named.setdefault(room, set()).update({folder} if indent else ())
    for room in ("experiments", "strategies", "partitions", "results"):
        listed = subprocess.run(["git", "ls-files", room], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert named[room] == {path.split("/")[1] for path in listed.split() if path.count("/") > 1}, room


def test_files_and_pictures_exist() -> None:
    for name in re.findall(r"\]\(([\w/.-]+)\)", README) + re.findall(
        r"`((?:experiments|strategies|results)/[\w/]+\.\w+)`", README
    ):
        assert (ROOT / name).exists() or name.endswith("NAME.py"), name


def test_every_target_has_a_line_of_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"\.PHONY: (.*)", makefile).group(1).split()  # type: ignore[union-attr]
    helped = re.findall(r"^([a-z-]+):.*## .+", makefile, re.MULTILINE)
    assert sorted(phony) == sorted(helped)
