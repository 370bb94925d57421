"""`name(key=value, ...)`: the one way to write a strategy, partition, model or optimizer.

The same text stands on the command line, in grid files, in tables and in legends:

    fedprox(mu=0.01)      shards(2)      flower(path=flwr.serverapp.strategy.FedTrimmedAvg, beta=0.25)

Values are numbers, strings, lists, dotted names or calls, and calls nest. A `Call` is what was written; `build` turns
it into the frozen dataclass of that name; `canonical` writes a dataclass back with sorted keys and without its
defaults. That text is what is hashed and shown, so two ways of writing the same thing are one thing:

    canonical(build(parse("fedprox(0.01)"), strategies)) == "fedprox(mu=0.01)"

A *rule* is a strategy and what its local training minimises, written with a plus sign:

    fedavg + logit_adjusted(tau=1)

Arguments are read by Python's own parser (`ast`, never `eval`): the notation is a subset of Python's call syntax.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import keyword
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.config.errors import UserError

_NAME = re.compile(r"\s*([A-Za-z_][\w-]*)\s*(\(.*\))?\s*", re.DOTALL | re.ASCII)
_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}
_PIECE = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|.", re.DOTALL)  # a quoted string, or a character


@dataclass(frozen=True)
class Call:
    """What was written: a name, positional values and named values (in the order written)."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()


def parse(text: str) -> Call:
    """Read one call.

    Raises:
        UserError: the text is not `name` or `name(key=value, ...)`; the message says where it went wrong.
    """
    match = _NAME.fullmatch(str(text))
    if match is None:
        raise UserError(f"cannot read {text!r}: expected name or name(key=value, ...), e.g. fedprox(mu=0.01)")
    name, arguments = match.groups()
    if arguments is None:
        return Call(name)
    try:
        tree = ast.parse(f"_{arguments}", mode="eval").body
    except SyntaxError as error:
        place = (error.offset or 1) - 2 + len(name)
        raise UserError(f"cannot read {text!r}: {error.msg} at character {max(place, 1)}") from None
    if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)):
        raise UserError(f"cannot read {text!r}: expected one pair of parentheses after {name}")
    return Call(name, *_arguments(tree, text))


def terms(text: str) -> list[str]:
    """The texts between the plus signs of a rule; those inside of parentheses or quotes are part of a value."""
    found, depth = [""], 0
    for piece in _PIECE.findall(text):
        depth += (piece in "([") - (piece in ")]")
        if piece == "+" and depth == 0:
            found.append("")
        else:
            found[-1] += piece
    return [term.strip() for term in found]


def _arguments(node: ast.Call, text: str) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
    if any(given.arg is None for given in node.keywords):
        raise UserError(f"cannot read {text!r}: '**' is not part of the notation; write key=value")
    return (
        tuple(_value(argument, text) for argument in node.args),
        tuple((str(given.arg), _value(given.value, text)) for given in node.keywords),
    )


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant(value=float() as value) if not math.isfinite(value):
            raise UserError(f"cannot read {ast.unparse(node)!r} in {text!r}: numbers are finite")
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return tuple(_value(item, text) for item in items)
        case ast.Name(id=name):
            return _CONSTANTS.get(name, name)
        case ast.Attribute():
            return ast.unparse(node)
        case ast.Call(func=ast.Name(id=name)):
            return Call(name, *_arguments(node, text))
    raise UserError(
        f"cannot read {ast.unparse(node)!r} in {text!r}: values are numbers, strings, lists, dotted names or calls"
    )


