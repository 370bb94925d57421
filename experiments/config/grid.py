"""A grid: options in a YAML file, lists of values multiplied out into runs.

    partition: [iid, shards(2)]
    strategy: [fedavg, fedprox(mu=0.01)]
    seed: [0, 1, 2]
    rounds: 25

A key is an option of `run` under its own name; a list makes it an axis. A strategy may be a rule, as
`fedavg + logit_adjusted(tau=1)`, which sets the loss as well. `strategy: examples` stands for every
registered strategy's own examples, so that a grid of all strategies has no list to keep; a strategy that has the bits
of another, as a protected sum has those of its plain twin, is left out. Seeds are paired: for one seed every strategy
sees the same partition, first weights and test rows, because none of those depends on the strategy.
Where options go together, `variants` lists what differs, each a small grid of its own over the rest of the file:

    variants:
      - {strategy: dp_sgd(epsilon=1), rounds: 50, client_lr: 0.3}
      - {strategy: dp_sgd(epsilon=8), rounds: 200, client_lr: 0.5}

`tuned: true` gives every run the tuned hyper-parameters of its cell, `tuned: both` makes each run twice, as the grid
says and tuned.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from experiments.config.errors import UserError
from experiments.config.notation import nearest
from experiments.config.spec import STRATEGIES, RunSpec

FOLDER = Path(__file__).parents[1] / "grids"
EXAMPLES = "examples"


@dataclass(frozen=True)
class Grid:
    """A grid file as read.

    Attributes:
        name: file name without ending.
        title: for headings.
        options: option -> value, or list of values for an axis.
        variants: of the options, each in the place of those in the file; none is one of no change.
        tuned: whether its runs take tuned hyper-parameters: no, yes or both.
        tuned_from: options of the tuned cell that a cell without one of its own borrows from.
    """

    name: str
    title: str
    options: Mapping[str, Any]
    tuned: str = "no"
    tuned_from: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Mapping[str, Any], ...] = ({},)

    @property
    def names_dataset(self) -> bool:
        """Whether the grid says what data it wants; only one that does not may fall back on another."""
        return all("dataset" in {**self.options, **variant} for variant in self.variants)

    def specs(self) -> list[RunSpec]:
        """Every run of the grid, once, in the order of the file with seeds innermost.

        Raises:
            UserError: an unknown option or a value out of range.
        """
        runs = [spec for variant in self.variants for spec in self._product({**self.options, **variant})]
        return list({spec.run_id: spec for spec in runs}.values())

    def _product(self, options: Mapping[str, Any]) -> list[RunSpec]:
        """All combinations of some options' values."""
        if "data_hash" in options:
            raise UserError(
                f"grid {self.name}: data_hash is not an option: it is what the data that was read hashes to"
            )
        axes = {key: value if isinstance(value, list) else [value] for key, value in options.items()}
        for key, values in axes.items():
            if not values:
                raise UserError(f"grid {self.name}: {key} is an empty list; name at least one value")
        axes["seed"] = axes.pop("seed", [0])
        return [
            RunSpec.from_options(dict(zip(axes, point, strict=True))) for point in itertools.product(*axes.values())
        ]


def load_grid(name: str, only: Sequence[str] = (), changes: Sequence[str] = ()) -> Grid:
    """Read a grid by its name in `experiments/grids/` or by its path.

    Args:
        only: `key=value`: keep these values of an axis (repeat a key for several).
        changes: `key=value`: replace an option, or add it.

    Raises:
        UserError: no such grid, not YAML, or a key or value that the grid does not have.
    """
    path = Path(name) if os.sep in name or Path(name).suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    try:
        read = yaml.safe_load(path.read_text("utf-8"))
    except OSError:
        hint = nearest(name, [file.stem for file in sorted(FOLDER.glob("*.yaml"))])
        raise UserError(f"no grid {name!r} (looked for {path}){hint}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(read, dict) or not all(isinstance(key, str) for key in read):
        raise UserError(f"{path}: expected lines of `option: value`; found {type(read).__name__}")
    options = {key.replace("-", "_"): value for key, value in read.items()}
    title = str(options.pop("title", path.stem))
    tuned, tuned_from = _tuned(path, options.pop("tuned", False)), options.pop("tuned_from", {})
    if not isinstance(tuned_from, dict):
        raise UserError(f"{path}: tuned_from must name options, as {{partition: iid}}; found {tuned_from!r}")
    variants = _variants(path, options.pop("variants", None))
    for key, value in _pairs("--set", changes):
        try:
            options[key] = yaml.safe_load(value) if value.startswith("[") else value
        except yaml.YAMLError:
            raise UserError(f"--set {key}={value}: expected a value or a list such as [0, 1]") from None
    if options.get("strategy") == EXAMPLES:
        options["strategy"] = [example for cls in STRATEGIES.values() if cls.twin is None for example in cls.examples]
    changed = set(dict(_pairs("--set", changes)))
    variants = tuple({key: value for key, value in one.items() if key not in changed} for one in variants)
    kept: dict[str, list[Any]] = {}
    for key, value in _pairs("--only", only):
        kept.setdefault(key, []).append(_find(path.stem, options, variants, key, value))
    variants = tuple(narrowed for one in variants if (narrowed := _narrowed(one, kept)) is not None)
    return Grid(path.stem, title, {**options, **kept}, tuned, tuned_from, variants)


def _variants(path: Path, value: Any) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        return ({},)
    if not (isinstance(value, list) and value and all(isinstance(one, dict) for one in value)):
        raise UserError(f"{path}: variants must be a list of options that go together; found {value!r}")
    return tuple({str(key).replace("-", "_"): found for key, found in one.items()} for one in value)


def _narrowed(variant: Mapping[str, Any], kept: Mapping[str, list[Any]]) -> Mapping[str, Any] | None:
    """A variant with the values that are kept, which the grid's options then say; None where none is left."""
    narrowed = {key: value for key, value in variant.items() if key not in kept}
    for key in variant.keys() & kept.keys():
        own = variant[key] if isinstance(variant[key], list) else [variant[key]]
        left = [value for value in own if value in kept[key]]
        if not left:
            return None
        narrowed[key] = left
    return narrowed


def _tuned(path: Path, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value not in ("yes", "no", "both"):
        raise UserError(f"{path}: tuned must be true, false or both; found {value!r}")
    return str(value)


def _pairs(flag: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"{flag} {text!r}: expected key=value, e.g. {flag} strategy=fedavg")
        pairs.append((key.strip().replace("-", "_"), value.strip()))
    return pairs


def _find(grid: str, options: Mapping[str, Any], variants: Sequence[Mapping[str, Any]], key: str, wanted: str) -> Any:
    """The grid's own value that is `wanted`, however it is written (`.7`, `0.7`, `ratio=0.7`)."""
    found = [one[key] for one in (options, *variants) if key in one]
    if not found:
        known = [name for one in (options, *variants) for name in one]
        raise UserError(f"--only {key}={wanted}: grid {grid} does not set {key}{nearest(key, known)}")
    values = [value for one in found for value in (one if isinstance(one, list) else [one])]
    asked = RunSpec.from_options({key: wanted})
    for value in values:
        if RunSpec.from_options({key: value}) == asked:  # the whole of it: a rule sets the loss, too
            return value
    raise UserError(f"--only {key}={wanted}: grid {grid} has {', '.join(map(str, values))}")
