"""What a private run claims, spends, sends and refuses."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flwr.app import Message

from experiments.config.errors import UserError
from experiments.config.notation import build, canonical, parse
from experiments.config.spec import STRATEGIES, RunSpec
from experiments.engines import inprocess
from experiments.federation.clients import SPENT, Clients
from experiments.federation.describe import describe
from experiments.federation.run import advance, deal_rows, run, set_up
from experiments.sweep.plan import Loaded, check, data_key
from experiments.tuning.search import space_of
from results.record import RunRecord
from results.reporting.index import report
from results.store import Store
from strategies import Job, Strategy, StrategyError, Update
from strategies.privacy import noise
from strategies.privacy.accounting import Mechanism, epsilon
from strategies.privacy.gaussian import gaussian_epsilon, gaussian_mu
from tests.experiments.problems import problem
from tests.strategies.protection.stages import Letter, between, stage

WRAPPER = (
    "flower(path=flwr.serverapp.strategy.DifferentialPrivacyServerSideFixedClipping, noise_multiplier=0.1, "
    "clipping_norm=1.0, num_sampled_clients=4"
)
PERSON = {"batch_size": "full", "strategy": "dp_sgd(epsilon=8, unit=person)"}


def claim(**options: Any) -> dict[str, Any]:
    record = run(*problem(**options))
    assert record.status == "ok"
    assert record.privacy is not None
    found: dict[str, Any] = msgspec.to_builtins(record.privacy)
    return found


@pytest.mark.parametrize("target", [0.5, 8.0])
@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_the_budget_is_spent_and_not_more(target: float, accountant: str) -> None:
    spent = claim(strategy=f"dp_sgd(epsilon={target}, accountant={accountant})", local_epochs=2)
    assert spent["epsilon"] == pytest.approx(target, rel=5e-3)
    assert spent["epsilon"] <= target
    for office in spent["offices"]:
        history = [Mechanism(office["noise_multiplier"], office["sampling_rate"], office["steps"])]
        assert epsilon(history, 1e-5, accountant) == office["epsilon"] <= target
        assert office["steps"] == 3 * 2 * math.ceil(office["units"] / 16), "all rounds, all local steps"
        assert office["sampling_rate"] == 16 / office["units"], "the office's own rate"
    assert spent["epsilon"] == max(office["epsilon"] for office in spent["offices"])


def test_a_claim_names_what_it_rests_on() -> None:
    spent = claim(strategy="dp_sgd(noise_multiplier=1)")
    assert spent["epsilon_rdp"] > spent["epsilon"] > 0
    named = {key: spent[key] for key in ("unit", "accountant", "relation", "delta", "noise_source", "sampling")}
    assert named == {
        "unit": "window", "accountant": "prv", "relation": "add or remove one", "delta": 1e-5,
        "noise_source": "reproducible", "sampling": "poisson",
    }  # fmt: skip
    assert "server" in spent["observer"]
    assert "2..64" in spent["orders"].replace(" ", "") or "," in spent["orders"]
    assert spent["group_person"]["epsilon"] > spent["group_signal"]["epsilon"]
    alone = {"windows": 1, "epsilon": spent["epsilon"], "delta": 1e-5, "accountant": "prv"}
    assert spent["group_signal"] == alone, "rows of this data share no samples"
    assert claim(strategy="dp_sgd(noise_multiplier=1, secure_rng=true)")["noise_source"] == "os"


def test_a_person_in_every_office_spends_in_each() -> None:
    """IID deals everybody's windows to all four offices: a quarter of mu^2 in each."""
    spent = claim(**PERSON, local_epochs=2)
    assert spent["epsilon"] == pytest.approx(8, rel=2e-3)
    mu = gaussian_mu(8.0, 1e-5)
    for office in spent["offices"]:
        assert office["epsilon"] == pytest.approx(gaussian_epsilon(mu / 2, 1e-5), rel=1e-2)
        assert office["noise_multiplier"] == pytest.approx(math.sqrt(4 * 3 * 2) / mu, rel=2e-3)
    alone = claim(**PERSON, partition="by_person")
    for office in alone["offices"]:
        assert office["epsilon"] == pytest.approx(8, rel=2e-3)


