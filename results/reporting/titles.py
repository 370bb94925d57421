"""What all tables of a study are put together with: titles, names of a cell, captions' last words."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results.reporting import captions
from results.reporting.render import Table
from results.reporting.study import Study

TITLES = {
    "main": "score [%] by partition and strategy",
    "scores": "scores of every cell",
    "differences": "score, differences to FedAvg",
    "best": "best set of every cell",
    "ranks": "mean ranks of the strategies, descriptive",
    "classes": "F1 by class [%]",
    "persons": "accuracy over persons, all in turn for testing",
    "sensitivity": "sensitivity to the learning rate",
    "gains": "tuned against default",
    "unevenness": "unevenness of the partitions",
    "costs": "costs of a run",
    "protection": "cost of protection, a round",
    "learns": "who learns what",
    "privacy": "differential privacy, what it promises and what it cost",
    "epsilon-by-office": "epsilon by office",
    "persons-needed": "persons that one epsilon would take, simulated",
    "unfinished": "runs that did not finish",
}
CAPITAL = {"run_id": "Run", **{name: name.capitalize() for name in ("partition", "strategy", "engine", "trainer")}}
CAPITAL |= {name: name.capitalize() for name in ("status", "seed", "error", "tuned")}


def table(
    study: Study,
    name: str,
    caption: Sequence[str],
    raw: pd.DataFrame,
    shown: pd.DataFrame,
    left: int,
    across: int = 0,
) -> Table:
    """A table of a study; empty parts of its caption are dropped."""
    kept = tuple(part for part in caption if part)
    title = f"{study.title}: {TITLES[name]}"
    return Table(f"{study.slug}-{name}", title, kept, raw, shown.rename(columns=CAPITAL), left, across)


def names(study: Study, found: pd.DataFrame) -> pd.DataFrame:
    """The columns that name a cell, as text."""
    return found[study.row].astype(str)


def pivot(found: pd.DataFrame, rows: list[str], values: str) -> pd.DataFrame:
    """Strategies across, in their order."""
    wide = found.pivot(index=rows, columns="strategy", values=values)
    return wide.rename(columns=str).rename_axis(columns=None)


def ending(study: Study, stale: int) -> tuple[str, ...]:
    """What every caption of result tables ends with."""
    marks = " ".join(filter(None, (captions.unfinished(study), captions.twins(study), captions.simulated(study))))
    return (marks, captions.settings(study), captions.data_notes(study), captions.provenance(study, stale))
