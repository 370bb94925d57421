"""Every person tested in turn: what is one row, what the intervals are over, and what other tables make of folds."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from results.frame import frames
from results.record import RunRecord
from results.reporting.render import to_csv, to_latex
from results.reporting.study import Study
from results.reporting.style import looks, style
from results.reporting.subjects.persons import by_person, persons, persons_table
from results.reporting.tables import main_table
from results.statistics import mean_interval, paired
from tests.results.builder import only_study, record, records

# Correct of 100 rows of each of six persons, in three folds of two.
CORRECT = {"fedavg": (90, 80, 70, 95, 60, 85), "local": (50, 52, 54, 56, 58, 60)}


def folds(seeds: int = 2, **changes: object) -> Iterator[RunRecord]:
    """Three folds; a seed adds a point to everybody."""
    for strategy, correct in CORRECT.items():
        for seed in range(seeds):
            for fold in range(3):
                options = (("test_persons", f"fold(i={fold}, of=3)"),)
                made = record(strategy=strategy, seed=seed, options=options, **changes)
                assert made.final is not None
                held = {f"p{one}": (correct[one] + seed, 100) for one in (2 * fold, 2 * fold + 1)}
                final = msgspec.structs.replace(made.final, test_correct_by_person=held)
                yield msgspec.structs.replace(made, final=final)


def table(study: Study) -> dict[str, dict[str, str]]:
    made = persons_table(study)
    assert made is not None
    return {row["Strategy"]: row for row in made.shown.to_dict("records")}


def test_folds_are_one_row_with_every_persons_mean() -> None:
    study = only_study(folds())
    found = by_person(study).set_index(["strategy", "person"])["accuracy"]
    assert found["fedavg", "p3"] == pytest.approx(95.5)  # over two seeds
    rows = table(study)
    assert set(rows) == {"fedavg", "local"}
    wanted = mean_interval(np.array(CORRECT["fedavg"]) + 0.5)
    assert rows["fedavg"]["Persons"] == "6"
    assert rows["fedavg"]["Seeds"] == "2"
    assert rows["fedavg"]["Accuracy [%]"] == "80.50"
    assert rows["fedavg"]["± over persons"] == f"{wanted.half:.2f}"
    assert rows["fedavg"]["Worst person [%]"] == "60.50 (p4)"
    difference = np.subtract(CORRECT["local"], CORRECT["fedavg"])
    assert rows["local"]["To FedAvg [points]"] == f"-25.00 ± {mean_interval(difference).half:.2f}"
    assert rows["local"]["Least detectable [points]"] == f"{paired(difference, np.zeros(6)).least_detectable:.2f}"
    assert rows["fedavg"]["To FedAvg [points]"] == "–"


def test_models_that_share_persons_widen_the_interval() -> None:
    # Six persons in three folds: four are left, one of which (0.2 of 4, rounded) validates and three train.
    made = persons_table(only_study(folds()))
    assert made is not None
    plain, corrected = made.raw.loc[0, ["half_width", "nadeau_bengio_half_width"]]
    assert corrected / plain == pytest.approx(math.sqrt(1 + 6 / 3))
    made = persons_table(only_study(folds(validation=0.0)))
    assert made is not None
    plain, corrected = made.raw.loc[0, ["half_width", "nadeau_bengio_half_width"]]
    assert corrected / plain == pytest.approx(math.sqrt(1 + 6 / 4))


def test_a_seed_that_lacks_a_fold_does_not_count() -> None:
    runs = [one for one in folds() if not (one.spec["seed"] == 1 and one.spec["test_persons"].startswith("fold(i=2"))]
    assert table(only_study(runs))["fedavg"]["Accuracy [%]"] == "80.00"
    assert table(only_study(runs))["fedavg"]["Seeds"] == "1"


def test_a_fold_that_nobody_ran_is_said_to_be_missing() -> None:
    whole = persons_table(only_study(folds()))
    part = persons_table(only_study([one for one in folds() if not one.spec["test_persons"].startswith("fold(i=2")]))
    assert whole is not None
    assert part is not None
    assert "folds were run" not in " ".join(whole.caption)
    assert "Only 2 of 3 folds were run; the persons of the others are missing." in part.caption


def test_runs_on_the_official_persons_or_on_fewer_folds_are_not_mixed_in() -> None:
    def elsewhere(name: str) -> Iterator[RunRecord]:
        for one in folds():
            if one.spec["test_persons"].startswith("fold(i=0"):
                yield record(strategy=one.spec["strategy"], seed=one.spec["seed"], options=(("test_persons", name),))

    wanted = persons_table(only_study(folds()))
    assert wanted is not None
    for name in ("official", "fold(i=0, of=2)"):
        mixed = persons_table(only_study([*folds(), *elsewhere(name)]))
        assert mixed is not None
        assert mixed.raw.equals(wanted.raw), name


def test_no_folds_no_table() -> None:
    study = only_study(records(("iid",), seeds=2))
    assert persons_table(study) is None
    assert persons(study, {}) == []


def test_other_tables_keep_folds_apart() -> None:
    shown = main_table(only_study(folds())).shown
    assert shown[["Partition", "test_persons"]].to_numpy().tolist() == [
        ["iid", f"fold(i={fold}, of=3)"] for fold in range(3)
    ]


def test_the_figure_draws_everybody_worst_first() -> None:
    study = only_study(folds())
    with style():
        (figure,) = persons(study, looks(CORRECT))
        figure.draw_without_rendering()
    first, second = figure.axes[0].lines
    np.testing.assert_allclose(np.asarray(first.get_ydata()), np.sort(CORRECT["fedavg"]) + 0.5)
    np.testing.assert_allclose(np.asarray(second.get_ydata()), np.array(CORRECT["local"]) + 0.5)
    assert "mean over two seeds, worst first" in figure.legends[0].get_title().get_text()


def test_persons_of_the_frames_are_those_of_the_records() -> None:
    made = [*folds(), record(seed=9, status="failed"), record(seed=8, test=False)]
    found = frames(made)
    by_key = {one.key: one for one in made}
    for place, row in found.runs.iterrows():
        final = by_key[(row["run_id"], row["engine"])].final
        held = found.persons[found.persons["run"] == place]
        wanted = {} if final is None else final.test_correct_by_person or {}
        assert dict(zip(held["person"], held["accuracy"] * held["total"], strict=True)) == pytest.approx(
            {name: correct for name, (correct, _) in wanted.items()}
        )
    assert set(found.of(found.runs["strategy"] == "local").persons["run"]) <= set(
        found.runs.index[found.runs["strategy"] == "local"]
    )


def test_the_same_bytes_whatever_the_order_and_odd_names_in_latex() -> None:
    made = list(folds())
    final = made[0].final
    assert final is not None
    odd = msgspec.structs.replace(final, test_correct_by_person={"a_b & c": (10, 100), "p1": (80, 100)})
    made[0] = msgspec.structs.replace(made[0], final=odd)
    texts = set()
    for seed in range(3):
        random.Random(seed).shuffle(made)
        table = persons_table(only_study(made))
        assert table is not None
        texts.add(to_csv(table) + to_latex(table))
    (text,) = texts
    assert r"10.00 (a\_b \& c)" in text
