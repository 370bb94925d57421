"""Tables: small golden ones, marks and counts, and the same bytes whatever the order of the records."""

from __future__ import annotations

import random
import re

import msgspec
import numpy as np
import pandas as pd
import pytest

from results.frame import frames
from results.record import RunRecord
from results.reporting import tables
from results.reporting.render import to_csv, to_latex, to_markdown, to_text
from results.reporting.study import Study, cells, studies
from results.reporting.subjects import comparisons
from results.reporting.subjects.comparisons import best_table, differences_table, ranks_table
from results.reporting.tables import (
    class_table,
    costs_table,
    main_table,
    problems_table,
    score_table,
    unevenness_table,
)
from results.statistics import mean_interval, paired, prediction_interval
from tests.results.builder import HAR, STRATEGIES, only_study, record, records

RESULT_TABLES = (
    main_table,
    score_table,
    differences_table,
    best_table,
    ranks_table,
    class_table,
    unevenness_table,
)


def scored(score: float, **changes: object) -> RunRecord:
    """A record with a score of our choosing."""
    made = record(**changes)
    assert made.final is not None
    return msgspec.structs.replace(made, final=msgspec.structs.replace(made.final, score=score))


GOLDEN = [
    *(scored(score, strategy="fedavg", seed=seed) for seed, score in enumerate((0.90, 0.92, 0.94))),
    *(scored(score, strategy="fedprox(mu=0.01)", seed=seed) for seed, score in enumerate((0.91, 0.93, 0.95))),
    *(scored(0.5, strategy="local", seed=seed) for seed in range(2)),
    record(strategy="local", seed=2, status="diverged"),
    scored(0.97, strategy="centralised", seed=0),
    scored(0.80, partition="shards(classes=2)", strategy="fedavg", seed=0, filtered=True),
    record(partition="shards(classes=2)", strategy="local", seed=0, status="failed"),
]


def test_main_table() -> None:
    # 2 % sd over three seeds: t_{0.975, 2} = 4.3027, half-width 4.3027 * 2 / sqrt(3) = 4.968
    assert main_table(only_study(GOLDEN)).shown.to_dict("records") == [
        {
            "Partition": "iid",
            "fedavg": "92.00 ± 4.97",
            "fedprox(mu=0.01)": "93.00 ± 4.97",
            "local": "50.00 (all equal) [2/3]",
            "centralised": "97.00",
        },
        {
            "Partition": "shards(classes=2)",
            "fedavg": "80.00 (f)",
            "fedprox(mu=0.01)": "",
            "local": "– [0/1]",
            "centralised": "",
        },
    ]
    assert to_csv(main_table(only_study(GOLDEN))) == (
        "partition,fedavg,fedavg ±,fedprox(mu=0.01),fedprox(mu=0.01) ±,local,local ±,centralised,centralised ±\n"
        "iid,92.0000,4.9683,93.0000,4.9683,50.0000,0.0000,97.0000,\n"
        "shards(classes=2),80.0000,,,,,,,\n"
    )


def test_differences_are_paired_by_seed() -> None:
    table = differences_table(only_study(GOLDEN))
    assert table is not None
    columns = ["Strategy", "Pairs", "Difference [points]", "Step-down p", "Least detectable [points]", "Claim"]
    assert table.shown[columns].to_numpy().tolist() == [
        # The differences are 1 point in every seed, the intervals of the levels 5: pairing is what sees it. Of the 8
        # signings of three seeds two are as far from 0.
        ["fedprox(mu=0.01)", "3", "+1.00 (all equal)", "0.250", "–", "–"],
        ["local", "2", "-41.00 ± 12.71", "–", "16.33", "–"],  # lacks a seed: not in the family
        ["centralised", "1", "+7.00", "–", "–", "–"],
    ]


