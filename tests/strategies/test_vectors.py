"""Arithmetic on flat models, held to NumPy's expressions."""

import numpy as np
import pytest
from numpy.typing import NDArray

from strategies.numerics.vectors import distances, weighted_mean

COUNTS = [1, 2, 4, 5, 6, 9, 11]  # models are taken four at a time, and what is left over one by one
FLOATS = [np.float32, np.float64]


def some(count: int, dtype: type[np.floating]) -> list[NDArray[np.floating]]:
    """Vectors of 1,001 numbers, one not contiguous and one read-only where there are so many."""
    rng = np.random.default_rng(count)
    vectors = [rng.normal(size=1001).astype(dtype) for _ in range(count)]
    if count > 3:
        vectors[2] = rng.normal(size=2002).astype(dtype)[::2]  # every other number of a longer one
        vectors[3].flags.writeable = False
    return vectors


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", COUNTS)
def test_the_weighted_mean_is_numpys_to_the_bit(count: int, dtype: type[np.floating]) -> None:
    vectors = some(count, dtype)
    shares = np.random.default_rng(0).dirichlet(np.ones(count)).tolist()
    expected = vectors[0] * shares[0]
    for vector, share in zip(vectors[1:], shares[1:], strict=True):
        expected = expected + vector * share
    mean = weighted_mean(vectors, shares)
    assert mean.dtype == dtype
    assert mean.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", COUNTS)
def test_distances_are_numpys_norms(count: int, dtype: type[np.floating]) -> None:
    vectors, origin = some(count, dtype), np.linspace(-1, 1, 1001).astype(dtype)
    expected = [np.linalg.norm(vector - origin) for vector in vectors]
    assert distances(vectors, origin) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("others", [0, 3, 4])
def test_what_is_not_finite_is_told_and_does_not_touch_its_neighbours(others: int, dtype: type[np.floating]) -> None:
    def vector(*numbers: float) -> NDArray[np.floating]:
        return np.array(numbers, dtype)

    three_four = [vector(3, 4)] * others
    for bad in (np.nan, np.inf, -np.inf):
        for origin in (vector(0, 0), vector(0, bad)):
            found = distances([vector(1, bad), *three_four], origin)
            assert not np.isfinite(found[0])
            assert found[1:] == [5] * others or not np.isfinite(origin).all()
    large = distances([vector(1e30, 0), *three_four], vector(0, 0))  # its square is no float32
    assert large == [pytest.approx(1e30), *[5] * others]


def test_the_same_vector_is_at_no_distance_and_precision_is_made_equal() -> None:
    w = np.array([3, 4], np.float32)
    assert distances([w], w) == [0]
    assert distances([w, w.astype(np.float64)], np.zeros(2, np.float64)) == [5, 5]
    assert distances([], w) == []


def test_vectors_of_another_length_are_told() -> None:
    short, long = np.zeros(2, np.float32), np.zeros(3, np.float32)
    for count in (1, 4):
        with pytest.raises(ValueError, match=r"shape \(3,\); found \(2,\)"):
            weighted_mean([long] + [short] * count, [0.5] * (count + 1))
        with pytest.raises(ValueError, match=r"shape \(3,\); found \(2,\)"):
            distances([short] * count, long)
