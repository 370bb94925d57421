"""The compiled trainer against the plain autograd loop, and an office's bits against its company."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.config.spec import STRATEGIES, RunSpec
from experiments.data import load
from experiments.engines import inprocess
from experiments.federation.clients import trainer
from experiments.federation.provenance import ROOT
from experiments.federation.run import deal_rows, prepare, resolved, run, set_up
from experiments.federation.seeds import Purpose, stream
from experiments.training.evaluation import Evaluator, Rows, by_module
from experiments.training.flat import first_weights
from experiments.training.kernels.fused import FusedTrainer
from experiments.training.reference import ReferenceTrainer
from experiments.training.schedule import job, steps_a_round
from strategies import Job, Update, Workload
from strategies.fedavg import FedAvg
from tests.experiments.problems import problem


@dataclass(frozen=True)
class Drifting(FedAvg):
    """Every kind of drift at once."""

    notation = "drifting"

    def drift(self, job: Job) -> tuple[float, Any]:
        return 0.3, np.linspace(-0.1, 0.1, len(job.w)).astype(np.float32)


@dataclass(frozen=True)
class Clipping(FedAvg):
    """A hook that is no drift: the gradient's sign times its mean size."""

    notation = "clipping"

    def gradient(self, g: Any, w: Any, job: Job) -> Any:
        return np.sign(g) * np.abs(g).mean()


def both(rows: list[int], strategy: Any = None, **options: Any) -> tuple[list[Update], list[Update]]:
    """A round by the fast trainer and by the plain loop, on offices of these sizes."""
    spec, data = problem(**options)
    if strategy is not None:
        spec = replace(spec, strategy=strategy)
    ends = np.cumsum(rows)
    offices = [np.arange(end - size, end) for end, size in zip(ends, rows, strict=True)]
    work = tuple(Workload(part, steps_a_round(spec, len(part))) for part in offices)
    side = replace(set_up(spec, data, deal_rows(spec, data)).clients, workloads=work)
    module = spec.model.module(side.x.shape[1:], 3)
    w = first_weights(module, stream(0, Purpose.INITIAL_WEIGHTS))
    jobs = [side.received({"w": w}, 2, office).job() for office in range(len(rows))]
    fast, plain = trainer(side), trainer(replace(side, spec=replace(spec, trainer="reference")))
    assert isinstance(fast, FusedTrainer)
    assert isinstance(plain, ReferenceTrainer)
    everyone = range(len(rows))
    return fast.train(jobs, everyone), plain.train(jobs, everyone)


def assert_close(fast: list[Update], plain: list[Update]) -> None:
    for a, b in zip(fast, plain, strict=True):
        assert np.linalg.norm(a.w - b.w) <= 1e-5 * np.linalg.norm(b.w)
        np.testing.assert_allclose(a.w, b.w, rtol=1e-4, atol=1e-6)
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-5)
        assert (a.num_examples, a.steps) == (b.num_examples, b.steps)


UNEQUAL = [100, 37, 16, 3]


@pytest.mark.parametrize("model", ["mlp(hidden=[])", "mlp(hidden=[8])", "mlp(hidden=[12, 8, 5])"])
@pytest.mark.parametrize(
    "optimizer", ["sgd", "sgd(momentum=0.9)", "sgd(momentum=0.5, weight_decay=0.01)", "sgd(weight_decay=0.1)"]
)
def test_every_optimizer_and_depth(optimizer: str, model: str) -> None:
    assert_close(*both(UNEQUAL, optimizer=optimizer, model=model, local_epochs=2))


@pytest.mark.parametrize("optimizer", ["sgd", "sgd(momentum=0.9, weight_decay=0.01)"])
@pytest.mark.parametrize("strategy", [Drifting(), Clipping()])
def test_every_kind_of_hook(strategy: Any, optimizer: str) -> None:
    assert_close(*both(UNEQUAL, strategy=strategy, optimizer=optimizer, local_epochs=2))


