"""Which file imports which: no circles inside a room, and `partitions, strategies <- experiments -> results`."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("experiments", "strategies", "partitions", "results")
KINDS = ("module", "function", "typing")  # at the top of a file; inside a function; for the type checker alone
Imports = dict[str, dict[str, set[str]]]  # by module, by kind: modules


def modules() -> dict[str, Path]:
    """Every module of our rooms."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def statements(node: ast.AST, kind: str = "module") -> Iterator[tuple[str, ast.Import | ast.ImportFrom]]:
    """Import statements below a node, with their kind."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield kind, child
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from statements(child, "function" if kind == "module" else kind)
        elif isinstance(child, ast.If) and "__main__" in ast.unparse(child.test):
            continue  # a file that is run as a program may import itself by its name, for pickles
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from statements(ast.Module(child.body, []), "typing")
            yield from statements(ast.Module(child.orelse, []), kind)
        else:
            yield from statements(child, kind)


def imports(known: Mapping[str, Path]) -> Imports:
    """What each module's statements name of ours."""
    found: Imports = {}
    for module, path in known.items():
        by_kind = found[module] = {kind: set() for kind in KINDS}
        for kind, statement in statements(ast.parse(path.read_text("utf-8"))):
            if isinstance(statement, ast.Import):
                by_kind[kind] |= {alias.name for alias in statement.names}
                continue
            assert not statement.level, f"{path}: relative imports are not followed here; write the whole name"
            for alias in statement.names:
                inner = f"{statement.module}.{alias.name}"
                by_kind[kind].add(inner if inner in known else str(statement.module))
        for kind in KINDS:
            by_kind[kind] &= set(known)
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first of them again at its end; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def graph_of(found: Imports, *kinds: str) -> dict[str, set[str]]:
    """All imports of these kinds that stay in a room."""
    return {
        module: {name for kind in kinds for name in by_kind[kind] if name.split(".")[0] == module.split(".")[0]}
        for module, by_kind in found.items()
    }


@pytest.fixture(scope="module")
def found() -> Imports:
    return imports(modules())


@pytest.mark.parametrize("kinds", [KINDS[:1], KINDS[:2], KINDS], ids=KINDS)
def test_no_file_imports_itself_through_others(found: Imports, kinds: tuple[str, ...]) -> None:
    """Imports inside functions and for the type checker, too: a circle that only runs later is one to a reader."""
    assert circle(graph_of(found, *kinds)) == []


@pytest.mark.parametrize("room", ["partitions", "strategies", "results"])
def test_a_room_below_imports_no_other(found: Imports, room: str) -> None:
    outside = {
        (module, name)
        for module, by_kind in found.items()
        for names in by_kind.values()
        for name in names
        if module.split(".")[0] == room and name.split(".")[0] != room
    }
    assert outside == set()


def test_every_kind_of_import_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n\nfrom a import b\n\nif TYPE_CHECKING:\n    import a.c\n\n\n"
        "def f():\n    from a.d import e\n\n\nif __name__ == '__main__':\n    import file\n"
    )
    known = dict.fromkeys(("file", "a", "a.b", "a.c", "a.d"), file)
    assert imports({"file": file} | known)["file"] == {"module": {"a.b"}, "function": {"a.d"}, "typing": {"a.c"}}


def test_a_circle_is_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()})) == {"a", "b", "c"}
    assert circle({"a": {"b"}, "b": set()}) == []
