"""Compiled code that notices when code it calls has changed.

numba keeps machine code on disk and compiles a function anew when the file of that function changes; what it calls in
another module may change unnoticed, and the old machine code would go on running. What a function closes over is part
of its name in the cache, so here it closes over a digest of those modules.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import CellType, FunctionType, ModuleType
from typing import Any

from numba import njit


def inner(function: Callable[..., Any]) -> Any:
    """Decorate what compiled functions alone call: it becomes part of them, and is not kept by itself."""
    return njit(function)


def compiled(signature: Any, *modules: ModuleType) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function to be compiled at once, for one signature, and kept on disk.

    Args:
        signature: numba's, of the arguments and the result.
        modules: those whose compiled functions it calls, directly or not, beside those of its own.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        assert isinstance(function, FunctionType)
        code = function.__code__
        files = [__file__, code.co_filename, *(str(module.__file__) for module in modules)]
        sources = sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()
        renamed = FunctionType(
            code.replace(co_freevars=(*code.co_freevars, "sources")),
            function.__globals__,
            function.__name__,
            function.__defaults__,
            (*(function.__closure__ or ()), CellType(sources)),
        )
        renamed.__doc__, renamed.__module__ = function.__doc__, function.__module__
        return njit(signature, cache=True)(renamed)

    return decorate