@pytest.mark.parametrize("text", [text for cls in STRATEGIES.values() for text in cls.examples])
def test_every_strategy(text: str) -> None:
    """Whole runs on unequal offices: after a round the models agree, after five the scores."""
    options = {"strategy": text, "partition": "sizes([.55, .25, .15, .05])", "rounds": 5}
    fast, plain = run(*problem(**options)), run(*problem(**options, trainer="reference"))
    assert fast.rounds[0].test_loss == pytest.approx(plain.rounds[0].test_loss, rel=1e-4)
    if fast.rounds[0].train_loss is None:  # no server is told under protection
        assert plain.rounds[0].train_loss is None
    else:
        assert fast.rounds[0].train_loss == pytest.approx(plain.rounds[0].train_loss, rel=1e-5)
    assert fast.final.score == pytest.approx(plain.final.score, abs=0.02)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": "full"},
        {"local_steps": 1},
        {"local_steps": 11},
        {"row_order": "label"},
        {"batch_size": 1},
        {"lr_schedule": "cosine"},
    ],
)
def test_every_schedule(options: dict[str, Any]) -> None:
    assert_close(*both(UNEQUAL, **options))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 16, 31, 32, 33, 64, "full"])
@pytest.mark.parametrize("model", ["mlp(hidden=[8])", "mlp(hidden=[16, 64])"])
def test_an_offices_bits_do_not_depend_on_its_company(batch_size: int | str, model: str) -> None:
    together, _ = both([60, 37, 16, 3], batch_size=batch_size, model=model)
    for office, size in ((0, 60), (1, 37)):
        spec, data = problem(batch_size=batch_size, model=model)
        start = 0 if office == 0 else 60
        work = [Workload(np.arange(start, start + size), steps_a_round(spec, size))] * (office + 1)
        module = spec.model.module((6,), 3)
        w = first_weights(module, stream(0, Purpose.INITIAL_WEIGHTS))
        widths = spec.model.widths((6,), 3)
        assert widths is not None
        one = FusedTrainer(spec, spec.strategy, widths, data.train.x, data.train.y, work)
        alone = one.train([job(spec, w, 2, work[office].steps)], [office])
        assert np.array_equal(alone[0].w, together[office].w)


def test_windows_are_flattened() -> None:
    spec, data = problem("raw", rounds=2)
    fast = run(spec, data)
    plain = run(replace(spec, trainer="reference"), data)
    assert fast.final.score == pytest.approx(plain.final.score, abs=0.02)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("how", ["rate", "row"])
def test_what_is_not_finite_stays_so(how: str) -> None:
    spec, data = problem(client_lr=1e6 if how == "rate" else 0.1, model="mlp(hidden=[8, 8])")
    clients = set_up(spec, data, deal_rows(spec, data)).clients
    if how == "row":
        x = clients.x.copy()
        x[clients.workloads[0].rows[0], 2] = np.nan
        clients = replace(clients, x=x)
    module = spec.model.module((6,), 3)
    w = first_weights(module, stream(0, Purpose.INITIAL_WEIGHTS))
    fast = trainer(clients)
    for round_ in range(1, 30):
        w = fast.train([clients.received({"w": w}, round_, 0).job()], [0])[0].w
    assert not np.isfinite(w).all()


def test_scores_equal_pytorchs() -> None:
    spec = RunSpec.from_options({"model": "mlp(hidden=[33, 9])"})
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1111, 20)).astype(np.float32), rng.integers(0, 5, 1111)
    rows = Rows(x, y, y)
    empty = Rows(x[:0], y[:0], y[:0])
    module = spec.model.module((20,), 5)
    models = np.stack([first_weights(module, np.random.default_rng(seed)) for seed in (0, 1)])
    fast = Evaluator(spec.model, 5, (20,), rows, [rows, empty])
    plain = Evaluator(spec.model, 5, (20,), rows, [rows, empty])
    plain.predict = by_module(spec.model, (20,), 5)
    a, b = fast(models), plain(models)
    assert np.array_equal(a.confusion, b.confusion)
    assert a.test_loss == pytest.approx(b.test_loss, rel=1e-5)
    assert (a.office_accuracy, a.correct_by_person) == (b.office_accuracy, b.correct_by_person)


