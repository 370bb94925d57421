"""The compiled columns against whole numbers, where carries are longest; `test_powers` has whole powers."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.crypto.paillier import lanes

ONES = 2**28 - 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    n=st.sampled_from([4, 8, 56, 80, 84, 160, 164]),
    seed=st.integers(0, 2**32),
    how=st.sampled_from(["square", "pair", "number"]),
)
def test_columns_hold_the_largest_sums(n: int, seed: int, how: str) -> None:
    """Limbs all ones, or nearly, as no pair of a modulus has them: sums come near 2^64 in 80 limbs."""
    rng = np.random.default_rng(seed)

    def limbs(lanes: int = 4) -> np.ndarray:
        ones = rng.random((2 * n, lanes)) < rng.choice([1.0, 0.97, 0.5])
        return np.where(ones, ONES, rng.integers(0, ONES + 1, (2 * n, lanes))).astype(np.uint64)

    def number(column: np.ndarray) -> int:
        return sum(int(limb) << 28 * i for i, limb in enumerate(column))

    w = np.zeros((9 * n, 4), np.uint64)
    w[: n - 1] = limbs(1)[: n - 1]
    w[5 * n : 7 * n], w[7 * n :] = limbs(), limbs()
    before = w.copy()
    if how == "square":
        lanes._square(w, 5 * n, n)
    else:
        lanes._multiply(w, 5 * n, 7 * n, how == "pair", n)
    big, whole = (number(w[:n, 0]) << 28) - 1, 1 << 28 * n
    for lane in range(4):
        t1, s1, t2, s2 = (number(before[i * n : (i + 1) * n, lane]) for i in (5, 6, 7, 8))
        if how == "square":
            t2, s2 = t1, s1
        if how == "number":
            s2 = 0
        m = t1 * t2 * pow(-big, -1, whole) % whole
        cross = t1 * s2 + t2 * s1 + m
        assert number(w[5 * n : 6 * n, lane]) == (t1 * t2 + m * big) // whole % whole
        m = cross * pow(-big, -1, whole) % whole
        assert number(w[6 * n : 7 * n, lane]) == (cross + m * big) // whole % whole
