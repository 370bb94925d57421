"""`list`: what a grid can name, each with the first sentence of its docstring; or one of them with its options."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import sys

from experiments.config.errors import UserError
from experiments.config.grid import FOLDER, load_grid
from experiments.config.notation import canonical, nearest, registry_name
from experiments.config.spec import CORRUPTIONS, LOSSES, PARTITIONS, STRATEGIES
from experiments.data import SOURCES


def main(options: argparse.Namespace) -> int:
    """Print a line for each, or one of them with its options.

    Raises:
        UserError: nothing has that name.
    """
    name = options.name
    registries = {
        "Strategies": STRATEGIES,
        "Partitions": PARTITIONS,
        "Losses": LOSSES,
        "Data sets": SOURCES,
        "Corruptions": CORRUPTIONS,
    }
    if name is not None:
        grid = FOLDER / f"{name}.yaml"
        if grid.exists():
            print(grid.read_text(encoding="utf-8"), end="")
            return 0
        known: dict[str, type] = {}
        for registry in registries.values():
            known |= {registry_name(cls): cls for cls in registry.values()}
        cls = known.get(name) or known.get(name.replace("-", "_"))
        if cls is None:
            raise UserError(f"nothing is called {name!r}{nearest(name, known)}")
        print(
            signature(registry_name(cls), cls),
            inspect.getdoc(sys.modules[cls.__module__]),
            inspect.getdoc(cls),
            sep="\n\n",
        )
        return 0
    for heading, registry in registries.items():
        print(heading)
        for cls in registry.values():
            print(f"  {signature(registry_name(cls), cls):60} {summary(cls)}")
    print("Grids")
    for path in sorted(FOLDER.glob("*.yaml")):
        print(f"  {path.stem:60} {load_grid(path.stem).title}")
    return 0


def signature(name: str, cls: type) -> str:
    """`name(key=default, ...)`."""
    parts = []
    for field in sorted(dataclasses.fields(cls), key=lambda field: field.kw_only is True):
        if field.metadata.get("rest"):
            parts.append("...")
        elif field.default_factory is not dataclasses.MISSING:
            parts.append(f"{field.name}={canonical(field.default_factory())}")
        else:
            parts.append(f"{field.name}={'' if field.default is dataclasses.MISSING else field.default}")
    return f"{name}({', '.join(parts)})" if parts else name


def summary(cls: type) -> str:
    """The first line of the module that a class stands in: a file opens with its idea."""
    return (sys.modules[cls.__module__].__doc__ or "").strip().partition("\n")[0]