def test_the_group_value_is_that_of_all_ones_windows() -> None:
    """At rate 1 a person of n windows in one office has n times the shift."""
    spent = claim(strategy="dp_sgd(epsilon=1)", batch_size="full", partition="by_person")
    most = spent["group_person"]["windows"]
    mu = gaussian_mu(1.0, 1e-5)
    assert spent["group_person"]["epsilon"] == pytest.approx(gaussian_epsilon(most * mu, 1e-5), rel=1e-2)
    spec, data = problem(strategy="dp_sgd(epsilon=1)", batch_size="full")
    overlapping = dataclasses.replace(data, about=dataclasses.replace(data.about, overlap=1))
    signal = run(spec, overlapping).privacy.group_signal
    assert signal.windows == 3
    assert signal.epsilon == pytest.approx(gaussian_epsilon(3 * mu, 1e-5), rel=1e-2)


def test_feature_means_are_paid_from_the_same_budget() -> None:
    without, with_means = (
        claim(strategy=f"dp_sgd(epsilon=2, means={means})", batch_size="full") for means in ("false", "true")
    )
    assert with_means["epsilon"] == pytest.approx(without["epsilon"], rel=5e-3)
    ratio = with_means["offices"][0]["noise_multiplier"] / without["offices"][0]["noise_multiplier"]
    assert ratio == pytest.approx(math.sqrt(1 / 0.97), rel=2e-3)


def test_feature_means_are_noised_and_subtracted() -> None:
    spec, data = problem(strategy="dp_sgd(noise_multiplier=0, means=true)")
    offices = deal_rows(spec, data)
    x = data.train.x
    rows = np.concatenate(offices.train)
    silent = set_up(spec, data, offices).clients.x
    np.testing.assert_allclose(x - silent, np.broadcast_to(x[rows].mean(0), x.shape), atol=1e-5)
    spec = dataclasses.replace(spec, strategy=dataclasses.replace(spec.strategy, noise_multiplier=1.0))
    sides = set_up(spec, data, offices)
    server, clients = sides.server, sides.clients
    np.testing.assert_allclose(x - clients.x, np.broadcast_to((x - clients.x)[0], x.shape), atol=1e-5)
    noised = np.abs((silent - clients.x)[0])
    assert 0.0 < noised.max() < 60, "20 / n of an office, times some standard deviations of the release"
    np.testing.assert_allclose(server.test.x, data.test.x - (x - clients.x)[0], atol=1e-5)