def test_differences_agree_with_paired() -> None:
    study = only_study(records(partitions=("by_person",), seeds=6))
    table = differences_table(study)
    assert table is not None
    by = study.scored.pivot(index="seed", columns="strategy", values="score")
    found = table.raw.set_index("strategy")
    for strategy in STRATEGIES[1:]:
        wanted = paired(100 * by[strategy], 100 * by["fedavg"])
        row = found.loc[strategy]
        assert row["difference_points"] == pytest.approx(wanted.difference.mean)
        assert row["half_width_points"] == pytest.approx(wanted.difference.half)
        assert row["least_detectable_points"] == pytest.approx(wanted.least_detectable)


def test_no_pairs_without_fedavg_or_on_other_rows() -> None:
    assert differences_table(only_study(records(strategies=("local",), seeds=2))) is None
    base = record(strategy="fedavg")
    assert base.partition is not None
    moved = msgspec.structs.replace(base, partition=msgspec.structs.replace(base.partition, hash="other"))
    assert differences_table(only_study([moved, record(strategy="local")])) is None


def test_cells_agree_with_mean_interval() -> None:
    study = only_study(records(seeds=7))
    found = cells(study).set_index(["partition", "strategy"])
    assert len(found) == 44
    for cell, runs in study.scored.groupby(["partition", "strategy"], observed=True):
        for measure in ("score", "test_accuracy", "worst_office_accuracy"):
            wanted = mean_interval(runs[measure])
            assert found.loc[cell, measure] == pytest.approx(wanted.mean)
            assert found.loc[cell, f"{measure}_half"] == pytest.approx(wanted.half)


def test_score_table_names_what_a_row_was_made_on() -> None:
    table = score_table(only_study([*records(partitions=("iid",)), record(seed=5, status="failed", partition="iid")]))
    first = table.shown.iloc[0]
    assert (first["Runs"], first["Seeds"], first["Marks"]) == ("[5/6]", "0-5", "1 failed")
    assert table.shown.loc[1, ["Weighting", "Options"]].tolist() == ["examples", "mu=0.01"]
    raw = table.raw
    assert raw.loc[0, "seeds"] == "0 1 2 3 4 5"
    assert len(raw.loc[0, "partition_hashes"].split()) == 5
    assert raw.loc[0, "client_lr"] == "0.05"
    assert raw.loc[0, "data"] == "UCI HAR"
    assert len(raw.loc[0, "data_hash"]) == 64


def test_a_published_run_has_an_interval_to_be_held_against() -> None:
    study = only_study([*records(("iid",), ("fedavg",), seeds=6), record(seed=6, status="failed")])
    raw = score_table(study).raw
    for measure in ("score", "test_accuracy"):
        wanted = prediction_interval(100 * study.scored[measure])
        assert raw.loc[0, f"{measure}_prediction_half_width"] == pytest.approx(wanted.half)


def test_null_validation_and_one_seed() -> None:
    study = only_study(records(partitions=("iid",), seeds=1, validation=0.0))
    shown = score_table(study).shown
    assert (shown["Worst [%]"] == "–").all()
    assert "±" not in "".join(shown["Score [%]"])
    caption = " ".join(score_table(study).caption)
    assert caption.startswith("One seed, no claims. A cell of one seed has no interval.")


@pytest.mark.parametrize(
    ("seeds", "heading"),
    [(5, "Five seeds, no claims."), (9, "Nine seeds, no claims."), (10, "Ten seeds."), (30, "30 seeds.")],
)
def test_few_seeds_claim_nothing(seeds: int, heading: str) -> None:
    study = only_study(records(partitions=("iid",), strategies=("fedavg",), seeds=seeds))
    assert main_table(study).caption[0] == heading


def test_cells_of_different_numbers_of_seeds() -> None:
    both = [*records(partitions=("iid",), seeds=12), *records(partitions=("by_person",), seeds=4)]
    assert main_table(only_study(both)).caption[0] == "Four to twelve seeds, no claims from cells of fewer than ten."


