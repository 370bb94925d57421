"""Laws of the joints: a strategy may be combined with what it does allows, and remembers what was taken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from experiments.federation.dropout import Drop
from experiments.federation.run import advance, deal_rows, run, run_models, set_up
from experiments.training.flat import Flat
from strategies.base import (
    Federation,
    Job,
    Memory,
    Named,
    Part,
    Received,
    Round,
    State,
    Strategy,
    StrategyError,
    Update,
)
from strategies.dp_fedavg import DpFedAvg
from strategies.dp_sgd import DpSgd
from strategies.fedavg import FedAvg
from strategies.masked_sum import MaskedSum
from strategies.protection.layout import change_of
from strategies.quantised import Quantised
from tests.experiments.problems import problem
from tests.strategies.least_squares import SIZES, START, Small
from tests.strategies.protection.key_files import PROTECTED
from tests.strategies.protection.stages import case, keys_for

LINEAR = [
    "scaffold",
    "fednova",
    "fednova(mu=0.1)",
    "fedadam(server_lr=0.05, tau=0.1)",
    "feddyn(alpha=0.5)",
    "fedexp",
    "qffl(q=1)",
]
UNEQUAL = {"partition": "sizes([.55, .25, .15, .05])"}


# --- Sums of several named vectors


@pytest.mark.parametrize("protocol", ["masked_sum", "secagg", "paillier"])
@pytest.mark.parametrize("text", LINEAR)
def test_means_under_protection_are_the_plain_ones(text: str, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same state, by name, in each of three rounds: to the grid's bound, numbers to the last digit."""
    # q-FFL sends changes times losses, which are large on this problem: more than a first clip is made for.
    grid = "bits=32, clip=1e5, " if text.startswith("qffl") else ""
    small = Small.of(f"{protocol}({grid}inner={text if '(' in text else text + '()'})")
    rule = type(small.strategy.inner)  # type: ignore[attr-defined]
    close, step = rule.close, rule.server_step
    sent: list[Named] = []
    given: list[tuple[Named, Round]] = []

    def closing(self: Any, update: Update, memory: Any) -> Any:
        found, after = close(self, update, memory)
        if update.num_examples > 1:  # what an office would send is asked of a supposed update, of one example
            sent.append({**found, "w": change_of(found, update.job.w)})
        return found, after

    def stepping(self: Any, x: Any, mean: Named, state: State, round: Round) -> Any:
        given.append((mean, round))
        return step(self, x, mean, state, round)

    monkeypatch.setattr(rule, "close", closing)
    monkeypatch.setattr(rule, "server_step", stepping)
    small.play()
    meter = small.clients.offices.meter  # type: ignore[attr-defined]
    assert meter.counts["clipped"] == 0
    assert {round.number for _, round in given} == {1, 2, 3}
    for mean, round in given:
        own = sent[3 * (round.number - 1) : 3 * round.number]
        assert set(mean) == set(own[0])
        for name, value in mean.items():
            exact = sum(p * np.asarray(one[name], np.float64) for p, one in zip(round.weights, own, strict=True))
            bound = meter.largest["error_bound"] if np.ndim(value) else 1e-12 * abs(exact)
            assert np.abs(value - exact).max() <= bound, name


EXAMPLES = [*LINEAR, "fedavg", "fedavgm", "fedprox(mu=0.5)"]


@pytest.mark.parametrize("text", EXAMPLES)
def test_plain_is_quantised_of_many_bits_on_unequal_sizes(text: str) -> None:
    """One source of weights, and every vector in the sum: so it is for every linear strategy."""
    spec, data = problem(strategy=text, **UNEQUAL)
    plain, models = run_models(spec, data)
    ours = replace(spec, strategy=Quantised(inner=spec.strategy, bits=32))
    protected, twin = run_models(ours, data)
    assert models is not None
    assert twin is not None
    np.testing.assert_allclose(twin, models, rtol=1e-3, atol=1e-4)
    assert protected.final.score == pytest.approx(plain.final.score, abs=0.003)


