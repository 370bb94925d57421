"""The runs that a check repeats: those of the grid `baselines`, made anew into a store that is thrown away."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.config.errors import UserError
from experiments.config.grid import load_grid
from experiments.config.spec import RunSpec
from experiments.data.uci_har import at_hand
from experiments.federation import provenance
from experiments.sweep import plan
from experiments.sweep.plan import Loaded, data_key, load_data
from experiments.sweep.workers import sweep
from partitions import PartitionError
from results.baselines.baselines import Baselines, CellKey, Outcome
from results.store import Store
from strategies import StrategyError

GRID = "baselines"
DRAWS = 6  # moved runs a seed, and the least degrees of freedom of a cell's jitter
QUICK_SEEDS = 2
NAMING = ("dataset", "partition", "strategy", "loss", "seed", "data_hash")  # options that differ within the grid

Cells = dict[CellKey, dict[int, Outcome]]  # by cell and seed


@dataclass(frozen=True)
class Part:
    """What is checked on one data set.

    Attributes:
        name, title: of the data set.
        head: this checkout, as a file of baselines without cells.
        work: the runs to make, with their data.
        refused: cells that cannot run in this setting, with the reason.
        every: all cells of the grid, whatever `--only` leaves.
    """

    name: str
    title: str
    head: Baselines
    work: Loaded
    refused: dict[CellKey, str]
    every: frozenset[CellKey]

    def only(self, keys: Iterable[CellKey]) -> Part:
        """The runs of these cells alone."""
        kept = set(keys)
        return replace(self, work=replace(self.work, specs=[spec for spec in self.work.specs if cell_of(spec) in kept]))


def prepare(only: Sequence[str], quick: bool, path: Path | None) -> tuple[list[Part], list[str]]:
    """What is to be run, by data set; and a line for each data set that is not here.

    Args:
        only: `key=value` as a sweep's.
        quick: the first `QUICK_SEEDS` seeds.
        path: the command line's `--data`, which names UCI HAR (`watch` is always here).

    Raises:
        UserError, DataError: an unknown key or value, unreadable data, or nothing left to check.
    """
    every = load_grid(GRID).specs()
    specs = load_grid(GRID, only).specs()
    seeds = sorted({spec.seed for spec in specs})[: QUICK_SEEDS if quick else None]
    parts, absent = [], []
    for name in dict.fromkeys(_dataset(spec) for spec in specs):
        if name == "uci-har" and not at_hand(path):
            absent.append("uci-har is not checked: it is not on this machine (name it by --data or $UCI_HAR_ZIP)")
            continue
        own = [spec for spec in specs if _dataset(spec) == name and spec.seed in seeds]
        loaded = load_data(own, path if name == "uci-har" else None, may_fall_back=False)
        parts.append(_part(name, loaded, frozenset(cell_of(spec) for spec in every if _dataset(spec) == name)))
    if not parts:
        raise UserError(f"nothing to check; {'; '.join(absent)}")
    return parts, absent


def cell_of(spec: RunSpec) -> CellKey:
    """The cell that a run belongs to."""
    return CellKey(spec.options()["partition"], spec.rule)


def _dataset(spec: RunSpec) -> str:
    return str(spec.options()["dataset"])


def _part(name: str, loaded: Loaded, every: frozenset[CellKey]) -> Part:
    refused: dict[CellKey, str] = {}
    for key, spec in {cell_of(spec): spec for spec in loaded.specs}.items():
        try:
            plan.check(loaded, [spec])
        except (StrategyError, PartitionError, UserError) as error:
            refused[key] = str(error)
    head = Baselines(
        dataset=name,
        data_hash=loaded.specs[0].data_hash,
        settings=_settings(loaded.specs[0]),
        versions=provenance.versions(),
        cpu_path=provenance.cpu_path(),
        draws=DRAWS,
        cells=(),
    )
    part = Part(name, loaded.data[data_key(loaded.specs[0])].about.title, head, loaded, refused, every)
    return part.only({cell_of(spec) for spec in loaded.specs} - set(refused))


def _settings(spec: RunSpec) -> dict[str, Any]:
    """Options that are not at their default, without those that name a run within the grid."""
    return {key: value for key, value in json.loads(spec.canonical_json()).items() if key not in NAMING}


def outcomes(parts: Sequence[Part], workers: int | None, moved: int = 0) -> tuple[dict[str, Cells], float]:
    """Make all runs in one sweep.

    Args:
        workers: runs at a time; all cores by default.
        moved: which draw of first weights moved by one ulp (`run.one_ulp`); 0 for none.

    Returns:
        outcomes by data set, and seconds of CPU time.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    specs = {spec.run_id: spec for part in parts for spec in part.work.specs}
    data = {key: rows for part in parts for key, rows in part.work.data.items()}
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        store = Store(folder)
        if sweep(list(specs.values()), data, store, workers=workers, moved=moved).interrupted:
            raise KeyboardInterrupt
        records = {record.run_id: record for record in store.records()}
    found: dict[str, Cells] = {part.name: {} for part in parts}
    for run_id, spec in specs.items():
        found[_dataset(spec)].setdefault(cell_of(spec), {})[spec.seed] = Outcome.of(records[run_id])
    return found, sum(record.cost.cpu_s for record in records.values())
