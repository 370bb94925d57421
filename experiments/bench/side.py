"""One side of `bench --beside`: a process that measures what it is asked for, with the code of the tree it is given.

It runs as a file and finds its tree through PYTHONPATH, so it uses only what all trees have, wherever they have it:
`load_data`, `run` and its record's cost, `Keys`, and the command line. Tasks come as lines of JSON, and so do the
answers, seconds by name.

    {"options": {...}, "vault": "FILE"}     a run in this process; `vault` is null where nothing is protected
    {"command": ["run", ...]}               a whole process; `{folder}` in it stands for an empty folder
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import experiments


def module(folder: str, name: str) -> Any:
    """A module of the tree; an older tree has it directly in `experiments`."""
    inside = Path(str(experiments.__file__)).with_name(folder).is_dir()
    return import_module(f"experiments.{folder}.{name}" if inside else f"experiments.{name}")


@cache
def known(options: str) -> tuple[Any, Any]:
    """The RunSpec of options in JSON, and its data."""
    given, plan = json.loads(options), module("sweep", "plan")
    spec = module("config", "spec").RunSpec.from_options(given)
    loaded = plan.load_data([spec], None, may_fall_back="dataset" not in given)
    return loaded.specs[0], loaded.data[plan.data_key(loaded.specs[0])]


def seconds_of_run(options: dict[str, Any], vault: str | None) -> dict[str, float]:
    """The seconds in a run's record, and `rest_s`: neither training nor evaluation.

    Raises:
        RuntimeError: the run diverged.
    """
    spec, data = known(json.dumps(options))
    keys = module("federation", "keys").Keys(Path(vault), None, 1) if vault else None
    record = module("federation", "run").run(spec, data, keys=keys)
    if record.status != "ok":
        raise RuntimeError(f"a run of the bench is {record.status}: {record.error}")
    cost = record.cost
    names = ("train_s", "evaluate_s", "aggregate_s", "encrypt_s", "wall_s", "cpu_s")
    return {name: getattr(cost, name) for name in names} | {"rest_s": cost.wall_s - cost.train_s - cost.evaluate_s}


def seconds_of_command(arguments: list[str]) -> dict[str, float]:
    """`wall_s` of a command, from the start of its process to the end.

    Raises:
        CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = [sys.executable, "-m", "experiments", *(word.replace("{folder}", folder) for word in arguments)]
        started = perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        return {"wall_s": perf_counter() - started}


def main() -> None:
    """Answer until nobody asks."""
    tree = Path(os.environ["PYTHONPATH"])
    if not Path(experiments.__file__).is_relative_to(tree):
        raise RuntimeError(f"the code is that of {experiments.__file__}; expected that of {tree}")
    # Whatever a library prints must not stand between the answers.
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            task = json.loads(line)
            command = task.get("command")
            found = seconds_of_command(command) if command else seconds_of_run(task["options"], task["vault"])
            print(json.dumps(found), file=answers)


if __name__ == "__main__":
    main()
