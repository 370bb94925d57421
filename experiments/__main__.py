"""The command line: `python -m experiments COMMAND`. Thin: it reads options, calls one room and prints.

Exit status: 0 all well, 1 some runs failed, 2 usage, 3 some diverged and none failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import ANY_PATH, PATH_VARIABLES
from experiments.config.errors import UserError
from experiments.config.spec import RunSpec
from experiments.data import DataError
from partitions import PartitionError
from results import ResultsError
from strategies import StrategyError

USER_ERRORS = (UserError, DataError, PartitionError, StrategyError, ResultsError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "bench" and arguments is None:
            widen()
        # Only now, and only this one: what the others stand on takes seconds to load.
        command = importlib.import_module(f"experiments.commands.{options.command}")
        status = int(command.main(options))
        sys.stdout.flush()  # here, where a reader that has gone is no error
        return status
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; finished runs are kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not _unread():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def widen() -> None:
    """Start this command again with libraries that may use all that the machine has: they choose as they load.

    Runs are held to one path for the sake of their bits. The bench is not, neither what is ours in it nor what that is
    compared with; its report names the path.
    """
    if os.environ.get(ANY_PATH) != "1":
        free = {name: value for name, value in os.environ.items() if name not in PATH_VARIABLES} | {ANY_PATH: "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], free)


def _unread() -> bool:
    """Whether nobody reads what is printed any more: `list | head` has seen enough."""
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)  # an error is told unasked
    return bool(reader.poll(0))


class Parser(argparse.ArgumentParser):
    """That of a command: it knows what a misspelt option may have meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        for word in unknown:
            name = word.partition("=")[0]
            option = name.startswith("-") and name != "--"
            known = [text for action in self._actions for text in action.option_strings]
            close = difflib.get_close_matches(name, known, 1, cutoff=0.75)
            hint = f"did you mean {close[0]}?" if close else "--help lists what there is"
            if option and not close and "--strategy" in known and name not in ("--only", "--set"):
                hint += "; options of a strategy are written with it: --strategy 'dp_sgd(epsilon=8)'"
            self.error(f"unknown {'option' if option else 'argument'} {name}; {hint}")
        return found, unknown


