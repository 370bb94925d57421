"""What a training spends: epsilon of a history of Gaussian steps, and the noise that keeps a budget.

The mechanism is the sampled Gaussian: a step takes each unit with probability q on its own, sums what the units send
(each clipped to C) and adds N(0, (noise_multiplier C)^2 I). Neighbours differ by one unit that is there or not
(add/remove). Steps may look at the answers of earlier ones; a history composes all of them, whatever run, round or
office they came from.

Three accounts:

    closed form  every unit in every step (q = 1): exact (`strategies.privacy.gaussian`).
    prv          Gopi, Lee, Wutschitz: Numerical Composition of Differential Privacy, NeurIPS 2021, algorithm 1, by
                 Opacus. It convolves the distributions of the privacy loss on a mesh and returns an estimate plus the
                 bound on its error, which is what `epsilon` gives: never below, less than 1 % above. The headline.
    rdp          Mironov, Talwar, Zhang: Renyi Differential Privacy of the Sampled Gaussian Mechanism, 2019, by Opacus,
                 turned into epsilon by Balle, Barthe, Gaboardi, Hsu, Sato: Hypothesis Testing Interpretations and
                 Renyi Differential Privacy, AISTATS 2020, theorem 21. Some 10 % above, more for small epsilon; its
                 orders, `RDP_ORDERS`, belong into a record (`orders_text`).

Opacus imports torch, so it is imported where it is used: whoever lists strategies does without.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategies.base import StrategyError, check_choice, check_range
from strategies.privacy import ACCOUNTANTS
from strategies.privacy.gaussian import check_probability, gaussian_delta, gaussian_epsilon, gaussian_mu

# Opacus's own (1.1 to 10.9, 12 to 63), and more above, without which epsilons under 0.4 come out far too high.
RDP_ORDERS: tuple[float, ...] = (
    *(1 + x / 10 for x in range(1, 100)),
    *range(11, 65),
    *range(68, 129, 4),
    *range(136, 257, 8),
    *range(272, 513, 16),
)
orders_text = "1.1..10.9 by 0.1, 11..64 by 1, 68..128 by 4, 136..256 by 8, 272..512 by 16"

# prv's domain must hold all but a sliver of the privacy loss; any orders give a bound on it, and few are quick.
_DOMAIN_ORDERS = (1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 26.0, 32.0, 48.0)
_LARGEST_LOSS = 650.0  # exp of it is still a float; what is beyond has no protection to speak of
_SHARE = 1e-3  # prv's error bounds: of epsilon, and of delta
_MESH, _LARGEST_MESH = 1 << 21, 1 << 23  # points: a third of a second, and what memory bears
_COARSE = 0.03  # error bound of a first look; its estimate is far better than that, right to 1e-3
LEAST_DELTA = 1e-6
_PRECISION = 2e-3  # how far below its target a solved epsilon may stay


@dataclass(frozen=True)
class Mechanism:
    """A stretch of equal steps.

    Attributes:
        noise_multiplier: standard deviation of the noise over what one unit can change (the clip C); 0 is no noise.
        sampling_rate: q, the chance of a unit to be in a step, in [0, 1]; 1 is every unit in every step.
        steps: how many, at least 0: one for each draw of noise.

    Raises:
        StrategyError: one of them out of its range.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int

    def __post_init__(self) -> None:
        check_range("noise_multiplier", self.noise_multiplier, 0.0)
        check_range("sampling_rate", self.sampling_rate, 0.0, 1.0)
        if self.steps != int(self.steps) or self.steps < 0:
            raise StrategyError(f"steps must be a whole number, at least 0; found {self.steps!r}")


def epsilon(history: Sequence[Mechanism], delta: float, accountant: str = "prv") -> float:
    """What a history spends, an upper bound.

    Args:
        history: in any order; equal stretches may be split as one likes.
        delta: in (0, 1).
        accountant: `prv`, which is the closed form where every rate is 1, or `rdp`.

    Returns:
        epsilon >= 0; 0 where delta alone covers the history, infinite without noise. Over about 500 (groups of many
        rows) `prv` has left floating point, and the smaller of `rdp` and the closed form with every rate 1 stands in.

    Raises:
        StrategyError: delta or accountant out of range.
    """
    check_probability("delta", delta)
    check_choice("accountant", accountant, ACCOUNTANTS)
    return _epsilon(_normal(history), float(delta), accountant)


