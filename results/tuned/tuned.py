"""Tuned hyper-parameters: one YAML file a cell under `results/tuned/`, which `tune` writes and sweeps and reports read.

A *cell* of tuning is everything that decides which hyper-parameters are best, but not those themselves: data set, form,
test persons, partition, model, number and fraction of clients, the strategy without its tuned fields, and loss and
corruption where they are not the default (so files from before these options stand). How it was
tuned (data hash, rounds, seeds, validation) stands beside the key and not in it. Values are validation accuracies in
[0, 1]; the seeds that made them are never reported, and no test row was open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from results import ResultsError
from results.files import slug, write_anew
from results.rules import LOSS, Rule

FIXED_EPOCHS = "fixed-epochs"  # folder of winners whose local epochs were not tuned
KEY = ("dataset", "form", "test_persons", "partition", "model", "clients", "fraction", "strategy")
OPTIONAL: dict[str, Any] = {"loss": LOSS, "corrupt": None}  # of the key too, where an option is not at this default


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A point of the search space.

    Attributes:
        number: place in the study, from 0 (the default).
        batch: which batch of asked trials it came in; those of the first two are drawn at random and never pruned.
        state: `complete`, or `pruned` by halving.
        rounds: how many it was trained for.
        value: mean over five runs of the mean validation accuracy of the last five of those rounds.
        params: what was tuned, by name.
    """

    number: int
    batch: int
    state: Literal["complete", "pruned"]
    rounds: int
    value: float
    params: dict[str, Any]


class Finalist(msgspec.Struct, frozen=True, kw_only=True):
    """One of the five best trials, run again: the winner is the one of the highest `fresh`, by that alone.

    Attributes:
        number: of the trial.
        value: its value in the study, biased upward by being a maximum.
        fresh: the same mean on five seeds that the study had not seen.
    """

    number: int
    value: float
    fresh: float


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one run with the winner's values takes, for its `rounds`: means over the five fresh runs, all offices.

    Attributes:
        rounds: of training.
        gradient_steps: minibatches.
        forward_passes: training rows put through the model.
        bytes: up and down.
    """

    rounds: int
    gradient_steps: float
    forward_passes: float
    bytes: float


class Winner(msgspec.Struct, frozen=True, kw_only=True):
    """A tuned cell.

    Attributes:
        key: the cell, by KEY and, where they are not at their default, OPTIONAL.
        options: what a run is to be given, as on a command line (the strategy with its tuned fields among them).
        finalists: the best five, the winner first; the default is in `trials` as number 0.
        importance: share of the variance of the values that each parameter explains (sums to 1); empty if unknown.
        study: how it was tuned: trials, rounds, seeds, fresh_seeds, validation, seed, data_hash, commit, versions.
        halving_loses: share of random deals into batches in which halving would have stopped the best trial; known
            only where every trial ran to the end, else None.
    """

    key: dict[str, Any]
    options: dict[str, Any]
    finalists: tuple[Finalist, ...]
    cost: Cost
    importance: dict[str, float]
    study: dict[str, Any]
    trials: tuple[Trial, ...]
    halving_loses: float | None = None

    @property
    def rule(self) -> Rule:
        """What was tuned, without its tuned fields."""
        return Rule.of(self.key["strategy"], self.key.get("loss"))

    @property
    def name(self) -> str:
        """Of its file, without ending."""
        return file_name(self.key)


def key_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's options that makes its cell."""
    others = {name: options[name] for name, default in OPTIONAL.items() if options.get(name, default) != default}
    return {name: options[name] for name in KEY} | others


def named_by(winners: Iterable[Winner]) -> list[str]:
    """Names of the parts of these winners' keys: KEY, and what of OPTIONAL any of them has."""
    present = {name for winner in winners for name in winner.key}
    return [*KEY, *(name for name in OPTIONAL if name in present)]


def part(winner: Winner, name: str) -> Any:
    """The value of a part of a winner's key, its default where the key leaves it out."""
    return winner.key.get(name, OPTIONAL.get(name))


def file_name(key: Mapping[str, Any]) -> str:
    """A cell's file: readable, and told apart by a hash of all of the key."""
    key = key_of(key)
    digest = hashlib.sha256(msgspec.json.encode(key, order="sorted")).hexdigest()
    names = [name for name in ("dataset", "partition", "strategy", *OPTIONAL) if name in key]
    return "-".join([*(slug(str(key[name])) for name in names), digest[:8]])


def find(folder: Path, key: Mapping[str, Any]) -> Winner | None:
    """The winner of a cell, or None where it has not been tuned.

    Raises:
        ResultsError: its file is not that cell's.
    """
    path = folder / f"{file_name(key)}.yaml"
    return read(path) if path.exists() else None


def everything(folder: Path) -> list[Winner]:
    """Every winner of a folder, by file name; none where there is no folder.

    Raises:
        ResultsError: as `read`.
    """
    return [read(path) for path in sorted(folder.glob("*.yaml"))]


def repeats(folder: Path) -> list[Winner]:
    """Winners of further studies of the same cells, by other study seeds: they say how much a search varies.

    Raises:
        ResultsError: as `read`.
    """
    return [read(path) for path in sorted(folder.glob("seed-*/*.yaml"))]


def read(path: Path) -> Winner:
    """One file.

    Raises:
        ResultsError: it cannot be read, is not a winner's, or bears the name of another cell.
    """
    try:
        # ValueError: a date that is none is YAML's own, and no YAMLError
        found = msgspec.convert(yaml.load(path.read_text("utf-8"), _LOADER), Winner)
        lacking = [name for name in KEY if name not in found.key]
        if lacking or not found.finalists:
            raise ValueError(f"without {', '.join(lacking) or 'a finalist'}")
        if path.stem != found.name:
            raise ValueError(f"its key is that of {found.name}")
    except (OSError, ValueError, yaml.YAMLError, msgspec.ValidationError) as error:
        what = " ".join(str(error).split())
        raise ResultsError(f"{path}: not a tuned cell ({what}); remove it and tune again with `make tune`") from None
    return found


def write(folder: Path, winner: Winner) -> Path:
    """Write a winner; the file appears whole or not at all.

    Raises:
        ResultsError: the folder cannot be written.
    """
    path = folder / f"{winner.name}.yaml"
    write_anew(path, _text(winner).encode())
    return path


def _text(winner: Winner) -> str:
    """YAML with a line a trial, so that a change of one shows as one line."""
    fields: dict[str, Any] = msgspec.to_builtins(winner)
    trials = fields.pop("trials")
    head = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)
    lines = [yaml.safe_dump(trial, sort_keys=False, default_flow_style=True, width=10**6).strip() for trial in trials]
    return head + "trials:\n" + "".join(f"- {line}\n" for line in lines)


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
