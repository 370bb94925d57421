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
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
ROOMS = ("experiments", "strategies", "partitions")
COMMIT = "FEDERATED_OFFICES_COMMIT"
LIBRARIES = ("numpy", "numba", "torch", "flwr", "ray", "scipy", "pandas")


@cache
def sources_hash(modules: frozenset[str], tables: tuple[tuple[str, str], ...] = ()) -> str:
    """Hash (16 hex digits) of the modules, of every module of our rooms that they import, and of tables they read."""
    digest = hashlib.sha256(repr(tables).encode() if tables else b"")
    for name in sorted(closure(modules)):
        digest.update(f"{name} {_read(_path(name))[1]}\n".encode())
    return digest.hexdigest()[:16]


def closure(modules: Iterable[str]) -> set[str]:
    """The modules and all that they import within our rooms, by their import statements."""
    found: set[str] = set()
    left = list(modules)
    while left:
        name = left.pop()
        if name not in found and _path(name).exists():
            found.add(name)
            left += _read(_path(name))[0]
    return found


def _path(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _read(path: Path) -> tuple[list[str], str]:
    """Modules of our rooms that a file's import statements name, with the packages they lie in; and the hash of its
    syntax tree without docstrings (comments are not in the tree)."""
    names: list[str] = []
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    packages = {".".join(name.split(".")[: depth + 1]) for name in names for depth in range(name.count(".") + 1)}
    imports = sorted(name for name in packages if name.split(".")[0] in ROOMS)
    return imports, hashlib.sha256(ast.dump(tree).encode()).hexdigest()


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
