"""Tuned hyper-parameters in a sweep: which cell a run is of, which winner it takes, or why there is none.

What searches is `experiments.tuning.search`; nothing here needs Optuna, which a sweep and a report do without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config.errors import UserError
from experiments.config.notation import canonical, nearest
from experiments.config.spec import RunSpec
from results.rules import rule
from results.tuned import tuned
from strategies import Strategy

DEFAULT, TUNED = "default", "tuned"
# Another strategy's values would be another strategy, and a strategy with another loss is another rule.
LENT = (*(name for name in tuned.KEY if name != "strategy"), "corrupt")
# The same for every strategy. A wider choice costs every strategy the same trials.
SHARED: dict[str, Any] = {
    "client_lr": (5e-3, 0.5),
    "lr_schedule": ["constant", "linear", "cosine"],
    "batch_size": [32, 64, 128],
    "local_epochs": [1, 2, 5],
    "momentum": [0.0, 0.5, 0.9],
    "weight_decay": [0.0, 1e-4, 1e-3],
}


@dataclass(frozen=True)
class Arms:
    """A grid's runs with and without tuning.

    Attributes:
        specs: every run, once.
        origins: run_id -> where its hyper-parameters come from.
        pairs: (run_id of the default, run_id of the tuned) for every run that has both.
    """

    specs: list[RunSpec]
    origins: dict[str, str]
    pairs: list[tuple[str, str]]


def arms(specs: Sequence[RunSpec], which: str, folder: Path, borrowed: Mapping[str, Any], command: str) -> Arms:
    """The runs of a grid as `which` says: `no` as they are, `yes` tuned, `both`.

    Args:
        specs: resolved.
        folder: of the winners.
        borrowed: options of the tuned cell that a cell without a winner of its own takes (`tuned_from` of a grid).
        command: what to type where a winner is missing.

    Raises:
        UserError: a cell has no winner; all such cells are named.
    """
    plain = list(specs) if which != "yes" else []
    chosen, missing = [], {}
    read: dict[str, tuned.Winner | None] = {}

    def find(key: Mapping[str, Any]) -> tuned.Winner | None:
        """Every file is read once: the runs of a cell differ in their seeds."""
        name = tuned.file_name(key)
        if name not in read:
            read[name] = tuned.find(folder, key)
        return read[name]

    fairly = _Fairly()
    for spec in specs if which != "no" else ():
        found = _winner(spec, find, borrowed)
        if found is None:
            key = key_of(spec)
            missing[tuned.file_name(key)] = f"  {named(key)}"
        else:
            winner, origin = found
            chosen.append((spec, _tuned(spec, winner, folder), origin))
            fairly.add(spec, chosen[-1][1].run_id, winner)
    if missing:
        raise UserError(
            f"no tuned hyper-parameters in {folder} for\n" + "\n".join(missing.values()) + "\n`make tune` makes them, "
            f"here: {command}\nor name the cell to borrow from in the grid, as tuned_from: {{partition: iid}}"
        )
    defaults = {spec.run_id for spec in plain}
    origins = dict.fromkeys(defaults, DEFAULT) if which != "no" else {}
    for _, spec, origin in chosen:
        origins[spec.run_id] = f"{DEFAULT}, {origin}" if spec.run_id in defaults else origin
    pairs = [(default.run_id, spec.run_id) for default, spec, _ in chosen] if which == "both" else []
    everything = {spec.run_id: spec for spec in [*plain, *(spec for _, spec, _ in chosen)]}
    return Arms(list(everything.values()), origins, pairs)


def own_of(strategy: Strategy) -> tuple[str, ...]:
    """Names that a strategy's search space adds; a shared name in it narrows that parameter and is not its own."""
    return tuple(name for name in strategy.search_space() if name not in SHARED)


def untuned(strategy: Strategy) -> str:
    """A strategy's notation without the fields that are tuned: what a winner is filed under."""
    fields = {field.name: field.default for field in dataclasses.fields(strategy)}  # type: ignore[arg-type]
    plain: Any = dataclasses.replace(strategy, **{name: fields[name] for name in own_of(strategy)})  # type: ignore[type-var]
    return canonical(plain)


def key_of(spec: RunSpec) -> dict[str, Any]:
    """Which cell a run belongs to: what a winner is filed under."""
    options = spec.options()
    return tuned.key_of(options) | {"strategy": untuned(spec.strategy)}


def named(key: Mapping[str, Any]) -> str:
    """A cell in a few words: its rule, data set, partition and, where there is one, corruption."""
    words = [str(key["dataset"]), str(key["partition"]), *([key["corrupt"]] if key.get("corrupt") else [])]
    return f"{rule(key['strategy'], key.get('loss'))} on {', '.join(words)}"


def _tuned(spec: RunSpec, winner: tuned.Winner, folder: Path) -> RunSpec:
    """The run with the winner's values.

    Raises:
        UserError: they fit no run, or not this one (a file edited by hand, a grid of local steps).
    """
    try:
        return RunSpec.from_options({**spec.options(), **winner.options})
    except ValueError as error:
        raise UserError(f"{folder / winner.name}.yaml: {error}") from None


class _Fairly:
    """Watches that a sweep's winners replace no axis of it, and had the same budget."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.budgets: dict[str, tuple[str, str]] = {}

    def add(self, spec: RunSpec, run_id: str, winner: tuned.Winner) -> None:
        """A run takes a winner, and has this run_id then.

        Raises:
            UserError: so has another, which had another value of what is tuned; or winners are of unlike effort.
        """
        given = spec.options()
        first = self.made.setdefault(run_id, given)
        for option in winner.options.keys() - {"strategy"}:  # strategies of one family share a winner
            if first.get(option) != given.get(option):  # a name that no run has is told elsewhere
                raise UserError(
                    f"{option} is tuned, and the grid gives {first[option]} and {given[option]}, which would be one "
                    f"run: leave --tuned out, or choose by --only {option}=..."
                )
        effort = f"{len(winner.trials)} trials of {winner.study.get('rounds')} rounds"
        where, other = self.budgets.setdefault(str(given["dataset"]), (winner.name, effort))
        if other != effort:
            raise UserError(
                f"{where} was tuned by {other} and {winner.name} by {effort}: no fair comparison. Tune them alike, "
                "or keep them in folders of their own (--results)"
            )


Find = Callable[[Mapping[str, Any]], tuned.Winner | None]


def _winner(spec: RunSpec, find: Find, borrowed: Mapping[str, Any]) -> tuple[tuned.Winner, str] | None:
    """A run's winner and what its row says of it."""
    key = key_of(spec)
    own = find(key)
    if own is not None:
        return own, TUNED + _other_data(own, spec)
    if not borrowed:
        return None
    for name in borrowed:
        if name not in LENT:
            raise UserError(f"tuned_from: {name!r} names no cell of the same strategy{nearest(name, LENT)}")
    lender = key_of(RunSpec.from_options({**spec.options(), **borrowed}))
    found = find(lender)
    if found is None:
        return None
    # Only a corruption can be missing from the key: where there is none.
    where = ", ".join(str(lender.get(name, "clean rows")) for name in borrowed)
    return found, f"{TUNED} on {where}" + ("" if "dataset" in borrowed else _other_data(found, spec))


def _other_data(winner: tuned.Winner, spec: RunSpec) -> str:
    """A winner of other content of the same data set (a rebuilt zip, say) is used, and said to be."""
    return "" if winner.study.get("data_hash") == spec.data_hash else " on other data of this name"