@pytest.mark.parametrize("protocol", ["masked_sum", "secagg", "paillier"])
@pytest.mark.parametrize("text", LINEAR)
def test_scores_under_every_protocol_are_the_plain_ones(text: str, protocol: str) -> None:
    inner = problem(strategy=text)[0].strategy
    spec, data = case(PROTECTED[protocol](inner=inner), rounds=4, **UNEQUAL)
    plain = run(*case(inner, rounds=4, **UNEQUAL))
    record = run(spec, data, keys=keys_for(spec))
    assert record.final.score == pytest.approx(plain.final.score, abs=0.003)


# --- Claims by construction


@dataclass(frozen=True)
class MedianAsFedAvg(FedAvg):
    """A median written as a subclass of a strategy that is linear and takes noise."""

    def aggregate(self, x: Any, updates: Named, state: State, round: Round) -> tuple[Any, State]:
        return x + np.median(updates["w"], axis=0), state


@pytest.mark.parametrize("protocol", PROTECTED)
def test_a_subclass_that_sees_every_update_is_not_protected_as_its_base(protocol: str) -> None:
    assert not MedianAsFedAvg().linear
    with pytest.raises(StrategyError, match="MedianAsFedAvg cannot be protected: it is not linear"):
        PROTECTED[protocol](inner=MedianAsFedAvg())


def test_nor_noised_as_its_base() -> None:
    with pytest.raises(StrategyError, match="MedianAsFedAvg cannot be noised centrally"):
        DpFedAvg(inner=MedianAsFedAvg(weighting="uniform"), noise_multiplier=0.0)
    with pytest.raises(StrategyError, match="MedianAsFedAvg cannot train under DP-SGD: it does not say"):
        DpSgd(inner=MedianAsFedAvg(), noise_multiplier=1.0)


def test_a_wrapper_around_a_median_is_not_linear_either() -> None:
    @dataclass(frozen=True)
    class Noisy(DpSgd):
        dp: ClassVar[str] = "refused: as its base"

    @dataclass(frozen=True)
    class Marked(MedianAsFedAvg):
        dp: ClassVar[str] = "after_noise"

    assert not Noisy(inner=Marked(), noise_multiplier=1.0).linear


def test_what_is_not_clipped_is_not_noised_centrally() -> None:
    """FedDyn only remembers, and may; SCAFFOLD, which sends a second vector, may not."""
    with pytest.raises(StrategyError, match=r"Scaffold sends more than an update \(c\), and only updates are clipped"):
        run(*problem(strategy="dp_fedavg(noise_multiplier=0, inner=scaffold())"))
    assert run(*problem(strategy="dp_fedavg(noise_multiplier=0.01, inner=feddyn(alpha=1))")).status == "ok"


@pytest.mark.parametrize(("name", "meant"), [("server", "close, server_step or aggregate"), ("agregate", "aggregate")])
def test_a_hook_that_nobody_calls_is_refused_with_the_class(name: str, meant: str) -> None:
    with pytest.raises(StrategyError, match=rf"{name} is no hook of a strategy .* did you mean {meant}"):
        type("Forgetting", (FedAvg,), {name: lambda self: None})


def test_linear_is_nothing_that_a_class_can_say() -> None:
    """Every strategy of the folder is linear exactly where it leaves `aggregate` alone."""
    from experiments.config.spec import STRATEGIES

    for cls in STRATEGIES.values():
        assert "linear" not in vars(cls) or cls.__name__ in ("Flower", "DpFedAvg"), cls


@pytest.mark.parametrize("strategy", [DpSgd(epsilon=1.0), DpFedAvg(epsilon=1.0), MaskedSum()], ids=repr)
def test_a_wrapper_without_its_plan_raises(strategy: Strategy) -> None:
    """In a Flower app of the user's own it would train without clip, noise or masks, and nobody would see."""
    small = Small.of("fedavg")
    received = small.side.received({"w": START}, 1, 0)
    works = [lambda: strategy.start(START, Federation(3, 3)), lambda: strategy.open(received, {})]
    for work in works[:1] if isinstance(strategy, DpFedAvg) else works:
        with pytest.raises(StrategyError, match=r"needs its plan .* call prepare"):
            work()


