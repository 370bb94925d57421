"""The products of local training against NumPy's: in whole numbers, which both add without rounding, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from experiments.federation.provenance import ROOT
from experiments.training.kernels import kernel, products
from experiments.training.kernels.products import MOST
from experiments.training.kernels.tiles import HALF, LANES, PER_VECTOR

Floats = NDArray[np.float32]
NO_FLOOR = np.float32(-np.inf)


def whole(rng: np.random.Generator, *shape: int) -> Floats:
    """Small whole numbers, a third of them zero."""
    return (rng.integers(-3, 4, shape) * rng.integers(0, 2, shape)).astype(np.float32)


def in_units(a: Floats) -> Floats:
    """(outputs, inputs) as a view of rows that are as far apart as in a packed model."""
    held = products.room(len(a), products.pitch(a.shape[1]))[:, : a.shape[1]]
    held[:] = a
    return np.asarray(held)


def in_lanes(a: Floats) -> Floats:
    """(rows, width) by lanes; what is beside the rows is NaN, so that it shows wherever it gets in."""
    held = products.lanes(len(a), a.shape[1])
    held[:] = np.nan
    for row, values in enumerate(a):
        held[row // LANES, :, row % LANES] = values
    return np.asarray(held)


def by_rows(lanes: Floats, rows: int) -> Floats:
    return np.stack([lanes[row // LANES, :, row % LANES] for row in range(rows)])


shapes = st.tuples(st.integers(1, MOST), st.integers(1, 40), st.integers(1, 130), st.integers(0, 2**32 - 1))


@settings(max_examples=150, deadline=None)
@given(shapes)
def test_forward(shape: tuple[int, int, int, int]) -> None:
    size, outputs, inputs, seed = shape
    rng = np.random.default_rng(seed)
    a, h = whole(rng, outputs, inputs), whole(rng, size, inputs)
    for floor, wanted in ((NO_FLOOR, h @ a.T), (np.float32(0), np.maximum(h @ a.T, 0))):
        out = products.lanes(size, outputs + 1)
        out[:, outputs] = 7  # what is not written
        products.forward(in_units(a), in_lanes(h), size, floor, out)
        assert np.array_equal(by_rows(out, size)[:, :outputs], wanted)
        assert (out[:, outputs] == 7).all()


@settings(max_examples=150, deadline=None)
@given(shapes)
def test_backward(shape: tuple[int, int, int, int]) -> None:
    size, outputs, inputs, seed = shape
    rng = np.random.default_rng(seed)
    a, d, h = whole(rng, outputs, inputs + 1), whole(rng, size, outputs), whole(rng, size, inputs + 1)
    out = products.lanes(size, inputs)
    products.backward(in_units(a), in_lanes(d), size, in_lanes(h), out)
    assert np.array_equal(by_rows(out, size), (d @ a[:, :-1]) * (h[:, :-1] > 0))


@settings(max_examples=150, deadline=None)
@given(shapes, st.booleans(), st.booleans())
def test_outer(shape: tuple[int, int, int, int], steps: bool, forced: bool) -> None:
    size, outputs, inputs, seed = shape
    rng = np.random.default_rng(seed)
    d, h = whole(rng, size, outputs), whole(rng, size, inputs)
    v, w, q = (whole(rng, outputs, inputs) for _ in range(3))
    rows = in_units(h)
    rows[~d.any(1)] = np.nan  # a row without errors counts for nothing
    held_v, held_w = in_units(v), in_units(w)
    held_q = in_units(q) if forced else in_units(q)[:0]
    products.add_outer(in_lanes(d), rows, size, held_v, np.empty(outputs, np.int64), steps, held_w, held_q, 0.5, 0.25)
    total = v + d.T @ h
    if steps:
        stepped = w + total
        assert np.array_equal(held_w, stepped)
        assert np.array_equal(held_v, 0.5 * total - 0.25 * stepped + (q if forced else 0))
    else:
        assert np.array_equal(held_w, w)
        assert np.array_equal(held_v, total)


def test_the_bits_of_a_row_do_not_depend_on_its_place_or_company() -> None:
    rng = np.random.default_rng(0)
    a, h = (rng.normal(size=shape).astype(np.float32) for shape in ((29, 562), (MOST, 562)))
    together = products.lanes(MOST, 29)
    products.forward(in_units(a), in_lanes(h), MOST, NO_FLOOR, together)
    for size in (1, 7, 8, 9, 16, 17, 40):
        for first in (0, 3, MOST - size):
            out = products.lanes(size, 29)
            products.forward(in_units(a), in_lanes(h[first : first + size]), size, NO_FLOOR, out)
            assert np.array_equal(by_rows(out, size), by_rows(together, MOST)[first : first + size])


def test_a_term_is_added_with_one_rounding() -> None:
    """The sum, by its definition: in the order of its terms, each product exact until it has been added."""
    rng = np.random.default_rng(1)
    a, h = (rng.normal(size=shape).astype(np.float32) for shape in ((13, 50), (5, 50)))
    out = products.lanes(5, 13)
    products.forward(in_units(a), in_lanes(h), 5, NO_FLOOR, out)
    sums = np.zeros((5, 13), np.float32)
    for k in range(50):  # exact: 24 + 24 bits; longdouble has the room to add them to a third number
        sums = (h[:, k, None].astype(np.longdouble) * a[None, :, k] + sums).astype(np.float32)
    assert np.array_equal(by_rows(out, 5), sums)


def test_what_is_not_a_number_passes() -> None:
    a, h = np.ones((3, 4), np.float32), np.ones((2, 4), np.float32)
    h[1, 2] = np.nan
    out = products.lanes(2, 3)
    products.forward(in_units(a), in_lanes(h), 2, np.float32(0), out)
    assert np.array_equal(np.isnan(by_rows(out, 2)).all(1), [False, True])
    d = np.ones((2, 3), np.float32)
    below = products.lanes(2, 4)
    products.backward(in_units(a), in_lanes(d), 2, in_lanes(h), below)
    assert (by_rows(below, 2) == 3).all(), "an activation that is no number lets errors pass"
    v = in_units(np.zeros((3, 4), np.float32))
    d[1, 0] = np.nan
    rows = in_units(np.ones((2, 4), np.float32))
    products.add_outer(in_lanes(d), rows, 2, v, np.empty(3, np.int64), False, v, v[:0], 0.0, 0.0)
    assert np.isnan(v[0]).all()
    assert (v[1:] == 2).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_transpose(m: int, n: int, seed: int) -> None:
    a = np.random.default_rng(seed).normal(size=(m, n)).astype(np.float32)
    c = in_units(np.zeros((n, m), np.float32))
    products.transpose(in_units(a), c)
    assert np.array_equal(c, a.T)


@pytest.mark.parametrize("widths", [(1, 1), (6, 3), (561, 128, 64, 6), (20, 33, 17, 8, 5)])
def test_a_model_is_packed_and_unpacked(widths: tuple[int, ...]) -> None:
    layers = np.array(widths)
    size = sum((a + 1) * b for a, b in pairwise(widths))
    w = np.random.default_rng(0).normal(size=size).astype(np.float32)
    packed = products.pack(w, layers)
    assert np.isclose(np.square(packed).sum(), np.square(w).sum()), "what is between the units is zero"
    first = w[: (widths[0] + 1) * widths[1]].reshape(widths[0] + 1, widths[1])
    assert np.array_equal(products.units(packed, layers, 0), first.T)
    back = np.empty_like(w)
    products.unpack(packed, layers, back)
    assert np.array_equal(back, w)


@pytest.mark.parametrize("array", [products.room(5, 16), products.lanes(33, 7), products.room(3, products.pitch(562))])
def test_rows_begin_on_cache_lines(array: Any) -> None:
    assert array.ctypes.data % 64 == 0
    assert array.strides[-2] % 64 == 0
    assert not array.any()


def test_exponentials_are_right_to_the_last_place() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-6, 0.1, 1.0, 10.0, 40.0):
        x = -np.abs(rng.normal(scale=scale, size=(500, LANES))).astype(np.float32)
        z, norms = x.copy(), np.empty(LANES, np.float32)
        kernel.exponentials(z, norms)
        exact = np.exp(x.astype(np.float64))
        normal = x >= -87
        assert (np.abs(z - exact)[normal] < 1.1 * np.spacing(exact[normal].astype(np.float32))).all()
        assert (z[~normal] == 0).all()
        assert norms == pytest.approx(z.sum(0), rel=1e-5)
    z = np.zeros((4, LANES), np.float32)
    z[0, :4] = 0, -np.inf, np.nan, -1e30
    kernel.exponentials(z, norms)
    assert np.array_equal(z[0, :4], [1, 0, np.nan, 0], equal_nan=True)
    assert np.array_equal(norms[:5], [4, 3, np.nan, 3, 4], equal_nan=True)


def test_softmax_by_lanes() -> None:
    rng = np.random.default_rng(0)
    logits, y = rng.normal(scale=5, size=(21, 7)).astype(np.float32), rng.integers(0, 7, 40)
    rows = rng.permutation(40)[:21]
    d = in_lanes(logits)
    none = np.empty(0, np.float32)
    loss = kernel.softmax_error(d, y, rows, 0.25, none, none)
    p = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf).astype(np.float64))
    p /= p.sum(1, keepdims=True)
    assert loss == pytest.approx(-np.log(p[np.arange(21), y[rows]]).sum(), rel=1e-6)
    np.testing.assert_allclose(by_rows(d, 21), 0.25 * (p - np.eye(7)[y[rows]]), atol=1e-7)


def test_the_first_of_equal_scores_is_predicted_and_none_of_no_number() -> None:
    w, x = np.zeros(2 * 3, np.float32), np.zeros((3, 1), np.float32)
    w[3:] = 1, 2, 2
    x[2] = np.nan
    w[:3] = 1
    predicted, loss = kernel.score(w, np.array([1, 3]), x, np.zeros(3, np.int64))
    assert list(predicted[:2]) == [1, 1]
    assert predicted[2] in range(3)
    assert np.isnan(loss)


OTHER_VECTORS = """
import json
import sys
if sys.argv[1:]:
    from numba.core import codegen
    told = codegen.CPUCodegen.magic_tuple
    codegen.CPUCodegen.magic_tuple = lambda self: (*told(self)[:2], told(self)[2] + "," + sys.argv[1])
