"""One file adds a partition; looking for them costs and imports next to nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import partitions
from partitions import registered
from tests.partitions.pools import error_of, har_like, split

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
    registered.cache_clear()
    yield tmp_path
    registered.cache_clear()
    for name in [name for name in sys.modules if name.startswith("partitions.added")]:
        del sys.modules[name]


def test_a_file_is_a_partition(folder: Path) -> None:
    (folder / "added_alternating.py").write_text(ONE.format(name="Alternating"))
    kind = registered()["added_alternating"]
    assert kind(1).name == "added_alternating"
    assert np.array_equal(split(kind(1), har_like(), 4)[0][:3], [1, 5, 9])


def test_a_module_without_a_partition_is_none(folder: Path) -> None:
    (folder / "added_helper.py").write_text("from partitions.iid import IID\n")
    assert "added_helper" not in registered()
    assert not {"base", "counts", "deal", "folds", "measures"} & set(registered())


def test_two_partitions_in_a_file_are_refused(folder: Path) -> None:
    (folder / "added_two.py").write_text(ONE.format(name="One") + ONE.format(name="Two"))
    message = error_of(registered)
    assert "added_two.py holds One and Two" in message
    assert "one partition a file" in message


def test_the_room_is_a_light_leaf() -> None:
    """Neither other rooms nor heavy libraries are imported to list the partitions."""
    script = "import sys, partitions; partitions.registered(); print(*{m.split('.')[0] for m in sys.modules})"
    start = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(partitions.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - start
    loaded = set(run.stdout.split())
    assert "numpy" in loaded
    assert not loaded & {"strategies", "experiments", "results", "scipy", "pandas", "torch", "flwr", "ray"}
    assert seconds < 5  # 0.2 s alone; the bound only catches a heavy import on a loaded machine
