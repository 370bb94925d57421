"""What is spent: laws of the account, and the same epsilon by other libraries, by quadrature and by exact sums."""

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

from strategies.base import StrategyError
from strategies.privacy import ACCOUNTANTS
from strategies.privacy.accounting import (
    RDP_ORDERS,
    Mechanism,
    check_delta,
    default_delta,
    epsilon,
    group,
    noise_multiplier,
    orders_text,
)
from strategies.privacy.gaussian import gaussian_delta, gaussian_epsilon, gaussian_mu
from strategies.privacy.shares import divergence, shared_noise, tau

Density = Callable[[float], float]
DELTA = 1e-5
PILOT = (1 / 33, 165, 10)  # sampling rate, steps a round, rounds
BATCH = Mechanism(1.0, 64 / 1838, 725)


def pld_epsilon(history: Sequence[Mechanism], delta: float) -> float:
    """By dp-accounting's privacy loss distributions, an upper bound that is tight to its interval of 1e-4."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    composed = pld.identity(value_discretization_interval=1e-4)
    for m in history:
        full = m.sampling_rate == 1.0
        one = pld.from_gaussian_mechanism(
            m.noise_multiplier / math.sqrt(m.steps if full else 1),
            value_discretization_interval=1e-4,
            sampling_prob=m.sampling_rate,
        )
        composed = composed.compose(one if full else one.self_compose(m.steps))
    return float(composed.get_epsilon_for_delta(delta))


def fifty() -> list[tuple[float, float, float, int]]:
    """(epsilon, delta, rate, steps), every fifth at rate 1."""
    rng, drawn = np.random.default_rng(0), []
    for i in range(50):
        eps = math.exp(rng.uniform(math.log(0.1), math.log(30)))
        rate = 1.0 if i % 5 == 4 else math.exp(rng.uniform(math.log(1e-3), math.log(0.5)))
        steps = int(math.exp(rng.uniform(0, math.log(5000))))
        drawn.append((eps, 10 ** rng.uniform(-7, -5), rate, steps))
    return drawn


def is_quick(setting: tuple[float, float, float, int]) -> bool:
    """For dp-accounting, whose mesh grows with what a single step may lose, and for prv's, which grows with steps."""
    eps, _, rate, steps = setting
    return 0.3 < eps < 4 and rate > 0.014 and 20 < steps < 2000


QUICK = [s for s in fifty() if is_quick(s)]


def hold_to_pld(setting: tuple[float, float, float, int]) -> None:
    target, delta, rate, steps = setting
    sigma = noise_multiplier(target, delta, rate, steps)
    found = epsilon([Mechanism(sigma, rate, steps)], delta)
    assert (1 - 2e-3) * target <= found <= target
    assert found / pld_epsilon([Mechanism(sigma, rate, steps)], delta) - 1 == pytest.approx(0.00295, abs=0.00305)


def test_the_quick_ones_of_the_fifty_have_both_kinds() -> None:
    assert 5 <= len(QUICK) <= 9
    assert any(rate == 1.0 for _, _, rate, _ in QUICK)
    assert any(rate < 1.0 for _, _, rate, _ in QUICK)


@pytest.mark.parametrize("setting", QUICK)
def test_prv_is_never_below_plds_and_at_most_six_in_a_thousand_above(setting: tuple[float, float, float, int]) -> None:
    hold_to_pld(setting)


@pytest.mark.slow
@pytest.mark.parametrize("setting", [s for s in fifty() if not is_quick(s)])
def test_prv_against_pld_in_the_rest_of_the_fifty(setting: tuple[float, float, float, int]) -> None:
    hold_to_pld(setting)


def test_stretches_at_rate_1_compose_with_sampled_ones() -> None:
    for history in (
        [Mechanism(30.0, 1.0, 2), Mechanism(3.0, 0.03, 300)],
        [Mechanism(8.0, 1.0, 1), Mechanism(4.0, 0.05, 100), Mechanism(3.0, 0.03, 300)],
    ):
        assert 1 - 1e-4 <= epsilon(history, DELTA) / pld_epsilon(history, DELTA) <= 1.006
        parts = [Mechanism(m.noise_multiplier, m.sampling_rate, 1) for m in history for _ in range(m.steps)]
        assert epsilon(parts[::-1], DELTA) == epsilon(history, DELTA)


