"""What a result was made with: versions, CPU path, commit, and a hash of the sources that made it.

Bits are comparable on the same versions and CPU path alone. The sources' hash covers the Python files of
`experiments`, `strategies` and `partitions` that the run's own modules import, directly or not, parsed without
comments and docstrings: a reworded comment, or another strategy's change, does not make a result stale.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from sysconfig import get_path

import numpy as np

ROOT = Path(__file__).parents[2]
ROOMS = ("experiments", "strategies", "partitions")
COMMIT = "FEDERATED_OFFICES_COMMIT"
_INSTALLED = tuple(Path(get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
LIBRARIES = ("numpy", "numba", "torch", "flwr", "ray", "scipy", "pandas")


def sources_hash(
    modules: frozenset[str], tables: tuple[tuple[str, str], ...] = (), own: frozenset[str] = frozenset()
) -> str:
    """Hash (16 hex digits) of the code that a result comes from.

    Args:
        modules: with every module of our rooms that they import.
        tables: that they read.
        own: modules of the user's, with what they import of the user's; installed ones are known by their version.
    """
    files = sorted(own_files(own))
    if not files:
        return _hash_of_ours(modules, tables)
    # A user's strategy may stand on ours, which the run's own modules need not import.
    used = {name for path in files for name in _names(path) if name.split(".")[0] in ROOMS}
    digest = hashlib.sha256(_hash_of_ours(modules | used, tables).encode())
    for path in files:  # read anew each time: a notebook's user edits and runs again
        digest.update(f"{path.name} {_code_of(path.read_text('utf-8'))}\n".encode())
    return digest.hexdigest()[:16]


def own_files(modules: Iterable[str]) -> set[Path]:
    """The files of a user's modules and of all that they import of the user's, without importing anything."""
    found: dict[str, Path] = {}
    left = [parent for module in modules for parent in _with_parents(module)]
    while left:
        module = left.pop()
        path = None if module in found else _found(module)
        if path is not None:
            found[module] = path
            left += _names(path, module if path.name == "__init__.py" else module.rpartition(".")[0])
    return set(found.values())


def _found(module: str) -> Path | None:
    """Where Python would find a module; None of what is ours, built in or installed."""
    names, path, spec = module.split("."), None, None
    if names[0] in ROOMS:
        return None
    for depth in range(len(names)):
        spec = PathFinder.find_spec(".".join(names[: depth + 1]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    origin = Path(spec.origin) if spec and spec.origin and spec.has_location else None
    if origin is None or origin.suffix != ".py" or any(origin.is_relative_to(folder) for folder in _INSTALLED):
        return None
    return origin


@cache
def _hash_of_ours(modules: frozenset[str], tables: tuple[tuple[str, str], ...]) -> str:
    digest = hashlib.sha256(repr(tables).encode() if tables else b"")
    for name in sorted(closure(modules)):
        digest.update(f"{name} {_code(_path(name))}\n".encode())
    return digest.hexdigest()[:16]


def closure(modules: Iterable[str]) -> set[str]:
    """The modules and all that they import within our rooms, by their import statements."""
    found: set[str] = set()
    left = list(modules)
    while left:
        name = left.pop()
        if name not in found and _path(name).exists():
            found.add(name)
            left += _imports(_path(name))
    return found


def _path(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _imports(path: Path) -> list[str]:
    """Modules of our rooms that a file's import statements name, and the packages they lie in."""
    return sorted(name for name in _names(path) if name.split(".")[0] in ROOMS)


def _names(path: Path, package: str = "") -> list[str]:
    """Modules that a file's import statements name, and the packages they lie in.

    Args:
        package: that the file lies in, which `from . import x` begins at. Our own rooms write no such import.
    """
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, node.module] if node.module else above)
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return sorted({parent for name in names for parent in _with_parents(name)})


def _with_parents(module: str) -> list[str]:
    """A module and the packages it lies in, outermost first."""
    names = module.split(".")
    return [".".join(names[: depth + 1]) for depth in range(len(names))]


@cache
def _code(path: Path) -> str:
    return _code_of(path.read_text("utf-8"))


def _code_of(text: str) -> str:
    """Hash of a file's syntax tree without docstrings (comments are not in the tree)."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


@cache
def versions() -> dict[str, str]:
    """Python's version and those of the libraries that a result depends on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in LIBRARIES}}


@cache
def commit() -> str | None:
    """The checkout's commit, with `+` if tracked files differ from it; None outside git.

    Workers of a cluster have the sources without the checkout: the driver tells them its commit.
    """
    if COMMIT in os.environ:
        return os.environ[COMMIT] or None
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@cache
def machine() -> str:
    """Processor and system, without a host's name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {platform.system()}"


@cache
def cpu_path() -> str:
    """What decides the bits of a matrix product, beside the library's version: vector unit and BLAS kernels."""
    from threadpoolctl import threadpool_info

    kernels = sorted({library["architecture"] for library in threadpool_info() if "architecture" in library})
    units = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    # NumPy's loops for AVX-512 have one name or the other, by its version; the unit that is there may be unused.
    wide = "AVX512F" if units.get("X86_V4") or (units.get("AVX512_SKX") and "X86_V4" not in units) else ""
    unit = wide or next((name for name in ("AVX2", "ASIMD") if units.get(name)), "none")
    return f"{unit}, OpenBLAS {'/'.join(kernels)}, MKL_CBWR={os.environ.get('MKL_CBWR', 'unset')}"