def noise_multiplier(
    epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    accountant: str = "prv",
    besides: Sequence[Mechanism] = (),
) -> float:
    """The least noise for which `steps` steps, together with what is spent `besides` them, stay within epsilon.

    Returns:
        A noise multiplier whose `epsilon(...)` lies in [(1 - 2e-3) epsilon, epsilon], by the same accountant. (It lies
        below where hardly any noise is needed: at small rates epsilon falls to 0 at once.)

    Raises:
        StrategyError: an argument out of range; the budget is spent by `besides` already.
    """
    check_range("epsilon", epsilon, 0.0)
    if epsilon == 0.0:
        raise StrategyError("epsilon must be above 0; found 0. Leave out the training, or give a budget")
    check_probability("delta", delta)
    check_choice("accountant", accountant, ACCOUNTANTS)
    Mechanism(1.0, sampling_rate, steps)
    if sampling_rate == 0.0 or steps == 0:
        raise StrategyError(
            f"nothing to solve for: sampling_rate {sampling_rate:g} and {steps} steps spend nothing with any noise"
        )
    spent = _epsilon(_normal(besides), float(delta), accountant)
    if spent >= epsilon:
        raise StrategyError(
            f"a budget of epsilon {epsilon:g} is spent before the first step: what is paid from it besides costs "
            f"{spent:.4g}. Give more, or leave that out"
        )
    return _solve(float(epsilon), float(delta), float(sampling_rate), int(steps), accountant, _normal(besides))


def group(history: Sequence[Mechanism], size: int) -> list[Mechanism]:
    """The history as it protects `size` rows together, for neighbours that differ in all of them.

    A step takes j ~ Bin(size, q) of the rows, which then shift its answer by at most j clips: N(0) against a mixture
    of N(j). Its dominating pair is N(0) against (1 - p) N(0) + p N(size), p = 1 - (1 - q)^size: a kernel that draws j
    given j >= 1 and maps x to (j / size) x + N(0, (1 - (j / size)^2) sigma^2) leaves N(0) as it is and makes of
    N(size) the mixture given j >= 1, and what is post-processing cannot cost more (in more dimensions it also turns
    the shift, and shortens it where the rows do not point the same way). So: sensitivity `size`, rate p.

    Raises:
        StrategyError: size below 1.
    """
    if size != int(size) or size < 1:
        raise StrategyError(f"a group has a whole number of rows, at least 1; found {size!r}")

    def rate(q: float) -> float:
        return q if q in (0.0, 1.0) or size == 1 else -math.expm1(size * math.log1p(-q))

    return [Mechanism(m.noise_multiplier / size, rate(m.sampling_rate), m.steps) for m in history]


def default_delta(units: int) -> float:
    """min(1e-5, 1 / (10 N)), rounded down to one digit; N is the public number of units of the whole federation.

    (At delta = 1 / n of an office a mechanism may publish one of its units outright.)
    """
    if units != int(units) or units < 1:
        raise StrategyError(f"delta is set for a whole number of units, at least 1; found {units!r}")
    parts = max(10 * int(units), 10**5)
    exponent = len(str(parts - 1))  # 10^exponent / parts in [1, 10)
    return float(f"{10**exponent // parts}e-{exponent}")


def check_delta(delta: float, units: int) -> None:
    """Refuse a delta above `default_delta`, outside (0, 1), or needlessly so small that what noise lacks far out would
    count in it (`strategies.privacy.noise`)."""
    check_probability("delta", delta)
    least = min(LEAST_DELTA, default_delta(units))
    if delta < least:
        raise StrategyError(
            f"delta must be at least {least:g}, below which what noise lacks far out would count "
            f"(strategies/SECURITY.md, Floating point); found {delta:g}"
        )
    if delta > default_delta(units):
        raise StrategyError(
            f"delta must be at most {default_delta(units):g} for {units} units, min(1e-5, 1 / (10 N)); found {delta:g}"
            ". Give a smaller one"
        )


# ------------------------------------------------------------------------------------------------------------ accounts

_History = tuple[tuple[float, float, int], ...]  # noise multiplier, rate, steps: as Opacus has them