from experiments.training.kernels.tiles import PER_VECTOR
from tests.experiments.training.test_products import step_and_score
print(json.dumps([PER_VECTOR, *step_and_score()]))
"""
OLDER = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+lzcnt,+popcnt"}


def step_and_score() -> tuple[str, str, str, float]:
    """Digests of a model that was trained, of a gradient and of predictions, and the loss: shapes that fill no tile."""
    rng, none = np.random.default_rng(5), np.zeros(0, np.float32)
    widths = np.array([70, 41, 23, 5])
    w = (0.3 * rng.standard_normal(71 * 41 + 42 * 23 + 24 * 5)).astype(np.float32)
    x, y = rng.standard_normal((77, 70)).astype(np.float32), rng.integers(0, 5, 77)
    first, g = w.copy(), np.zeros_like(w)
    for batch, steps in ((5, 20), (23, 8), (77, 2)):
        orders = np.stack([rng.permutation(77), rng.permutation(77)])
        kernel.train(w, first, none, widths, x, y, orders, none, none, batch, steps, 0.05, 0.9, 0.001, 0.1)
    kernel.gradient(w, g, widths, x, y, np.arange(77), none, none)
    predicted, loss = kernel.score(w, widths, x, y)
    assert np.isfinite(w).all()
    return sha256(w).hexdigest(), sha256(g).hexdigest(), sha256(predicted).hexdigest(), float(loss)


def test_vectors_of_another_length_give_the_same_bits(tmp_path: Path) -> None:
    """Code for an older processor, where this one has 512 bits; where it has 256, LLVM makes two vectors of each."""
    broad = PER_VECTOR == LANES
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **(OLDER if broad else {})}
    command = [sys.executable, "-c", OTHER_VECTORS, *([] if broad else ["+avx512f"])]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    numbers, *found = json.loads(done.stdout)
    assert {numbers, PER_VECTOR} == {HALF, LANES}
    assert tuple(found) == step_and_score()


def test_compiled_code_notices_what_it_calls(tmp_path: Path) -> None:
    """numba would go on with the old machine code of `outer`, whose own file is the same."""
    (tmp_path / "called.py").write_text(
        "from experiments.training.kernels.compiled import inner\n@inner\ndef f(x): return x + 1\n"
    )
    (tmp_path / "calls.py").write_text(
        "import called\nfrom numba import types\nfrom experiments.training.kernels.compiled import compiled\n"
        "f = called.f\n"
        "@compiled(types.int64(types.int64), called)\ndef outer(x): return f(x)\n"
    )
    script = "import calls; print(calls.outer(1), calls.outer.stats.cache_hits.total())"
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PATH": ""}

    def answer() -> str:
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert [answer(), answer()] == ["2 0", "2 1"]
    (tmp_path / "called.py").write_text(
        "from experiments.training.kernels.compiled import inner\n@inner\ndef f(x): return x + 2\n"
    )
    assert answer() == "3 0"