# --- Memory


def spoil(small: Small, office: int, number: int, value: float) -> None:
    """Make an office's update of a round bad."""
    train = small.clients.trainer.train

    def training(jobs: Any, clients: Any) -> Any:
        updates = train(jobs, clients)
        return [
            replace(update, w=update.w * value) if client == office and update.job.round == number else update
            for update, client in zip(updates, clients, strict=True)
        ]

    small.clients.trainer.train = training  # type: ignore[method-assign]


@pytest.mark.parametrize("value", [float("nan"), 1e12])
@pytest.mark.parametrize("text", ["scaffold", "feddyn(alpha=0.5)"])
def test_memory_after_an_update_that_was_left_out_is_as_before(text: str, value: float) -> None:
    """One NaN, or one absurd update, and the office trains on as if it had been away in that round."""
    spoilt = Small.of(text)
    spoil(spoilt, 1, 2, value)
    spoilt.play(5)
    away = Small.of(text, dropout=Drop(schedule=((2, 1, "update"),))).play(5)
    np.testing.assert_array_equal(spoilt.w, away.w)
    for name, vector in away.state.items():
        np.testing.assert_array_equal(spoilt.state[name], vector)


@pytest.mark.parametrize("text", ["masked_sum(inner=scaffold())", "masked_sum(inner=feddyn(alpha=0.5))"])
def test_memory_under_protection_is_that_of_the_updates_in_sums(text: str) -> None:
    text = text.replace("(inner", "(min_offices=2, allow_two=true, inner")
    spoilt = Small.of(text)
    spoil(spoilt, 1, 2, float("nan"))
    spoilt.play(5)
    away = Small.of(text, dropout=Drop(schedule=((2, 1, "update"),))).play(5)
    np.testing.assert_array_equal(spoilt.w, away.w)


def test_control_variates_stay_the_mean_of_the_offices() -> None:
    small = Small.of("scaffold")
    spoil(small, 0, 2, float("nan"))
    small.play(4)
    own = [small.memories[office] for office in range(len(SIZES))]
    taken = [memory.get("waiting-c_i", memory.get("c_i")) for memory in own]
    np.testing.assert_allclose(small.state["c"], sum(taken) / len(SIZES), rtol=1e-10)


# --- Rounds


def test_a_second_exchange_in_a_round_leaves_its_cohort_alone() -> None:
    from flwr.app import Message, RecordDict

    small = Small.of("fedavg", cohort=2)
    small.grid.begin(3)
    drawn = list(small.grid.offices.values())
    letter = small.server.broadcast(3, START, small)
    from experiments.engines.flower import content_of

    for kind in ("train", "query", "train"):
        content = content_of(letter) if kind == "train" else RecordDict({})
        messages = [Message(content, dst_node_id=node, message_type=kind) for node in small.grid.get_node_ids()]
        if kind == "train":
            small.grid.send_and_receive(messages)
        assert list(small.grid.offices.values()) == drawn
    small.grid.begin(4)
    assert small.grid.round == 4


# --- Refusals before anything trains


@pytest.mark.parametrize(
    ("text", "optimizer"),
    [
        ("scaffold", "sgd(momentum=0.9)"),
        ("scaffold", "sgd(weight_decay=0.001)"),
        ("qffl", "sgd(momentum=0.5)"),
        ("fednova(mu=0.1)", "sgd(momentum=0.9)"),
        ("quantised(inner=scaffold())", "sgd(momentum=0.9)"),
    ],
)
def test_an_optimizer_that_breaks_the_rule_is_refused(text: str, optimizer: str) -> None:
    with pytest.raises(StrategyError, match=r"momentum|weight_decay"):
        run(*problem(strategy=text, optimizer=optimizer))


@pytest.mark.parametrize("text", ["fedavg", "fednova", "feddyn"])
def test_others_take_it(text: str) -> None:
    assert run(*problem(strategy=text, optimizer="sgd(momentum=0.9)")).status == "ok"


