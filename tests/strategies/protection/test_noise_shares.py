"""Noise in shares: what the server adds up is never without it, and it is as much as was accounted for."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.engines import inprocess
from experiments.federation.describe import describe
from experiments.federation.run import attempt, deal_rows, run, run_models, set_up
from results.sections import Group
from strategies import StrategyError
from strategies.crypto.fixed_point import FixedPoint
from strategies.crypto.streams import ProtectionError
from strategies.privacy.gaussian import gaussian_epsilon
from strategies.privacy.plan import noise_shares
from strategies.protection.keys import Keys
from strategies.protection.shares import NoiseShares, NoisyGrid
from tests.experiments.problems import problem
from tests.strategies.protection.instruments import variance_test
from tests.strategies.protection.key_files import vault_for

CENTRAL = "masked_sum(bits=24, inner=dp_fedavg(noise_multiplier=2, clip_norm=0.5))"
LOCAL = "masked_sum(bits=32, inner=dp_sgd(noise=shared, noise_multiplier=2, inner=fedavg(weighting=uniform)))"
ONE_STEP = {"batch_size": "full", "local_epochs": 1}
WIDE = {"model": "mlp(hidden=[100, 90])", "client_lr": 1.0}


def final(**options: Any) -> NDArray[np.float64]:
    spec, data = problem(**options)
    sides = set_up(spec, data, deal_rows(spec, data))
    server, clients = sides.server, sides.clients
    return inprocess.run(server, clients, 4).models[0].astype(np.float64)


def changed(text: str, **options: Any) -> NDArray[np.float64]:
    """The final model under a strategy, less that of the same without noise."""
    noisy, silent = (final(strategy=one, rounds=1, **options) for one in (text, silenced(text)))
    return noisy - silent


def silenced(text: str) -> str:
    return text.replace("noise_multiplier=2", "noise_multiplier=0")


@pytest.mark.parametrize("offices", [3, 4, 10])
@pytest.mark.parametrize("bits", [20, 24, 32])
@pytest.mark.parametrize("alone", [True, False])
def test_slots_hold_all_offices_and_all_noise(offices: int, bits: int, alone: bool) -> None:
    """Saturated updates and clamped shares of every office: the sum still fits, and decodes to the exact mean."""
    shares = NoiseShares(3.0, lambda _: 1.0 if alone else 0.25, 1, lambda _: 1.0, alone, 3, 1)
    noisy = shares.grid(bits, offices, 1000, 0.25, 1, "nearest")
    grid = noisy.fixed
    assert isinstance(grid, FixedPoint)
    part = 1 / offices
    for sign in (1, -1):
        values, _, _ = grid.encode(np.full(5, sign * 0.25), part, 0.25)
        sent = values.astype(object) + grid.margin + sign * grid.margin
        assert min(sent) >= 0
        assert offices * max(sent) < 2**bits
        total = (sent * offices).astype(np.uint32)
        mean = grid.decode(total, [part] * offices, 0.25)
        whole = int(values[0]) - grid.offset(part) + sign * grid.margin
        np.testing.assert_allclose(mean, offices * whole * 0.25 / grid.levels, rtol=1e-12)


def test_the_variance_is_that_of_the_fewest_honest_offices() -> None:
    """sigma^2 D^2 between K_min - t of them, D with what rounding adds; the levels leave room for all of it."""
    for bits, curious in ((20, 0), (24, 1), (28, 2)):
        noisy = NoiseShares(2.0, lambda _: 0.5, 1, lambda _: 0.5, True, 3, curious).grid(
            bits, 4, 900, 0.125, 1, "nearest"
        )
        assert isinstance(noisy, NoisyGrid)
        levels = noisy.fixed.levels
        needed = 0.5 / 0.125 * levels / 4 + 15
        assert needed <= noisy.sensitivity <= 1.02 * needed + 1
        assert noisy.variance >= (2 * needed) ** 2 / (3 - curious)
        assert noisy.fixed.margin >= 10 * math.sqrt(noisy.variance)
        assert levels + 4 * noisy.fixed.margin + 4 <= 2 ** (bits - 1) - 1


def test_too_few_bits_are_told_with_how_many_would_do() -> None:
    with pytest.raises(StrategyError, match=r"bits=12 carry no noise of this size \(.*\); set bits=\d+") as told:
        run(*problem(strategy=CENTRAL.replace("bits=24", "bits=12")))
    enough = int(str(told.value).rpartition("=")[2])
    assert run(*problem(strategy=CENTRAL.replace("bits=24", f"bits={enough}"))).status == "ok"
    with pytest.raises(StrategyError, match=f"set bits={enough}"):
        run(*problem(strategy=CENTRAL.replace("bits=24", f"bits={enough - 1}")))
    with pytest.raises(StrategyError, match="carry no noise"):
        run(*problem(strategy=LOCAL.replace("bits=32", "bits=12"), **ONE_STEP))


@pytest.mark.parametrize(("text", "options"), [(CENTRAL, {}), (LOCAL, ONE_STEP)], ids=["clients", "steps"])
def test_the_sum_holds_the_noise_of_all_shares(text: str, options: dict[str, Any]) -> None:
    """With four offices, K_min = 3 and one curious the default carries twice what is claimed: 4 / (3 - 1)."""
    drawn = changed(text, **WIDE, **options)
    spec, data = problem(strategy=text, **WIDE, **options)
    workload = set_up(spec, data, deal_rows(spec, data)).clients.workloads[0]
    unit = 0.5 / 4 if not options else 1.0 / workload.private.divisor / 4
    expected = 2 * unit * math.sqrt(4 / 2)
    assert abs(variance_test(drawn, expected)) < 5
    assert abs(variance_test(drawn, expected * math.sqrt(3 / 4))) > 20, "a missing share shows"


def test_shares_of_offices_and_rounds_are_independent() -> None:
    spec, data = problem(strategy=CENTRAL, **WIDE)
    clients = set_up(spec, data, deal_rows(spec, data)).clients.start()
    noisy = clients.offices.desk.noisy(1)
    drawn = [
        noisy.share(clients.offices.office(k).noise(round_), 9000).astype(float)
        for k in range(4) for round_ in (1, 2, 3)
    ]  # fmt: skip
    correlations = np.corrcoef(drawn)[np.triu_indices(12, 1)]
    assert np.abs(correlations).max() < 5 / math.sqrt(9000)


def test_an_office_that_vanishes_takes_its_share_along_and_what_is_left_is_enough() -> None:
    """Three of four answer: their shares alone carry 3 / 2 of the variance that is claimed."""
    one = {**WIDE, "dropout": "drop(schedule=[[1, 2, update]])"}
    drawn = changed(CENTRAL, **one)
    unit = 0.5 / 3
    assert abs(variance_test(drawn, 2 * unit * math.sqrt(3 / 2))) < 5


def test_fewer_than_the_minimum_fail_the_round() -> None:
    spec, data = problem(strategy=CENTRAL, dropout="drop(schedule=[[1, 2, update], [1, 3, update]])")
    with pytest.raises(Exception, match=r"at least 3"):
        run(spec, data)


@pytest.mark.parametrize("protocol", ["masked_sum", "secagg", "paillier"])
def test_every_protocol_has_the_bits_of_the_twin(protocol: str) -> None:
    """Whatever hides the sums, every round in earnest: noise shares are drawn alike, and no slot overflows."""
    twin = final(strategy=CENTRAL.replace("masked_sum", "quantised"))
    spec, data = problem(strategy=CENTRAL.replace("masked_sum", protocol))
    _, model = run_models(spec, data, keys=Keys(vault_for(spec.strategy)))
    np.testing.assert_array_equal(model[0].astype(np.float64), twin)


def test_what_the_claim_says() -> None:
    privacy = run(*problem(strategy=CENTRAL)).privacy
    assert privacy.epsilon == pytest.approx(gaussian_epsilon(math.sqrt(3) / 2, 1e-5), rel=1e-6)
    assert privacy.noise == "shared"
    assert privacy.observer == "server, other offices, reader of the model; 1 of the offices may pool what they know"
    secagg = run(*problem(strategy=CENTRAL.replace("masked_sum", "secagg"))).privacy.observer
    assert secagg.endswith("pool what they know with the server"), "the others' keys are shared"
    alone = run(*problem(strategy=CENTRAL.replace("0.5))", "0.5, curious=0))"))).privacy.observer
    assert alone == "server, reader of the model", "an office knows its own share"
    clear = run(*problem(strategy=CENTRAL.replace("masked_sum", "quantised"))).privacy.observer
    assert clear == "other offices, reader of the model", "the server sees updates under one share each"
    local = run(*problem(strategy=LOCAL, **ONE_STEP)).privacy
    assert local.noise == "shared"
    for proved in (privacy, local):
        assert 1 <= proved.epsilon_integers / proved.epsilon < 1.005, "discrete and continuous are this close"
    assert local.epsilon == pytest.approx(gaussian_epsilon(math.sqrt(3) / 2, 1e-5), rel=1e-6)


def test_a_person_in_four_offices_moves_all_four() -> None:
    """One shared noise: no fourfold composition, but fourfold sensitivity."""
    person = "masked_sum(bits=32, inner=dp_sgd(noise=shared, unit=person, epsilon=8, inner=fedavg(weighting=uniform)))"
    spec, data = problem(strategy=person, **ONE_STEP)
    clients = set_up(spec, data, deal_rows(spec, data)).clients
    assert clients.workloads[0].private.spread == 4
    apart = run(*problem(strategy=person, partition="by_person", **ONE_STEP)).privacy
    iid = run(spec, data).privacy
    assert iid.epsilon == pytest.approx(8, rel=1e-2) == pytest.approx(apart.epsilon, rel=1e-2)


def test_a_person_is_charged_for_the_busiest_office() -> None:
    """Under one noise an office that is rarely there must not hide the rounds of the others."""
    person = "masked_sum(bits=32, inner=dp_sgd(noise=shared, unit=person, epsilon=8, inner=fedavg(weighting=uniform)))"
    rounds = ", ".join(f"[{round_}, 0, update]" for round_ in range(1, 10))
    spent = run(*problem(strategy=person, **ONE_STEP, rounds=10, dropout=f"drop(schedule=[{rounds}])")).privacy
    assert [office.steps for office in spent.offices] == [1, 10, 10, 10]
    assert spent.epsilon == pytest.approx(8, rel=1e-2)


def test_the_last_rounds_grid_is_checked_before_the_first() -> None:
    """A clip that stands still while the learning rate falls makes the noise too fine for the grid."""
    text = LOCAL.replace("bits=32", "bits=20, clip=0.05")
    with pytest.raises(StrategyError, match="carry no noise"):
        run(*problem(strategy=text, **ONE_STEP, rounds=40, lr_schedule="cosine"))


def test_without_noise_or_clip_there_are_no_shares() -> None:
    text = LOCAL.replace("noise_multiplier=2", "noise_multiplier=0, clip_norm=none")
    assert run(*problem(strategy=text, **ONE_STEP)).privacy.epsilon is None


def test_an_update_longer_than_its_bound_is_not_sent() -> None:
    noisy = NoiseShares(2.0, lambda _: 0.5, 1, lambda _: 0.5, True, 3, 0).grid(24, 4, 900, 0.125, 1, "nearest")
    fair = np.zeros(900)
    fair[:16] = 0.125
    values, _, _ = noisy.fixed.encode(fair, 0.25, 0.125)
    noisy.check(values, 0.25)
    long, _, _ = noisy.fixed.encode(np.full(900, 0.02), 0.25, 0.125)
    with pytest.raises(ProtectionError, match="longer than the noise is made for"):
        noisy.check(long, 0.25)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("masked_sum(inner=dp_fedavg(epsilon=1, sampling=poisson))", "sampling=poisson counts on nobody"),
        ("masked_sum(rounding=feedback, inner=dp_fedavg(epsilon=1))", "rounding=feedback sends in a later round"),
        ("masked_sum(inner=dp_fedavg(epsilon=1, curious=3))", "curious=3 offices would know all noise"),
    ],
)
def test_mistakes_are_told(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        RunSpec.from_options({"strategy": text})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"strategy": LOCAL}, "set --local-steps 1"),
        ({"strategy": LOCAL[LOCAL.index("dp_sgd") : -1], **ONE_STEP}, "write masked_sum"),
    ],
)
def test_shared_noise_wants_a_protected_sum_of_single_steps(options: dict[str, Any], told: str) -> None:
    with pytest.raises(StrategyError, match=told):
        run(*problem(**options))


def test_it_learns_under_little_noise() -> None:
    little = CENTRAL.replace("noise_multiplier=2", "noise_multiplier=0.01")
    record = run(*problem(strategy=little, rounds=6))
    assert record.final.score > 0.6
    assert record.privacy.epsilon is None, "so little that clamped shares would show: no promise"


def test_an_epsilon_at_which_clamped_shares_would_show_is_not_promised() -> None:
    """(1 + e^epsilon) tau above a thousandth of delta; at epsilon 33 a group of windows is no better."""
    for strategy in (
        "masked_sum(bits=32, inner=dp_fedavg(epsilon=30))",
        LOCAL.replace("noise_multiplier=2", "epsilon=30"),
    ):
        with pytest.raises(StrategyError, match=r"epsilon=30 and \d+ noisy numbers would show in delta"):
            run(*problem(strategy=strategy, **ONE_STEP))
    spec, data = problem(strategy=LOCAL.replace("noise_multiplier=2", "epsilon=8"), **ONE_STEP)
    overlapping = dataclasses.replace(data, about=dataclasses.replace(data.about, overlap=1))
    record = run(spec, overlapping)
    assert "for the samples of one window, 3 windows: no promise" in describe(record)
    found = record.privacy
    assert found.epsilon == pytest.approx(8, rel=1e-3)
    assert found.group_signal == Group(windows=3, epsilon=None, delta=1e-5, accountant="prv")


def test_what_is_proved_for_the_integers_counts_all_that_was_released() -> None:
    """Means are Gaussian and paid from the same budget; and no headline is below what is proved."""
    for means in ("false", "true"):
        text = LOCAL.replace("noise_multiplier=2", f"epsilon=8, means={means}")
        for bits in (32, 20):
            found = run(*problem(strategy=text.replace("bits=32", f"bits={bits}"), **ONE_STEP)).privacy
            assert found.epsilon == found.epsilon_integers == pytest.approx(8, rel=1e-4)
            assert found.epsilon_integers > 8
    by_orders = LOCAL.replace("noise_multiplier=2", "epsilon=8, accountant=rdp")
    found = run(*problem(strategy=by_orders, **ONE_STEP)).privacy
    assert found.epsilon == pytest.approx(8, rel=2e-3)
    assert found.epsilon_integers < 0.97 * found.epsilon, "the accountant that was asked for is the looser one"


def test_the_coarsest_grid_of_a_run_counts() -> None:
    """With a clip that is given and a falling rate, the last round's noise is measured in fewer levels."""
    text = LOCAL.replace("noise_multiplier=2", "epsilon=8").replace("bits=32", "bits=20, clip=0.1")
    options = {"rounds": 10, **ONE_STEP}
    falling, constant = (
        run(*problem(strategy=text, lr_schedule=schedule, **options)).privacy for schedule in ("cosine", "constant")
    )
    assert falling.epsilon_integers > constant.epsilon_integers * 1.0001