def test_steps_accounted_for_are_the_draws_of_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw a step, and no other."""
    drawn: Counter[int] = Counter()
    original = noise.NoiseStream.words

    def counted(self: noise.NoiseStream, count: int) -> Any:
        drawn[count] += 1
        return original(self, count)

    monkeypatch.setattr(noise.NoiseStream, "words", counted)
    spent = claim(strategy="dp_sgd(noise_multiplier=1)", local_epochs=2)
    weights = 6 * 8 + 8 + 8 * 3 + 3
    assert drawn[weights + weights % 2] == sum(office["steps"] for office in spent["offices"])


def test_steps_of_a_cohort_are_those_it_took_part_in() -> None:
    spent = claim(strategy="dp_sgd(noise_multiplier=1)", fraction=0.5, rounds=5)
    steps = [office["steps"] for office in spent["offices"]]
    assert len(set(steps)) > 1
    assert sum(steps) < 5 * 4 * max(steps)


def test_an_office_stops_when_its_budget_is_spent() -> None:
    spec, data = problem(strategy="dp_sgd(epsilon=8)")
    clients = set_up(spec, data, deal_rows(spec, data)).clients
    limit = clients.workloads[0].private.limit
    started = clients.start()
    with pytest.raises(StrategyError, match=f"office 0: its privacy budget pays for {limit} steps"):
        started._spent(0, {SPENT: np.array(limit)})
    assert started._spent(0, {SPENT: np.array(limit - clients.workloads[0].steps)}) == limit


def test_a_run_that_goes_on_remembers_what_it_spent() -> None:
    spec, data = problem(strategy="dp_sgd(epsilon=8)")
    _, half = advance(spec, data, None, 2)
    assert half is not None
    assert all(int(memory[SPENT]) > 0 for memory in half.memories.values())
    record, _ = advance(spec, data, half)
    whole = run(spec, data)
    assert (record.rounds, record.final, record.privacy) == (whole.rounds, whole.final, whole.privacy)


KNOWN = {
    "dp_sgd(epsilon=8)": {"arrays": {"w"}, "metrics": {"num-examples", "num-batches", "num-clients"}},
    "dp_fedavg(epsilon=8)": {"arrays": {"w"}},
}


@pytest.mark.parametrize("text", KNOWN)
def test_every_field_of_every_reply_is_known(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """w is noised, or clipped for whoever noises the sum; counts are declared public; nothing else leaves."""
    replies: list[Message] = []
    original = Clients.answer

    def kept(self: Clients, *arguments: Any) -> list[Message]:
        answers = original(self, *arguments)
        replies.extend(answers)
        return answers

    monkeypatch.setattr(Clients, "answer", kept)
    record = run(*problem(strategy=text))
    trained = [reply for reply in replies if reply.content["arrays"]]
    assert len(trained) == 3 * 4
    for reply in trained:
        assert {name: set(part) for name, part in reply.content.items()} == KNOWN[text]
    hello = [reply for reply in replies if not reply.content["arrays"]]
    for reply in hello:
        assert {name: set(part) for name, part in reply.content.items()} == {"config": {"office"}, "arrays": set()}
    assert all(row.train_loss is None for row in record.rounds)


@pytest.mark.parametrize("name", [name for name, cls in STRATEGIES.items() if cls.dp != "after_noise"])
def test_strategies_that_refuse_are_refused(name: str) -> None:
    """For whatever is registered: the reason is the strategy's own."""
    inner = build(parse(STRATEGIES[name].examples[0]), STRATEGIES, "strategy")
    text = canonical(inner)
    with pytest.raises(UserError, match="cannot train under DP-SGD"):
        build(parse(f"dp_sgd(epsilon=1, inner={text if text.endswith(')') else text + '()'})"), STRATEGIES, "strategy")


