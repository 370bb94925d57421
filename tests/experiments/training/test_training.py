"""Local training against PyTorch's own optimiser, and the exact semantics of batches, steps, order and rates."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.federation.seeds import Purpose, stream
from experiments.training.flat import Flat, first_weights
from experiments.training.models import MLP, CNN1d, Model
from experiments.training.reference import ReferenceTrainer
from experiments.training.schedule import epoch_orders, job, learning_rate, steps_a_round
from strategies.base import Job, Workload
from strategies.fedavg import FedAvg
from tests.experiments.problems import dataset, problem


def trainer(**options: Any) -> tuple[RunSpec, ReferenceTrainer, list[Job]]:
    """A trainer of three offices, and the first round's job of each."""
    spec, data = problem(**options)
    rows = np.arange(len(data.train.y))
    offices = [rows[:50], rows[50:53], rows[53:]]
    work = [Workload(part, steps_a_round(spec, len(part))) for part in offices]
    shape = data.train.x.shape[1:]
    module = spec.model.module(shape, 3)
    w = first_weights(module, stream(0, Purpose.INITIAL_WEIGHTS))
    jobs = [job(spec, w, 1, one.steps) for one in work]
    return spec, ReferenceTrainer(spec, FedAvg(), module, data.train.x, data.train.y, work), jobs


@pytest.mark.parametrize("form", ["features", "raw"])
@pytest.mark.parametrize("optimizer", ["sgd", "sgd(momentum=0.9)", "sgd(momentum=0.5, weight_decay=0.01)"])
def test_a_round_equals_torch_optim(optimizer: str, form: str) -> None:
    model = "mlp(hidden=[8])" if form == "features" else "cnn1d(channels=[4])"
    spec, ours, jobs = trainer(form=form, model=model, optimizer=optimizer, local_epochs=2)
    for client in range(3):
        update = ours.train([jobs[client]], [client])[0]
        module = spec.model.module(ours.x.shape[1:], 3)
        flat = Flat(module)
        flat.load(jobs[client].w)
        theirs = torch.optim.SGD(
            module.parameters(),
            lr=spec.client_lr,
            momentum=spec.optimizer.momentum,
            weight_decay=spec.optimizer.weight_decay,
        )
        rng = stream(spec.seed, Purpose.ORDER, 1, client)
        losses, steps = [], 0
        for _ in range(2):
            order = rng.permutation(ours.workloads[client].rows)
            for start in range(0, len(order), 16):
                rows = order[start : start + 16]
                theirs.zero_grad()
                loss = functional.cross_entropy(module(torch.from_numpy(ours.x[rows])), torch.from_numpy(ours.y[rows]))
                loss.backward()
                theirs.step()
                losses += [loss.item()] * len(rows)
                steps += 1
        expected = flat.w.numpy()
        np.testing.assert_allclose(update.w, expected, rtol=1e-5, atol=1e-7)
        assert update.train_loss == pytest.approx(np.mean(losses), rel=1e-5)
        assert (update.steps, update.num_examples) == (steps, len(ours.workloads[client].rows))


def test_a_job_does_not_depend_on_those_before_it() -> None:
    _, ours, jobs = trainer(optimizer="sgd(momentum=0.9)")
    together = ours.train(jobs, [0, 1, 2])
    alone = [ours.train([jobs[client]], [client])[0] for client in (2, 1, 0)][::-1]
    assert all(np.array_equal(a.w, b.w) for a, b in zip(together, alone, strict=True))


def test_the_received_model_is_left_as_it_was() -> None:
    _, ours, jobs = trainer()
    before = jobs[0].w.copy()
    ours.train(jobs[:1], [0])
    assert np.array_equal(jobs[0].w, before)


@pytest.mark.parametrize(
    ("options", "rows", "steps"),
    [
        ({"batch_size": 32}, 64, 2),
        ({"batch_size": 32}, 65, 3),
        ({"batch_size": 32, "local_epochs": 3}, 65, 9),
        ({"batch_size": 32}, 5, 1),
        ({"batch_size": "full", "local_epochs": 2}, 1000, 2),
        ({"local_steps": 7}, 1000, 7),
    ],
)
def test_steps_a_round(options: dict[str, Any], rows: int, steps: int) -> None:
    assert steps_a_round(RunSpec.from_options(options), rows) == steps