# --- Models of the offices' own


def test_a_model_of_the_offices_own_is_scored_on_its_own_rows() -> None:
    spec, data = problem(strategy="ditto(mu=0.1)", rounds=5, validation=0.2)
    record = run(spec, data)
    own = [office.personal_accuracy for office in record.offices]
    assert record.final.mean_personal_accuracy == pytest.approx(np.mean([one for one in own if one is not None]))
    assert record.final.worst_personal_accuracy == min(one for one in own if one is not None)
    protected = run(replace(spec, strategy=Quantised(inner=spec.strategy, bits=32)), data)
    assert [office.personal_accuracy for office in protected.offices] == own


# --- Joints that later rules need, each by a planted class


@dataclass(frozen=True)
class Sharpness(FedAvg):
    """FedSAM's step: the gradient is taken a little uphill."""

    notation = "sharpness"
    rho: float = 0.05

    def probe(self, w: Any, g: Any, job: Job) -> Any:
        return w + self.rho * g / max(float(np.linalg.norm(g)), 1e-12)


@dataclass(frozen=True)
class HeadThenBody(FedAvg):
    """FedRep's order: the last layer first, then the rest."""

    notation = "head_then_body"

    def open(self, received: Received, memory: Memory) -> Job:
        head = np.zeros(len(received["w"]), np.bool_)
        head[-received.layout[-1] :] = True
        return replace(received.job(), parts=(Part(head, 2), Part(~head, received.steps - 2)))


@dataclass(frozen=True)
class Counted(FedAvg):
    """All offices' class counts before round 1 make the server's step; after the last round their mean row ends it."""

    notation = "counted"

    def before(self, counts: Any) -> Named:
        return {"counts": counts, "offices": 1}

    def start(self, x: Any, federation: Federation) -> State:
        counts = np.asarray(federation.before["counts"], np.float64)
        return {"scale": np.asarray(counts.max() / counts.sum()), "offices": np.asarray(federation.before["offices"])}

    def server_step(self, x: Any, mean: Named, state: State, round: Round) -> tuple[Any, State]:
        return x + state["scale"] * mean["w"], state

    def after(self, w: Any, rows: Any) -> Named:
        return {"gradient": len(rows.y) * rows.gradient(w), "rows": len(rows.y)}

    def finish(self, x: Any, total: Named, state: State) -> Any:
        return x - 0.1 * total["gradient"] / total["rows"]


def planted(strategy: Strategy, **options: Any) -> tuple[Any, Any]:
    return case(strategy, **{"min_examples": 4, **options})


def test_a_gradient_at_a_second_point() -> None:
    """Least squares, written out; and at rho = 0 it is FedAvg."""
    from tests.strategies.least_squares import LR, ROWS, batches, gradient

    x = START.copy()
    for _ in range(3):
        models = []
        for office, rows in enumerate(ROWS):
            w = x.copy()
            for batch in batches(rows, Small.of("fedavg").side.workloads[office].steps):
                g = gradient(w, batch)
                w = w - LR * gradient(w + 0.05 * g / np.linalg.norm(g), batch)
            models.append(w)
        x = sum(n * w for n, w in zip(SIZES, models, strict=True)) / sum(SIZES)
    np.testing.assert_allclose(Small(Sharpness()).play().w, x, rtol=1e-10)
    np.testing.assert_allclose(Small(Sharpness(rho=0.0)).play().w, Small.of("fedavg").play().w, rtol=1e-12)


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param(Sharpness(), marks=pytest.mark.slow),
        pytest.param(HeadThenBody(), marks=pytest.mark.slow),
        Counted(),
    ],
    ids=lambda one: one.notation,
)
def test_planted_joints_have_the_same_bits_on_both_engines(strategy: Strategy) -> None:
    spec, data = planted(strategy, rounds=2)
    here, there = run(spec, data), run(spec, data, "simulation")
    assert here.status == "ok"
    assert here.rounds == there.rounds
    assert here.rounds != run(*planted(FedAvg(), rounds=2)).rounds


