"""Losses: each against its formula, in the plain loop and in the compiled trainer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from experiments.config.errors import UserError
from experiments.federation.clients import trainer
from experiments.federation.run import deal_rows, run, run_models, set_up
from experiments.training.losses.base import Loss, Terms
from experiments.training.losses.cross_entropy import CrossEntropy
from experiments.training.losses.logit_adjusted import LogitAdjusted
from tests.experiments.problems import problem

SKEWED = {"partition": "shards(2)", "clients": 4, "min_examples": 4}


@dataclass(frozen=True)
class Weighed(Loss):
    """A planted loss of both kinds: rare classes count more, and their logits are lowered."""

    uses_counts = True
    notation = "weighed"

    def terms(self, counts: NDArray[np.int64]) -> Terms:
        share = (counts + 1) / (counts + 1).sum()
        return Terms(np.log(share).astype(np.float32), (1 / share).astype(np.float32))


def test_logit_adjusted_is_its_formula() -> None:
    """Equation (10), class by class; an absent one leaves the softmax."""
    counts, tau = np.array([30, 0, 10]), 0.7
    logits = np.random.default_rng(0).normal(size=(5, 3))
    labels = np.array([0, 2, 2, 0, 0])
    expected = 0.0
    for z, y in zip(logits, labels, strict=True):
        adjusted = {c: z[c] + tau * np.log(counts[c] / 40) for c in (0, 2)}
        expected -= adjusted[y] - np.log(sum(np.exp(value) for value in adjusted.values()))
    ours = LogitAdjusted(tau=tau)
    found = ours(torch.from_numpy(logits).float(), torch.from_numpy(labels), ours.terms(counts))
    assert float(found) == pytest.approx(expected / 5, rel=1e-6)


def test_with_equal_counts_it_is_cross_entropy() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    ours = LogitAdjusted(tau=2.0)
    assert float(ours(logits, labels, ours.terms(np.array([5, 5, 5])))) == pytest.approx(
        float(CrossEntropy()(logits, labels)), rel=1e-6
    )


@pytest.mark.parametrize("loss", [LogitAdjusted(), LogitAdjusted(tau=0.3), Weighed()], ids=repr)
@pytest.mark.parametrize("optimizer", ["sgd", "sgd(momentum=0.9, weight_decay=0.001)"])
def test_the_compiled_trainer_does_what_the_plain_loop_does(loss: Loss, optimizer: str) -> None:
    """Also where an office lacks classes, whose shift is -inf."""
    spec, data = problem(optimizer=optimizer, **SKEWED)
    spec = replace(spec, loss=loss)
    updates = []
    for kind in ("auto", "reference"):
        side = set_up(replace(spec, trainer=kind), data, deal_rows(spec, data)).clients
        counts = [np.bincount(side.y[work.rows], minlength=3) for work in side.workloads]
        assert any((one == 0).any() for one in counts), "a class is absent somewhere"
        w = spec.model.first_weights(side.x.shape[1:], 3, np.random.default_rng(0))
        jobs = [replace(side.received({"w": w}, 1, office).job(), wants_loss=True) for office in range(4)]
        updates.append(trainer(side).train(jobs, range(4)))
    for fast, slow in zip(*updates, strict=True):
        np.testing.assert_allclose(fast.w, slow.w, rtol=2e-4, atol=2e-6)
        assert fast.train_loss == pytest.approx(slow.train_loss, rel=1e-5)
        assert fast.start_loss == pytest.approx(slow.start_loss, rel=1e-5)
        assert np.isfinite(fast.w).all()


def test_an_office_learns_nothing_against_a_class_that_it_does_not_hold() -> None:
    """The output weights of an absent class are not moved."""
    spec, data = problem(loss="logit_adjusted", **SKEWED)
    side = set_up(spec, data, deal_rows(spec, data)).clients
    office, counts = next(
        (office, counts)
        for office, work in enumerate(side.workloads)
        if (counts := np.bincount(side.y[work.rows], minlength=3)).min() == 0
    )
    w = spec.model.first_weights(side.x.shape[1:], 3, np.random.default_rng(0))
    moved = trainer(side).train([side.received({"w": w}, 1, office).job()], [office])[0].w - w
    last = moved[-(8 * 3 + 3) :].reshape(9, 3)
    for label in range(3):
        assert (np.abs(last[:, label]).max() > 0) == (counts[label] > 0)


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "quantised(bits=32)", "ditto(mu=0.1)"])
def test_any_strategy_takes_it(strategy: str) -> None:
    adjusted = run(*problem(strategy=strategy, loss="logit_adjusted(tau=1)", **SKEWED))
    plain = run(*problem(strategy=strategy, **SKEWED))
    assert adjusted.status == "ok"
    assert adjusted.spec["loss"] == "logit_adjusted(tau=1.0)" or adjusted.spec["loss"] == "logit_adjusted"
    assert adjusted.rounds != plain.rounds


def test_both_engines_have_the_same_bits() -> None:
    spec, data = problem(strategy="scaffold", loss="logit_adjusted", rounds=2, **SKEWED)
    here, there = run(spec, data), run(spec, data, "simulation")
    assert here.rounds == there.rounds


def test_private_steps_refuse_it() -> None:
    with pytest.raises(ValueError, match="puts an office's class counts into every gradient"):
        run(*problem(strategy="dp_sgd(epsilon=8)", loss="logit_adjusted"))


def test_a_mistake_is_told() -> None:
    with pytest.raises(UserError, match="tau must be at least 0; found -1"):
        LogitAdjusted(tau=-1)


@dataclass(frozen=True)
class Distilled(Loss):
    """A planted loss: cross-entropy, and the distance of the logits from those of the received model."""

    uses_received = True
    notation = "distilled"

    strength: float = 1.0

    def __call__(self, logits: Any, labels: Any, terms: Any = None, received: Any = None) -> Any:
        plain = torch.nn.functional.cross_entropy(logits, labels)
        return plain + self.strength * ((logits - received) ** 2).mean()


def test_a_loss_may_have_the_received_models_logits() -> None:
    """Distillation holds an office near the received model: the stronger, the nearer; at strength 0 it is FedAvg."""
    spec, data = problem(rounds=1)
    first = set_up(spec, data, deal_rows(spec, data)).first()
    moved = []
    for strength in (0.0, 1.0, 10.0):
        _, models = run_models(replace(spec, loss=Distilled(strength), client_lr=0.01), data)
        assert models is not None
        moved.append(float(np.linalg.norm(models[0] - first)))
    _, plain = run_models(replace(spec, client_lr=0.01, trainer="reference"), data)
    assert plain is not None
    assert moved[0] == pytest.approx(float(np.linalg.norm(plain[0] - first)), rel=1e-5)
    assert moved[0] > moved[1] > moved[2] > 0