def parser() -> argparse.ArgumentParser:
    """Every command and option. Options of a run come from `RunSpec`'s fields."""
    top = argparse.ArgumentParser(
        prog="python -m experiments", description="A benchmark of federated aggregation strategies."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    run = commands.add_parser(
        "run", help="one run", description="One run: train a federation and record what came out."
    )
    for field in dataclasses.fields(RunSpec):
        if field.name != "data_hash":
            default = field.metadata["default"]
            switch: dict[str, Any] = (
                {"nargs": "?", "const": "true"} if isinstance(default, bool) else {}
            )  # alone, it means true
            help_ = f"{field.metadata['help']} (default: {default})"
            run.add_argument(f"--{field.name.replace('_', '-')}", metavar="X", help=help_, **switch)
    _places(run)
    _how(run)
    run.add_argument(
        "--crypto-processes", type=_processes, metavar="N", help="that encrypt and open sums (default: all cores)"
    )
    run.add_argument("--json", action="store_true", help="print the whole record as one JSON object")
    run.add_argument("--no-store", action="store_true", help="do not look into the store, and keep nothing")
    run.add_argument("--save-model", type=Path, metavar="FILE", help="write the final model as safetensors")
    run.set_defaults(command="run")

    sweep = commands.add_parser(
        "sweep", help="all runs of a grid", description="Make the runs of a grid that are missing."
    )
    sweep.add_argument(
        "grid", nargs="?", default="pilot", help="name in experiments/grids/, or path of a YAML file (default: pilot)"
    )
    sweep.add_argument("--workers", type=int, metavar="N", help="runs at a time (default: all cores)")
    sweep.add_argument("--address", help="Ray cluster to join, e.g. auto or 10.0.0.1:6379")
    sweep.add_argument("--dry-run", action="store_true", help="print the plan and what it will cost, run nothing")
    sweep.add_argument("--tuned", action="store_true", help="with the tuned hyper-parameters of RESULTS/tuned")
    sweep.add_argument("--rerun-stale", action="store_true", help="make runs again that other code made")
    sweep.add_argument("--strict", action="store_true", help="exit 2 if runs of other code would be used")
    sweep.add_argument("--no-report", action="store_true", help="no tables and figures at the end")
    sweep.add_argument("--out", type=Path, help="folder of the report (default: RESULTS/report/GRID[+CHANGES])")
    _narrowed(sweep)
    _places(sweep)
    _how(sweep)
    sweep.set_defaults(command="sweep")

    report = commands.add_parser("report", help="tables and figures", description="Tables and figures of stored runs.")
    report.add_argument("grid", nargs="?", help="only the runs of this grid (default: every stored run)")
    report.add_argument("--out", type=Path, help="folder to write into (default: RESULTS/report[/GRID[+CHANGES]])")
    report.add_argument("--tuned", action="store_true", help="the grid's runs with tuned hyper-parameters")
    _narrowed(report)
    _places(report)
    _how(report)
    report.set_defaults(command="report")

    tune = commands.add_parser(
        "tune",
        help="tune the strategies of a grid",
        description="Tune every strategy of a grid on every partition, on validation persons alone; winners as YAML.",
    )
    tune.add_argument(
        "grid", nargs="?", default="pilot-tuned", help="whose cells to tune, by name or path (default: pilot-tuned)"
    )
    tune.add_argument("--trials", type=int, default=60, metavar="N", help="of every study, tens of them (default: 60)")
    tune.add_argument("--rounds", type=int, default=15, metavar="N", help="rounds of a run (default: 15)")
    tune.add_argument("--seed", type=int, default=0, metavar="N", help="of the studies (default: 0)")
    tune.add_argument("--no-halving", action="store_true", help="train every trial to the end, to judge halving by")
    tune.add_argument(
        "--fixed-epochs",
        action="store_true",
        help="local epochs as in the grid; winners apart, for a second table",
    )
    tune.add_argument("--workers", type=int, metavar="N", help="runs at a time (default: all cores)")
    tune.add_argument("--storage", metavar="URL", help="Optuna's storage (default: a journal in RESULTS/tuned)")
    _narrowed(tune)
    _places(tune)
    tune.set_defaults(command="tune")

    results = commands.add_parser(
        "results", help="look into the store", description="List, show, remove or merge stored runs."
    )
    actions = results.add_subparsers(required=True, metavar="ACTION")
    for name, argument, help_ in (
        ("ls", None, "a line a run"),
        ("show", "run_id", "one record as JSON"),
        ("rm", "run_id", "remove a run"),
        ("merge", "other", "copy the runs of another results folder"),
    ):
        action = actions.add_parser(name, help=help_, description=help_)
        if argument:
            action.add_argument(argument, nargs="+" if name == "rm" else None)
        _places(action, data=False)
        action.set_defaults(command="results", action=name)

    bench = commands.add_parser(
        "bench",
        help="what it costs, against what it could",
        description="Time the trainer, a run and a sweep against the matrix products alone and other frameworks.",
    )
    bench.add_argument("--quick", action="store_true", help="under two minutes: no sweep, no other framework")
    bench.add_argument("--protection", action="store_true", help="what protection costs, and nothing else")
    bench.add_argument("--privacy", action="store_true", help="what differential privacy costs, and nothing else")
    bench.add_argument("--rules", action="store_true", help="what other rules than FedAvg train for, and nothing else")
    bench.add_argument(
        "--beside",
        metavar="COMMIT",
        help="this tree beside that of a commit in turn, and nothing else (may be --quick)",
    )
    bench.add_argument("--peers", action="store_true", help="also fluke and pfl, in environments of their own")
    bench.add_argument(
        "--repeats", type=int, metavar="N", help="turns a median is taken over (default: 11; pairs of --beside: 7)"
    )
    bench.add_argument(
        "--out", type=Path, default=Path("results/bench"), metavar="DIR", help="tables (default: results/bench)"
    )
    bench.set_defaults(command="bench")

    check = commands.add_parser(
        "check",
        help="do the strategies still score what they did",
        description="Repeat the runs of the grid `baselines` and judge them by the files in RESULTS/baselines.",
    )
    check.add_argument("--quick", action="store_true", help="two seeds of each cell: under two minutes")
    check.add_argument("--means-only", action="store_true", help="judge mean scores as on another machine, not bits")
    check.add_argument("--update", action="store_true", help="rewrite the files and print what changed")
    check.add_argument(
        "--only", action="append", default=[], metavar="KEY=VALUE", help="keep only this value of an axis"
    )
    check.add_argument("--workers", type=int, metavar="N", help="runs at a time (default: all cores)")
    _places(check)
    check.set_defaults(command="check")

    known = commands.add_parser(
        "list", help="what there is", description="Strategies, partitions, losses, data sets, corruptions and grids."
    )
    known.add_argument("name", nargs="?", help="one of them, with all its options")
    known.set_defaults(command="list")
    return top


def _processes(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of processes, 1 or more; found {text!r}")
    return int(text)


def _narrowed(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--only", action="append", default=[], metavar="KEY=VALUE", help="keep only this value of an axis"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override an option of the grid"
    )


def _places(command: argparse.ArgumentParser, data: bool = True) -> None:
    command.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="the store (default: results)"
    )
    if data:
        command.add_argument("--data", type=Path, metavar="PATH", help="file or folder of the data set")


def _how(command: argparse.ArgumentParser) -> None:
    command.add_argument("--engine", default="inprocess", help="inprocess or simulation (default: inprocess)")


if __name__ == "__main__":
    sys.exit(main())