def test_prvs_mesh_meets_the_closed_form_at_rate_1() -> None:
    grain = Mechanism(100.0, 1e-6, 1)  # costs nothing, and keeps the closed form away
    for mu in (0.1, 1.0, 3.0):
        ratio = epsilon([Mechanism(1 / mu, 1.0, 1), grain], DELTA) / gaussian_epsilon(mu, DELTA)
        assert 1 <= ratio <= 1 + 1.5e-3  # the error bound of 1e-3 is part of it


def test_rdp_is_dp_accountings_to_the_ninth_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    from dp_accounting.rdp import rdp_privacy_accountant as theirs

    import strategies.privacy.accounting as ours

    orders = tuple(range(2, 257))
    monkeypatch.setattr(ours, "RDP_ORDERS", orders)
    ours._epsilon.cache_clear()
    try:
        for m in (BATCH, Mechanism(5.0, 0.1, 300), Mechanism(0.6, 0.01, 1000), Mechanism(20.0, 1.0, 100)):
            rdp = [
                m.steps * theirs._compute_rdp_poisson_subsampled_gaussian(m.sampling_rate, m.noise_multiplier, orders)
            ]
            assert ours._rdp(ours._normal([m]), orders) == pytest.approx(rdp[0], rel=1e-9)
            expected = theirs.compute_epsilon(np.array(orders), rdp[0], DELTA)[0]
            assert epsilon([m], DELTA, "rdp") == pytest.approx(expected, rel=1e-9)
    finally:
        ours._epsilon.cache_clear()


def test_rdp_at_rate_1_is_the_gaussians_curve_and_its_orders_lose_a_thousandth_of_the_best() -> None:
    from strategies.privacy.accounting import _rdp

    curve = _rdp(((7.0, 1.0, 90),), RDP_ORDERS)
    assert curve == pytest.approx(np.array(RDP_ORDERS) * 90 / (2 * 7.0**2), rel=1e-14)
    for mu in (0.05, 0.1, 0.3, 1.0, 2.0, 4.5):

        def at(order: float, mu: float = mu) -> float:
            rdp = order * mu**2 / 2
            return float(rdp + math.log1p(-1 / order) - (math.log(DELTA) + math.log(order)) / (order - 1))

        best = minimize_scalar(lambda x, at=at: at(1 + math.exp(x)), bounds=(-4, 7), method="bounded").fun
        found = epsilon([Mechanism(1 / mu, 1.0, 1)], DELTA, "rdp")
        assert best * (1 - 1e-9) <= found <= best * (1 + 1e-3)
        assert found > gaussian_epsilon(mu, DELTA)


def test_orders_text_says_the_orders() -> None:
    said: list[float] = []
    for part in orders_text.split(", "):
        (low, high), step = (tuple(map(float, part.split(" by ")[0].split(".."))), float(part.split(" by ")[1]))
        said += list(np.arange(low, high + step / 2, step))
    assert said == pytest.approx(RDP_ORDERS)
    assert list(RDP_ORDERS) == sorted(set(RDP_ORDERS))


# nominal epsilon of one round; Opacus's noise at its default tolerance and at 1e-4, and ten rounds of each by RDP, PLD
PILOTS = [
    (10.0, (0.620269775390625, 28.0, 25.5), (0.6201410293579102, 28.0, 25.5)),
    (1.0, (1.875, 3.28, 3.02), (1.8658447265625, 3.30, 3.04)),
    (0.3, (5.0, 1.02, 0.93), (4.9853515625, 1.02, 0.93)),
]