def test_local_steps_go_on_into_the_next_epoch() -> None:
    _, ours, jobs = trainer(local_steps=5)
    batches = [len(x) for x, _ in islice(ours._batches(ours.workloads[0], jobs[0], 0), 5)]
    assert batches == [16, 16, 16, 2, 16]
    assert ours.train(jobs[:1], [0])[0].steps == 5


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [0.1] * 4), ("linear", [0.1, 0.075, 0.05, 0.025]), ("cosine", [0.1, 0.0853553, 0.05, 0.0146447])],
)
def test_learning_rate(schedule: str, rates: list[float]) -> None:
    spec = RunSpec.from_options({"client_lr": 0.1, "lr_schedule": schedule, "rounds": 4})
    assert [learning_rate(spec, round_) for round_ in (1, 2, 3, 4)] == pytest.approx(rates, rel=1e-5)


def test_row_order() -> None:
    labels = np.array([2, 0, 1, 0, 2, 1])
    rows = np.array([0, 1, 3, 4, 5])
    drawn = {}
    for order in ("shuffled", "file", "label"):
        spec = RunSpec.from_options({"row_order": order})
        drawn[order] = epoch_orders(spec, rows, 3, labels, 1, 0).tolist()
    assert drawn["file"] == [[0, 1, 3, 4, 5]] * 3
    assert drawn["label"] == [[1, 3, 5, 0, 4]] * 3
    assert all(sorted(epoch) == list(rows) for epoch in drawn["shuffled"])
    assert len({tuple(epoch) for epoch in drawn["shuffled"]}) > 1


def test_first_weights_have_pytorchs_distribution() -> None:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and biases of every layer, as `reset_parameters` draws them."""
    spec = RunSpec.from_options({"model": "mlp(hidden=[128, 64])"})
    module = spec.model.module((561,), 6)
    w = first_weights(module, stream(0, Purpose.INITIAL_WEIGHTS))
    assert w.dtype == np.float32
    flat = Flat(module)
    flat.load(w)
    for layer in module:
        if isinstance(layer, torch.nn.Linear):
            bound = layer.in_features**-0.5
            values = layer.weight.detach().numpy()
            assert np.abs(values).max() <= bound
            assert np.abs(layer.bias.detach().numpy()).max() <= bound
            assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)


@pytest.mark.parametrize("model", [CNN1d(channels=(4,), kernel=3), MLP(hidden=(5, 4))])
def test_flat_lies_under_the_parameters(model: Model) -> None:
    module = model.module((16, 3), 3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flat = Flat(module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert len(flat.w) == sum(value.numel() for value in before.values())
    flat.load(np.arange(len(flat.w), dtype=np.float32))
    values = torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])
    assert sorted(values.tolist()) == list(range(len(flat.w)))
    module(torch.ones(2, 16, 3)).sum().backward()
    for parameter in module.parameters():
        place = parameter.detach().reshape(-1).long()  # where each of its weights lies in w
        assert torch.equal(parameter.grad.reshape(-1), flat.g[place])
    assert flat.g.abs().sum() > 0


def test_widths_and_module_are_one_model() -> None:
    """What the compiled kernel is told of an MLP is what PyTorch builds, first weights included, bit for bit."""
    assert CNN1d().widths((128, 9), 6) is None
    for model, shape in ((MLP(hidden=(5, 4)), (561,)), (MLP(hidden=()), (16, 3))):
        module = model.module(shape, 6)
        linear = [layer for layer in module if isinstance(layer, torch.nn.Linear)]
        widths = (linear[0].in_features, *(layer.out_features for layer in linear))
        assert widths == model.widths(shape, 6)
        by_torch = first_weights(module, np.random.default_rng(3))
        assert np.array_equal(by_torch, model.first_weights(shape, 6, np.random.default_rng(3)))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("mlp(hidden=[0])", "whole numbers of at least 1"),
        ("mlp(hidden=[1.5])", "whole numbers of at least 1"),
        ("cnn1d(channels=[])", "at least one convolution"),
        ("cnn1d(kernel=4)", "odd"),
        ("mpl", "did you mean 'mlp'"),
    ],
)
def test_models_refuse(model: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        RunSpec.from_options({"model": model})


def test_cnn_on_features_names_the_remedy() -> None:
    with pytest.raises(UserError, match="--form raw"):
        CNN1d().module((561,), 6)
    assert dataset("raw").x.shape[1:] == (16, 3)
