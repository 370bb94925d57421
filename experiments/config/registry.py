"""Find what a folder offers: one file adds a strategy.

A module of the folder that defines one concrete subclass of the folder's base class offers it under the file's name,
with hyphens for underscores allowed. There is no list to keep: the folder is the list. Looking one name up imports
that file alone.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any


class Folder(Mapping[str, type[Any]]):
    """The concrete subclasses of `base` in the modules of `package`, by module name."""

    def __init__(self, package: str, base: type) -> None:
        self.package, self.base = package, base

    def __getitem__(self, name: str) -> type[Any]:
        found = self._offered(name.replace("-", "_")) if name.replace("-", "_") in self._modules() else None
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._modules() if self._offered(name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _modules(self) -> list[str]:
        return [name for name in _modules(self.package) if f"{self.package}.{name}" != self.base.__module__]

    def _offered(self, name: str) -> type[Any] | None:
        module = importlib.import_module(f"{self.package}.{name}")
        offered = [
            cls
            for cls in vars(module).values()
            if inspect.isclass(cls)
            and issubclass(cls, self.base)
            and cls.__module__ == module.__name__
            and not inspect.isabstract(cls)
        ]
        if len(offered) > 1:
            names = ", ".join(cls.__name__ for cls in offered)
            raise TypeError(f"{module.__name__} offers {names}: one file offers one {self.base.__name__}")
        return offered[0] if offered else None


@cache
def _modules(package: str) -> list[str]:
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_"))