def _normal(history: Sequence[Mechanism]) -> _History:
    """One entry a kind of step, in one order; steps at rate 1 are one step together. What spends nothing goes."""
    steps: Counter[tuple[float, float]] = Counter()
    for m in history:
        if m.steps and m.sampling_rate:
            steps[float(m.noise_multiplier), float(m.sampling_rate)] += int(m.steps)
    if any(sigma == 0.0 for sigma, _ in steps):
        return ((0.0, 1.0, 1),)
    full = math.fsum(n / sigma**2 for (sigma, q), n in steps.items() if q == 1.0)
    sampled = sorted((sigma, q, n) for (sigma, q), n in steps.items() if q < 1.0)
    return (*(((1 / math.sqrt(full), 1.0, 1),) if full else ()), *sampled)


@lru_cache(maxsize=1 << 16)
def _epsilon(history: _History, delta: float, accountant: str) -> float:
    if not history:
        return 0.0
    if history[0][0] == 0.0:
        return math.inf
    if accountant == "rdp":
        return _rdp_epsilon(history, delta)
    # Every unit in every step is never better than a chance of it.
    full = gaussian_epsilon(math.sqrt(math.fsum(n / sigma**2 for sigma, _, n in history)), delta)
    # delta at epsilon 0 is a total variation, at most the sum of the steps'; that of a mixture is q times its part's.
    if full == 0.0 or all(q == 1.0 for _, q, _ in history):
        return full
    if math.fsum(n * q * gaussian_delta(1 / sigma, 0.0) for sigma, q, n in history) <= delta:
        return 0.0
    domain = _domain(history, delta)
    if domain is None:
        return min(full, _rdp_epsilon(history, delta))
    estimate, _ = _prv(history, delta, domain, _COARSE * domain.epsilon)
    _, upper = _prv(history, delta, domain, domain.error(estimate))
    return max(0.0, min(full, upper))


def _rdp(history: _History, orders: Sequence[float]) -> NDArray[np.float64]:
    """The divergence of all steps, at each order."""
    from opacus.accountants.analysis.rdp import compute_rdp

    def step(sigma: float, q: float, order: float) -> float:
        try:
            return float(compute_rdp(q=q, noise_multiplier=sigma, steps=1, orders=float(order)))
        except ValueError:  # Opacus's series for broken orders loses its digits where the noise is large
            return float(compute_rdp(q=q, noise_multiplier=sigma, steps=1, orders=float(math.ceil(order))))

    return np.array([math.fsum(n * step(sigma, q, order) for sigma, q, n in history) for order in orders])


def _converted(rdp: NDArray[np.float64], orders: Sequence[float], delta: float) -> float:
    """min over a of rdp(a) + log((a - 1) / a) - (log delta + log a) / (a - 1)."""
    from opacus.accountants.analysis.rdp import get_privacy_spent

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Optimal order is")  # an upper bound at any order
        return max(0.0, float(get_privacy_spent(orders=list(orders), rdp=rdp, delta=delta)[0]))


def _rdp_epsilon(history: _History, delta: float) -> float:
    return _converted(_rdp(history, RDP_ORDERS), RDP_ORDERS, delta)


@dataclass(frozen=True)
class _Domain:
    """What a mesh must cover.

    Attributes:
        loss: L, so that the privacy loss is beyond [-L, L] with less chance than the error of delta allows.
        epsilon: a rough upper bound of epsilon.
        per_error: error bound over mesh width, sqrt(steps log(12 / error of delta) / 2).
    """

    loss: float
    epsilon: float
    per_error: float

    def error(self, estimate: float) -> float:
        """The error bound to ask for: 1e-3 of epsilon, and up to 4e-3 where that would take too many points."""
        points = 2 * self.loss * self.per_error  # times 1 / error
        wanted = min(max(_SHARE * estimate, points / _MESH), 4 * _SHARE * abs(estimate))
        return max(wanted, points / _LARGEST_MESH)


def _domain(history: _History, delta: float) -> _Domain | None:
    """As Opacus's `compute_safe_domain_size`, by fewer orders; None where no float holds exp(loss)."""
    error, steps = _SHARE * delta, sum(n for _, _, n in history)
    slow = any(q < 1.0 and sigma > 10.0 for sigma, q, _ in history)  # the series of broken orders
    orders = tuple(a for a in _DOMAIN_ORDERS if not slow or a.is_integer())
    one = [_rdp(((sigma, q, 1),), orders) for sigma, q, _ in history]
    every = np.sum([n * rdp for (_, _, n), rdp in zip(history, one, strict=True)], axis=0)
    losses = [_converted(rdp, orders, error / (8 * steps)) for rdp in one]
    loss = max(_converted(every, orders, error / 4), *losses) + 3
    rough = max(_converted(every, orders, delta), 1e-3)
    return None if loss > _LARGEST_LOSS else _Domain(loss, rough, math.sqrt(steps * math.log(12 / error) / 2))