def test_captions_say_what_made_the_runs() -> None:
    runs = [
        *records(partitions=("iid",), strategies=("fedavg",), seeds=4),
        record(seed=4, commit="bbbbbbbbbbbb+", sources_hash="other"),
        record(seed=5, commit=None),
        record(seed=0, engine="simulation"),
    ]
    caption = " ".join(main_table(only_study(runs)).caption)
    assert "Runs by commit: 0123456789ab (five runs), bbbbbbbbbbbb+ (one run), unknown (one run)." in caption
    assert "One run made by other code than most of the same cell." in caption
    assert "One run left out: the same seed by another engine or trainer." in caption
    assert "Data: UCI HAR; official scaling used all rows." in caption
    assert "rounds 25" in caption
    assert "Twelve runs of this report made by other code" in " ".join(main_table(only_study(runs), stale=12).caption)


def test_two_strategies_of_different_sources_are_not_other_code() -> None:
    runs = [*records(strategies=("fedavg",), seeds=2), *records(strategies=("local",), seeds=2, sources_hash="x")]
    assert "other code" not in " ".join(main_table(only_study(runs)).caption)


def test_tuning_runs_have_no_score_here() -> None:
    study = only_study([*records(partitions=("iid",), strategies=("fedavg",), seeds=3), record(seed=9, test=False)])
    assert main_table(study).shown.loc[0, "fedavg"].endswith("[3/4]")
    assert "One run never saw test rows (tuning)" in " ".join(main_table(study).caption)
    blind = only_study(records(partitions=("iid",), strategies=("fedavg",), seeds=2, test=False))
    assert main_table(blind).shown.loc[0, "fedavg"] == "– [0/2]"
    assert class_table(blind) is None
    assert differences_table(blind) is None


def test_class_table() -> None:
    study = only_study(records(partitions=("iid",), strategies=("fedavg",), seeds=3))
    table = class_table(study)
    assert table is not None
    assert list(table.shown.columns) == ["Partition", "Strategy", *HAR]
    f1 = study.frames.classes.query("class_ == 4")["f1"]
    assert table.shown.loc[0, "STANDING"] == f"{100 * f1.mean():.1f}"
    assert table.raw.loc[0, "STANDING_f1_half_width"] == pytest.approx(100 * mean_interval(f1).half)  # type: ignore[operator]


def test_unevenness_counts_every_draw_once() -> None:
    study = only_study(records(partitions=("iid", "dirichlet(alpha=0.1)"), seeds=3))
    table = unevenness_table(study)
    assert table is not None
    assert list(table.raw["draws"]) == [3, 3]
    assert list(table.raw["marked_draws"]) == [0, 1]
    skewed = table.shown.iloc[1]
    assert re.fullmatch(r"0\.\d\d \(0\.\d\d–0\.\d\d\)", skewed["Gini"])
    ginis = study.frames.runs.query("partition == 'dirichlet(alpha=0.1)'").drop_duplicates("partition_hash")["gini"]
    assert table.raw.loc[1, "gini_mean"] == pytest.approx(ginis.mean())
    assert unevenness_table(only_study([record(status="failed")])) is None


def test_options_that_differ_become_columns() -> None:
    runs = [
        *records(partitions=("iid",), strategies=("fedavg", "local"), seeds=2),
        *records(partitions=("iid",), strategies=("fedavg", "local"), seeds=2, options=(("client_lr", 0.1),)),
    ]
    study = only_study(runs)
    assert study.settings == study.panels == ("client_lr",)
    assert main_table(study).shown[["Partition", "client_lr"]].to_numpy().tolist() == [["iid", "0.05"], ["iid", "0.1"]]
    assert list(score_table(study).shown["client_lr"]) == ["0.05", "0.1", "0.05", "0.1"]
    assert "client_lr" not in " ".join(main_table(study).caption)
    assert [label for label, _ in study.split()] == ["client_lr 0.05", "client_lr 0.1"]


def test_an_option_that_follows_from_strategy_or_partition_splits_nothing() -> None:
    runs = [
        *records(partitions=("iid",), strategies=("fedavg",), seeds=2),
        *records(partitions=("iid",), strategies=("scaffold",), seeds=2, options=(("client_lr", 0.02),)),
        *records(partitions=("by_person",), strategies=("fedavg",), seeds=2, clients=21),
    ]
    study = only_study(runs)
    assert set(study.settings) == {"client_lr", "clients"}
    assert study.panels == ()
    assert list(main_table(study).shown.columns) == ["Partition", "fedavg", "scaffold"]
    # A tuned rate is compared with FedAvg at its own.
    table = differences_table(study)
    assert table is not None
    assert list(table.shown["Pairs"]) == ["2"]


