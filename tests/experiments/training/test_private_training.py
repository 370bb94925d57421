"""Private steps: the compiled path against the slow loop, and both against Opacus."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

from experiments.federation.clients import ClientSide
from experiments.federation.run import deal_rows, set_up
from experiments.training.kernels.fused import FusedTrainer
from experiments.training.models import MLP
from experiments.training.reference import ReferenceTrainer
from experiments.training.schedule import job
from strategies import PrivateSteps, Update, Workload
from tests.experiments.problems import problem

WINDOWS = {"strategy": "dp_sgd(noise_multiplier=0.8, clip_norm=0.7)"}
PERSONS = {"strategy": "dp_sgd(unit=person, noise_multiplier=0.8, clip_norm=0.7)", "batch_size": "full"}
DRIFTING = {"strategy": "dp_sgd(noise_multiplier=0.8, clip_norm=0.7, inner=fedprox(mu=0.5))"}
SETTINGS: dict[str, dict[str, Any]] = {
    "windows": WINDOWS,
    "persons": {**PERSONS, "local_epochs": 3},
    "full": {**WINDOWS, "batch_size": "full", "local_epochs": 2},
    "drift": {**DRIFTING, "local_epochs": 2},
    "momentum": {**DRIFTING, "optimizer": "sgd(momentum=0.9, weight_decay=0.01)", "local_epochs": 2},
    "linear": {**WINDOWS, "model": "mlp(hidden=[])"},
    "deep": {**WINDOWS, "model": "mlp(hidden=[9, 7, 5])"},
    "unclipped": {"strategy": "dp_sgd(noise_multiplier=0, clip_norm=none)"},
}


def side(**options: Any) -> ClientSide:
    spec, data = problem(**options)
    return set_up(spec, data, deal_rows(spec, data)).clients


def first(one: ClientSide, seed: int = 0) -> NDArray[np.float32]:
    return one.spec.model.first_weights(one.x.shape[1:], one.classes, np.random.default_rng(seed))


def fused(one: ClientSide) -> FusedTrainer:
    widths = one.spec.model.widths(one.x.shape[1:], one.classes)
    return FusedTrainer(one.spec, one.prepared.strategy, widths, one.x, one.y, one.workloads)


def reference(one: ClientSide) -> ReferenceTrainer:
    module = one.spec.model.module(one.x.shape[1:], one.classes)
    return ReferenceTrainer(one.spec, one.prepared.strategy, module, one.x, one.y, one.workloads)


def train(trainer: FusedTrainer | ReferenceTrainer, w: NDArray[np.float32], round_: int = 1) -> list[Update]:
    return trainer.train([job(trainer.spec, w, round_, work.steps) for work in trainer.workloads], [0, 1, 2, 3])


def changed(one: ClientSide, **fields: Any) -> ClientSide:
    """With other private steps."""
    workloads = tuple(
        dataclasses.replace(work, private=dataclasses.replace(work.private, **fields)) for work in one.workloads
    )
    return dataclasses.replace(one, workloads=workloads)


@pytest.mark.parametrize("options", SETTINGS.values(), ids=list(SETTINGS))
def test_the_compiled_path_is_the_slow_loop(options: dict[str, Any]) -> None:
    one = side(**options)
    w = first(one)
    for fast, slow in zip(train(fused(one), w), train(reference(one), w), strict=True):
        assert np.abs(slow.w - w).max() > 1e-3
        np.testing.assert_allclose(fast.w, slow.w, atol=1e-5)
        assert fast.train_loss is None
        assert slow.train_loss is None


def test_a_gradient_hook_acts_after_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    from strategies.fedprox import FedProx

    one = side(**DRIFTING, local_epochs=2)
    plain = train(fused(one), first(one))
    monkeypatch.setattr(FedProx, "drift", lambda self, job: (0.0, None))
    monkeypatch.setattr(FedProx, "gradient", lambda self, g, w, job: g + self.mu * (w - job.w))
    assert one.prepared.strategy.overrides("gradient")
    for hooked, drifted in zip(train(fused(one), first(one)), plain, strict=True):
        np.testing.assert_allclose(hooked.w, drifted.w, atol=1e-6)
    for hooked, drifted in zip(train(reference(one), first(one)), plain, strict=True):
        np.testing.assert_allclose(hooked.w, drifted.w, atol=1e-5)


def opacus_gradients(one: ClientSide, w: NDArray[np.float32], rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
    """Every row's gradient, by parameter, as Opacus's hooks find it."""
    from experiments.training.flat import Flat

    flat = Flat(one.spec.model.module(one.x.shape[1:], one.classes))
    flat.load(w)
    module = one.spec.model.module(one.x.shape[1:], one.classes)
    module.load_state_dict({name: value.clone() for name, value in flat.module.state_dict().items()})
    private = GradSampleModule(module)
    loss = nn.functional.cross_entropy(private(torch.from_numpy(one.x[rows])), torch.from_numpy(one.y[rows]))
    loss.backward()
    return {name: parameter.grad_sample.clone() for name, parameter in private._module.named_parameters()}


def opacus_sum(gradients: dict[str, torch.Tensor], clip: float) -> dict[str, torch.Tensor]:
    """Clipped and summed by Opacus's optimizer."""
    parameters = [nn.Parameter(torch.zeros_like(gradient[0])) for gradient in gradients.values()]
    for parameter, gradient in zip(parameters, gradients.values(), strict=True):
        parameter.grad_sample = gradient
    optimizer = DPOptimizer(
        torch.optim.SGD(parameters, lr=1.0), noise_multiplier=0.0, max_grad_norm=clip, expected_batch_size=1
    )
    optimizer.clip_and_accumulate()
    return dict(zip(gradients, (parameter.summed_grad for parameter in parameters), strict=True))


