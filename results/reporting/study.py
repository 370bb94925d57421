"""What a report tells apart: a *study* is the runs made on one data set; a *cell* is one row of its tables.

What tables call a strategy is a *rule* (`results.rules`): its loss is part of its name, and no setting beside it. Every
option that all runs of a study share is said once, in the captions; one that differs becomes a column. Of those,
`panels` are the options that differ between runs of the *same* rule and partition (a grid over learning rates): a
figure or a pivot has no place for them and is split by them. An option that follows from the rule (its tuned rate) or
from the partition (its number of offices) needs no split. Where runs are told apart by their origin (default, tuned),
so does all that was tuned: the origin alone is the panel, and a rule goes by its family's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from results.files import slug
from results.frame import DEFAULT, NOT_IN_CELL, ORIGIN, Frames
from results.rules import ARMS, BASELINE, LOSS, Rule, family, rule
from results.statistics import half_width

APART = ("dataset", "form", "partition", "strategy", *NOT_IN_CELL)  # options that are no setting
CLAIM_SEEDS = 10  # with fewer, a table makes no claims
SKEWED_SEEDS = 30  # the same for a cell of skewed labels, where what a seed deals to whom varies more than all else
MEASURES = (
    "score",
    "test_accuracy",
    "test_macro_f1",
    "mean_office_accuracy",
    "weighted_office_accuracy",
    "worst_office_accuracy",
)
PERSONAL = ("mean_personal_accuracy", "worst_personal_accuracy")  # measures of strategies whose offices keep own models


@dataclass(frozen=True)
class Study:
    """The runs on one data set.

    Attributes:
        slug: what its files' names begin with.
        title: of the data set.
        notes: its caveats.
        classes: names of its classes.
        frames: its runs; in `frames.runs` all options but the seed are text, ordered as tables list them, `strategy`
            is the rule as tables name it and `notation` the rule in full.
        settings: options that differ between its runs, other than partition, rule and seed.
        panels: those of them that a figure or a pivot is split by.
        common: the other options with their value.
    """

    slug: str
    title: str
    notes: tuple[str, ...]
    classes: tuple[str, ...]
    frames: Frames
    settings: tuple[str, ...]
    panels: tuple[str, ...]
    common: dict[str, str]

    @property
    def primary(self) -> pd.DataFrame:
        """Its runs, each seed of a cell once."""
        return self.frames.runs[self.frames.runs["primary"]]

    @property
    def scored(self) -> pd.DataFrame:
        """Those that finished and were scored on test rows."""
        runs = self.primary
        return runs[(runs["status"] == "ok") & runs["score"].notna()]

    @property
    def claim_seeds(self) -> dict[str, int]:
        """Seeds without which a cell claims nothing, by its partition."""
        skewed = self.frames.runs.groupby("partition", observed=True)["label_skewed"].any()
        return {str(name): SKEWED_SEEDS if any_ else CLAIM_SEEDS for name, any_ in skewed.items()}

    @property
    def row(self) -> list[str]:
        """The columns that name a cell."""
        return ["partition", "strategy", *self.settings]

    def split(self, keep: Collection[str] = ()) -> list[tuple[str, Study]]:
        """The study by its panels: what each part has in common (`client_lr 0.1`, or nothing), and the part.

        Args:
            keep: panels that it is not to be split by.
        """
        names = [name for name in self.panels if name not in keep]
        if not names:
            return [("", self)]
        parts = []
        combination: Any
        for combination, runs in self.frames.runs.groupby(names, observed=True, sort=True):
            label = ", ".join(
                str(value) if name == ORIGIN else f"{name} {value}"
                for name, value in zip(names, combination, strict=True)
            )
            frames = self.frames.of(self.frames.runs.index.isin(runs.index))
            parts.append((label, _study(f"{self.slug}-{slug(label)}", self.title, frames)))
        return parts


def studies(frames: Frames) -> list[Study]:
    """The frames by data set, sorted by title. Runs on other content of the same name (`data_hash`) stand apart."""
    found = []
    groups = frames.runs.groupby(["data_title", "form", "data_hash"], sort=True)
    names: list[Any] = list(groups.groups)
    for name in names:
        runs = groups.get_group(name)
        shown = _told_apart(name, names)
        part = frames.of(frames.runs.index.isin(runs.index))
        rules = _rules(part.runs)
        runs = part.runs.assign(notation=rules, strategy=rules)
        if ORIGIN in part.options:
            runs["strategy"] = _families(runs)
        asked = {option: ordered(runs[option], option) for option in part.options if option != "seed"}
        found.append(_study(slug(shown), shown, replace(part, runs=runs.assign(**asked))))
    return found


def _rules(runs: pd.DataFrame) -> pd.Series[str]:
    """The rule of every run; older records hold no loss."""
    losses = runs["loss"] if "loss" in runs else pd.Series(None, index=runs.index, dtype=object)
    return pd.Series([rule(*both) for both in zip(runs["strategy"], losses, strict=True)], index=runs.index, dtype=str)


def _families(runs: pd.DataFrame) -> pd.Series[str]:
    """A rule's family for its notation, wherever a partition and origin hold one rule of the family alone."""
    families = runs["notation"].map(family)
    held = runs["notation"].groupby([runs["partition"], runs[ORIGIN], families]).nunique()
    clear = held.groupby(level=-1).max() == 1
    return families.where(families.map(clear), runs["notation"])


