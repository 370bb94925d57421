"""Who holds which data, and how uneven it is. One file is one partition; this module finds them.

Imports nothing of strategies, experiments or results.
"""

from __future__ import annotations

import inspect
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from partitions.base import Partition, PartitionError, Pool
from partitions.deal import Deal, deal
from partitions.folds import Fold
from partitions.measures import Unevenness

__all__ = ["Deal", "Fold", "Partition", "PartitionError", "Pool", "Unevenness", "deal", "registered"]


@cache
def registered() -> dict[str, type[Partition]]:
    """Every partition by name, sorted: for each module of this folder the concrete Partition written in it.

    Raises PartitionError for a module with two of them: a name would be ambiguous.
    """
    found: dict[str, type[Partition]] = {}
    for name in sorted(module.name for module in iter_modules(__path__)):
        module = import_module(f"{__name__}.{name}")
        classes = [
            kind
            for kind in vars(module).values()
            if inspect.isclass(kind)
            and issubclass(kind, Partition)
            and kind.__module__ == module.__name__
            and not inspect.isabstract(kind)
        ]
        if len(classes) > 1:
            names = " and ".join(kind.__name__ for kind in classes)
            raise PartitionError(f"partitions/{name}.py holds {names}, expected one partition a file: move one")
        if classes:
            found[name] = classes[0]
    return found
