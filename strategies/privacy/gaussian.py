"""The Gaussian mechanism in closed form.

Balle, Wang: Improving the Gaussian Mechanism for Differential Privacy, ICML 2018, theorem 8: noise N(0, sigma^2 I) on
a function of L2 sensitivity D is (epsilon, delta)-private if and only if, with mu = D / sigma,

    delta >= Phi(mu/2 - epsilon/mu) - exp(epsilon) Phi(-mu/2 - epsilon/mu)

T such mechanisms, each free to look at earlier answers, are one with mu^2 = sum_t mu_t^2 (Dong, Roth, Su: Gaussian
Differential Privacy, JRSS B 2022, corollary 3.3), so that this is the whole account of any training in which every unit
is in every step. The relation is the one D was taken for: add/remove, or replace-one with twice the D.

The second term overflows as written. With y = epsilon/mu - mu/2 and x = epsilon/mu + mu/2, epsilon - x^2/2 = -y^2/2:

    delta = Phi(-y) - exp(-y^2/2) erfcx(x / sqrt 2) / 2,    erfcx(z) = exp(z^2) erfc(z)
"""

from __future__ import annotations

import math

from strategies.base import StrategyError

SQRT2 = math.sqrt(2.0)


def check_probability(name: str, value: float) -> None:
    """Refuse a delta outside (0, 1)."""
    if not 0.0 < value < 1.0:
        raise StrategyError(f"{name} must lie between 0 and 1, both excluded; found {value!r}")


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The smallest delta at `epsilon` >= 0 of a Gaussian mechanism of sensitivity `mu` standard deviations, mu >= 0."""
    if not (mu >= 0.0 and epsilon >= 0.0):
        raise StrategyError(f"mu and epsilon must be at least 0; found {mu!r} and {epsilon!r}")
    if mu == 0.0 or math.isinf(epsilon):
        return 0.0
    if math.isinf(mu):
        return 1.0
    return _delta(mu, epsilon / mu - mu / 2)


def _delta(mu: float, y: float) -> float:
    """delta at epsilon = mu (y + mu/2)."""
    from scipy.special import erfcx, ndtr  # half a second, which a run without privacy does without

    tail = math.exp(-y * y / 2) / 2
    above = tail * erfcx(y / SQRT2) if y > 0 else ndtr(-y)  # Phi(-y); beside each other the tails lose no digits
    return max(0.0, float(above - tail * erfcx((y + mu) / SQRT2)))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon >= 0 at `delta` in (0, 1): 0 where delta alone covers it, infinite for infinite mu."""
    check_probability("delta", delta)
    if not mu >= 0.0:
        raise StrategyError(f"mu must be at least 0; found {mu!r}")
    if math.isinf(mu) or gaussian_delta(mu, 0.0) <= delta:
        return mu if math.isinf(mu) else 0.0
    from scipy.optimize import brentq

    # Phi(-y) <= exp(-y^2/2) for y >= 0: the root lies below sqrt(2 log(1/delta)), whatever mu is.
    y = brentq(lambda y: _delta(mu, y) / delta - 1.0, -mu / 2, math.sqrt(-2 * math.log(delta)), xtol=1e-13, rtol=1e-14)
    return max(0.0, mu * (y + mu / 2))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu that is (epsilon, delta)-private; epsilon >= 0 and finite, delta in (0, 1)."""
    check_probability("delta", delta)
    if not (epsilon >= 0.0 and math.isfinite(epsilon)):
        raise StrategyError(f"epsilon must be at least 0 and finite; found {epsilon!r}")
    from scipy.optimize import brentq
    from scipy.special import ndtri

    if epsilon == 0.0:
        return float(2 * ndtri((1 + delta) / 2))  # delta = 2 Phi(mu/2) - 1
    tail = math.sqrt(-2 * math.log(delta))
    low = 2 * epsilon / (tail + math.sqrt(tail * tail + 2 * epsilon))  # mu^2/2 + mu tail = epsilon, private as above
    high = 2 * low
    while gaussian_delta(high, epsilon) <= delta:
        low, high = high, 2 * high
    mu = brentq(lambda mu: gaussian_delta(mu, epsilon) / delta - 1.0, low, high, xtol=1e-300, rtol=1e-14)
    return float(mu)