def _told_apart(name: tuple[str, str, str], names: list[tuple[str, str, str]]) -> str:
    """A data set's title, with as much of its form and hash as it shares its title with others."""
    title, form, content = name
    if sum(other[0] == title for other in names) == 1:
        return title
    if sum(other[:2] == name[:2] for other in names) == 1:
        return f"{title}, {form}"
    return f"{title}, {form}, data {content[:6]}"


def _study(name: str, title: str, frames: Frames) -> Study:
    runs = frames.runs
    named = (*APART, "loss") if runs["notation"].map(lambda text: Rule.parse(text).loss != LOSS).any() else APART
    options = [option for option in frames.options if option not in named]
    settings = [option for option in options if runs[option].nunique() > 1]
    by = ["partition", "strategy", *(name for name in (ORIGIN,) if name in settings)]
    free = [option for option in settings if option != ORIGIN]
    pairs = runs.groupby(by, observed=True)[free].nunique() if free else None
    panels = [option for option in settings if option == ORIGIN or (pairs is not None and (pairs[option] > 1).any())]
    first = runs.iloc[0]
    common = {option: str(first[option]) for option in options if option not in settings}
    notes, classes = tuple(first["data_notes"]), tuple(first["data_classes"])
    return Study(name, title, notes, classes, frames, tuple(settings), tuple(panels), common)


def cells(study: Study) -> pd.DataFrame:
    """One row a cell: how many runs of which kind, and each measure's mean over those that finished.

    Returns:
        columns `row` of the study; runs, finished, diverged, failed, filtered, marked (draws that moved more than
        5 % of the rows); seeds, partition_hashes, commits (tuples); and for each of MEASURES and PERSONAL, in [0, 1]:
        `<measure>` (mean), `<measure>_half` (of its 95 % t interval; nan for one run), `<measure>_equal` (all values
        are equal).
        Further columns of `frames.runs` that `study.row` decides may be taken with `one_a_cell`.
    """
    runs = study.primary.assign(
        finished=lambda one: (one["status"] == "ok") & one["score"].notna(),
        diverged=lambda one: one["status"] == "diverged",
        failed=lambda one: one["status"] == "failed",
        marked=lambda one: one["marked"].eq(True),
    )
    groups = runs.groupby(study.row, observed=True, sort=True)
    counted = groups[["finished", "diverged", "failed", "filtered", "marked"]].sum().astype(int)
    counted.insert(0, "runs", groups.size())
    for name, source in (("seeds", "seed"), ("partition_hashes", "partition_hash"), ("commits", "commit")):
        counted[name] = groups[source].agg(_distinct)
    return counted.join(summary(study.scored, study.row, (*MEASURES, *PERSONAL))).reset_index()


def one_a_cell(study: Study, names: Sequence[str]) -> pd.DataFrame:
    """Columns of the runs that are the same in all runs of a cell, a row a cell in the order of `cells`."""
    groups = study.primary.groupby(study.row, observed=True, sort=True)
    return groups[[name for name in names if name not in study.row]].first().reset_index()


def summary(runs: pd.DataFrame, by: Sequence[str], measures: Iterable[str]) -> pd.DataFrame:
    """Mean, half-width of the 95 % t interval and equality of every measure, over groups of runs."""
    groups = runs.groupby(list(by), observed=True, sort=True)
    parts = {}
    for name in measures:
        values = groups[name]
        low, high = values.min(), values.max()
        parts[name] = values.mean()
        parts[f"{name}_equal"] = (values.count() > 1) & (high - low <= 1e-12 * high.abs())
        half = pd.Series(half_width(values.std(), values.count()), index=low.index)
        parts[f"{name}_half"] = half.mask(parts[f"{name}_equal"], 0.0)
    return pd.DataFrame(parts)


def _distinct(values: pd.Series[Any]) -> Any:
    return tuple(sorted(values.dropna().unique()))


def plain(value: Any) -> str:
    """An option's value as it is written on a command line; null and missing are `none`."""
    if isinstance(value, str):
        return value
    return "none" if value is None or value != value else json.dumps(value)


def natural(text: str) -> tuple[tuple[int, float, str], ...]:
    """A key that sorts numbers within text by value: `alpha=0.1` before `alpha=0.5` before `alpha=10`."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", text)
    return tuple((1, float(part), "") if place % 2 else (0, 0.0, part) for place, part in enumerate(parts))


def ordered(values: pd.Series[Any], option: str) -> pd.Categorical:
    """An option as text in the order of tables: iid and fedavg first, the reference arms last, numbers by value."""
    texts = values.map(plain)
    first = {"partition": "iid", "strategy": BASELINE, ORIGIN: DEFAULT}.get(option)

    def place(text: str) -> tuple[object, ...]:
        arm = Rule.parse(text).arm if option == "strategy" else None
        return text != first, ARMS.index(arm) + 1 if arm else 0, natural(text)

    return pd.Categorical(texts, sorted(texts.unique(), key=place), ordered=True)