@pytest.mark.parametrize("name", [name for name, cls in STRATEGIES.items() if cls.dp == "after_noise"])
def test_strategies_that_declare_themselves_are_run(name: str) -> None:
    for example in STRATEGIES[name].examples:
        text = example if example.endswith(")") else f"{example}()"
        assert claim(strategy=f"dp_sgd(epsilon=8, inner={text})")["epsilon"] <= 8


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dp_sgd(epsilon=0)", "epsilon must be above 0; found 0"),
        ("dp_sgd(epsilon=-1)", "epsilon must be above 0; found -1"),
        ("dp_sgd", "set epsilon, or noise_multiplier"),
        ("dp_sgd(epsilon=1, noise_multiplier=1)", "and not both"),
        ("dp_sgd(noise_multiplier=-1)", "noise_multiplier must be at least 0"),
        ("dp_sgd(epsilon=1, delta=0)", "delta must be above 0"),
        ("dp_sgd(epsilon=1, unit=office)", "unit must be one of window, person; found 'office'"),
        ("dp_sgd(epsilon=1, clip_norm=0)", "clip_norm must be in"),
        ("dp_sgd(epsilon=1, clip_norm=none)", "clip_norm=none bounds nothing"),
        ("dp_sgd(epsilon=1, clip_norm=big)", "clip_norm must be a number, found big"),
        ("dp_sgd(epsilon=1, accountant=moments)", "accountant must be one of prv, rdp"),
        ("dp_sgd(epsilon=1, noise=shared)", "noise=shared needs weighting=uniform"),
        ("dp_sgd(epsilon=1, inner=fedproks)", "unknown strategy 'fedproks'; did you mean 'fedprox'?"),
        ("dp_fedavg(epsilon=0)", "epsilon must be above 0; found 0"),
        ("dp_fedavg(epsilon=1, inner=fedavg())", "weights clients by private counts"),
        ("dp_fedavg(epsilon=1, inner=local())", "cannot be noised centrally"),
        ("dp_fedavg(epsilon=1, sampling=half)", "sampling must be one of fixed, poisson"),
        ("dp_fedavg(epsilon=1, sampling=poisson, secure_rng=true)", "draws who takes part from the run's seed"),
        ("dp_sgd(epsilon=1e-7)", "epsilon must be at least 0.01"),
        (
            "dp_fedavg(epsilon=1, inner=dp_sgd(epsilon=1, means=true, inner=fedavg(weighting=uniform)))",
            "a promise to whole clients does not cover",
        ),
        (f"{WRAPPER}, strategy=dp_sgd(epsilon=1))", "none of its noise"),
        (f"{WRAPPER}, strategy=dp_fedavg(epsilon=1))", "none of its noise"),
    ],
)
def test_mistakes_are_told_before_anything_runs(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        RunSpec.from_options({"strategy": text})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"strategy": "dp_sgd(epsilon=1, delta=0.01)"}, "delta"),
        ({"strategy": "dp_fedavg(epsilon=1, delta=0.03)"}, "delta"),
        ({"strategy": "dp_sgd(epsilon=1, delta=1e-9)"}, "delta must be at least 1e-06, below which what noise lacks"),
        ({"strategy": "dp_sgd(epsilon=1, unit=person)"}, "set --batch-size full; found 16"),
        ({"strategy": "dp_sgd(epsilon=1)", "standardise": "pooled"}, "set --standardise none"),
        ({"strategy": "dp_fedavg(epsilon=1)", "standardise": "pooled"}, "set --standardise none"),
        ({"strategy": "masked_sum(bits=12, inner=dp_fedavg(epsilon=1))"}, "set bits="),
    ],
)
def test_what_does_not_fit_the_data_is_told_before_training(
    options: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clients, "answer", lambda *_: pytest.fail("trained"))
    spec, data = problem(**options)
    with pytest.raises((UserError, StrategyError), match=told):
        run(spec, data)
    with pytest.raises((UserError, StrategyError), match=told):
        check(Loaded([spec], {data_key(spec): data}))


def test_client_level_without_noise_or_clip_is_its_inner_strategy() -> None:
    ours = run(*problem(strategy="dp_fedavg(noise_multiplier=0, clip_norm=1000)"))
    plain = run(*problem(strategy="fedavg(weighting=uniform)"))
    assert [row.test_accuracy for row in ours.rounds] == [row.test_accuracy for row in plain.rounds]
    np.testing.assert_allclose(
        [row.test_loss for row in ours.rounds], [row.test_loss for row in plain.rounds], rtol=1e-5
    )
    assert ours.privacy.epsilon is None, "infinite"


def test_client_level_noise_has_the_scale_that_is_accounted_for() -> None:
    spec, data = problem(strategy="dp_fedavg(noise_multiplier=2, clip_norm=0.5)", model="mlp(hidden=[100, 90])")
    moved = []
    for sigma in (2.0, 0.0):
        one = dataclasses.replace(spec, rounds=1, strategy=dataclasses.replace(spec.strategy, noise_multiplier=sigma))
        sides = set_up(one, data, deal_rows(one, data))
        moved.append(inprocess.run(sides.server, sides.clients, 4).models[0].astype(np.float64))
    drawn = (moved[0] - moved[1]) * 4 / (2 * 0.5)
    assert drawn.std() == pytest.approx(1, abs=4 / np.sqrt(2 * len(drawn)))


