"""The notation: what can be written, what it means, and how a mistake is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config.errors import UserError
from experiments.config.notation import Call, build, canonical, parse
from experiments.config.spec import PARTITIONS, STRATEGIES


@dataclass(frozen=True)
class Inner:
    notation = "inner"
    mu: float = 0.5


@dataclass(frozen=True)
class Outer:
    notation = "outer"
    alpha: float
    names: tuple[str, ...] = ()
    inner: Inner | None = None
    on: bool = False
    count: int = 1
    text: str = "x"


@dataclass(frozen=True)
class Open:
    notation = "open"
    path: str
    rest: tuple[tuple[str, object], ...] = field(default=(), metadata={"rest": True})


KNOWN = {"inner": Inner, "outer": Outer, "open": Open}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("inner", "inner"),
        ("inner()", "inner"),
        ("inner(mu=0.5)", "inner"),
        ("inner(1)", "inner(mu=1.0)"),
        ("inner(mu=-1e-3)", "inner(mu=-0.001)"),
        ("outer(.7)", "outer(alpha=0.7)"),
        ("outer(count=2, alpha=1)", "outer(alpha=1.0, count=2)"),
        ("outer(1, names=[a, b.c, 'd e'])", "outer(alpha=1.0, names=[a, b.c, 'd e'])"),
        ("outer(1, inner=inner(mu=2), on=true)", "outer(alpha=1.0, inner=inner(mu=2.0), on=true)"),
        ("outer(1, inner=inner())", "outer(alpha=1.0, inner=inner())"),
        ("outer(1, text='true')", "outer(alpha=1.0, text='true')"),
        ("open(a.b.C, z=1, y=inner(2))", "open(path=a.b.C, y=inner(mu=2.0), z=1)"),
    ],
)
def test_canonical_text(text: str, expected: str) -> None:
    built = build(parse(text), KNOWN, "thing")
    assert canonical(built) == expected
    assert build(parse(expected), KNOWN, "thing") == built


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("outr(1)", "did you mean 'outer'"),
        ("outer", "option 'alpha' is missing"),
        ("outer(1, alfa=2)", "did you mean 'alpha'"),
        ("outer(1, alpha=2)", "given twice"),
        ("outer(1, 2)", "2 values without a name"),
        ("outer(alpha=a)", "alpha must be a number, found a"),
        ("outer(alpha=true)", "alpha must be a number, found true"),
        ("outer(1, count=1.5)", "count must be a whole number, found 1.5"),
        ("outer(1, on=1)", "on must be true or false, found 1"),
        ("outer(1, text=3)", "text must be a name, found 3"),
        ("outer(", "cannot read 'outer('"),
        ("outer(alpha==2)", "cannot read 'alpha == 2'"),
        ("outer(alpha=2 3)", "at character"),
        ("outer(**x)", "'**' is not part of the notation"),
        ("outer(alpha=__import__('os').system('true'))", "cannot read"),
        ("", "expected name"),
        ("outer(1)(2)", "one pair of parentheses"),
    ],
)
def test_mistakes_are_told(text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        build(parse(text), KNOWN, "thing")
    assert told in str(caught.value)


_values = st.recursive(
    st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.booleans()
    | st.none(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)


@given(st.dictionaries(st.from_regex(r"[a-z]{2,6}_", fullmatch=True), _values, max_size=4))
def test_any_value_survives_writing_and_reading(options: dict[str, object]) -> None:
    written = Open("a.b", tuple(sorted(options.items())))
    assert build(parse(canonical(written)), KNOWN, "thing") == written


@pytest.mark.parametrize("text", [text for cls in STRATEGIES.values() for text in cls.examples])
def test_every_strategy_reads_back_from_its_canonical_text(text: str) -> None:
    built = build(parse(text), STRATEGIES, "strategy")
    assert build(parse(canonical(built)), STRATEGIES, "strategy") == built


def test_a_strategy_inside_another_may_be_a_bare_name() -> None:
    bare, called = (
        build(parse(f"masked_sum(inner={text})"), STRATEGIES, "strategy") for text in ("fedprox", "fedprox()")
    )
    assert bare == called
    assert canonical(bare) == "masked_sum(inner=fedprox())"
    with pytest.raises(UserError, match="did you mean 'fedprox'"):
        build(parse("masked_sum(inner=fedprx)"), STRATEGIES, "strategy")


def test_a_name_is_its_file() -> None:
    assert {"fedavg", "fedprox", "local", "centralised", "flower"} <= set(STRATEGIES)
    assert {"iid", "dirichlet_even", "one_person_per_client"} <= set(PARTITIONS)
    assert parse("one_person_per_client") == Call("one_person_per_client")
