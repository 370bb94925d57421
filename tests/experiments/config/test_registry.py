"""One file adds a partition, a strategy or a data set; looking for them costs and imports next to nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import partitions
from experiments.config import registry
from experiments.config.spec import PARTITIONS, STRATEGIES, RunSpec
from partitions import Pool

ROOT = Path(__file__).parents[3]
ONE = '''"""Halves."""
from dataclasses import dataclass
import numpy as np
from partitions import Partition
from partitions.iid import IID  # an imported partition is not this file's

@dataclass(frozen=True)
class {name}(Partition):
    """Row number modulo the offices, from a first one."""
    first: int = 0

    def split(self, pool, clients, rng):
        return [np.arange((k + self.first) % clients, len(pool), clients) for k in range(clients)]
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A second folder that is searched like partitions/ itself."""
    monkeypatch.setattr(partitions, "__path__", [*partitions.__path__, str(tmp_path)])
    registry._modules.cache_clear()
    yield tmp_path
    registry._modules.cache_clear()
    for name in [name for name in sys.modules if name.startswith("partitions.added")]:
        del sys.modules[name]


def test_a_file_is_a_partition(folder: Path) -> None:
    (folder / "added_alternating.py").write_text(ONE.format(name="Alternating"))
    spec = RunSpec.from_options({"partition": "added_alternating(1)"})
    assert spec.options()["partition"] == "added_alternating(first=1)"
    ones = np.zeros(10, dtype=np.int64)
    assert list(spec.partition.split(Pool(ones, ones, ones, 2), 4, np.random.default_rng(0))[0]) == [1, 5, 9]


def test_a_module_without_a_partition_is_none(folder: Path) -> None:
    (folder / "added_helper.py").write_text("from partitions.iid import IID\n")
    assert "added_helper" not in PARTITIONS
    assert not {"base", "counts", "deal", "folds", "measures", "added_helper"} & set(PARTITIONS)


def test_two_partitions_in_a_file_are_refused(folder: Path) -> None:
    (folder / "added_two.py").write_text(ONE.format(name="One") + ONE.format(name="Two"))
    with pytest.raises(TypeError, match="offers One, Two: one file offers one Partition"):
        list(PARTITIONS)


def test_looking_one_up_imports_its_file_alone() -> None:
    code = "import sys; from experiments.config.spec import STRATEGIES as s; s['fedprox']; print(*sys.modules)"
    assert "strategies.local" not in python(code).split()
    assert "local" in STRATEGIES


def test_rooms_that_others_stand_on_are_light_leaves() -> None:
    """Neither other rooms nor heavy libraries are imported to list partitions and strategies."""
    for room, heavy in (("partitions", {"flwr", "scipy"}), ("strategies", {"scipy"})):
        names = python(f"import sys, {room}; print(*{{name.split('.')[0] for name in sys.modules}})")
        assert not set(names.split()) & {"experiments", "results", "pandas", "torch", "ray", *heavy}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
