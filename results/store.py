"""One JSON file a run, which appears whole or not at all.

    ROOT/runs/<first two characters of run_id>/<run_id>-<engine>.json

A file is written under a temporary name in its own folder, flushed to the disk and renamed, and the folder is
flushed: a writer that is killed, or a machine that loses power, leaves either the old file, the new one, or none.
What a killed writer leaves behind is not seen by readers and is swept away by a later `Store`. Many processes may
read and write one store; two that write the same run write the same bits, and the last rename stands.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from results import ResultsError
from results.files import TEMPORARY, flush_folder, write_whole
from results.record import Glance, Key, RunRecord, Status, decode, encode, glance

if TYPE_CHECKING:
    import pyarrow as pa

LEFTOVER_S = 3600.0  # a write takes milliseconds: a temporary file of this age has no writer any more

_FILE = re.compile(r"([0-9a-f]{4,64})-([a-z][a-z0-9_]*)\.json")
_SHARD = re.compile(r"[0-9a-f]{2}")


@dataclass(frozen=True)
class Merged:
    """What `Store.merge` did, by key.

    Attributes:
        copied: were not here, or only as a failed run.
        same: were here with the same rounds and scores.
        different: were here with others; ours was kept. The same code on the same CPU path never gives this.
    """

    copied: tuple[Key, ...]
    same: tuple[Key, ...]
    different: tuple[Key, ...]


class Store:
    """The runs under one folder. Opening it creates nothing.

    Args:
        root: folder that holds `runs`; it need not exist.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.runs = self.root / "runs"
        self._sweep_leftovers()

    def path(self, run_id: str, engine: str) -> Path:
        """Where a run is or would be.

        Raises:
            ResultsError: no run can have that name.
        """
        name = f"{run_id}-{engine}.json"
        if not _FILE.fullmatch(name):
            raise ResultsError(
                f"{run_id!r}, {engine!r}: expected 4 to 64 hexadecimal digits and an engine's name in lower case"
            )
        return self.runs / run_id[:2] / name

    def check_writable(self) -> None:
        """As `check_writable` of the folder of runs."""
        check_writable(self.runs)

    def put(self, record: RunRecord) -> Path:
        """Write a record, in place of an older one of the same key; on return it is on the disk.

        Raises:
            ResultsError: the store cannot be written.
        """
        return self._write(record.key, encode(record))

    def has(self, run_id: str, engine: str) -> bool:
        """Whether a run exists, whatever its status."""
        return self.path(run_id, engine).exists()

    def get(self, run_id: str, engine: str) -> RunRecord:
        """Read one run.

        Raises:
            ResultsError: there is none, or its file is broken or of another schema version.
        """
        path = self.path(run_id, engine)
        return decode(_read(path), path)

    def glance(self, run_id: str, engine: str) -> Glance | None:
        """Status, spec, score and sources of a run, or None where there is no such run. About 0.05 ms.

        Raises:
            ResultsError: its file is broken or of another schema version.
        """
        path = self.path(run_id, engine)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        return glance(text, path)

    def status(self, key: Key) -> Status | None:
        """Status of a run, or None where there is none. None and `failed` are to be run, `ok` and `diverged` not."""
        found = self.glance(*key)
        return None if found is None else found.status

    def keys(self) -> list[Key]:
        """Every run's key, sorted. Reads folders only."""
        return sorted(_key(entry.name) for entry in self._files() if _FILE.fullmatch(entry.name))

    def __len__(self) -> int:
        return len(self.keys())

    def records(self, keys: Iterable[tuple[str, str]] | None = None) -> Iterator[RunRecord]:
        """Every run, sorted by key; or those of `keys`, in their order.

        Raises:
            ResultsError: as `get`.
        """
        return (self.get(*key) for key in (self.keys() if keys is None else keys))

    def glances(self) -> Iterator[Glance]:
        """A glance at every run, sorted by key.

        Raises:
            ResultsError: as `glance`.
        """
        found = (self.glance(*key) for key in self.keys())
        return (one for one in found if one is not None)  # None: removed meanwhile

    def find(self, prefix: str) -> list[RunRecord]:
        """The runs whose id begins with `prefix`, under every engine.

        Raises:
            ResultsError: there is none, or runs of several ids.
        """
        keys = [key for key in self.keys() if key.run_id.startswith(prefix)]
        ids = sorted({key.run_id for key in keys})
        if not ids:
            raise ResultsError(f"no run {prefix!r} in {self.root}; `results ls` lists the {len(self)} runs there are")
        if len(ids) > 1:
            few = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
            raise ResultsError(f"{prefix!r} fits {len(ids)} runs ({few}); write more digits of the id")
        return list(self.records(keys))

    def rm(self, run_id: str, engine: str) -> None:
        """Remove one run.

        Raises:
            ResultsError: there is none.
        """
        path = self.path(run_id, engine)
        try:
            path.unlink()
        except FileNotFoundError:
            raise ResultsError(f"{path}: no such run; `results ls` lists those there are") from None
        except OSError as error:
            raise ResultsError(
                f"{path}: cannot be removed ({error.strerror}); ask its owner, or name another --results"
            ) from None
        flush_folder(path.parent)

    def merge(self, other: Store) -> Merged:
        """Copy the runs of another store that are not here. A run that failed here gives way to one that did not fail
        there.

        Raises:
            ResultsError: the other store holds no run, or a file of either is broken.
        """
        keys = other.keys()
        if not keys:
            raise ResultsError(f"{other.root}: no runs to merge; expected a results folder, with runs/ in it")
        copied, same, different = [], [], []
        for key in keys:
            theirs = other.get(*key)
            ours = self.get(*key) if self.has(*key) else None
            if ours is None or (ours.status == "failed" and theirs.status != "failed"):
                self.put(theirs)
                copied.append(key)
            elif theirs.status == "failed" or _outcome(ours) == _outcome(theirs):
                same.append(key)
            else:
                different.append(key)
        return Merged(tuple(copied), tuple(same), tuple(different))

    def compact(self) -> pa.Table:
        """All runs as one Arrow table: `runs/runs.parquet`, brought up to date with the files that changed."""
        from results.compact import compact

        return compact(self)

    def files(self) -> dict[Key, tuple[int, int, int]]:
        """Size [bytes], time of change [ns] and inode of every run's file: together they tell a replaced file."""
        found = {}
        for entry in self._files():
            if _FILE.fullmatch(entry.name):
                about = entry.stat()
                found[_key(entry.name)] = (about.st_size, about.st_mtime_ns, about.st_ino)
        return dict(sorted(found.items()))

    def _files(self) -> Iterator[os.DirEntry[str]]:
        """Whatever lies in the folders of runs."""
        try:
            shards = [entry.path for entry in os.scandir(self.runs) if _SHARD.fullmatch(entry.name) and entry.is_dir()]
        except FileNotFoundError:
            return
        except OSError as error:
            raise ResultsError(
                f"{self.runs}: cannot be listed ({error.strerror}); expected a folder of runs: choose another --results"
            ) from None
        for shard in shards:
            with os.scandir(shard) as entries:
                yield from entries

    def _sweep_leftovers(self) -> None:
        for entry in self._files():
            if entry.name.endswith(TEMPORARY):
                with contextlib.suppress(OSError):  # its writer may be renaming it, or the store be read-only
                    if time.time() - entry.stat().st_mtime > LEFTOVER_S:
                        os.unlink(entry.path)

    def _write(self, key: Key, content: bytes) -> Path:
        path = self.path(*key)
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                flush_folder(self.runs)
            write_whole(path, content)
        except OSError as error:
            raise ResultsError(
                f"{path}: cannot be written ({error.strerror}); free space or choose another --results"
            ) from None
        return path


def check_writable(folder: Path, option: str = "--results") -> None:
    """Refuse a folder that cannot be written, before hours of runs and not after. It is made if need be.

    Args:
        option: of the command line, by which another is chosen.

    Raises:
        ResultsError: the folder cannot be made, or no file in it.
    """
    probe = folder / f".{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\n")  # a disk that is full takes an empty file
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise ResultsError(
            f"{folder}: cannot be written ({error.strerror}); free space or choose another {option}"
        ) from None


def _key(name: str) -> Key:
    run_id, _, engine = name.removesuffix(".json").rpartition("-")
    return Key(run_id, engine)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such run; `results ls` lists those there are") from None
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror})") from None


def _outcome(record: RunRecord) -> object:
    """What the same spec must give again: everything but costs and environment."""
    return record.status, record.rounds, record.final
