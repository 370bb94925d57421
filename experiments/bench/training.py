"""The trainer, the evaluation and a whole run in this process, each against the products that it cannot avoid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any

from experiments.bench import kernels
from experiments.bench.clock import interleave, progress
from experiments.bench.figures import Figures
from experiments.bench.work import ROUNDS, Work
from experiments.config.spec import RunSpec
from experiments.engines import inprocess
from experiments.federation.run import RunData, deal_rows, resolved, run, set_up
from experiments.training.evaluation import Evaluator
from experiments.training.kernels.fused import FusedTrainer
from strategies.base import Job, Update
from strategies.fedavg import FedAvg

OURS, PLAIN, PRODUCTS = "our trainer", "plain PyTorch loop", "products alone"
WRITTEN, BATCHED = "NumPy, written out", "torch, batched"


def our_round(work: Work) -> Callable[[], list[Update]]:
    """A round of the real trainer: own order of every client, all clients."""
    spec = work.spec()
    trainer = FusedTrainer(spec, FedAvg(), work.widths, work.x, work.y, work.workloads(spec))
    jobs = [work.job()] * work.clients
    return lambda: trainer.train(jobs, range(work.clients))


def measure_training(works: Sequence[Work], figures: Figures, repeats: int) -> None:
    """Milliseconds a round, over the plain loop, over the products."""
    for work in works:
        progress(f"training: {work.name}")
        contestants: dict[str, Callable[[], object]] = {
            OURS: our_round(work),
            PLAIN: kernels.plain_loop(work),
            WRITTEN: kernels.numpy_written_out(work),
            BATCHED: kernels.torch_batched(work),
            "products, NumPy": kernels.numpy_products(work),
            "products, torch": kernels.torch_products(work),
        }
        seconds = interleave(contestants, repeats)
        seconds[PRODUCTS] = min(seconds.pop("products, NumPy"), seconds.pop("products, torch"))
        for name, value in seconds.items():
            figures.add("Training, a round", name, work.name, 1e3 * value, "ms")
        for base in (PLAIN, PRODUCTS):
            for name, value in seconds.items():
                if name != base:
                    figures.add(f"Training, over the {base}", name, work.name, value / seconds[base])


def measure_evaluation(works: Sequence[Work], data: RunData, figures: Figures, repeats: int) -> None:
    """Scoring a model on the test rows, over the forward products of the same rows."""
    assert data.test is not None
    for work in works:
        progress(f"evaluation: {work.model}")
        models = work.first()[None]
        evaluator = Evaluator(work.spec().model, work.widths[-1], (work.widths[0],), data.test, ())
        contestants: dict[str, Callable[[], object]] = {"ours": lambda m=models, e=evaluator: e(m)}  # type: ignore[misc]
        contestants |= kernels.forward_products(work, data.test.x)
        seconds = interleave(contestants, 2 * repeats)
        ours, floor = seconds.pop("ours"), min(seconds.values())
        section = f"Evaluation of {len(data.test)} rows"
        figures.add(section, "our evaluation", work.model, 1e3 * ours, "ms")
        figures.add(section, "forward products alone", work.model, 1e3 * floor, "ms")
        figures.add(section, "ratio", work.model, ours / floor)


class Stopwatch:
    """A trainer that notes how long it takes."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.seconds = inner, 0.0

    def train(self, jobs: Sequence[Job], clients: Sequence[int]) -> list[Update]:
        started = perf_counter()
        updates: list[Update] = self.inner.train(jobs, clients)
        self.seconds += perf_counter() - started
        return updates


def rounds_in_process(spec: RunSpec, data: RunData) -> tuple[float, float, float]:
    """Seconds of a federation: in the trainer, in the evaluation, and in all else (Flower's loop and messages)."""
    sides = set_up(spec, data, deal_rows(spec, data))
    grid, clients = inprocess.connect(sides.clients, spec.clients)
    watch = Stopwatch(clients.trainer)
    clients.trainer = watch  # type: ignore[assignment]
    started = perf_counter()
    outcome = sides.server(grid)
    total = perf_counter() - started
    evaluation = outcome.seconds["evaluate_s"]
    return watch.seconds, evaluation, total - watch.seconds - evaluation


def products_of_a_run(work: Work, data: RunData) -> Callable[[], None]:
    """The products alone of a run's training and evaluation, each by the library that is faster at them here."""
    assert data.test is not None
    training = {"NumPy": kernels.numpy_products(work), "torch": kernels.torch_products(work)}
    scoring = kernels.forward_products(work, data.test.x)
    train, score = training[fastest(training)], scoring[fastest(scoring)]

    def multiply() -> None:
        for _ in range(ROUNDS):
            train()
            score()

    return multiply


def fastest(contestants: Mapping[str, Callable[[], object]]) -> str:
    """Name of the contestant with the least median."""
    seconds = interleave(contestants, 5)
    return min(seconds, key=seconds.__getitem__)


def measure_runs(works: Sequence[Work], data: RunData, figures: Figures, repeats: int) -> None:
    """A whole run in this process, in turn with its products alone; what Flower's strategy and messages add to it."""
    section = f"A run of {ROUNDS} rounds in process"
    for work in works:
        progress(f"a run of {ROUNDS} rounds: {work.name}")
        spec = resolved(work.spec(rounds=ROUNDS), data)
        parts: list[tuple[float, float, float]] = []
        contestants: dict[str, Callable[[], object]] = {
            "run": lambda spec=spec: run(spec, data),  # type: ignore[misc]
            "parts": lambda spec=spec, parts=parts: parts.append(rounds_in_process(spec, data)),  # type: ignore[misc]
            "products": products_of_a_run(work, data),
        }
        seconds = interleave(contestants, max(2, repeats // 3))
        train, evaluation, rest = (median(column) for column in zip(*parts, strict=True))
        for name, value in (("training", train), ("evaluation", evaluation), ("Flower and messages", rest)):
            figures.add(section, name, work.name, 1e3 * value, "ms")
        figures.add(section, "Flower and messages, of training", work.name, 100 * rest / train, "%")
        figures.add(section, "all of the run", work.name, 1e3 * seconds["run"], "ms")
        figures.add(section, "products alone", work.name, 1e3 * seconds["products"], "ms")
        figures.add(section, "all of the run, over the products", work.name, seconds["run"] / seconds["products"])
