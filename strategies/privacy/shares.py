"""What a secure sum spends whose noise the offices add in shares, on the integers of the grid.

Kairouz, Liu, Steinke: The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation,
ICML 2021. K offices each add a discrete Gaussian N_Z(0, s^2) to each of d integers. Their sum is not quite the discrete
Gaussian N_Z(0, K s^2): the logarithms of its probabilities part from it by at most tau / 2, with

    tau = 10 sum_{k=1}^{K-1} exp(-2 pi^2 s^2 k / (k + 1))

and neighbours whose sums lie D apart (L2, in grid units) have a divergence of order a of at most

    (a / 2) min(D^2 / (K s^2) + tau d, (D / (sqrt(K) s) + tau sqrt(d))^2)        per step (`divergence`)

That holds at any s of ours, and costs what an account by orders costs over an exact one: 6 to 10 % of epsilon. For
s >> 1 there is a second bound, which meets the continuous Gaussian's closed form. Let v = K s^2, Q = N_Z(0, v) on one
coordinate and R = N(0, v) rounded to the nearest integer. R is what a Gaussian mechanism publishes after rounding, so
that all steps of it together are (epsilon, delta)-private by `gaussian_epsilon(sqrt(T / v) D)`. And they are near:

    Q(z) <= e^(1 / 24 v) R(z)                       Jensen: R(z) = phi(z) E exp(-(2 z u + u^2) / 2 v), E u^2 = 1 / 12
    R(z) <= e^(z^2 / 24 v^2 + 3 exp(-2 pi^2 v)) Q(z)    sinh(x) / x <= e^(x^2 / 6); Poisson's sum for Q's normaliser

with u uniform on [-1/2, 1/2]. Over d coordinates sum z^2 <= (|y| + sqrt(d) / 2)^2, and |y|^2 / v exceeds
d + 2 sqrt(d t) + 2 t =: c with a chance of e^-t at most (Laurent, Massart 2000, lemma 1). From shares to Q, to R, to
its neighbour and back again, T steps cost beside the Gaussian's own (epsilon, delta)

    epsilon:  T (tau d + d / 24 v + (sqrt(c) + sqrt(d / 4 v))^2 / 24 v + 3 d exp(-2 pi^2 v))      =: a + b
    delta:    delta e^a, and T e^-t e^(epsilon + a), t chosen so that it is 1e-6 delta

which is 2e-6 a step for s = 3e4, K = 4, d = 8e4. `shared_noise` gives the smaller of the two; that is the headline.
"""

from __future__ import annotations

import math

import numpy as np

from strategies.base import StrategyError, check_range
from strategies.privacy.gaussian import check_probability, gaussian_epsilon

LEAST_STD = 2.0  # grid units; below, tau is no longer negligible, nor is the grid
_SLIVER = 1e-6  # of delta, for what lies far out


def shared_noise(
    shares: int, std: float, sensitivity: float, dimension: int, steps: int, delta: float, besides: float = 0.0
) -> float:
    """epsilon of `steps` sums under noise shares, an upper bound.

    Args:
        shares: K, the shares that the observer cannot subtract: the least number of offices in a sum, less the curious.
        std: s of one share, in grid units, at least 2.
        sensitivity: D, by how much one unit can move the sum, L2, in grid units, with what rounding adds.
        dimension: d, the integers of a sum.
        steps: T, sums published; D bounds each.
        delta: in (0, 1).
        besides: mu of what is released besides under Gaussian noise, all of it together.

    Raises:
        StrategyError: an argument out of range; shares below 2 grid units.
    """
    for name, value in (("shares", shares), ("dimension", dimension), ("steps", steps)):
        if value != int(value) or value < (name != "steps"):
            raise StrategyError(f"{name} must be a whole number, at least {int(name != 'steps')}; found {value!r}")
    check_range("sensitivity", sensitivity, 0.0)
    check_range("besides", besides, 0.0)
    check_probability("delta", delta)
    if not LEAST_STD <= std < math.inf:
        raise StrategyError(
            f"a noise share must have a standard deviation of at least {LEAST_STD:g} grid units; found {std!r}. Give a "
            "finer grid (more bits), a smaller clip, or more noise"
        )
    if sensitivity == 0.0 or steps == 0:
        return gaussian_epsilon(besides, delta)
    return min(
        _by_orders(steps * divergence(shares, std, sensitivity, dimension) + besides**2 / 2, delta),
        _by_gaussian(shares, std, sensitivity, dimension, steps, delta, besides),
    )


def tau(shares: int, std: float) -> float:
    """How far the sum of the shares is from one discrete Gaussian: 7e-17 for K = 2 at s = 2."""
    k = np.arange(1, shares, dtype=np.float64)
    return float(10 * np.exp(-2 * math.pi**2 * std**2 * k / (k + 1)).sum())


def divergence(shares: int, std: float, sensitivity: float, dimension: int) -> float:
    """The divergence of one step over its order: rho of zero-concentrated privacy."""
    t, mu = tau(shares, std), sensitivity / (math.sqrt(shares) * std)
    return min(mu**2 + t * dimension, (mu + t * math.sqrt(dimension)) ** 2) / 2


def _by_orders(rho: float, delta: float) -> float:
    """min over a > 1 of a rho + log((a - 1) / a) - (log delta + log a) / (a - 1), on a grid fine enough for 1e-5."""
    best = math.sqrt(-math.log(delta) / rho)  # of a - 1, but for the small terms
    a = 1 + best * np.geomspace(1e-2, 2.0, 2001)
    return max(0.0, float((a * rho + np.log1p(-1 / a) - (math.log(delta) + np.log(a)) / (a - 1)).min()))


def _by_gaussian(
    shares: int, std: float, sensitivity: float, dimension: int, steps: int, delta: float, besides: float
) -> float:
    """The closed form with what the grid and the shares add."""
    v, d = shares * std**2, dimension
    mu = math.hypot(math.sqrt(steps / v) * sensitivity, besides)
    apart = d * tau(shares, std) / 2  # the shares against Q, one way
    a = steps * (apart + d / (24 * v))
    most = gaussian_epsilon(mu, delta / 2) + a if a < 0.5 else math.inf
    if math.isinf(most):
        return math.inf  # too coarse a grid: the orders' bound is the better one
    t = math.log(steps / (_SLIVER * delta)) + most
    c = d + 2 * math.sqrt(d * t) + 2 * t
    b = steps * (
        apart + (math.sqrt(c) + math.sqrt(d / (4 * v))) ** 2 / (24 * v) + 3 * d * math.exp(-2 * math.pi**2 * v)
    )
    return gaussian_epsilon(mu, delta * (1 - _SLIVER) * math.exp(-a)) + a + b
