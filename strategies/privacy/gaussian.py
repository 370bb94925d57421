"""What Gaussian noise alone is worth: epsilon, delta and mu in closed form.

A mechanism is mu-Gaussian private when telling it with one unit from it without is no easier than telling N(mu, 1)
from N(0, 1): noise of standard deviation sigma D on a sum of sensitivity D has mu = 1 / sigma, and T such releases of
the same unit mu = sqrt(T) / sigma. It is (epsilon, delta) private exactly when

    delta >= Phi(-u) - e^epsilon Phi(-v),    u = epsilon / mu - mu / 2,    v = epsilon / mu + mu / 2

Balle, Wang: Improving the Gaussian Mechanism for Differential Privacy, ICML 2018, theorem 8; Dong, Roth, Su: Gaussian
Differential Privacy, JRSS B 84 (2022), corollary 2.13.

As phi(u) = e^epsilon phi(v), the second term is phi(u) M(v) with Mills' ratio M = Phi(-.) / phi, which never overflows
however large epsilon is.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import erfcx, ndtr, ndtri

TOLERANCE = 1e-13  # of a root, absolute in u and relative in mu
BELOW = 1 - 1e-9  # a bracket found from this much of delta holds the root in spite of rounding


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The least delta >= 0 of a mu-Gaussian mechanism at this epsilon.

    Args:
        mu: >= 0, finite.
        epsilon: >= 0, finite.

    Raises:
        ValueError: an argument out of range.
    """
    _check_from_zero("mu", mu)
    _check_from_zero("epsilon", epsilon)
    return _delta(mu, epsilon / mu - mu / 2) if mu else 0.0


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The least epsilon >= 0 of a mu-Gaussian mechanism at this delta.

    Args:
        mu: >= 0, finite.
        delta: in (0, 1).

    Raises:
        ValueError: an argument out of range.
    """
    _check_from_zero("mu", mu)
    _check_delta(delta)
    if mu == 0 or _delta(mu, -mu / 2) <= delta:  # u = -mu / 2 is epsilon = 0
        return 0.0
    # delta < Phi(-u) bounds u from above. The root is sought in u: epsilon ~ mu^2 / 2 would hide its last digits.
    highest = -float(ndtri(delta * BELOW))
    u = brentq(lambda u: _log_ratio(_delta(mu, u), delta), -mu / 2, highest, xtol=TOLERANCE)
    return max(mu * (float(u) + mu / 2), 0.0)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu > 0 at which a Gaussian mechanism keeps (epsilon, delta): noise of sigma = 1 / mu suffices.

    Args:
        epsilon: >= 0, finite.
        delta: in (0, 1).

    Raises:
        ValueError: an argument out of range.
    """
    _check_from_zero("epsilon", epsilon)
    _check_delta(delta)
    if epsilon == 0:
        return 2 * float(ndtri((1 + delta) / 2))  # delta = 2 Phi(mu / 2) - 1
    z = -float(ndtri(delta * BELOW))
    root = math.sqrt(z * z + 2 * epsilon)
    low = 2 * epsilon / (z + root) if z > 0 else root - z  # where Phi(-u) alone is delta, so that delta is not reached
    high = 2 * low
    while gaussian_delta(high, epsilon) < delta:
        high *= 2
    return float(brentq(lambda mu: _log_ratio(gaussian_delta(mu, epsilon), delta), low, high, xtol=TOLERANCE * low))


def _delta(mu: float, u: float) -> float:
    density = math.exp(-u * u / 2) / math.sqrt(2 * math.pi)  # phi(u)
    if u > 0:
        return density * (_mills(u) - _mills(u + mu))
    return float(ndtr(-u)) - density * _mills(u + mu)


def _log_ratio(found: float, delta: float) -> float:
    return math.log(max(found, 1e-307)) - math.log(delta)


def _mills(x: float) -> float:
    """Phi(-x) / phi(x), for x that are not far below zero."""
    return math.sqrt(math.pi / 2) * float(erfcx(x / math.sqrt(2)))


def _check_from_zero(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least 0; found {value}")


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, both excluded; found {delta}")
