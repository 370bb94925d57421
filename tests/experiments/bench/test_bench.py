"""The bench: its contestants do the same work as the trainer, its floor the same products; its files say so."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from experiments import ANY_PATH
from experiments.__main__ import main
from experiments.bench import frameworks, kernels, report
from experiments.bench.beside import BAR, holm_ends
from experiments.bench.clock import interleave, median_interval
from experiments.bench.figures import Figures
from experiments.bench.generic import FUSED, LOOP, STACKED, Problem, choice, write_choices
from experiments.bench.main import measure, measure_beside, measure_privacy, measure_protection, measure_rules
from experiments.bench.sweeping import Arrival, Swept, below, peak_mb
from experiments.bench.targets import Target, targets
from experiments.bench.work import Work, made_up
from experiments.federation.provenance import ROOT
from experiments.training.kernels.fused import FusedTrainer
from strategies.fedavg import FedAvg

SIZES = [(4, 16), (3, 7)]  # clients, batch: the last batch of an epoch is short


def work(clients: int = 4, batch: int = 16) -> Work:
    data = made_up(200, 40, 12)
    return Work(data.train.x, data.train.y, (12, 9, 7, 6), clients, batch, lr=0.2)


def flat(layers: kernels.Layers) -> Any:
    """A client's layers as our flat weights."""
    return np.concatenate([np.vstack([np.asarray(m), np.asarray(b)]).ravel() for m, b in layers])


@pytest.mark.parametrize(("clients", "batch"), SIZES)
@pytest.mark.parametrize("kernel", [kernels.plain_loop, kernels.numpy_written_out, kernels.torch_batched])
def test_every_contestant_trains_what_we_train(kernel: Any, clients: int, batch: int) -> None:
    todo = work(clients, batch)
    spec = todo.spec(row_order="file")
    trainer = FusedTrainer(spec, FedAvg(), todo.widths, todo.x, todo.y, todo.workloads(spec))
    ours = trainer.train([todo.job()] * clients, range(clients))
    contestant = kernel(todo)
    contestant()
    for update, layers in zip(ours, contestant(), strict=True):  # the second round starts from the first weights again
        np.testing.assert_allclose(flat(layers), update.w, rtol=1e-4, atol=1e-5)
        assert not np.allclose(update.w, todo.first(), atol=1e-3)


class Counted(np.ndarray):  # type: ignore[type-arg]
    """An array whose matrix products, and those of what comes of it, are counted."""

    made: ClassVar[list[int]] = []

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        bare = [part.view(np.ndarray) if isinstance(part, Counted) else part for part in inputs]
        if ufunc is np.matmul:
            self.made.append(bare[0].shape[0] * bare[0].shape[1] * bare[1].shape[1])
        if out is not None:
            options["out"] = tuple(part.view(np.ndarray) for part in out)
        result = getattr(ufunc, method)(*bare, **options)
        return out[0] if out is not None else result.view(Counted)


class Products(TorchDispatchMode):
    """Counts the multiplications of PyTorch's matrix products, in place or not, also those of autograd."""

    made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm", "baddbmm_"):
            a, b = args[-2:]
            self.made += a.numel() * b.shape[-1]
        return func(*args, **(kwargs or {}))


def by_hand(todo: Work) -> int:
    """Multiplications of an epoch: forward and step of every layer, backward of all but the first."""
    pairs = list(zip(todo.widths, todo.widths[1:], strict=False))
    each = 2 * sum(a * b for a, b in pairs) + sum(a * b for a, b in pairs[1:])
    return todo.clients * todo.rows * each