@pytest.mark.parametrize(("nominal", "default", "fine"), PILOTS)
def test_the_pilots_settings(nominal: float, default: Sequence[float], fine: Sequence[float]) -> None:
    rate, steps, rounds = PILOT
    for sigma, by_rdp, by_pld in (default, fine):
        history = [Mechanism(sigma, rate, steps)] * rounds  # a fresh engine a round, and what it comes to
        assert epsilon(history, DELTA, "rdp") == pytest.approx(by_rdp, rel=5e-3)
        assert epsilon(history, DELTA) == pytest.approx(by_pld, rel=5e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Optimal order is")
@pytest.mark.parametrize(("nominal", "default", "fine"), PILOTS)
def test_the_pilots_noise_is_opacuss(nominal: float, default: Sequence[float], fine: Sequence[float]) -> None:
    from opacus.accountants.utils import get_noise_multiplier

    more: list[dict[str, float]] = [{}, {"epsilon_tolerance": 1e-4}]
    for (sigma, _, by_pld), tolerance in zip((default, fine), more, strict=True):
        found = get_noise_multiplier(
            target_epsilon=nominal,
            target_delta=DELTA,
            sample_rate=PILOT[0],
            steps=PILOT[1],
            accountant="rdp",
            **tolerance,
        )
        assert found == pytest.approx(sigma, rel=1e-9)
        assert pld_epsilon([Mechanism(sigma, PILOT[0], PILOT[1] * PILOT[2])], DELTA) == pytest.approx(by_pld, rel=5e-3)


def test_more_steps_less_noise_more_sampling_and_a_smaller_delta_cost_more() -> None:
    for accountant in ACCOUNTANTS:
        for rate in (0.05, 1.0) if accountant == "prv" else (0.05,):
            costs = epsilon([Mechanism(3.0, rate, 100)], 1e-5, accountant)
            assert epsilon([Mechanism(3.0, rate, 110)], 1e-5, accountant) > costs
            assert epsilon([Mechanism(2.9, rate, 100)], 1e-5, accountant) > costs
            assert epsilon([Mechanism(3.0, rate, 100)], 5e-6, accountant) > costs
            assert epsilon([Mechanism(3.0, rate * 0.9, 100)], 1e-5, accountant) < costs
            assert epsilon([Mechanism(3.0, rate, 100), Mechanism(9.0, 0.5, 1)], 1e-5, accountant) > costs
        assert epsilon([BATCH], DELTA) < epsilon([BATCH], DELTA, "rdp") < 1.75 * epsilon([BATCH], DELTA)


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize("rate", [64 / 1838, 1.0])
@pytest.mark.parametrize("besides", [(), (Mechanism(20.0, 1.0, 1),), (Mechanism(9.0, 0.1, 30),)])
def test_the_solved_noise_keeps_its_budget_and_hardly_more(
    accountant: str, rate: float, besides: tuple[Mechanism, ...]
) -> None:
    for target in (0.7, 8.0) if rate == 1.0 and not besides else (3.0,):
        sigma = noise_multiplier(target, DELTA, rate, 725, accountant, besides)
        assert (1 - 2e-3) * target <= epsilon([Mechanism(sigma, rate, 725), *besides], DELTA, accountant) <= target


@given(st.floats(-2.0, 4.0), st.integers(1, 20_000), st.floats(-12.0, -1.0))
def test_every_unit_in_every_step_is_solved_exactly(exponent: float, steps: int, power: float) -> None:
    target, delta = 10.0**exponent, 10.0**power
    found = epsilon([Mechanism(noise_multiplier(target, delta, 1.0, steps), 1.0, steps)], delta)
    assert target * (1 - 1e-9) - 1e-12 <= found <= target


@given(st.floats(-3.0, 3.0), st.floats(-12.0, -1.0))
def test_the_closed_forms_inverses(power: float, small: float) -> None:
    mu, delta = 10.0**power, 10.0**small
    eps = gaussian_epsilon(mu, delta)
    if eps > 0:
        assert gaussian_delta(mu, eps) == pytest.approx(delta, rel=1e-9)
        assert gaussian_mu(eps, delta) == pytest.approx(mu, rel=1e-9)
    else:
        assert gaussian_delta(mu, 0.0) <= delta


@pytest.mark.parametrize(("mu", "eps"), [(0.05, 0.0), (0.3, 0.8), (1.0, 4.3), (4.0, 2.0), (4.0, 30.0)])
def test_the_closed_form_by_quadrature(mu: float, eps: float) -> None:
    def excess(x: float) -> float:
        return float(norm.pdf(x, mu) - math.exp(eps) * norm.pdf(x))

    start = eps / mu + mu / 2  # where the density of one is e^epsilon times the other's
    area, _ = quad(excess, start, start + 40, epsabs=0, epsrel=1e-11, limit=400, points=[start + 1, start + 6])
    assert gaussian_delta(mu, eps) == pytest.approx(area, rel=1e-8)


def test_known_values_of_the_closed_form() -> None:
    assert gaussian_epsilon(1.0, DELTA) == pytest.approx(4.3771781, rel=1e-7)
    assert gaussian_mu(1e6, DELTA) == pytest.approx(1409.9558, rel=1e-7)
    assert gaussian_mu(0.0, 1e-3) == pytest.approx(2 * norm.ppf((1 + 1e-3) / 2), rel=1e-12)
    assert gaussian_delta(1.0, 1.0) == pytest.approx(norm.cdf(-0.5) - math.e * norm.cdf(-1.5), rel=1e-12)
    assert gaussian_epsilon(0.0, DELTA) == 0.0
    assert math.isinf(gaussian_epsilon(math.inf, DELTA))
    assert gaussian_delta(1000.0, 0.0) == 1.0


def full(budget: float, steps: int = 100) -> Mechanism:
    return Mechanism(noise_multiplier(budget, DELTA, 1.0, steps), 1.0, steps)


def test_what_a_group_of_windows_has_left() -> None:
    assert epsilon(group([full(8)], 409), DELTA) == pytest.approx(2.4e5, rel=0.03)
    assert epsilon(group([full(0.5)], 409), DELTA) == pytest.approx(1939, rel=5e-3)
    assert epsilon(group([full(8)], 3), DELTA) == pytest.approx(33, rel=5e-3)
    assert epsilon([full(8)] * 3, DELTA) == pytest.approx(15.9, rel=5e-3)  # one of the three in each of three offices


def test_a_person_in_four_offices() -> None:
    assert epsilon([full(8)] * 4, DELTA) == pytest.approx(19.1, rel=5e-3)
    assert epsilon([full(8)] * 3 + [full(8, 50)], DELTA) == pytest.approx(19.1, rel=5e-3)
    assert epsilon([full(3.547)] * 4, DELTA) == pytest.approx(8, rel=1e-3)


@pytest.mark.parametrize("size", [2, 5])
def test_a_groups_pair_dominates_the_mixture_of_its_shifts(size: int) -> None:
    rate, sigma = 0.1, 2.0
    chance = binom.pmf(np.arange(size + 1), size, rate)

    def mixture(x: float) -> float:
        return float(chance @ norm.pdf(x, np.arange(size + 1), sigma))

    eps = epsilon(group([Mechanism(sigma, rate, 1)], size), DELTA)
    for one, other in (
        (mixture, lambda x: norm.pdf(x, 0, sigma)),
        (lambda x: norm.pdf(x, 0, sigma), mixture),
    ):

        def excess(x: float, one: Density = one, other: Density = other) -> float:
            return max(0.0, one(x) - math.exp(eps) * other(x))

        area, _ = quad(excess, -40, 60, limit=2000, epsabs=1e-12)
        assert area <= DELTA
    assert epsilon([Mechanism(sigma, rate, 1)], DELTA) < eps < epsilon([Mechanism(sigma / size, 1.0, 1)], DELTA)


def test_a_group_of_one_is_the_unit_and_large_groups_stay_finite() -> None:
    assert group([BATCH], 1) == [BATCH]
    assert group([BATCH], 3)[0].sampling_rate == pytest.approx(1 - (1 - BATCH.sampling_rate) ** 3, rel=1e-12)
    costs = [epsilon(group([Mechanism(5.0, 64 / 1838, 725)], size), DELTA) for size in (1, 2, 8, 30, 409)]
    assert costs == sorted(costs)
    assert costs[-1] <= gaussian_epsilon(409 / 5.0 * math.sqrt(725), DELTA)


def test_what_delta_covers_is_nothing_and_no_noise_is_no_privacy() -> None:
    for m in (Mechanism(1e6, 1.0, 100), Mechanism(1e6, 0.5, 100), Mechanism(1e4, 0.01, 10), Mechanism(1.0, 0.0, 9)):
        assert epsilon([m], DELTA) == 0.0
    assert epsilon([], DELTA) == epsilon([Mechanism(0.0, 0.5, 0)], DELTA, "rdp") == 0.0
    for accountant in ACCOUNTANTS:
        assert 0.0 <= epsilon([Mechanism(1e4, 0.01, 10)], DELTA, accountant) < 0.01
        assert math.isinf(epsilon([BATCH, Mechanism(0.0, 0.01, 1)], DELTA, accountant))


@pytest.mark.parametrize(
    ("units", "delta"),
    [(1, 1e-5), (21, 1e-5), (7352, 1e-5), (10_000, 1e-5), (10_001, 9e-6), (30_000, 3e-6), (10**8, 1e-9)],
)
def test_deltas_by_units(units: int, delta: float) -> None:
    assert default_delta(units) == delta
    check_delta(delta, units)
    with pytest.raises(StrategyError, match=rf"at most {delta:g} for {units} units.*found"):
        check_delta(delta * 1.01, units)


@settings(max_examples=200)
@given(st.integers(1, 10**12))
def test_default_delta_is_the_bound_less_what_one_digit_takes(units: int) -> None:
    bound = min(1e-5, 1 / (10 * units))
    assert bound / 2 < default_delta(units) <= bound * (1 + 1e-12)
    assert len(repr(default_delta(units)).split("e")[0]) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Mechanism(-1.0, 0.1, 10), "noise_multiplier must be at least 0; found -1.0"),
        (lambda: Mechanism(math.nan, 0.1, 10), "noise_multiplier"),
        (lambda: Mechanism(1.0, 1.1, 10), r"sampling_rate must be in \[0, 1\]; found 1.1"),
        (lambda: Mechanism(1.0, 0.1, -1), "steps must be a whole number"),
        (lambda: epsilon([BATCH], 0.0), "delta must lie between 0 and 1"),
        (lambda: epsilon([BATCH], 1.0), "delta must lie between 0 and 1"),
        (lambda: epsilon([BATCH], DELTA, "gdp"), "accountant must be one of prv, rdp; found 'gdp'"),
        (lambda: noise_multiplier(0.0, DELTA, 0.1, 10), "epsilon must be above 0"),
        (lambda: noise_multiplier(-1.0, DELTA, 0.1, 10), "epsilon must be at least 0; found -1.0"),
        (lambda: noise_multiplier(math.inf, DELTA, 0.1, 10), "epsilon"),
        (lambda: noise_multiplier(1.0, DELTA, 0.1, 0), "nothing to solve for"),
        (lambda: noise_multiplier(1.0, DELTA, 0.0, 10), "nothing to solve for"),
        (lambda: noise_multiplier(1.0, DELTA, 1.0, 1, besides=[full(1.5)]), "spent before the first step.*1.5"),
        (lambda: group([BATCH], 0), "at least 1; found 0"),
        (lambda: default_delta(0), "at least 1; found 0"),
        (lambda: check_delta(0.0, 10), "between 0 and 1"),
        (lambda: gaussian_delta(-1.0, 1.0), "at least 0; found -1.0"),
        (lambda: gaussian_epsilon(-1.0, DELTA), "mu must be at least 0"),
        (lambda: gaussian_mu(-1.0, DELTA), "epsilon must be at least 0"),
        (lambda: shared_noise(4, 1.9, 1.0, 10, 10, DELTA), "at least 2 grid units; found 1.9.*finer grid"),
        (lambda: shared_noise(0, 3.0, 1.0, 10, 10, DELTA), "shares must be a whole number, at least 1; found 0"),
        (lambda: shared_noise(3, 3.0, -1.0, 10, 10, DELTA), "sensitivity"),
        (lambda: shared_noise(3, 3.0, 1.0, 10, 10, 0.0), "delta"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        call()


# ------------------------------------------------------------------------------------------------------- noise shares


def sum_of_shares(shares: int, std: float, reach: int) -> NDArray[np.float64]:
    """The probabilities of the sum at -shares reach .. shares reach."""
    x = np.arange(-reach, reach + 1)
    one = np.exp(-(x**2) / (2 * std**2))
    total = one = one / one.sum()
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    return total


@pytest.mark.parametrize(
    ("shares", "std", "shift"), [(1, 2.0, 2), (2, 2.0, 3), (3, 5.0, 4), (2, 25.0, 20), (3, 16.0, 15)]
)
def test_shares_of_one_number_keep_the_epsilon_that_is_claimed(shares: int, std: float, shift: int) -> None:
    for steps in (1, 2):
        claimed = shared_noise(shares, std, shift, 1, steps, DELTA)
        p = sum_of_shares(shares, std, int(14 * std))
        one, other = np.pad(p, (shift, 0)), np.pad(p, (0, shift))
        if steps == 2:
            one, other = np.multiply.outer(one, one), np.multiply.outer(other, other)
        assert np.maximum(one - math.exp(claimed) * other, 0).sum() <= DELTA
        assert np.maximum(one - math.exp(0.85 * claimed) * other, 0).sum() > DELTA  # and not much less would do


def test_many_fine_shares_cost_what_one_gaussian_does() -> None:
    for mu in (0.05, 0.3, 1.7):
        found = shared_noise(4, 3e4, mu * math.sqrt(4) * 3e4, 80_582, 100, DELTA)
        exact = gaussian_epsilon(mu * math.sqrt(100), DELTA)
        assert exact < found < exact * (1 + 1e-3)


def test_coarse_shares_are_accounted_by_orders() -> None:
    rho = 10 * divergence(2, 2.0, 0.28, 80_582)
    found = shared_noise(2, 2.0, 0.28, 80_582, 10, DELTA)
    assert gaussian_epsilon(math.sqrt(2 * rho), DELTA) < found < 1.15 * gaussian_epsilon(math.sqrt(2 * rho), DELTA)


def test_what_is_released_besides_composes() -> None:
    """As mu^2 or rho, by either bound; and alone it is the Gaussian's own."""
    mu = 0.7
    fine = shared_noise(4, 3e4, mu * math.sqrt(4) * 3e4, 1000, 1, DELTA, besides=1.2)
    assert fine == pytest.approx(gaussian_epsilon(math.hypot(mu, 1.2), DELTA), rel=1e-3)
    rho = 10 * divergence(2, 2.0, 0.28, 80_582)
    coarse = shared_noise(2, 2.0, 0.28, 80_582, 10, DELTA, besides=0.5)
    wanted = gaussian_epsilon(math.sqrt(2 * rho + 0.25), DELTA)
    assert wanted < coarse < 1.15 * wanted
    assert shared_noise(3, 10.0, 0.0, 5, 10, DELTA, besides=1.2) == gaussian_epsilon(1.2, DELTA)


def test_tau_is_the_papers_and_vanishes() -> None:
    assert tau(1, 2.0) == 0.0
    assert tau(3, 0.5) == pytest.approx(10 * (math.exp(-(math.pi**2) / 4) + math.exp(-(math.pi**2) / 3)), rel=1e-12)
    assert tau(2, 2.0) == pytest.approx(10 * math.exp(-4 * math.pi**2), rel=1e-12)
    p, both = sum_of_shares(1, 0.6 * math.sqrt(2), 9), sum_of_shares(2, 0.6, 9)
    middle = len(both) // 2
    apart = np.log(both[middle - 3 : middle + 4] / p[9 - 3 : 9 + 4])
    assert np.abs(apart).max() <= tau(2, 0.6) / 2
    assert divergence(1, 3.0, 6.0, 10) == 2.0  # a single office's: D^2 / 2 s^2
    assert divergence(3, 0.5, 1.0, 10) > 1 / (2 * 3 * 0.25)


def test_shares_that_hide_nothing_cost_nothing_and_fewer_cost_more() -> None:
    assert shared_noise(3, 10.0, 0.0, 5, 10, DELTA) == shared_noise(3, 10.0, 1.0, 5, 0, DELTA) == 0.0
    assert shared_noise(2, 50.0, 30.0, 5, 10, DELTA) > shared_noise(3, 50.0, 30.0, 5, 10, DELTA)


def test_it_imports_neither_torch_nor_opacus() -> None:
    code = "import sys, strategies.privacy.accounting; print({'torch', 'opacus', 'flwr'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
