"""This tree beside that of a commit: the same runs and commands by both, in turn, and which figures are worse.

A pair is two fresh processes, one of each tree, on one core; while one measures the other waits. Each task is done some
times in turn by both, old first and new first by turns, and a pair's ratio is the new median over the old one. Fresh
processes count, not turns within them: where memory happens to lie moves all figures of a process alike.

A figure is worse when the lower end of the 95 % interval of its median ratio, by Holm over all m figures, is above
1.03. With seven pairs no test of signs or ranks can say so of one figure in more than six: its p is at least 1/128.
So the interval is Student's, of the logarithms of the ratios, whose mean is that of their median where they lie evenly
about it. Holm (1979) takes the figure that is furthest above 1.03 at 1 - 0.05 / m, the next at 1 - 0.05 / (m - 1),
and so on, and from the first that is not above 1.03 none is. Beside it stands the exact interval of the median, one
figure at a time, and the ratio from which on a figure would have been called worse, the first of m: what noise may
hide.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from experiments import ANY_PATH, PATH_VARIABLES
from experiments.bench.clock import median_interval, pinned, progress
from experiments.bench.figures import Figures
from experiments.bench.sweeping import ROOT
from experiments.bench.targets import Target
from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.sweep.plan import data_key, load_data
from strategies.protection.base import Protected
from strategies.protection.vault import make_vault

PAIRS, QUICK_PAIRS = 7, 2
BAR, LEVEL = 1.03, 0.95
SHORT, LONG = 5, 2  # turns of a pair
TRAIN, EVALUATE, REST, WALL = "train_s", "evaluate_s", "rest_s", "wall_s"
PROTECTED = (TRAIN, "encrypt_s", "aggregate_s", WALL)
WORDS = {REST: "all but training and evaluation", WALL: "wall", EVALUATE: "evaluation", TRAIN: "training"}


@dataclass(frozen=True)
class Task:
    """What both sides do, and which of its seconds are figures.

    Attributes:
        options: of a run; empty where it is a command.
        turns: of a pair.
    """

    name: str
    figures: tuple[str, ...]
    turns: int
    options: Mapping[str, Any]
    command: tuple[str, ...] = ()

    def asked(self, vaults: Mapping[str, Path]) -> dict[str, Any]:
        """As a side reads it."""
        vault = vaults.get(self.name)
        return {"command": self.command} if self.command else {"options": self.options, "vault": vault and str(vault)}

    def label(self, figure: str) -> str:
        """As a row is headed."""
        return f"{self.name}: {WORDS.get(figure, figure.removesuffix('_s'))}"


def _run(name: str, figures: tuple[str, ...], turns: int = SHORT, **options: Any) -> Task:
    return Task(name, figures, turns, options)


QUICK = (
    _run("fedavg, 4 offices", (TRAIN, EVALUATE, REST), strategy="fedavg"),
    _run("fedavg, 30 offices", (TRAIN, REST), strategy="fedavg", clients=30),
    _run("fedprox, 4 offices", (TRAIN,), strategy="fedprox(mu=0.01)"),
    _run("fedprox, 30 offices", (TRAIN,), strategy="fedprox(mu=0.01)", clients=30),
    _run("fedavgm, 4 offices", (TRAIN, REST), strategy="fedavgm(beta=0.9)"),
    _run("fedavgm, 30 offices", (TRAIN, REST), strategy="fedavgm(beta=0.9)", clients=30),
    _run("dp_sgd", (TRAIN, WALL), strategy="dp_sgd(noise_multiplier=1)", batch_size=64, rounds=10),
    _run("masked_sum", PROTECTED, strategy="masked_sum"),
    _run("secagg", PROTECTED, strategy="secagg"),
)
SWEEP = ("sweep", "smoke")
TASKS = (
    *QUICK,
    _run("paillier", PROTECTED, LONG, strategy="paillier", rounds=3),
    Task("a command, warm", (WALL,), SHORT, {}, ("run", "--dataset", "watch", "--rounds", "1", "--no-store")),
    Task("a sweep of 16 runs", (WALL,), LONG, {}, (*SWEEP, "--workers", "1", "--no-report", "--results", "{folder}")),
)  # fmt: skip


def measure_beside(commit: str, pairs: int, quick: bool, figures: Figures) -> tuple[str, list[Target]]:
    """Measure, and judge; the title of the data, and a target for each figure.

    Raises:
        UserError: git knows no such commit, or fewer than two pairs.
    """
    if pairs < 2:
        raise UserError(f"--beside takes an interval over pairs: --repeats must be at least 2; found {pairs}")
    loaded = load_data([RunSpec.from_options({})], None, may_fall_back=True)
    if loaded.message:
        figures.notes.append(loaded.message)
    tasks = QUICK if quick else TASKS
    with checked_out(commit) as old, tempfile.TemporaryDirectory(prefix="keys-") as folder:
        seconds = compare(old, ROOT, tasks, pairs, make_vaults(tasks, Path(folder)))
    held = judge(f"New over {commit}", seconds, figures)
    figures.notes.append(
        "runs are held to the CPU path that users' runs are, and to one core; *from* and *to* hold the median ratio of "
        f"one figure with {median_interval([1.0] * pairs)[2]:.1%}; *seen from*: what its noise lets be called worse"
    )
    return loaded.data[data_key(loaded.specs[0])].about.title, held


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A temporary working tree of a commit.

    Raises:
        UserError: git knows no such commit here.
    """
    with tempfile.TemporaryDirectory(prefix="beside-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        try:
            done = subprocess.run([*git, "add", "--detach", str(tree), commit], capture_output=True, text=True)
        except FileNotFoundError:
            raise UserError(f"--beside {commit}: git is needed, and is not installed") from None
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(f"--beside {commit}: expected a commit of this repository; git says: {reason}")
        try:
            yield tree.resolve()
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], capture_output=True, check=False)


