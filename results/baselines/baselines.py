"""Regression baselines: what every strategy scored when it was last looked at.

    results/baselines/<data set>.json        one line a cell (partition, strategy), committed

A baseline is the score of each seed, a digest of its rounds, and the cell's own *jitter*: how far rounding alone moves
the score of a seed. It is measured by runs from first weights moved by one ulp, and is far below the spread over seeds
(1.5 to 13 points), which would hide a regression of one point. `results.baselines.changes` judges by these.

Scores and jitter are in points (percent).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from results import ResultsError
from results.files import write_anew
from results.record import Round, RunRecord

SCHEMA = 1
# What a digest covers. A field that records gain later is not in it, or every baseline would change with it.
MEASURED = ("round", "test_accuracy", "test_loss", "test_macro_f1", "validation_accuracy", "train_loss")


class CellKey(NamedTuple):
    """What names a cell within a data set, in canonical notation; the rule under the name of `strategy`."""

    partition: str
    strategy: str


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one seed: its score in points (None where the run has none) and the digest of its rounds."""

    score: float | None
    digest: str
    problem: str | None = None  # why there is no score; never in a file

    @classmethod
    def of(cls, record: RunRecord) -> Outcome:
        """From a run's record."""
        score = record.final.score if record.final is not None else None
        problem = None
        if score is None:
            problem = f"{record.status}: {(record.error or 'no score').partition(chr(10))[0]}"
        return cls(None if score is None else 100 * score, digest(record.rounds), problem)

    def same(self, other: Outcome) -> bool:
        """Bit for bit. The score is compared too: it is made from the rounds, by code that may err."""
        return (self.score, self.digest) == (other.score, other.digest)


Outcomes = Mapping[int, Outcome]  # by seed


def digest(rounds: Sequence[Round]) -> str:
    """First 16 hex digits of the SHA-256 of every round's figures by `repr`, in order."""
    text = "\n".join(" ".join(repr(getattr(row, name)) for name in MEASURED) for row in rounds)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Jitter(NamedTuple):
    """Standard deviation of a paired difference d_s that rounding alone makes, and its degrees of freedom."""

    sd: float
    df: float


def jitter(draws: Mapping[int, Sequence[float | None]]) -> Jitter | None:
    """From the scores by seed, committed and moved ones alike; None if a run has no score (rounding decides that).

    Two draws of variance v_s differ by 2 v_s, so sd^2 = 2 mean_s(v_s). Seeds differ in v_s, so the degrees of freedom
    are Satterthwaite's (1946): (sum v_s)^2 / sum(v_s^2 / df_s), from those of one seed to those of all.
    """
    known = [[score for score in scores if score is not None] for scores in draws.values()]
    if any(len(kept) < max(2, len(scores)) for kept, scores in zip(known, draws.values(), strict=True)) or not known:
        return None
    v = np.array([np.var(scores, ddof=1) for scores in known])
    df = np.array([len(scores) - 1 for scores in known])
    # Equal scores can leave a rounding's dust in the mean; dust is no jitter.
    v[v < 1e-20] = 0.0
    if not v.any():
        return Jitter(0.0, float(df.sum()))
    return Jitter(math.sqrt(2 * v.mean()), float(v.sum() ** 2 / (v**2 / df).sum()))


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A cell's baseline.

    Attributes:
        seeds: outcomes by seed. A run that diverged is a baseline too, without a score; one that failed is none.
        jitter, df: see `jitter`; None where it could not be measured.
        commit: that the runs were made at; `+` where files differed from it.
    """

    partition: str
    strategy: str
    seeds: dict[int, Outcome]
    jitter: float | None
    df: float | None
    commit: str | None

    @property
    def key(self) -> CellKey:
        """Its name."""
        return CellKey(self.partition, self.strategy)


class Baselines(msgspec.Struct, frozen=True, kw_only=True):
    """The file of one data set.

    Attributes:
        settings: options of all runs that are not at their default, without what names a cell.
        data_hash: content of the data.
        versions, cpu_path: where bits compare.
        draws: moved runs a seed that the jitter was measured with.
    """

    schema: int = SCHEMA
    dataset: str
    data_hash: str
    settings: dict[str, Any]
    versions: dict[str, str]
    cpu_path: str
    draws: int
    cells: tuple[Cell, ...]

    @property
    def by_key(self) -> dict[CellKey, Cell]:
        """Cells by name."""
        return {cell.key: cell for cell in self.cells}

    def elsewhere(self, other: Baselines) -> list[str]:
        """Why bits do not compare with `other`'s: what differs, in words; empty where they do."""
        names = sorted(set(self.versions) | set(other.versions))
        changed = [
            f"{name} {other.versions.get(name, 'absent')} (baseline: {self.versions.get(name, 'absent')})"
            for name in names
            if self.versions.get(name) != other.versions.get(name)
        ]
        if self.cpu_path != other.cpu_path:
            changed.append(f"CPU path {other.cpu_path} (baseline: {self.cpu_path})")
        if self.data_hash != other.data_hash:
            changed.append(f"other data content {other.data_hash[:8]} (baseline: {self.data_hash[:8]})")
        return changed


def read(path: Path) -> Baselines | None:
    """One file; None where there is none.

    Raises:
        ResultsError: it is not a file of baselines of this schema.
    """
    cure = "take it from git again, or remove it and make it anew with `make baselines`"
    try:
        found = _DECODER.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ResultsError(f"{path}: not a file of baselines ({error}); {cure}") from None
    if found.schema != SCHEMA:
        raise ResultsError(f"{path}: baselines of schema version {found.schema}, expected {SCHEMA}; {cure}")
    return found


def write(path: Path, baselines: Baselines) -> None:
    """Write a file; it appears whole or not at all.

    Raises:
        ResultsError: the folder cannot be written.
    """
    write_anew(path, encode(baselines))


def encode(baselines: Baselines) -> bytes:
    """JSON with one line a cell, so that a change of one shows as one line."""
    fields = msgspec.to_builtins(baselines, str_keys=True)
    cells = fields.pop("cells")
    for cell in cells:
        cell["seeds"] = {seed: outcome[:2] for seed, outcome in cell["seeds"].items()}
    head = msgspec.json.format(msgspec.json.encode(fields), indent=1).decode().removesuffix("\n}")
    lines = [f"  {msgspec.json.format(msgspec.json.encode(cell), indent=0).decode()}" for cell in cells]
    return (head + ',\n "cells": [\n' + ",\n".join(lines) + "\n ]\n}\n").encode()


_DECODER = msgspec.json.Decoder(Baselines)