def test_hooks_see_memory_and_received_model() -> None:
    """The step-by-step path hands a hook the same (d,) arrays as the plain loop."""
    seen: list[tuple[tuple[int, ...], ...]] = []

    @dataclass(frozen=True)
    class Looking(FedAvg):
        notation = "looking"

        def gradient(self, g: Any, w: Any, job: Job) -> Any:
            handed = (g, w, job.w, job.memory["last"])
            assert all(isinstance(array, np.ndarray) for array in handed)
            seen.append(tuple(array.shape for array in handed))
            return g

    spec, data = problem()
    clients = set_up(replace(spec, strategy=Looking()), data, deal_rows(spec, data)).clients
    w = first_weights(spec.model.module((6,), 3), np.random.default_rng(0))
    for kind in ("auto", "reference"):
        side = replace(clients, spec=replace(clients.spec, trainer=kind))
        trainer(side).train([side.received({"w": w}, 1, 0).job(last=w)], [0])
    assert set(seen) == {((len(w),),) * 4}


def last_five(spec: RunSpec, data: Any, jitter: int | None = None) -> float:
    """The score of a run; with first weights each moved by one ulp, up or down, if `jitter` seeds it."""
    sides = set_up(spec, data, deal_rows(spec, data))
    server, clients = sides.server, sides.clients
    if jitter is not None:
        towards = np.random.default_rng(jitter).choice([-np.inf, np.inf], len(server.first)).astype(np.float32)
        server = replace(server, first=np.nextafter(server.first, towards))
    rounds = inprocess.run(server, clients, len(clients.workloads)).rounds
    return float(np.mean([row["test_accuracy"] for row in rounds[-5:]]))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fedavg", "fedprox(mu=0.1)", "local", "centralised"])
@pytest.mark.parametrize("optimizer", ["sgd", "sgd(momentum=0.9)"])
def test_the_fast_path_is_within_the_jitter_of_one_ulp(strategy: str, optimizer: str) -> None:
    """Twenty rounds on real data and unequal offices: the kernels part no more than one ulp of the first weights does.

    The jitter is what six re-runs of the plain loop scatter by; the bound is its largest deviation, twice, and never
    under two test windows of 916.
    """
    data = prepare(load("watch"), "official")
    options = {"strategy": strategy, "optimizer": optimizer, "partition": "sizes([.55, .25, .15, .05])", "rounds": 20}
    fast = resolved(RunSpec.from_options({**options, "dataset": "watch"}), data)
    plain = replace(fast, trainer="reference")
    reference = last_five(plain, data)
    jitter = max(abs(last_five(plain, data, seed) - reference) for seed in range(6))
    assert abs(last_five(fast, data) - reference) <= max(2 * jitter, 2 / 916)


@pytest.mark.slow
def test_code_from_numbas_cache_has_the_bits_of_code_compiled_here(tmp_path: Path) -> None:
    """Six classes and wide layers: with `fastmath` the two differed, since each called another copy of the softmax."""
    script = """
import hashlib
import numpy as np
from experiments.training.kernels import kernel
rng, none = np.random.default_rng(0), np.empty(0, np.float32)
widths, y = np.array([561, 128, 64, 6]), rng.integers(0, 6, 320)
w = rng.normal(scale=0.05, size=562 * 128 + 129 * 64 + 65 * 6).astype(np.float32)
x = rng.normal(size=(320, 561)).astype(np.float32)
loss = kernel.train(w, none, none, widths, x, y, np.arange(320)[None], none, none, 32, 10, 0.05, 0.0, 0.0, 0.0)
predicted, summed = kernel.score(w, widths, x, y)
print(loss.hex(), summed.hex(), hashlib.sha256(w.tobytes() + predicted.tobytes()).hexdigest())
print(kernel.train.stats.cache_hits.total())
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = [
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )
        for _ in range(2)
    ]
    assert [lines[1] for lines in done] == ["0", "1"], "compiled, then loaded"
    assert done[0][0] == done[1][0]