def make_vaults(tasks: Sequence[Task], folder: Path) -> dict[str, Path]:
    """Files of keys by task: made once, so that both sides compute with the same."""
    found = {}
    for task in tasks:
        spec = RunSpec.from_options(task.options)
        if isinstance(spec.strategy, Protected):
            progress(f"keys: {task.name}")
            found[task.name] = folder / f"{task.name}.json"
            make_vault(spec.strategy.make_keys(spec.clients, os.cpu_count() or 1)).save(found[task.name])
    return found


class Side:
    """A process that measures with the code of a tree."""

    def __init__(self, tree: Path) -> None:
        # Runs as users make them: the bench itself is held to no CPU path.
        left_out = {ANY_PATH, *PATH_VARIABLES}
        environment = {name: value for name, value in os.environ.items() if name not in left_out}
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the side
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("side.py"))],
            cwd=tree,
            env=environment | {"PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def ask(self, task: Mapping[str, Any]) -> dict[str, float]:
        """Seconds by name.

        Raises:
            RuntimeError: the side failed; the end of what it printed.
        """
        assert self.process.stdin
        assert self.process.stdout
        try:
            print(json.dumps(task), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.process.wait()
            self.log.seek(0)
            said = "\n".join(self.log.read().splitlines()[-20:])
            raise RuntimeError(f"{self.process.args!r} failed at {task}:\n{said}")
        found: dict[str, float] = json.loads(answer)
        return found

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        self.log.close()


Seconds = dict[str, list[tuple[float, float]]]  # a pair's old and new median, by figure


def compare(old: Path, new: Path, tasks: Sequence[Task], pairs: int, vaults: Mapping[str, Path]) -> Seconds:
    """Measure all tasks by both trees, in fresh processes for each pair."""
    seconds: Seconds = {task.label(figure): [] for task in tasks for figure in task.figures}
    with pinned():
        for pair in range(pairs):
            with Side(old) as one, Side(new) as other:
                for task in tasks:
                    progress(f"pair {pair + 1} of {pairs}: {task.name}")
                    measured = _in_turn((one, other), task.asked(vaults), task.turns, pair)
                    for figure in task.figures:
                        before, after = (median(turn[figure] for turn in turns) for turns in measured)
                        seconds[task.label(figure)].append((before, after))
    return seconds


def _in_turn(sides: tuple[Side, Side], asked: Mapping[str, Any], turns: int, pair: int) -> tuple[list[Any], list[Any]]:
    """What both sides measured in their turns, after one each that warms up (and compiles, where nobody has yet)."""
    measured: tuple[list[Any], list[Any]] = [], []
    for side in sides if pair == 0 or "options" in asked else ():
        side.ask(asked)
    for turn in range(turns):
        for which in (0, 1) if (turn + pair) % 2 == 0 else (1, 0):
            measured[which].append(sides[which].ask(asked))
    return measured


def judge(section: str, seconds: Seconds, figures: Figures) -> list[Target]:
    """Add every figure with its ratio; targets that hold the lower ends of Holm's intervals against the bar."""
    ratios = {name: [after / before for before, after in pairs] for name, pairs in seconds.items()}
    lower, seen_from = holm_ends(np.log(list(ratios.values())))
    for (name, values), seen in zip(ratios.items(), seen_from, strict=True):
        low, high, _ = median_interval(values)
        for column, which in (("old", 0), ("new", 1)):
            figures.add(section, name, column, 1e3 * median(pair[which] for pair in seconds[name]), "ms")
        for column, value in (("new over old", median(values)), ("from", low), ("to", high), ("seen from", seen)):
            figures.add(section, name, column, float(value))
    return [
        Target(f"{name}, new over old, lower end", float(end), BAR) for name, end in zip(ratios, lower, strict=True)
    ]


def holm_ends(logs: Any) -> tuple[Any, Any]:
    """Lower ends of the figures' intervals by Holm, and the ratios from which on each would be seen, both (m,).

    Args:
        logs: (m, pairs) logarithms of ratios; at least two pairs.
    """
    from scipy import stats

    m, pairs = logs.shape
    mean, error = logs.mean(axis=1), logs.std(axis=1, ddof=1) / np.sqrt(pairs)
    factors = stats.t.ppf(1 - (1 - LEVEL) / 2 / np.arange(m, 0, -1), pairs - 1)  # of the first of m, the next, ...
    above = np.log(BAR)
    order = np.argsort(-(mean - above) / np.maximum(error, 1e-12), kind="stable")
    ends = np.empty(m)
    ends[order] = mean[order] - factors * error[order]
    held = np.logical_and.accumulate(ends[order] > above)  # from the first that is not worse on, none is
    ends[order] = np.where(held, ends[order], np.minimum(ends[order], above))
    return np.exp(ends), BAR * np.exp(factors[0] * error)