def flat_of(named: dict[str, torch.Tensor]) -> NDArray[np.float32]:
    """As blocks (inputs + 1, outputs)."""
    names = list(named)
    blocks = [
        torch.cat([named[weight].t(), named[bias][None]]).ravel()
        for weight, bias in zip(names[::2], names[1::2], strict=True)
    ]
    return torch.cat(blocks).numpy()


@pytest.mark.parametrize("clip", [1e-3, 0.5, 5.0])
@pytest.mark.parametrize("make", [fused, reference])
def test_opacus_has_the_same_clipped_sum(clip: float, make: Any) -> None:
    """A step at rate 1, without noise, with learning rate 1 and divisor 1, is minus the sum."""
    one = changed(side(**WINDOWS, batch_size="full", local_steps=1), clip_norm=clip, noise_multiplier=0.0, divisor=1.0)
    one = dataclasses.replace(one, spec=dataclasses.replace(one.spec, client_lr=1.0))
    w = first(one)
    for work, update in zip(one.workloads, train(make(one), w), strict=True):
        wanted = flat_of(opacus_sum(opacus_gradients(one, w, work.rows), clip))
        np.testing.assert_allclose(w - update.w, wanted, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("clip", [1e-3, 0.2, 5.0])
@pytest.mark.parametrize("make", [fused, reference])
def test_opacus_has_the_same_sum_of_persons(clip: float, make: Any) -> None:
    """A person's gradient is the mean of its rows', which Opacus gives one by one."""
    one = changed(side(**PERSONS, local_steps=1), clip_norm=clip, noise_multiplier=0.0, divisor=1.0)
    one = dataclasses.replace(one, spec=dataclasses.replace(one.spec, client_lr=1.0))
    w = first(one)
    for work, update in zip(one.workloads, train(make(one), w), strict=True):
        assert isinstance(work.private, PrivateSteps)
        assert work.private.persons is not None
        assert len(work.private.persons) == 9 - 2, "eight persons train or validate, two of them validate"
        rows = opacus_gradients(one, w, work.rows)
        parts = np.split(np.arange(len(work.rows)), work.private.persons[1:-1])
        persons = {name: torch.stack([g[part].mean(0) for part in parts]) for name, g in rows.items()}
        wanted = flat_of(opacus_sum(persons, clip))
        np.testing.assert_allclose(w - update.w, wanted, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


def noise_of(one: ClientSide, make: Any, round_: int = 1) -> NDArray[np.float64]:
    """What noise adds to every client's one step, in units of sigma C: the step with noise less the step without."""
    w = first(one)
    with_noise, without = (train(make(some), w, round_) for some in (one, changed(one, noise_multiplier=0.0)))
    lr = one.spec.client_lr
    return np.stack(
        [
            (a.w.astype(np.float64) - b.w) * work.private.divisor / (lr * work.private.noise_multiplier * 0.7)
            for a, b, work in zip(with_noise, without, one.workloads, strict=True)
        ]
    )


@pytest.mark.parametrize("options", [WINDOWS, PERSONS], ids=["windows", "persons"])
@pytest.mark.parametrize("make", [fused, reference])
def test_noise_has_the_scale_that_is_accounted_for(options: dict[str, Any], make: Any) -> None:
    """Opacus adds N(0, (noise_multiplier max_grad_norm)^2) to the sum and divides by the expected batch."""
    one = side(**options, local_steps=1, model="mlp(hidden=[100, 90])", client_lr=1.0)
    drawn = noise_of(one, make)
    assert drawn.shape[1] > 9_000
    np.testing.assert_allclose(drawn.std(1), 1.0, atol=4 / np.sqrt(2 * drawn.shape[1]))
    np.testing.assert_allclose(drawn.mean(1), 0.0, atol=4 / np.sqrt(drawn.shape[1]))


def test_no_two_offices_rounds_or_steps_share_noise() -> None:
    """The pilot reseeded the same noise in every office."""
    one = side(**WINDOWS, local_steps=1, model="mlp(hidden=[100, 90])", client_lr=1.0)
    drawn = [row for round_ in (1, 2, 3) for row in noise_of(one, fused, round_)]
    two = side(**WINDOWS, local_steps=2, model="mlp(hidden=[100, 90])", client_lr=1.0)
    # The sum of two steps' noise, nearly: the second step's gradient is at another model. Less the first it is alone.
    drawn += [both - alone for both, alone in zip(noise_of(two, fused), noise_of(one, fused), strict=True)]
    for a, b in combinations(drawn, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(len(a))


@pytest.mark.parametrize("make", [fused, reference])
def test_empty_batches_are_noise_and_nothing_else(make: Any) -> None:
    one = changed(side(**WINDOWS, local_steps=1), rate=1e-12)
    w = first(one)
    for update in train(make(one), w):
        assert np.isfinite(update.w).all()
        assert np.abs(update.w - w).min() > 0
    silent = changed(one, noise_multiplier=0.0)
    assert all(np.array_equal(update.w, w) for update in train(make(silent), w))


def test_without_noise_or_clip_a_full_step_is_the_plain_one() -> None:
    """The limit: dp_sgd over everybody is gradient descent."""
    plain = side(strategy="fedavg", batch_size="full", local_epochs=3)
    ours = side(strategy="dp_sgd(noise_multiplier=0, clip_norm=none)", batch_size="full", local_epochs=3)
    w = first(plain)
    for a, b in zip(train(fused(ours), w), train(fused(plain), w), strict=True):
        np.testing.assert_allclose(a.w, b.w, atol=1e-6)


def test_a_row_that_is_not_finite_counts_for_nothing() -> None:
    one = changed(side(**WINDOWS, batch_size="full", local_steps=1), noise_multiplier=0.0)
    bad = one.workloads[0].rows[0]
    x = one.x.copy()
    x[bad] = np.inf
    spoilt = dataclasses.replace(one, x=x)
    without = dataclasses.replace(one.workloads[0], rows=one.workloads[0].rows[1:])
    clean = dataclasses.replace(one, workloads=(without, *one.workloads[1:]))
    for make in (fused, reference):
        np.testing.assert_allclose(train(make(spoilt), first(one))[0].w, train(make(clean), first(one))[0].w, atol=1e-6)


def test_the_batch_is_drawn_by_coins() -> None:
    """The mean batch is the expected one, its spread that of independent coins, and no step repeats another."""
    from experiments.training.private import Chance

    one = side(**WINDOWS, batch_size=16)
    work = one.workloads[0]
    assert isinstance(work, Workload)
    rate = work.private.rate
    assert rate == pytest.approx(16 / len(work.rows))
    drawn = [
        rows for round_ in range(1, 101) for chance in [Chance.of(one.spec, work, round_, 0)]
        for rows in (chance.rows(work), chance.rows(work))
    ]  # fmt: skip
    sizes = np.array([len(rows) for rows in drawn])
    spread = np.sqrt(len(work.rows) * rate * (1 - rate))
    assert abs(sizes.mean() - 16) < 4 * spread / np.sqrt(len(sizes))
    assert abs(sizes.std() - spread) < 4 * spread / np.sqrt(2 * len(sizes))
    assert len({rows.tobytes() for rows in drawn}) == len(drawn)


def test_system_noise_is_never_twice_the_same() -> None:
    one = side(strategy="dp_sgd(noise_multiplier=1, secure_rng=true)")
    w = first(one)
    a, b = (train(fused(one), w)[0].w for _ in range(2))
    assert np.abs(a - b).min() > 0
    seeded = side(strategy="dp_sgd(noise_multiplier=1)")
    np.testing.assert_array_equal(*(train(fused(seeded), w)[0].w for _ in range(2)))


def test_bits_do_not_depend_on_the_cohort() -> None:
    one = side(**WINDOWS)
    w = first(one)
    together = train(fused(one), w)
    for client in range(4):
        alone = fused(one).train([job(one.spec, w, 1, one.workloads[client].steps)], [client])[0]
        np.testing.assert_array_equal(alone.w, together[client].w)


def test_convolutions_are_clipped_by_the_slow_loop() -> None:
    spec, data = problem(
        form="raw", strategy="dp_sgd(noise_multiplier=0.1, clip_norm=0.5)", model="cnn1d(channels=[4])"
    )
    one = set_up(spec, data, deal_rows(spec, data)).clients
    trained = train(reference(one), first(one))
    assert all(np.isfinite(update.w).all() for update in trained)
    assert not isinstance(one.spec.model, MLP)