def test_data_sets_stand_apart() -> None:
    runs = [
        *records(partitions=("iid",), seeds=2),
        *records(partitions=("iid",), seeds=2, title="Watch", dataset="watch", classes=("a", "b")),
        *records(partitions=("iid",), seeds=1, options=(("data_hash", "f" * 64),)),
        *records(partitions=("iid",), seeds=1, title="Mine", options=(("form", "raw"), ("data_hash", "0" * 64))),
        *records(partitions=("iid",), seeds=1, title="Mine"),
    ]
    found = studies(frames(runs))
    content = record().data.hash[:6]
    assert [study.title for study in found] == [
        "Mine, features",
        "Mine, raw",
        *sorted([f"UCI HAR, features, data {content}", "UCI HAR, features, data ffffff"]),
        "Watch",
    ]
    assert [study.slug for study in found][1::3] == ["mine-raw", "watch"]
    assert found[-1].classes == ("a", "b")
    assert main_table(found[-1]).title.startswith("Watch: ")


def test_the_order_of_rows() -> None:
    partitions = ("shards(classes=10)", "iid", "dirichlet(alpha=10)", "dirichlet(alpha=0.5)", "shards(classes=2)")
    strategies = ("local", "scaffold", "centralised", "fedavg", "fedadam")
    study = only_study(records(partitions=partitions, strategies=strategies, seeds=1))
    shown = main_table(study).shown
    assert list(shown["Partition"]) == [
        "iid",
        "dirichlet(alpha=0.5)",
        "dirichlet(alpha=10)",
        "shards(classes=2)",
        "shards(classes=10)",
    ]
    assert list(shown.columns[1:]) == ["fedavg", "fedadam", "scaffold", "local", "centralised"]


def everything(study: Study) -> str:
    made = [table(study) for table in (*RESULT_TABLES, problems_table)]
    return "".join(form(one) for one in made if one is not None for form in (to_csv, to_markdown, to_latex, to_text))


def test_the_same_bytes_whatever_the_order_of_the_records() -> None:
    runs = [
        *records(partitions=("iid", "dirichlet(alpha=0.1)", "shards(classes=2)"), seeds=7),
        record(seed=8, strategy="local", status="failed"),
        record(seed=8, status="diverged"),
        record(seed=8, strategy="centralised", filtered=True),
        record(seed=3, engine="simulation"),
    ]
    wanted = everything(only_study(runs))
    for seed in range(2):
        random.Random(seed).shuffle(runs)
        assert everything(only_study(runs)) == wanted


def test_result_tables_hold_no_seconds_bytes_or_dates() -> None:
    text = everything(only_study(GOLDEN))
    slow = [msgspec.structs.replace(one, cost=msgspec.structs.replace(one.cost, wall_s=1e6)) for one in GOLDEN]
    other = [
        msgspec.structs.replace(one, environment=msgspec.structs.replace(one.environment, machine="x")) for one in slow
    ]
    assert everything(only_study(other)) == text
    assert not re.search(r"\b20\d\d-\d\d|\d+ ?(s|MB|kB)\b", text)


def test_costs() -> None:
    study = only_study([*records(partitions=("iid",), strategies=("fedavg",), seeds=3), record(engine="simulation")])
    shown = costs_table(study).shown
    assert list(shown["Engine"]) == ["inprocess", "simulation"]
    assert shown.loc[0, "Wall clock [s]"] == "2.60"  # of 2.5, 2.6 and 2.7
    assert shown.loc[0, "Up [MB]"] == "8.00"
    assert "Encrypt [s]" not in shown  # nothing was encrypted


def test_problems() -> None:
    table = problems_table(only_study(GOLDEN))
    assert table is not None
    assert list(table.shown["Status"]) == ["diverged", "failed"]
    assert list(table.shown["Error"])[1] == "RuntimeError: no memory"
    assert problems_table(only_study([record()])) is None