def build(call: Call, registry: Mapping[str, type], kind: str) -> Any:
    """The dataclass instance that a call names; nested calls are built from the same registry.

    A dataclass with a field whose metadata says `rest` takes every further keyword there (`flower(path=...,
    beta=0.25)`).

    Raises:
        UserError: unknown name or option (with the nearest known one), a missing option, or a value that the class
        refuses.
    """
    cls = registry.get(call.name) or registry.get(call.name.replace("-", "_"))
    if cls is None:
        raise UserError(f"unknown {kind} {call.name!r}{nearest(call.name, registry)}")
    fields = [field for field in dataclasses.fields(cls) if field.init]
    rest = next((field.name for field in fields if field.metadata.get("rest")), None)
    fields.sort(key=lambda field: field.kw_only is True)  # an inherited option that is keyword-only does not come first
    names = [field.name for field in fields if field.name != rest]
    if len(call.args) > 1 or (call.args and not names):
        raise UserError(
            f"{call.name}: {len(call.args)} values without a name; write key=value (options: {_listed(names)})"
        )
    nested = {field.name for field in fields if str(field.type).casefold() == kind}  # fields that hold their own kind
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in [*zip(names[:1], call.args, strict=False), *call.kwargs]:
        if key in values or key in extra:
            raise UserError(f"{call.name}: option {key!r} is given twice")
        if key in nested and isinstance(value, str):
            value = Call(value)  # a bare name stands where only a strategy may
        built = _built(value, registry, kind)
        if key in names:
            values[key] = built
        elif rest is not None:
            extra[key] = built
        else:
            raise UserError(f"{call.name}: no option {key!r}{nearest(key, names)}")
    if rest is not None:
        values[rest] = tuple(sorted(extra.items()))
    missing = [field.name for field in fields if _required(field) and field.name not in values]
    if missing:
        raise UserError(f"{call.name}: option {missing[0]!r} is missing; write {call.name}({missing[0]}=...)")
    try:
        return cls(**_cast(cls, values))
    except (TypeError, ValueError, OverflowError) as error:
        text = str(error)
        raise UserError(text if text.startswith(f"{call.name}: ") else f"{call.name}: {text}") from None


def _built(value: Any, registry: Mapping[str, type], kind: str) -> Any:
    if isinstance(value, Call):
        return build(value, registry, kind)
    if isinstance(value, tuple):
        return tuple(_built(item, registry, kind) for item in value)
    return value


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _cast(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """Values of the declared kind: whole numbers where a float is declared, so that `mu=1` and `mu=1.0` are one.

    Fields are declared in text (`from __future__ import annotations`); other kinds are the class's own to check.
    """
    declared = {field.name: str(getattr(field.type, "__name__", field.type)) for field in dataclasses.fields(cls)}
    out = {}
    for key, value in values.items():
        kind = declared[key].removesuffix(" | None")
        accepted, expected = _KINDS.get(kind, ((object,), ""))
        optional = value is None and kind != declared[key]
        if not optional and (not isinstance(value, accepted) or (isinstance(value, bool) and kind in ("int", "float"))):
            raise UserError(f"{key} must be {expected}, found {_text(value)}")
        out[key] = float(value) if kind == "float" and value is not None else value
    return out


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "a name"),
    "bool": ((bool,), "true or false"),
}


def canonical(instance: Any) -> str:
    """The one text of a dataclass instance: its registry name, sorted keys, defaults left out, floats by `repr`."""
    rest = {}
    written = {}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if field.metadata.get("rest"):
            rest = dict(value)
        elif _required(field) or value != _default(field):
            written[field.name] = value
    items = sorted({**written, **rest}.items())
    name = registry_name(type(instance))
    return f"{name}({', '.join(f'{key}={_text(value)}' for key, value in items)})" if items else name


def registry_name(cls: type) -> str:
    """Its `notation` where it names one, else the file it lives in: `strategies/fedprox.py` holds `fedprox`."""
    return str(getattr(cls, "notation", None) or cls.__module__.rpartition(".")[2])


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


_BARE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def _text(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, Call):
        text = canonical(value)
        return text if text.endswith(")") else f"{text}()"  # inside a call a bare name is a string
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(_text(item) for item in value)}]"
    if isinstance(value, str):
        plain = _BARE.fullmatch(value) and not any(map(keyword.iskeyword, value.split("."))) and value not in _CONSTANTS
        return value if plain else repr(value)
    return repr(value)


def nearest(word: str, known: Any) -> str:
    """`; did you mean 'x'?` or the list of what is known, to end an error with."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {_listed(known)}"


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
