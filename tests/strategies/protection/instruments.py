"""Two instruments that tests hold mechanisms to.

- Many runs, half with a worst-case unit and half without, against a Gaussian mechanism (Nasr, Hayes, Steinke, Balle,
  Tramer, Jagielski, Carlini, Terzis: Tight Auditing of Differentially Private Machine Learning, USENIX Security 2023).
  Any threshold's rates obey mu >= Phi^-1(1 - FPR) - Phi^-1(FNR); upper bounds on both rates, each exact, give a lower
  bound on mu and through the closed form one on epsilon.
- `variance_test` is no attack: noise of which a share is missing leaves too little trace in any score, but its
  standard deviation tells.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainccinv, ndtri

from strategies.privacy.audit import _above, _check_confidence, _scores, _threshold
from strategies.privacy.gaussian import gaussian_epsilon

FALSE_POSITIVES = (0.0, 0.02, 0.1, 0.3)
"""Shares of the runs without the unit that the thresholds of `gaussian_lower_bound` leave above them."""


def gaussian_lower_bound(
    with_scores: ArrayLike, without_scores: ArrayLike, delta: float, confidence: float = 0.999
) -> float:
    """The epsilon >= 0 that many runs refute for a Gaussian mechanism; 0 if they refute nothing.

    It is a bound for training whose outcome is Gaussian private: every unit in every step. Poisson sampling bends the
    trade-off, and what it gives then is an estimate.

    The thresholds are order statistics of the runs without the unit, at ranks fixed ahead (`FALSE_POSITIVES`), so no
    run is given up for choosing one. The rate above the order statistic that k of n runs are above is at most a
    Beta(k + 1, n - k) variable, whose quantile is Clopper-Pearson's bound for k of n; and the runs with the unit know
    nothing of the threshold, so their rate below it has Clopper-Pearson's own. The best of J thresholds is taken, and
    all 2 J bounds hold together with the confidence (Bonferroni). As only ranks count, no increasing change of the
    score changes the bound.

    A tight attack at claim 8 (delta 1e-5, 2,000 + 2,000 runs) gets 6.8 on average and scores that never overlap get 35,
    which is all so many runs can say. Choosing the threshold on half the runs and measuring on the other half gets 6.3
    and 29; all thresholds at once, in Dvoretzky, Kiefer and Wolfowitz's band, 6.5 and 20.

    Args:
        with_scores: (n,), one a run with the unit.
        without_scores: (k,), one a run without it.
        delta: in (0, 1).
        confidence: in (0, 1), of this one statement.

    Raises:
        ValueError: no scores, scores that are not numbers, delta or confidence out of range.
    """
    _check_confidence(confidence)
    present, absent = _scores("with_scores", with_scores), np.sort(_scores("without_scores", without_scores))
    error = (1 - confidence) / (2 * len(FALSE_POSITIVES))
    mus = []
    for share in FALSE_POSITIVES:
        false_negatives = int((present <= _threshold(absent, share)).sum())
        fpr = _upper_bound(_above(absent.size, share), absent.size, error)
        fnr = _upper_bound(false_negatives, present.size, error)
        mus.append(-float(ndtri(fpr)) - float(ndtri(fnr)))  # mu >= Phi^-1(1 - FPR) - Phi^-1(FNR)
    return gaussian_epsilon(max(0.0, *mus), delta)


def _upper_bound(count: int, runs: int, error: float) -> float:
    """Clopper and Pearson's (Biometrika 26, 1934): a rate that gave `count` of `runs` is above it with this error."""
    return 1.0 if count >= runs else float(betainccinv(count + 1, runs - count, error))


def variance_test(samples: ArrayLike, expected_std: float) -> float:
    """How far noise is from the standard deviation it was promised: z, N(0, 1) if it holds, negative if too little.

    The sum of squares S = sum x^2 / sigma^2 of d normals is chi-square with d degrees of freedom, about zero and not
    about their mean, so that a shift shows as well. Its cube root is normal to within a few per cent of z from d = 10
    on (Wilson, Hilferty: The distribution of chi-square, PNAS 17, 1931):

        z = ((S / d)^(1/3) - (1 - c)) / sqrt(c),    c = 2 / (9 d)

    which stays finite where the tail of chi-square is below any float. A standard deviation off by 1 % moves z by
    0.01 sqrt(2 d): by 4.0 at 80,582 coordinates. |z| > 3.29 is one right noise vector in a thousand.

    Args:
        samples: noise alone, (d,) or any shape, d >= 10.
        expected_std: sigma > 0, of one coordinate.

    Raises:
        ValueError: fewer than 10 samples, samples that are not finite, or a sigma that is not positive and finite.
    """
    noise = np.asarray(samples, np.float64)
    if noise.size < 10:
        raise ValueError(f"at least 10 samples tell something of a standard deviation; found {noise.size}")
    if not np.isfinite(noise).all():
        raise ValueError(f"noise must be finite; found {int((~np.isfinite(noise)).sum())} samples that are not")
    if not 0 < expected_std < math.inf:
        raise ValueError(f"expected_std must be positive and finite; found {expected_std}")
    c = 2 / (9 * noise.size)
    ratio = float(np.mean(np.square(noise / expected_std)))  # S / d
    return float((ratio ** (1 / 3) - (1 - c)) / math.sqrt(c))
