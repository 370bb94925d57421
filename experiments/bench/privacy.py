"""What differential privacy costs in training: our private steps against the same steps in the open, and Opacus's.

All contestants take the same steps on the same rows, batches drawn by Poisson sampling at the same rate. *In the open*
is the same sampler and kernel without clip or noise. Opacus is its own two ways, hooks (a gradient a row) and ghost
norms, on batches drawn ahead, so that its data loader is not counted against it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.bench.clock import interleave, progress
from experiments.bench.figures import Figures
from experiments.bench.targets import Target
from experiments.bench.work import Work
from experiments.training.kernels.fused import FusedTrainer
from experiments.training.private import PrivateStep
from strategies.base import PrivateSteps, Workload
from strategies.fedavg import FedAvg

STEP = "Differential privacy: a round of {} steps a client"
STEPS = 20
SIGMA, CLIP = 1.0, 1.0
BARS: dict[int | str, tuple[float, float]] = {64: (2.1, 1.8), 256: (1.45, 1.3), "full": (1.2, 1.12)}  # by batch size
OURS, OPEN, SECURE, TORCH = "dp_sgd", "the same in the open", "dp_sgd, secure_rng", "dp_sgd, noise of torch.randn"
HOOKS, GHOST = "Opacus, hooks", "Opacus, ghost norms"
PERSONS = "dp_sgd, unit=person"


def measure_privacy(work: Work, figures: Figures, repeats: int) -> None:
    """Time a round of every contestant, for each batch size."""
    section = STEP.format(STEPS)
    for batch in BARS:
        progress(f"privacy: steps of {batch} rows")
        contestants: dict[str, Callable[[], object]] = {
            OPEN: _ours(work, batch, sigma=0.0, clip=None),
            OURS: _ours(work, batch),
            SECURE: _ours(work, batch, secure=True),
        }
        if batch == 64:
            contestants[TORCH] = _with_torch_noise(work, batch)
            contestants[HOOKS] = _opacus(work, batch, ghost=False)
            contestants[GHOST] = _opacus(work, batch, ghost=True)
        if batch == "full":
            contestants[PERSONS] = _ours(work, batch, persons=True)
        seconds = interleave(contestants, repeats)
        steps = STEPS * work.clients
        for name, spent in seconds.items():
            figures.add(section, name, f"batch {batch}", 1e3 * spent / steps, "ms a step")
            figures.add(f"{section}, over", name, f"the open, {batch}", spent / seconds[OPEN])
        for name in set(seconds) & {HOOKS, GHOST, TORCH}:
            figures.add(section, f"dp_sgd over {name}", f"batch {batch}", seconds[OURS] / seconds[name])
        if batch == 64:
            figures.add(section, "secure_rng over torch.randn", "batch 64", seconds[SECURE] / seconds[TORCH])


def _workloads(
    work: Work, batch: int | str, sigma: float = SIGMA, clip: float | None = CLIP, secure: bool = False,
    persons: bool = False,
) -> list[Workload]:  # fmt: skip
    size = work.rows if batch == "full" else int(batch)
    bounds = np.linspace(0, work.rows, 6).astype(np.int64) if persons else None
    divisor = 5.0 if persons else float(size)
    private = PrivateSteps(bounds, clip, sigma, size / work.rows, divisor, 1 << 30, secure_rng=secure)
    starts = range(0, work.clients * work.rows, work.rows)
    return [Workload(np.arange(start, start + work.rows), STEPS, private) for start in starts]


def _ours(work: Work, batch: int | str, **options: Any) -> Callable[[], object]:
    """A round of our trainer; `options` are those of `_workloads`."""
    trainer = _trainer(work, _workloads(work, batch, **options))
    jobs, clients = [work.job(STEPS)] * work.clients, list(range(work.clients))
    return lambda: trainer.train(jobs, clients)


def _trainer(work: Work, workloads: list[Workload]) -> FusedTrainer:
    return FusedTrainer(work.spec(), FedAvg(), work.widths, work.x, work.y, workloads)


def _with_torch_noise(work: Work, batch: int | str) -> Callable[[], object]:
    """Our clipped steps, with noise as PyTorch draws it in the place of a stream cipher's."""
    silent = _workloads(work, batch, sigma=0.0)
    trainer, lr = _trainer(work, silent), work.lr
    empty = np.empty(0, np.float32)

    def train() -> None:
        for client, one in enumerate(silent):
            w = work.first()
            v, step = np.zeros_like(w), PrivateStep(trainer, one, 1, client)
            for _ in range(STEPS):
                step(w, v, (empty, empty), lr, 0.0, 0.0, 0.0)
                w += torch.randn(len(w)).mul_(lr * SIGMA * CLIP / float(batch)).numpy()

    return train


def _opacus(work: Work, batch: int | str, ghost: bool) -> Callable[[], object]:
    """The same steps by Opacus."""
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    size = int(batch)
    x, y = (torch.from_numpy(part) for part in work.stacked())
    rng = np.random.default_rng(0)
    batches = [
        [torch.from_numpy(np.flatnonzero(rng.random(work.rows) < size / work.rows)) for _ in range(STEPS)]
        for _ in range(work.clients)
    ]
    model = work.spec().model.module((work.widths[0],), work.widths[-1])
    wrap = GradSampleModuleFastGradientClipping if ghost else GradSampleModule
    module = wrap(model, max_grad_norm=CLIP, use_ghost_clipping=True) if ghost else wrap(model)
    sgd = torch.optim.SGD(module.parameters(), lr=work.lr)
    kind = DPOptimizerFastGradientClipping if ghost else DPOptimizer
    optimizer = kind(sgd, noise_multiplier=SIGMA, max_grad_norm=CLIP, expected_batch_size=size)
    criterion = nn.CrossEntropyLoss()
    loss_of = DPLossFastGradientClipping(module, optimizer, criterion) if ghost else criterion

    def train() -> None:
        for client, drawn in enumerate(batches):
            for rows in drawn:
                optimizer.zero_grad()
                loss_of(module(x[client][rows]), y[client][rows]).backward()
                optimizer.step()

    return train


def privacy_targets(figures: Figures) -> list[Target]:
    """The bars of the issue."""
    section = STEP.format(STEPS)
    targets = []
    for batch, bars in BARS.items():
        over = figures.look(f"{section}, over", OURS, f"the open, {batch}")
        targets.append(Target(f"dp_sgd over the same steps in the open, batch {batch}", over, *bars))
    for name, reach, stretch in (
        (f"dp_sgd over {HOOKS}", 1 / 10, 1 / 15),
        (f"dp_sgd over {GHOST}", 1 / 3, 1 / 3.5),
        ("secure_rng over torch.randn", 1.6, 1.3),
    ):
        targets.append(Target(f"{name}, batch 64", figures.look(section, name, "batch 64"), reach, stretch))
    return targets