def test_an_update_is_clipped_at_the_office() -> None:
    spec, data = problem(strategy="dp_fedavg(noise_multiplier=1, clip_norm=0.5)")
    ours = set_up(spec, data, deal_rows(spec, data)).prepared.strategy
    w_t = np.zeros(10, np.float32)
    sent, _ = ours.close(Update(Job(w_t, 1), np.full(10, 3, np.float32), 5, 2, 0.1), {})
    assert set(sent) == {"w"}
    assert np.linalg.norm(sent["w"]) == pytest.approx(0.5, rel=1e-6)


def test_poisson_cohorts_vary_and_may_be_empty() -> None:
    record = run(*problem(strategy="dp_fedavg(noise_multiplier=0.1, sampling=poisson)", fraction=0.25, rounds=12))
    assert record.status == "ok"
    assert record.privacy.sampling == "poisson"
    assert (record.privacy.sampling_rate, record.privacy.steps) == (0.25, 12)
    fixed = run(*problem(strategy="dp_fedavg(noise_multiplier=0.1)", fraction=0.25, rounds=12))
    assert fixed.privacy.sampling_rate == 1
    assert 3 <= fixed.privacy.steps <= 12, "the rounds of who is in most"


def test_an_update_that_is_not_finite_counts_as_none() -> None:
    ours = build(parse("dp_fedavg(noise_multiplier=1, clip_norm=0.5)"), STRATEGIES, "strategy")
    for bad in (np.nan, np.inf):
        np.testing.assert_array_equal(ours.clipped(np.array([1.0, bad])), [0.0, 0.0])


def test_nobody_is_left_out_for_what_the_others_sent() -> None:
    """A filter by the median length would let one client decide whether another counts."""
    spec, data = problem(strategy="dp_fedavg(noise_multiplier=0, clip_norm=1)", rounds=1)
    sides = set_up(spec, data, deal_rows(spec, data))
    server, clients = sides.server, sides.clients
    few = dataclasses.replace(clients.workloads[0], steps=1)
    idle = tuple(dataclasses.replace(work, steps=0) for work in clients.workloads[1:])
    outcome = inprocess.run(server, dataclasses.replace(clients, workloads=(few, *idle)), 4)
    assert outcome.rejected == [0, 0, 0, 0]
    assert np.abs(outcome.models[0] - server.first).max() > 0


def test_a_poisson_cohort_that_vanishes_is_an_empty_one() -> None:
    everybody = ", ".join(f"[{round_}, {office}, update]" for round_ in (1, 2) for office in range(4))
    record = run(
        *problem(
            strategy="dp_fedavg(noise_multiplier=0.1, sampling=poisson)",
            fraction=0.5,
            dropout=f"drop(schedule=[{everybody}])",
        )
    )
    assert record.status == "ok"


@pytest.mark.parametrize("noise", ["own", "shared"])
def test_a_study_searches_what_the_unit_allows(noise: str) -> None:
    inner = f"dp_sgd(epsilon=8, unit=person, noise={noise}, inner=fedavg(weighting=uniform))"
    text = inner if noise == "own" else f"masked_sum(bits=32, inner={inner})"
    space = space_of(RunSpec.from_options({"strategy": text, "batch_size": "full"}))
    assert space.distributions["batch_size"].choices == ("full",)
    epochs = space.distributions["local_epochs"].choices
    assert epochs == ((1, 2, 5) if noise == "own" else (1,))


def test_simulated_units_have_their_own_delta() -> None:
    with pytest.raises(StrategyError, match="delta must be at most"):
        run(*problem(strategy="dp_sgd(noise_multiplier=1, simulate=1000000)"))


def test_means_are_not_released_twice() -> None:
    with pytest.raises(UserError, match="release its feature means anew"):
        advance(*problem(strategy="dp_sgd(epsilon=8, means=true, secure_rng=true)"))


@pytest.mark.parametrize(
    ("partition", "unit"),
    [("iid", "office"), ("one_person_per_client", "person"), ("sizes([.4, .3, .2, .1])", "office")],
)
def test_the_unit_is_called_by_its_name(partition: str, unit: str) -> None:
    assert claim(strategy="dp_fedavg(noise_multiplier=1)", partition=partition)["unit"] == unit


