"""Arithmetic on flat models, held to NumPy's expressions."""

import numpy as np
import pytest
from numpy.typing import NDArray

from strategies.maths.vectors import distance, weighted_mean


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_weighted_mean_is_numpys_to_the_bit(dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=1001).astype(dtype) for _ in range(5)]
    vectors[2] = rng.normal(size=2002).astype(dtype)[::2]  # every other number of a longer one
    vectors[3].flags.writeable = False
    shares = rng.dirichlet(np.ones(5)).tolist()
    expected = vectors[0] * shares[0]
    for vector, share in zip(vectors[1:], shares[1:], strict=True):
        expected = expected + vector * share
    mean = weighted_mean(vectors, shares)
    assert mean.dtype == dtype
    assert mean.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distance(dtype: type[np.floating]) -> None:
    def vector(*numbers: float) -> NDArray[np.floating]:
        return np.array(numbers, dtype)

    assert distance(vector(3, 1, 0), vector(0, 1, 4)) == 5
    assert distance(vector(2), vector(2)) == 0
    assert distance(vector(3, 4), np.zeros(2, np.float64)) == 5
    assert distance(vector(1e30, 0), vector(0, 0)) == pytest.approx(1e30)  # its square is no float32
    for bad in (np.nan, np.inf, -np.inf):
        assert not np.isfinite(distance(vector(1, bad), vector(0, 0)))
        assert not np.isfinite(distance(vector(1, bad), vector(0, bad)))
