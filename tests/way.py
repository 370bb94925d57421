"""Which files of ours one round of FedAvg goes through, and which a whole plain run: `python -m tests.way`.

A reader who wants to follow a round has to open these files; one who adds an option of a run, those that are handed its
RunSpec. Python's profiler notes every function of the project that
is entered. numba tells it of compiled functions, too, but where they are called from Python alone.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.config.spec import RunSpec
from experiments.federation import rounds as loop
from experiments.federation.run import run_models
from tests.experiments.problems import problem

ROOT = Path(__file__).parents[1]
ROOMS = ("experiments", "strategies", "partitions", "results")
Entered = dict[str, set[str]]  # names of functions, by the file that they are in


@contextmanager
def profiled(entered: Entered, handed: type = object) -> Iterator[None]:
    """Note the functions of our rooms that are entered meanwhile, and handed an object of a class."""
    folders = {f"{ROOT / room}/": len(f"{ROOT}/") for room in ROOMS}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if event != "call" or not (
            handed is object or any(isinstance(frame.f_locals.get(name), handed) for name in arguments)
        ):
            return
        for folder, start in folders.items():
            if code.co_filename.startswith(folder):
                entered[code.co_filename[start:]].add(code.co_qualname)

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def of_a_round() -> Entered:
    """What the last of three rounds enters, its evaluation included: the first two have warmed everything up."""
    entered: Entered = defaultdict(set)
    spec, data = problem(rounds=3)
    whole: Callable[..., None] = loop.rounds

    def rounds(strategy: Any, grid: Any, arrays: Any, numbers: range, score: Any, seconds: dict[str, float]) -> None:
        reached: list[Any] = []

        def scored(number: int, model: Any, *figures: Any) -> None:
            reached[:] = [model]
            score(number, model, *figures)

        whole(strategy, grid, arrays, numbers[:-1], scored, seconds)
        with profiled(entered):
            whole(strategy, grid, reached[0], numbers[-1:], score, seconds)

    loop.rounds = rounds
    try:
        run_models(spec, data)
    finally:
        loop.rounds = whole
    return entered


def of_a_run() -> Entered:
    """What a run enters from the spec and the data to the record, after another has filled the caches."""
    entered: Entered = defaultdict(set)
    spec, data = problem(rounds=3)
    run_models(spec, data)
    with profiled(entered):
        run_models(spec, data)
    return entered


def of_a_spec() -> Entered:
    """Where in a run its RunSpec goes: the functions that are handed it as an argument."""
    entered: Entered = defaultdict(set)
    spec, data = problem(rounds=3)
    run_models(spec, data)
    with profiled(entered, handed=RunSpec):
        run_models(spec, data)
    return entered


def told(title: str, entered: Entered) -> str:
    """A line for all, and one for each file."""
    functions = sum(map(len, entered.values()))
    lines = [f"{title}: {len(entered)} files, {functions} functions"]
    return "\n".join(lines + [f"  {len(names):3} {file}" for file, names in sorted(entered.items())])


if __name__ == "__main__":
    print(told("A round of FedAvg", of_a_round()))
    print(told("A plain run", of_a_run()))
    print(told("A RunSpec's way through it", of_a_spec()))