@pytest.mark.parametrize("strategy", [Sharpness(), HeadThenBody()], ids=lambda one: one.notation)
def test_planted_joints_train_alike_in_both_trainers(strategy: Strategy) -> None:
    fast, slow = (
        run_models(*planted(strategy, rounds=2, trainer=kind, optimizer="sgd(momentum=0.5)"))[1]
        for kind in ("auto", "reference")
    )
    assert fast is not None
    np.testing.assert_allclose(fast, slow, rtol=1e-3, atol=1e-5)


def test_parts_of_a_model_are_trained_in_turn() -> None:
    """With no steps for the body it stays as it was."""

    @dataclass(frozen=True)
    class Head(FedAvg):
        notation = "head"

        def open(self, received: Received, memory: Memory) -> Job:
            head = np.zeros(len(received["w"]), np.bool_)
            head[-received.layout[-1] :] = True
            return replace(received.job(), parts=(Part(head, received.steps),))

    spec, data = planted(Head(), rounds=1)
    sides = set_up(spec, data, deal_rows(spec, data))
    _, models = run_models(spec, data)
    assert models is not None
    moved = models[0] != sides.first()
    last = sides.clients.received({"w": sides.first()}, 1, 0).layout[-1]
    assert not moved[:-last].any()
    assert moved[-last:].mean() > 0.9


def test_sums_before_the_first_round_and_after_the_last() -> None:
    """The class counts and the gradient of all rows together, whoever holds them."""
    spec, data = planted(Counted(), rounds=2)
    sides = set_up(spec, data, deal_rows(spec, data))
    counts = sum(np.bincount(sides.clients.y[work.rows], minlength=3) for work in sides.clients.workloads)
    record, models = run_models(spec, data)

    @dataclass(frozen=True)
    class Scaled(FedAvg):
        notation = "scaled"

        def server_step(self, x: Any, mean: Named, state: State, round: Round) -> tuple[Any, State]:
            return x + counts.max() / counts.sum() * mean["w"], state

    _, without = run_models(*planted(Scaled(), rounds=2))
    assert models is not None
    assert without is not None
    rows = np.concatenate([work.rows for work in sides.clients.workloads])
    module = spec.model.module(sides.clients.x.shape[1:], 3)
    flat = Flat(module)
    flat.load(without[0])
    loss = torch.nn.functional.cross_entropy(
        module(torch.from_numpy(sides.clients.x[rows])), torch.from_numpy(sides.clients.y[rows])
    )
    loss.backward()
    np.testing.assert_allclose(models[0], without[0] - 0.1 * flat.g.numpy(), rtol=1e-4, atol=1e-6)
    assert record.cost.bytes_up > run(*planted(Scaled(), rounds=2)).cost.bytes_up


def test_a_run_in_parts_sums_once() -> None:
    spec, data = planted(Counted(), rounds=4)
    whole, start = run(spec, data), None
    for until in (1, 3, 4):
        record, start = advance(spec, data, start, until)
    assert record.rounds == whole.rounds


@pytest.mark.parametrize("protocol", ["quantised", "masked_sum", "secagg", "paillier"])
@pytest.mark.parametrize("clear", [True, False])
def test_sums_besides_the_rounds_are_protected_too(protocol: str, clear: bool) -> None:
    """Every entry exact: the run is the plain one, to the grid of its rounds."""
    plain, models = run_models(*planted(Counted(), rounds=2))
    spec, data = planted(PROTECTED[protocol](inner=Counted(), bits=16 if protocol == "paillier" else 32), rounds=2)
    record, twin = run_models(spec, data, keys=keys_for(spec, frozenset() if clear else None))
    assert models is not None
    assert twin is not None
    np.testing.assert_allclose(twin, models, rtol=1e-3, atol=2e-4)
    assert record.final.score == plain.final.score


def test_both_engines_protect_them_alike() -> None:
    spec, data = planted(MaskedSum(inner=Counted()), rounds=2)
    here, there = run(spec, data), run(spec, data, "simulation")
    assert here.rounds == there.rounds