def _prv(history: _History, delta: float, domain: _Domain, error: float) -> tuple[float, float]:
    """Opacus's PRVAccountant on a mesh of a length that transforms fast: epsilon's estimate, and its upper bound.

    (Opacus takes the length as it comes; with a large prime in it the same account takes five times as long.)
    """
    from opacus.accountants.analysis import prv
    from scipy.fft import next_fast_len

    width = error / domain.per_error
    half = next_fast_len(math.ceil(max(domain.loss, error + 3) / width) + 1)
    mesh = prv.Domain(-(half - 1) * width, half * width, 2 * half)
    with np.errstate(all="ignore"):  # log(1 - q) at rate 1, and exp far out, whose limits are right
        losses = [prv.PoissonSubsampledGaussianPRV(q, sigma) for sigma, q, _ in history]
        cut = [prv.TruncatedPrivacyRandomVariable(loss, mesh.t_min, mesh.t_max) for loss in losses]
        discrete: list[Any] = [prv.discretize(loss, mesh) for loss in cut]
        composed = prv.compose_heterogeneous(discrete, [n for _, _, n in history])
        _, estimate, upper = composed.compute_epsilon(delta, _SHARE * delta, error)
    return float(estimate), float(upper)


# -------------------------------------------------------------------------------------------------------------- solving


@lru_cache(maxsize=1 << 16)
def _solve(target: float, delta: float, q: float, steps: int, accountant: str, besides: _History) -> float:
    def history(sigma: float) -> _History:
        return _normal([Mechanism(sigma, q, steps), *(Mechanism(*entry) for entry in besides)])

    def exact(sigma: float) -> float:
        return _epsilon(history(sigma), delta, accountant)

    def quick(sigma: float) -> float:
        """Within 1e-3 of the estimate that `exact` adds its error bound to."""
        composed = history(sigma)
        domain = _domain(composed, delta)
        if domain is None or domain.epsilon <= 1e-3:
            return exact(sigma)
        estimate, _ = _prv(composed, delta, domain, _COARSE * domain.epsilon)
        return max(0.0, estimate + domain.error(estimate))

    mu = gaussian_mu(target, delta)
    if accountant == "prv" and q == 1.0 and all(rate == 1.0 for _, rate, _ in besides):
        rest = mu**2 - math.fsum(n / sigma**2 for sigma, _, n in besides)
        sigma = math.sqrt(steps / rest)
        while exact(sigma) > target:  # by the last digit
            sigma *= 1 + 1e-12
        return sigma
    # A first guess by the central limit (Bu, Dong, Long, Su 2020): mu = q sqrt(T (exp(1 / sigma^2) - 1)).
    guess = 1 / math.sqrt(math.log1p(mu**2 / (q * q * steps)))
    if accountant == "prv":
        guess = _root(quick, guess, target * (1 - _PRECISION / 4), target * _PRECISION / 8)
    return _root(exact, guess, target * (1 - _PRECISION / 4), target * _PRECISION / 4)


def _root(function: Callable[[float], float], guess: float, target: float, tolerance: float) -> float:
    """Where a falling function of sigma is within a tolerance of its target, by secants between logarithms.

    Secants that leave the bracket are halved into it; where the function jumps, the upper side of the jump.
    """
    low, high = 0.0, math.inf  # function(low) > target >= function(high), as far as found
    sigma, last = guess, None
    for _ in range(200):
        value = function(sigma)
        if abs(value - target) <= tolerance:
            return sigma
        low, high = (max(low, sigma), high) if value > target else (low, min(high, sigma))
        if high <= low * (1 + 1e-9):
            break
        slope = -1.0
        if last is not None and value > 0 and last[1] > 0 and math.isfinite(value + last[1]) and value != last[1]:
            slope = min(math.log(value / last[1]) / math.log(sigma / last[0]), -0.2)
        last = (sigma, value)
        step = math.log(target / value) / slope if 0 < value < math.inf else (-0.7 if value == 0 else 0.7)
        sigma *= math.exp(min(max(step, -0.7), 0.7))
        if not low < sigma < high:
            sigma = math.sqrt(low * high) if low and math.isfinite(high) else (low * 2 if low else high / 2)
    return high
