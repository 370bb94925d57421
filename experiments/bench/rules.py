"""What other rules cost in training: their seconds over FedAvg's, runs in turn in one process on one core.

A turn is one run of every rule, on the same rows; a ratio is taken within a turn, so that a slow moment of the machine
is in both of its parts. Training seconds are the record's: from the first message of a round to the last reply.
"""

from __future__ import annotations

from statistics import median

from experiments.bench.clock import median_interval, pinned, progress
from experiments.bench.figures import Figures
from experiments.bench.targets import Target
from experiments.config.spec import RunSpec
from experiments.federation.run import run
from experiments.sweep.plan import data_key, load_data

SECTION = "Rules: training seconds of a run"
BASE, SCAFFOLD, ADJUSTED = "fedavg", "scaffold", "fedavg + logit_adjusted(tau=1)"
RULES = (BASE, SCAFFOLD, "fednova", "feddyn", "fedadam", "qffl", "fedprox", "ditto", ADJUSTED)
BARS = {SCAFFOLD: 1.25, ADJUSTED: 1.1}
RATIO = "over FedAvg"


def measure_rules(figures: Figures, turns: int, **options: object) -> str:
    """Time a run of every rule in every turn; the title of the data.

    Args:
        turns: after one that warms up.
        options: of the runs, beside the partition: every office holds all classes alike.
    """
    specs = [RunSpec.from_options({"partition": "stratified", **options, "strategy": rule}) for rule in RULES]
    loaded = load_data(specs, None, may_fall_back="dataset" not in options)
    if loaded.message:
        figures.notes.append(loaded.message)
        progress(loaded.message)
    data = loaded.data[data_key(loaded.specs[0])]
    seconds: dict[str, list[float]] = {rule: [] for rule in RULES}
    with pinned():
        for turn in range(turns + 1):
            progress(f"rules: turn {turn} of {turns}" if turn else "rules: warming up")
            for rule, spec in zip(RULES, loaded.specs, strict=True):
                spent = run(spec, data).cost.train_s
                if turn:
                    seconds[rule].append(spent)
    for rule, spent_in in seconds.items():
        figures.add(SECTION, rule, "training", 1e3 * median(spent_in), "ms")
        if rule != BASE:
            _add_ratio(figures, rule, [spent / base for spent, base in zip(spent_in, seconds[BASE], strict=True)])
    coverage = median_interval(seconds[BASE])[2]
    figures.notes.append(
        f"a run of {loaded.specs[0].rounds} rounds, {loaded.specs[0].clients} offices, on one core; *from* and *to* "
        f"hold the median ratio with {coverage:.1%}"
    )
    return data.about.title


def _add_ratio(figures: Figures, rule: str, ratios: list[float]) -> None:
    low, high, _ = median_interval(ratios)
    for column, value in ((RATIO, median(ratios)), ("from", low), ("to", high)):
        figures.add(SECTION, rule, column, value)


def rule_targets(figures: Figures) -> list[Target]:
    """The bars of the issue."""
    return [
        Target(f"training, {rule} over FedAvg", figures.look(SECTION, rule, RATIO), bar) for rule, bar in BARS.items()
    ]