def test_nothing_in_a_claim_under_shares_is_below_what_is_proved() -> None:
    found = run(*problem(strategy=LOCAL.replace("noise_multiplier=2", "epsilon=8"), **ONE_STEP)).privacy
    for one in (*found.offices, found.group_signal):
        assert one.epsilon >= found.epsilon_integers
    little = run(*problem(strategy=LOCAL.replace("noise_multiplier=2", "noise_multiplier=0.05"), **ONE_STEP)).privacy
    assert little.epsilon is None
    assert [one.epsilon for one in little.offices] == [None] * 4


def test_the_grid_has_room_for_what_single_precision_adds() -> None:
    spec, data = problem(strategy=LOCAL, **ONE_STEP)
    prepared = set_up(spec, data, deal_rows(spec, data)).prepared
    shares = noise_shares(spec.strategy, prepared.protection.setting, prepared.privacy, 83)
    private = prepared.workloads[0].private
    assert shares.bound(1) == pytest.approx(1.001 * spec.client_lr * private.clip_norm / private.divisor, rel=1e-12)


def test_small_rates_lose_no_sensitivity_to_the_models_last_digit() -> None:
    """What an office sends is the change itself: rounded to single precision with the model, one row more could move
    it by several times the clip."""
    for trainer in ("auto", "reference"):
        options = {"client_lr": 1e-6, "trainer": trainer, "rounds": 1, **ONE_STEP}
        spec, data = problem(strategy=LOCAL, **options)
        sides = set_up(spec, data, deal_rows(spec, data))
        clients, work = sides.clients, sides.clients.workloads[0]
        one_less = dataclasses.replace(work, rows=work.rows[1:])
        w = sides.first() + np.float32(3)  # large weights
        moved = []
        for held in (work, one_less):
            trainer_ = dataclasses.replace(clients, workloads=(held,)).start().trainer
            moved.append(trainer_.train([clients.received({"w": w}, 1, 0).job()], [0])[0].w.astype(np.float64) - w)
        bound = spec.client_lr * spec.strategy.local_dp.clip_norm / work.private.divisor
        assert 0.1 * bound < np.linalg.norm(moved[0] - moved[1]) < bound * 1.001


def test_a_run_that_fails_has_spent_all_of_its_budget() -> None:
    text = "masked_sum(bits=32, min_offices=4, inner=dp_sgd(epsilon=8, noise=shared, inner=fedavg(weighting=uniform)))"
    record, _ = attempt(*problem(strategy=text, dropout="drop(schedule=[[2, 0, update]])", **ONE_STEP))
    assert record.status == "failed"
    assert record.privacy.epsilon == pytest.approx(8, rel=1e-3)