def test_both_levels_stand_in_one_record() -> None:
    spent = claim(strategy="dp_fedavg(epsilon=2, inner=dp_sgd(epsilon=8, inner=fedavg(weighting=uniform)))")
    assert spent["mechanism"] == "dp_fedavg"
    assert spent["epsilon"] == pytest.approx(2, rel=5e-3)
    assert spent["local"]["epsilon"] == pytest.approx(8, rel=5e-3)


def test_flowers_central_noise_is_accounted_for_as_ours() -> None:
    """Flower 1.41's fixed clipping and equal weights: N(0, (z C / m)^2) on the mean of m clipped updates."""
    from flwr.supercore.differential_privacy import compute_stdv

    sigma, clip, cohort = 1.3, 0.7, 4
    assert compute_stdv(sigma, clip, cohort) == pytest.approx(sigma * clip / cohort)
    spent = claim(strategy=f"dp_fedavg(noise_multiplier={sigma}, clip_norm={clip})", rounds=3)
    assert spent["epsilon"] == pytest.approx(gaussian_epsilon(math.sqrt(3) / sigma, 1e-5), rel=1e-6)


def test_records_of_open_runs_claim_nothing() -> None:
    record: RunRecord = run(*problem())
    assert record.privacy is None
    assert Strategy.local_dp.fget(STRATEGIES["fedavg"]()) is None


def test_a_run_says_what_it_promises() -> None:
    said = describe(run(*problem(strategy="dp_sgd(epsilon=8)", partition="by_person")))
    assert "of one window at delta 1e-05 (prv; neighbours: add or remove one), against server, other offices" in said
    assert "for the person with most, " in said
    assert "whoever knows it can take the noise off" in said
    assert "epsilon infinite" in describe(run(*problem(strategy="dp_sgd(noise_multiplier=0)")))
    crowd = describe(run(*problem(strategy="dp_sgd(epsilon=8, simulate=9000)")))
    assert "no promise, but what 9000 units would be given: epsilon" in crowd
    both = "dp_fedavg(epsilon=8, inner=dp_sgd(epsilon=2, unit=person, inner=fedavg(weighting=uniform)))"
    nested = describe(run(*problem(strategy=both, batch_size="full")))
    assert "epsilon 8 of one office at delta 1e-05" in nested
    assert "epsilon 2 of one person at delta 1e-05" in nested
    assert "epsilon" not in describe(run(*problem()))


def test_an_audited_run_that_promises_nothing_has_a_row(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(run(*problem(audit=True)))
    text = report(store, tmp_path / "out").index.read_text()
    assert "differential privacy" in text


def test_no_office_is_told_who_else_took_part() -> None:
    """Amplification by Poisson cohorts rests on that: an office's letters tell of its own updates alone."""
    told: dict[int, list[tuple[int, int]]] = {}

    def look(letter: Letter) -> None:
        if letter.down and letter.kind == "train":
            config = dict(letter.config)
            assert set(config) == {"server-round", "taken"}
            told.setdefault(letter.office, []).append((config["server-round"], config["taken"]))  # type: ignore[arg-type]

    with between(look):
        run(*problem(strategy="dp_fedavg(noise_multiplier=0.1, sampling=poisson)", fraction=0.5, rounds=8))
    assert len({len(rounds) for rounds in told.values()}) > 1, "cohorts differ"
    for rounds in told.values():
        assert [taken for _, taken in rounds] == [0, *(number for number, _ in rounds[:-1])]


def test_under_protection_no_office_is_told_anothers_counts_where_clients_are_protected() -> None:
    strategy = problem(strategy="masked_sum(bits=24, inner=dp_fedavg(noise_multiplier=2))")[0].strategy
    private, plain = stage(strategy), stage(problem(strategy="masked_sum")[0].strategy)
    for play in (private, plain):
        play.play(1)
    assert not private.memories[0]["counts"].any()
    assert plain.memories[0]["counts"].all()
