"""Small made-up data for tests of a run: three classes a small network can learn, ten persons of whom two test."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.config.spec import RunSpec
from experiments.data.dataset import Dataset
from experiments.federation.run import RunData, prepare, resolved

SMALL = {"model": "mlp(hidden=[8])", "rounds": 3, "batch_size": 16, "min_examples": 8, "client_lr": 0.2}


def dataset(form: str = "features", persons: int = 10, rows_each: int = 30, seed: int = 0) -> Dataset:
    """Rows of 6 features, or windows of 16 samples and 3 channels, whose mean depends on the class."""
    rng = np.random.default_rng(seed)
    n = persons * rows_each
    y = np.tile(np.arange(3), n // 3 + 1)[:n]
    shape = (6,) if form == "features" else (16, 3)
    x = rng.normal(size=(n, *shape)) + 2 * (y - 1).reshape(-1, *[1] * len(shape))
    person = np.repeat(np.arange(persons), rows_each)
    return Dataset(
        name="table",
        title="made-up rows",
        form=form,
        x=x.astype(np.float32),
        y=y,
        person=person,
        recording=person.copy(),
        classes=("low", "middle", "high"),
        official_test=person >= persons - 2,
        standardise=False,
        overlap=0,
        hash=f"made-up-{form}-{persons}-{rows_each}-{seed}",
    )


def problem(form: str = "features", **options: Any) -> tuple[RunSpec, RunData]:
    """A resolved spec on made-up data, and the data."""
    data = prepare(dataset(form), "official")
    return resolved(RunSpec.from_options({**SMALL, "dataset": "watch", "form": form, **options}), data), data