def test_latex_of_odd_names() -> None:
    study = only_study([record(strategy="a_b(c={d}, e=5%)", classes=("x & y", "50 %"), title="Table #1 ~ $x^2$.csv")])
    text = to_latex(main_table(study))
    assert r"a\_b(c=\{d\}, e=5\%)" in text
    assert r"Table \#1 \textasciitilde{} \$x\textasciicircum{}2\$.csv" in text
    table = class_table(study)
    assert table is not None
    assert r"x \& y & 50 \% \\" in to_latex(table)
    assert not re.search(r"(?<!\\)[#_^~]", re.sub(r"^%.*|\\(label|begin|end|usepackage).*?$", "", text, flags=re.M))


def test_a_long_table_breaks_over_pages_and_a_wide_one_into_blocks() -> None:
    strategies = tuple(f"fedprox(mu={n})" for n in range(1, 16))
    text = to_latex(main_table(only_study(records(partitions=("iid",), strategies=strategies, seeds=1))))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert text.count(r"\begin{tabular}{@{}lrrrrrr@{}}") == 2
    assert text.count(r"\caption{") == text.count(r"\label{tab:uci-har-main}") == 1
    long = to_latex(score_table(only_study(records(seeds=1))))
    assert long.count(r"\begin{longtable}") == long.count(r"\end{longtable}") == 4
    assert long.count(r"\caption{") == 1
    for line in long.splitlines():
        if line.endswith(r"\\") and " & " in line:
            assert len(re.findall(r"(?<!\\)&", line)) in (5, 3)  # the last block has two columns


@pytest.mark.parametrize("form", [main_table, score_table, unevenness_table])
def test_markdown_is_a_table(form: object) -> None:
    text = to_markdown(form(only_study(records(seeds=2))))  # type: ignore[operator]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in rows}) == 1
    assert len({line.count("|") for line in rows}) == 1
    assert re.fullmatch(r"\|( -+:? \|)+", rows[1])


def test_every_public_table_is_tested_for_order() -> None:
    modules = (tables, comparisons)
    made = {name for one in modules for name in vars(one) if name.endswith("_table") and not name.startswith("_")}
    assert made == {one.__name__ for one in (*RESULT_TABLES, problems_table, costs_table)}


def test_rows_of_a_study_with_missing_cells_keep_their_place() -> None:
    study = only_study([record(partition="iid"), record(partition="by_person", strategy="local")])
    shown = main_table(study).shown
    assert shown.loc[shown["Partition"] == "iid", "local"].item() == ""
    assert pd.isna(main_table(study).raw.loc[0, "local"])
    assert np.isfinite(main_table(study).raw.loc[0, "fedavg"])


def own_models(mean: float, worst: float, **changes: object) -> RunRecord:
    """A record of a strategy whose offices keep models of their own."""
    made = record(strategy="ditto", **changes)
    assert made.final is not None
    final = msgspec.structs.replace(made.final, mean_personal_accuracy=mean, worst_personal_accuracy=worst)
    return msgspec.structs.replace(made, final=final)


def test_own_models_have_columns_where_any_run_has_some() -> None:
    runs = [record(seed=0), record(seed=1), own_models(0.8, 0.6, seed=0), own_models(0.9, 0.7, seed=1)]
    table = score_table(only_study(runs))
    shown = table.shown.set_index("Strategy")[["Own models, mean [%]", "Own models, worst [%]"]]
    # t_{0.975, 1} = 12.706, sd 7.071: half-width 63.53
    assert shown.loc["ditto"].tolist() == ["85.00 ± 63.53", "65.00 ± 63.53"]
    assert shown.loc["fedavg"].tolist() == ["–", "–"]
    assert list(table.raw["mean_personal_accuracy_percent"].dropna()) == pytest.approx([85.0])
    assert "Own models: that of each office" in " ".join(table.caption)
    without = score_table(only_study(runs[:2]))
    assert not [name for name in (*without.shown, *without.raw) if "Own" in name or "personal" in name]
    assert "Own models" not in " ".join(without.caption)
