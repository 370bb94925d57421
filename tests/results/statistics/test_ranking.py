"""Demsar's (2006) own table, scipy and scikit-posthocs."""

from __future__ import annotations

import numpy as np
import pytest
import scikit_posthocs as posthocs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from results.statistics import critical_difference, ranks
from results.statistics.values import Floats

# Demsar 2006, Table 6: AUC of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets. Row 13 shows 0.975 twice, yet his
# mean ranks hold only if the first of them is the better, before rounding: hence 0.9751.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_demsars_table() -> None:
    found = ranks(DEMSAR)
    assert found.mean == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.chi2 == pytest.approx(9.28, abs=5e-3)
    assert found.f == pytest.approx(3.69, abs=5e-3)
    assert found.f_p < 0.05  # F(3, 39) = 2.85 at 0.05, he says
    assert found.cd_05 == pytest.approx(1.25, abs=5e-3)
    assert found.cd_10 == pytest.approx(1.12, abs=5e-3)
    assert ((found.low <= found.mean) & (found.mean <= found.high)).all()


def test_p_values_belong_to_their_statistics() -> None:
    found = ranks(DEMSAR)
    assert stats.chi2.isf(found.chi2_p, 3) == pytest.approx(found.chi2)
    assert stats.f.isf(found.f_p, 3, 39) == pytest.approx(found.f)


def test_without_ties_friedman_is_scipys() -> None:
    scores = np.random.default_rng(0).normal(size=(8, 5))
    expected = stats.friedmanchisquare(*scores.T)
    found = ranks(scores)
    assert (found.chi2, found.chi2_p) == pytest.approx((expected.statistic, expected.pvalue))


def test_critical_difference_is_where_scikit_posthocs_gives_its_level() -> None:
    found = ranks(DEMSAR)
    p = posthocs.posthoc_nemenyi_friedman(DEMSAR).to_numpy()
    apart = np.abs(found.mean[:, None] - found.mean)
    for difference, significance in ((found.cd_05, 0.05), (found.cd_10, 0.10)):
        assert ((apart > difference) == (p < significance)).all()
    assert (p < 0.10).any()  # C4.5 against C4.5+m+cf, he says
    # The same p from our formula, solved for the level at which two neighbours lie just a critical difference apart.
    assert critical_difference(4, 14, float(p[0, 3])) == pytest.approx(apart[0, 3], rel=1e-3)


def test_agreement_has_no_bounds() -> None:
    found = ranks([[1, 2, 3]] * 4)
    assert found.mean.tolist() == [3, 2, 1]
    assert (found.chi2, found.f, found.f_p) == (8, np.inf, 0)
    assert found.low.tolist() == found.high.tolist() == [3, 2, 1]


def test_rounding_breaks_no_tie() -> None:
    assert ranks([[0.1 + 0.2, 0.3], [0.3, 0.1 + 0.2]]).mean.tolist() == [1.5, 1.5]
    assert ranks(np.zeros((3, 2))).chi2 == 0


def test_bootstrap_interval_narrows_as_root_cells() -> None:
    scores = np.random.default_rng(0).normal(size=(40, 4))
    found = ranks(scores)
    spread = stats.rankdata(-scores, axis=1).std(axis=0)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread / np.sqrt(40), rel=0.06)


@given(arrays(np.float64, st.tuples(st.integers(2, 8), st.integers(2, 6)), elements=st.integers(-5, 5)))
@settings(deadline=None, max_examples=50)
def test_rank_laws(scores: Floats) -> None:
    found = ranks(scores)
    k = scores.shape[1]
    assert found.mean.sum() == pytest.approx(k * (k + 1) / 2)
    assert -1e-9 <= found.chi2 <= len(scores) * (k - 1)
    better = scores.copy()
    better[:, 0] = scores.max() + 1
    assert ranks(better).mean[0] == 1


def test_ranks_refuse() -> None:
    with pytest.raises(ValueError, match="2 or more cells by 2 or more strategies; found shape"):
        ranks([[1, 2, 3]])
    with pytest.raises(ValueError, match="1 of 4 are not finite"):
        ranks([[1, 2], [3, np.nan]])
    with pytest.raises(ValueError, match="found 1 over 5"):
        critical_difference(1, 5, 0.05)
