"""Seeds by persons against an analysis of variance by hand, statsmodels' mixed model and every resample of a table."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from results.statistics import crossed_interval, person_cv, pigeonhole_variance
from results.statistics.values import Floats


def drawn(seed: int, of_seed: float = 5.0, of_person: float = 3.0, of_rest: float = 2.0) -> Floats:
    rng = np.random.default_rng(seed)
    return (
        4
        + rng.normal(0, of_seed, (10, 1))
        + rng.normal(0, of_person, (1, 9))
        + np.asarray(rng.normal(0, of_rest, (10, 9)))
    )


def test_by_hand() -> None:
    # Means of seeds 2, 4, 9 and of persons 3, 7; the rest is (-1, 1), (-1, 1), (2, -2) about 5.
    d = np.array([[-1.0, 5.0], [1.0, 7.0], [9.0, 9.0]])
    # Sums of squares: 2 (9 + 1 + 16) = 52 over 2 df, 3 (4 + 4) = 24 over 1, (1 + 1 + 1 + 1 + 4 + 4) = 12 over 2.
    found = crossed_interval(d)
    error = np.sqrt((26 + 24 - 6) / 6)
    df = 44**2 / (26**2 / 2 + 24**2 / 1 + 6**2 / 2)
    assert (found.seeds, found.persons, found.mean) == (3, 2, 5.0)
    assert found.standard_error == pytest.approx(error)
    assert found.df == pytest.approx(df)
    assert found.half == pytest.approx(stats.t.ppf(0.975, df) * error)
    assert found.low == pytest.approx(5 - stats.t.ppf(0.975, df) * error)
    assert (found.sd_seed, found.sd_person, found.sd_rest) == pytest.approx((np.sqrt(10), np.sqrt(6), np.sqrt(6)))
    assert not found.floored


@pytest.mark.parametrize("seed", [0, 1])
def test_error_is_that_of_statsmodels_mixed_model(seed: int) -> None:
    d = drawn(seed)
    long = pd.DataFrame(
        {"d": d.ravel(), "seed": np.repeat(np.arange(10), 9), "person": np.tile(np.arange(9), 10), "all": 1}
    )
    parts = {"seed": "0 + C(seed)", "person": "0 + C(person)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = sm.MixedLM.from_formula("d ~ 1", groups="all", vc_formula=parts, re_formula="0", data=long).fit()
    found = crossed_interval(d)
    assert found.mean == pytest.approx(fit.params["Intercept"])
    assert found.standard_error == pytest.approx(fit.bse["Intercept"], rel=0.01)
    assert found.sd_rest == pytest.approx(np.sqrt(fit.scale), rel=0.01)
    assert (found.sd_person**2, found.sd_seed**2) == pytest.approx(tuple(fit.vcomp), rel=0.01)  # by name


def test_pigeonhole_variance_is_that_of_all_resamples() -> None:
    d = np.array([[1.0, 4.0, -2.0], [0.5, 9.0, 3.0]]) + 100
    means = [
        d[np.ix_(seeds, persons)].mean()
        for seeds in itertools.product(range(2), repeat=2)
        for persons in itertools.product(range(3), repeat=3)
    ]
    assert pigeonhole_variance(d) == pytest.approx(np.var(means))
    assert crossed_interval(d).pigeonhole_error == pytest.approx(np.std(means))


def test_pigeonhole_variance_is_the_formula_as_owen_has_it() -> None:
    d = drawn(3)
    s, p = d.shape
    m, a, b = d.mean(), d.mean(axis=1), d.mean(axis=0)
    apart = (1 - 1 / s) * (1 - 1 / p) * m**2
    shared = (1 - 1 / s) * np.mean(b**2) / p + (1 - 1 / p) * np.mean(a**2) / s
    assert pigeonhole_variance(d) == pytest.approx(apart + shared + np.mean(d**2) / (s * p) - m**2)


def test_effects_below_nothing_are_nothing() -> None:
    # Every seed and every person has the mean 0: both variances are estimated below 0, and only the rest is left.
    d = np.array([[1.0, -1.0], [-1.0, 1.0]])
    found = crossed_interval(d)
    assert found.floored
    assert (found.sd_seed, found.sd_person, found.sd_rest) == (0, 0, 2)
    assert found.standard_error == pytest.approx(2 / np.sqrt(4))


def test_equal_values_are_marked() -> None:
    found = crossed_interval(np.full((3, 4), 0.3))
    assert found.degenerate
    assert (found.low, found.high, found.half) == (0.3, 0.3, 0)


@given(arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(2, 6)), elements=st.integers(-50, 50)))
@settings(deadline=None, max_examples=50)
def test_crossed_laws(d: Floats) -> None:
    found, turned, moved = crossed_interval(d), crossed_interval(d.T), crossed_interval(3 * d + 10)
    assert (turned.low, turned.high, turned.df) == pytest.approx((found.low, found.high, found.df))
    assert (moved.low, moved.high) == pytest.approx((3 * found.low + 10, 3 * found.high + 10), abs=1e-8)
    # Never below what the rest alone leaves, nor fewer degrees of freedom than the shorter side has.
    assert found.standard_error >= found.sd_rest / np.sqrt(d.size) - 1e-9
    assert found.df >= min(d.shape) - 1 - 1e-9


@pytest.mark.parametrize(
    ("bad", "message"), [(np.zeros(5), r"shape \(5,\)"), (np.zeros((1, 5)), "2 or more seeds by 2 or more persons")]
)
def test_crossed_interval_wants_a_table(bad: Floats, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crossed_interval(bad)
    with pytest.raises(ValueError, match="not finite"):
        crossed_interval([[1, 2], [3, float("inf")]])


# ---- folds of persons


def test_person_cv_by_hand() -> None:
    accuracy = [0.80, 0.90, 0.85, 0.95]  # mean 0.875, s^2 = 0.0041667
    found = person_cv(accuracy, train_persons=2)
    t, s = stats.t.ppf(0.975, 3), np.sqrt(0.0125 / 3)
    assert found.plain.mean == pytest.approx(0.875)
    assert found.plain.half == pytest.approx(t * s / np.sqrt(4))
    assert found.corrected.half == pytest.approx(t * s * np.sqrt(1 / 4 + 1 / 2))  # s^2 (1 / J + n_test / n_train)
    assert found.corrected.mean == found.plain.mean


def test_folds_or_persons_as_the_unit_are_one_correction() -> None:
    # 30 persons in 6 folds of 5, tested by 25: by persons 1 + 30 / 25, by folds 1 + 6 / 5.
    found = person_cv(np.linspace(0.6, 1, 30), train_persons=25)
    assert found.plain.method == "t"  # never BCa: the correction is one of a t interval
    assert found.corrected.half / found.plain.half == pytest.approx(np.sqrt(1 + 6 / 5))  # type: ignore[operator]


def test_seeds_are_averaged_first() -> None:
    table = np.random.default_rng(0).uniform(size=(5, 6))
    assert person_cv(table, 4) == person_cv(table.mean(axis=0), 4)
    assert person_cv([0.9], 3).corrected.half is None


def test_person_cv_refuses() -> None:
    with pytest.raises(ValueError, match="one or more persons that trained each model; found 0"):
        person_cv([0.5, 0.6], 0)
    with pytest.raises(ValueError, match="not finite"):
        person_cv([0.5, float("nan")], 3)
    with pytest.raises(ValueError, match=r"found \(1, 1, 2\)"):
        person_cv([[[0.5, 0.6]]], 3)