@pytest.mark.parametrize(("clients", "batch"), SIZES)
def test_the_floor_multiplies_as_much_as_a_kernel(clients: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    todo = work(clients, batch)
    Counted.made.clear()
    kernels.numpy_written_out(replace(todo, x=todo.x.view(Counted)))()
    assert sum(Counted.made) == by_hand(todo)

    sizes: list[int] = []
    matmul = np.matmul
    monkeypatch.setattr(
        np, "matmul", lambda a, b, out: sizes.append(a.shape[0] * a.shape[1] * b.shape[1]) or matmul(a, b, out=out)
    )
    kernels.numpy_products(todo)()
    assert sum(sizes) == by_hand(todo)

    for contestant in (kernels.plain_loop(todo), kernels.torch_batched(todo), kernels.torch_products(todo)):
        with Products() as products:
            contestant()
        assert products.made == by_hand(todo)


@pytest.mark.parametrize("model", ["mlp", "cnn1d"])
def test_stacked_parameters_train_what_the_loop_trains(model: str) -> None:
    problem = Problem(model, clients=2, batches=2, batch=4)
    loop, stacked = problem.loop()(), problem.stacked()()
    total = [sum(float(part[client].sum()) for part in stacked) for client in range(2)]
    lengths = [sum(float(part[client].square().sum()) for part in stacked) for client in range(2)]
    assert total == pytest.approx([float(update.w.sum()) for update in loop], rel=1e-4, abs=1e-4)
    assert lengths == pytest.approx([float((update.w**2).sum()) for update in loop], rel=1e-4)
    fused = problem.fused()
    assert (fused is None) == (model == "cnn1d")


def test_the_choice_of_trainer_needs_a_gain(tmp_path: Path) -> None:
    figures = Figures()
    for clients, stacked in ((4, 1.0), (30, 0.9)):
        column = f"cnn1d, {clients} clients"
        figures.add("Models by trainer, a client's step", LOOP, column, 1.25)
        figures.add("Models by trainer, a client's step", STACKED, column, stacked)
        for trainer in (LOOP, STACKED, FUSED):
            figures.add("Models by trainer, a client's step", trainer, f"mlp, {clients} clients", 1.0)
    assert choice(figures, "cnn1d") == LOOP
    assert choice(figures, "mlp") == FUSED
    write_choices(tmp_path / "trainers.csv", figures)
    with (tmp_path / "trainers.csv").open() as file:
        assert {row["model"]: row["trainer"] for row in csv.DictReader(file)} == {"mlp": FUSED, "cnn1d": LOOP}


def test_contestants_take_turns() -> None:
    turns: list[str] = []
    seconds = interleave({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 2)
    assert turns == ["a", "b"] * 3  # a warm-up, and two turns
    assert set(seconds) == {"a", "b"}


def test_a_sweep_is_judged_once_its_workers_are_warm() -> None:
    warm = [Arrival(10 + k, 1.9, 0.95, 20) for k in (2, 2, 4, 4)]
    arrivals = [Arrival(10, 9, 9, 20), Arrival(10, 9, 9, 25), *warm]
    swept = Swept(2, 20.0, None, arrivals)
    assert swept.a_minute == pytest.approx(60)
    assert swept.share_inside == pytest.approx(0.95)
    assert swept.between_runs == pytest.approx(0.1)
    assert swept.a_run(20) == pytest.approx(2.0)
    assert swept.cpu(20) == pytest.approx(0.95)
    assert swept.share_of_a_core == pytest.approx(0.5)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_workers_are_found_below_a_process() -> None:
    child = subprocess.Popen(["bash", "-c", "exec -a ray::_run sleep 30"])
    try:
        while not Path(f"/proc/{child.pid}/cmdline").read_bytes().startswith(b"ray::"):
            pass
        assert child.pid in below(os.getpid())
        assert peak_mb(child.pid) is not None
        assert peak_mb(os.getpid()) is None
    finally:
        child.kill()
        child.wait()


def test_targets_tell_what_is_reached() -> None:
    small, large = Target("a", 1.0, reach=1.05, stretch=0.9), Target("b", 30.0, 28, 40, at_least=True)
    assert (small.holds(small.reach), small.holds(small.stretch)) == (True, False)
    assert (large.holds(large.reach), large.holds(large.stretch)) == (True, False)
    assert Target("c", None, 1.0).holds(1.0) is None
    text = report.target_table([small, Target("c", None, 1.0)])
    assert "not measured" in text
    assert len({len(line) for line in text.splitlines()}) == 1


def test_nothing_measured_is_no_error() -> None:
    few = work()
    found = targets(Figures(), few, replace(few, clients=30), few, None)
    assert all(target.measured is None for target in found)


def test_files_are_written(tmp_path: Path) -> None:
    """The quick bench on a few made-up rows and small models."""
    out = tmp_path / "bench"
    text = measure(out, made_up(2000, 60, 10), 1, True, False, (0, 8, 5, 0), ((0, 12, 0),))
    (page,) = out.glob("*.md")
    assert page.read_text() == text
    assert page.stem.endswith("-quick")
    with page.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"our trainer", "plain PyTorch loop", "products alone"} <= {row["row"] for row in rows}
    assert all(float(row["value"]) > 0 for row in rows)
    for expected in ("made-up rows", "numpy ", "commit", "## Targets", "10-8-5-6, 30 clients", "--quick"):
        assert expected in text
    assert not (out / "trainers.csv").exists()


@pytest.mark.slow
def test_protection_is_measured(tmp_path: Path) -> None:
    """On made-up rows, a small model and short keys, by the real path."""
    text = measure_protection(tmp_path, made_up(2400, 60, 10), 2, (0, 8, 5, 0), (0, 12, 0), bits=2048, sample=2)
    (page,) = tmp_path.glob("*-protection.md")
    assert page.read_text() == text
    with page.with_suffix(".csv").open() as file:
        rows = {(row["row"], row["column"]): float(row["value"]) for row in csv.DictReader(file)}
    assert all(value > 0 for value in rows.values())
    for name in ("fedavg", "masked_sum", "secagg", "paillier(key=subgroup)"):
        assert (name, "wall over the plain loop") in rows
    assert rows["phe over encrypt, full", "safe"] > 1
    assert rows["masked_sum", "update over float32"] < 0.6


@pytest.mark.slow
def test_privacy_is_measured(tmp_path: Path) -> None:
    text = measure_privacy(tmp_path, made_up(2400, 60, 10), 2, (0, 8, 5, 0))
    (page,) = tmp_path.glob("*-privacy.md")
    assert page.read_text() == text
    with page.with_suffix(".csv").open() as file:
        rows = {(row["row"], row["column"]): float(row["value"]) for row in csv.DictReader(file)}
    assert all(value > 0 for value in rows.values())
    assert rows["dp_sgd over Opacus, hooks", "batch 64"] < 1
    assert rows["Opacus, ghost norms", "batch 64"] > rows["the same in the open", "batch 64"]


def test_other_rules_are_timed_over_fedavg(tmp_path: Path) -> None:
    text = measure_rules(tmp_path, 2, dataset="watch", rounds=2)
    (page,) = tmp_path.glob("*-rules.md")
    assert page.read_text() == text
    with page.with_suffix(".csv").open() as file:
        rows = {(row["row"], row["column"]): float(row["value"]) for row in csv.DictReader(file)}
    assert all(value > 0 for value in rows.values())
    for rule in ("scaffold", "fedavg + logit_adjusted(tau=1)"):
        low, middle, high = (rows[rule, column] for column in ("from", "over FedAvg", "to"))
        assert low <= middle <= high
    assert "scaffold" in text.split("## ")[1], "what is held to a bar comes first"


def test_the_interval_of_a_median_is_that_of_coins() -> None:
    for n in (2, 7, 11, 24):
        low, high, coverage = median_interval([float(value) for value in range(n, 0, -1)])
        k = int(low)
        assert (low, high) == (k, n + 1 - k)
        assert coverage == pytest.approx(1 - 2 * stats.binom.cdf(k - 1, n, 0.5))
        assert n < 6 or coverage >= 0.95 > 1 - 2 * stats.binom.cdf(k, n, 0.5)
    assert median_interval([3.0]) == (3.0, 3.0, 0.0)


def test_a_figure_is_worse_where_its_whole_interval_is() -> None:
    rng = np.random.default_rng(0)
    logs = np.log(np.array([[1.0], [1.2], [1.02], [1.1]])) + 0.005 * rng.normal(size=(4, 7))
    logs[3] += 0.2 * rng.normal(size=7)
    ends, seen = holm_ends(logs)
    assert (ends > BAR).tolist() == [False, True, False, False]
    assert seen[0] < 1.05 < seen[3], "noise hides much of the last"
    assert (holm_ends(np.log(np.full((3, 7), 1.01)))[0] <= BAR).all()


def test_holm_leaves_few_false_alarms() -> None:
    """Of 400 benches in which nothing but noise differs, at the bar itself, about one in forty may cry."""
    rng = np.random.default_rng(1)
    cried = sum((holm_ends(np.log(BAR) + 0.02 * rng.normal(size=(20, 7)))[0] > BAR).any() for _ in range(400))
    assert cried <= 22


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_tree_beside_itself_is_not_worse(tmp_path: Path) -> None:
    text = measure_beside(tmp_path, "HEAD", 2, True)
    with next(tmp_path.glob("*-beside-head-quick.csv")).open() as file:
        ratios = [float(row["value"]) for row in csv.DictReader(file) if row["column"] == "new over old"]
    assert len(ratios) > 10
    assert 0.8 < np.median(ratios) < 1.25
    assert "fedavg, 4 offices: training" in text


def test_a_commit_that_git_does_not_know_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--beside", "no-such-commit", "--out", str(tmp_path)]) == 2
    assert "--beside no-such-commit: expected a commit of this repository" in capsys.readouterr().err


def test_wrong_options_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for arguments, expected in (
        (["--repeats", "0"], "--repeats must be at least 1; found 0"),
        (["--quick", "--peers"], "give one of them"),
        (["--protection", "--quick"], "each measure one thing alone"),
        (["--protection", "--privacy"], "each measure one thing alone"),
        (["--rules", "--quick"], "each measure one thing alone"),
        (["--beside", "HEAD", "--repeats", "1"], "must be at least 2; found 1"),
        (["--out", str(tmp_path / "file")], "a folder is expected"),
    ):
        assert main(["bench", *arguments]) == 2
        assert expected in capsys.readouterr().err


def test_the_bench_may_use_all_that_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command starts again, without the one path that runs are held to, whoever put it there."""

    class Restarted(Exception):
        pass

    def execve(path: str, arguments: list[str], environment: dict[str, str]) -> None:
        raise Restarted(arguments, environment)

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(sys, "argv", ["experiments", "bench", "--privacy"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "-m", "experiments", "bench", "--privacy"])
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(Restarted) as restarted:
        main()
    arguments, environment = restarted.value.args
    assert arguments == [sys.executable, "-X", "dev", "-m", "experiments", "bench", "--privacy"]

    code = "import experiments, os; print([name for name in experiments.PATH_VARIABLES if name in os.environ])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    monkeypatch.setenv(ANY_PATH, "1")
    assert main(["bench", "--repeats", "0"]) == 2  # no second restart


def test_a_peer_that_cannot_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDERATED_OFFICES_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    peer = frameworks.Peer("nobody", "federated-offices-no-such-peer==1", "run_nobody.py")
    monkeypatch.setattr(frameworks.venv, "create", lambda folder, **_: None)
    monkeypatch.setattr(frameworks, "run", lambda command: _refuse())
    with pytest.raises(frameworks.BenchError, match=r"nobody could not be installed: ERROR: no such") as told:
        peer.python()
    assert "\n" not in str(told.value)


def _refuse() -> str:
    raise frameworks.BenchError("ERROR: no such distribution")


def test_a_framework_that_fails_is_one_line() -> None:
    with pytest.raises(frameworks.BenchError, match=r"^ValueError: no$"):
        frameworks.run([sys.executable, "-c", "raise ValueError('no')"])


def test_the_clients_of_flowers_simulation_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The importable client on one message, without a simulation."""
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

    from experiments.bench import flower_app
    from experiments.engines import flower

    todo = work()
    frameworks.save_work(tmp_path / "work.npz", todo, rounds=1)
    monkeypatch.setenv(flower_app.WORK, str(tmp_path / "work.npz"))
    flower_app.work.cache_clear()
    flower.identify()
    first = flower_app.network(list(todo.widths)).state_dict()
    content = RecordDict({"arrays": ArrayRecord(first), "config": ConfigRecord({"server-round": 1})})
    context = Context(1, 1, {"partition-id": 1}, RecordDict(), {})
    reply = flower_app.train(Message(content, dst_node_id=1, message_type="train"), context)
    flower_app.work.cache_clear()
    after = reply.content["arrays"].to_torch_state_dict()
    assert reply.content["metrics"]["num-examples"] == todo.rows
    assert not torch.equal(after["0.weight"], first["0.weight"])
