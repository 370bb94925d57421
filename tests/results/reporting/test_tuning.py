"""What tuning found: winners made up by hand, the budget's formula against all draws, gains paired by seed."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from results.frame import frames
from results.record import RunRecord
from results.reporting.index import _winners
from results.reporting.render import to_latex
from results.reporting.study import Study, studies
from results.reporting.style import looks, style
from results.reporting.subjects.budget import best_so_far, budget, budget_table, expected_maximum, random_values
from results.reporting.subjects.comparisons import compared, ranks_table
from results.reporting.subjects.tuning import gains_table, importance_table, tuned_table
from results.reporting.tables import main_table, score_table
from results.statistics import step_down
from results.tuned.tuned import Cost, Finalist, Trial, Winner, write
from tests.results.builder import record


def winner(strategy: str = "fedavg", partition: str = "iid", best: int = 3, **changes: Any) -> Winner:
    """Two random batches of three and a pruned one; trial 0 is the default."""
    values = (0.80, 0.70, 0.90, 0.92, 0.60, 0.85)
    trials = [
        Trial(number=n, batch=n // 3, state="complete", rounds=15, value=value, params={"client_lr": 0.01 * (n + 1)})
        for n, value in enumerate(values)
    ]
    trials += [
        Trial(number=6, batch=2, state="pruned", rounds=3, value=0.99, params={"client_lr": 0.5}),
        Trial(number=7, batch=2, state="complete", rounds=15, value=0.95, params={"client_lr": 0.3}),
    ]
    made = {
        "key": {
            "dataset": "uci-har",
            "form": "features",
            "test_persons": "official",
            "partition": partition,
            "model": "mlp",
            "clients": 4,
            "fraction": 1.0,
            "strategy": strategy,
        },
        "options": {"client_lr": 0.04},
        "finalists": (Finalist(number=best, value=0.92, fresh=0.91), Finalist(number=7, value=0.95, fresh=0.89)),
        "cost": Cost(rounds=15, gradient_steps=2205.0, forward_passes=70560.0, bytes=38_678_400.0),
        "importance": {"client_lr": 0.75, "local_epochs": 0.25},
        "study": {
            "trials": 8,
            "rounds": 15,
            "seeds": [1, 2, 3, 4, 5],
            "validation": "fold(i, of=5)",
            "data_hash": "aa",
        },
        "trials": tuple(trials),
    }
    return Winner(**(made | changes))


def test_the_expected_best_is_the_mean_over_all_draws() -> None:
    values = (3.0, 1.0, 2.0, 2.0)
    for n, found in enumerate(expected_maximum(values), 1):
        assert found == pytest.approx(np.mean([max(draw) for draw in itertools.product(values, repeat=n)]))
    assert expected_maximum([]).size == 0


def test_only_random_trials_that_ran_to_the_end_are_drawn() -> None:
    # Neither the default nor the pruned trial (which looks best) nor the one that TPE asked for.
    assert random_values(winner()) == [0.70, 0.90, 0.92, 0.60, 0.85]


def test_the_best_so_far_spends_rounds_on_pruned_trials_too() -> None:
    spent, best = best_so_far(winner())
    assert list(spent) == [75, 150, 225, 300, 375, 450, 465, 540]
    assert list(best) == [0.80, 0.80, 0.90, 0.92, 0.92, 0.92, 0.92, 0.95]


def test_the_budget_table_and_figure_are_of_the_formula() -> None:
    table = budget_table([winner(), winner("fedprox")])
    assert table is not None
    wanted = 100 * expected_maximum([0.70, 0.90, 0.92, 0.60, 0.85])
    assert list(table.shown["Best of 2 [%]"]) == [f"{wanted[1]:.2f}"] * 2
    assert "Best of 10 [%]" not in table.shown
    assert list(table.shown["Whole study [%]"]) == ["95.00"] * 2
    assert list(table.raw["rounds"][:5]) == [75, 150, 225, 300, 375]
    assert list(table.raw["expected_best_percent"][:5]) == pytest.approx(list(wanted))
    with style():
        (figure,) = budget([winner(), winner("fedprox")], looks(["fedavg", "fedprox(mu=0.01)"]))
        figure.draw_without_rendering()
    thick, thin, *_ = figure.axes[0].lines
    np.testing.assert_allclose(np.asarray(thick.get_ydata()), wanted)
    assert thin.get_linewidth() < thick.get_linewidth()
    assert "one study" in figure.legends[0].get_title().get_text()
    colours = {line.get_color() for line in figure.axes[0].lines}
    assert colours == {one.colour for one in looks(["fedavg", "fedprox(mu=0.01)"]).values()}  # as in other figures
    assert budget([], {}) == []
    assert budget_table([]) is None


def test_further_studies_of_a_cell_have_a_thin_line_each() -> None:
    """Two more seeds of FedAvg's study; one of another length, and another cell's, are not among them."""
    one = winner()
    lower = tuple(msgspec.structs.replace(trial, value=trial.value - 0.1) for trial in one.trials)
    others = [winner(trials=lower), winner(trials=lower[:6]), winner("fedprox", "shards(classes=2)")]
    others.append(winner(study={**one.study, "rounds": 99}))
    table = budget_table([one, winner("fedprox")], others)
    assert table is not None
    assert list(table.shown["Whole study [%]"]) == ["95.00, 85.00, 82.00", "95.00"]
    with style():
        (figure,) = budget([one, winner("fedprox")], looks(["fedavg", "fedprox"]), others)
    lines = figure.axes[0].lines
    assert [line.get_linewidth() == 0.5 for line in lines] == [False, True, True, True, False, True]
    np.testing.assert_allclose(np.asarray(lines[2].get_ydata()), 100 * best_so_far(others[0])[1])
    assert "best so far of one to three studies" in figure.legends[0].get_title().get_text()


def test_a_tuned_cell_prints_both_values_the_default_and_the_cost() -> None:
    table = tuned_table([winner("local"), winner("scaffold"), winner("fedavg", best=0)], {"aa"})
    assert table is not None
    assert list(table.shown["Strategy"]) == ["fedavg", "scaffold", "local"]
    assert list(table.shown["Tuned values"]) == ["client_lr 0.01 (the default)", "client_lr 0.04", "client_lr 0.04"]
    row = table.shown.iloc[1]
    shown = ["Fresh seeds [%]", "In the study [%]", "Default [%]", "Rounds", "Gradient steps", "Forward passes"]
    assert row[shown].tolist() == ["91.00", "92.00", "80.00", "15", "2205", "70560"]
    assert row["Sent [10^6 bytes]"] == "38.68"
    assert row["Marks"] == ""
    assert "Search: eight trials a cell, of 15 rounds, validation fold(i, of=5)." in table.caption
    second = tuned_table([winner()], {"aa"}, fixed_epochs=True)
    assert second is not None
    assert (second.name, second.title) == ("tuned-fixed-epochs", "Tuning: tuned hyper-parameters, local epochs fixed")
    other = tuned_table([winner()], {"bb"})
    assert other is not None
    assert other.shown.loc[0, "Marks"] == "tuned on other data (aa)"


def test_the_tuned_table_says_what_halving_would_have_cost() -> None:
    def said(*shares: float | None) -> list[str]:
        table = tuned_table([winner(partition=f"shards({n})", halving_loses=share) for n, share in enumerate(shares)])
        assert table
        return [line for line in table.caption if line.startswith("Halving")]

    assert said(None) == []
    assert "in one study without it, it would have stopped the best trial in 12 % of" in said(None, 0.123)[0]
    assert "in 2 studies without it, it would have stopped the best trial in 5 to 40 % of" in said(0.4, 0.05)[0]


def test_winners_of_a_loss_or_a_corruption_are_told_apart() -> None:
    plain = winner()
    lossy = winner(key=plain.key | {"loss": "planted"})
    noisy = winner(key=plain.key | {"corrupt": "label_noise(office=0, rate=0.4)"})
    table = tuned_table([lossy, noisy, plain])
    assert table is not None
    names = ["corrupt", "strategy"]
    assert table.raw[names].to_numpy().tolist() == [
        ["label_noise(office=0, rate=0.4)", "fedavg"],
        ["none", "fedavg"],
        ["none", "fedavg + planted"],
    ]
    assert table.shown["Strategy"].tolist() == ["fedavg", "fedavg", "fedavg + planted"]
    assert "corrupt" in table.shown
    assert "loss" not in table.shown
    without = tuned_table([plain])
    assert without is not None
    assert not {"loss", "corrupt"} & set(without.raw), "tables of cells without these options stay as they were"


def test_a_report_finds_winners_for_records_that_are_older_than_an_option(tmp_path: Path) -> None:
    plain = winner()
    noisy = winner(key=plain.key | {"corrupt": "label_noise(office=0, rate=0.4)"})
    for made in (plain, noisy):
        write(tmp_path, made)
    runs = frames([record()])
    old = dataclasses.replace(
        runs, runs=runs.runs.drop(columns=["loss", "corrupt"], errors="ignore").assign(**plain.key)
    )
    assert _winners(old, tmp_path) == [plain]
    new = dataclasses.replace(old, runs=old.runs.assign(loss="cross_entropy", corrupt=None))
    assert _winners(new, tmp_path) == [plain]
    spoilt = dataclasses.replace(new, runs=new.runs.assign(corrupt=noisy.key["corrupt"]))
    assert _winners(spoilt, tmp_path) == [noisy]


def test_importance_has_a_column_for_every_parameter() -> None:
    table = importance_table([winner(), winner("fedprox", importance={"client_lr": 0.4, "mu": 0.6})])
    assert table is not None
    assert table.shown[["client_lr", "local_epochs", "mu"]].to_numpy().tolist() == [
        ["75", "25", "–"],
        ["40", "–", "60"],
    ]
    assert importance_table([winner(importance={})]) is None


def test_odd_names_in_latex() -> None:
    one = winner("flower(path=a_b.C)", importance={"beta_1": 1.0})
    for made in (tuned_table([one]), importance_table([one]), budget_table([one])):
        assert made is not None
        assert r"flower(path=a\_b.C)" in to_latex(made)


def run(score: float, lr: float, seed: int, strategy: str = "fedavg", partition: str = "iid") -> RunRecord:
    made = record(strategy=strategy, partition=partition, seed=seed, options=(("client_lr", lr),))
    assert made.final is not None
    return msgspec.structs.replace(made, final=msgspec.structs.replace(made.final, score=score / 100))


NOISE = (0.1, -0.1, 0.2, -0.2, 0.3, -0.3, 0.15, -0.15, 0.05, -0.05)  # points, sum 0


def both() -> tuple[list[RunRecord], list[tuple[str, str]], dict[str, str]]:
    """FedAvg gains two points, FedProx loses one, SCAFFOLD's default won; ten seeds."""
    runs, pairs, origins = [], [], {}
    for seed, noise in enumerate(NOISE):
        for place, (default, tuned, gain) in enumerate(
            (("fedavg", "fedavg", 2.0), ("fedprox(mu=0.01)", "fedprox(mu=0.3)", -1.0))
        ):
            first = run(80 + seed, 0.05, seed, default)
            second = run(80 + seed + gain + (-1) ** place * noise, 0.1, seed, tuned)
            runs += [first, second]
            pairs.append((first.run_id, second.run_id))
            origins |= {first.run_id: "default", second.run_id: "tuned"}
        same = run(85 + noise, 0.05, seed, "scaffold")
        runs.append(same)
        pairs.append((same.run_id, same.run_id))
        origins[same.run_id] = "default, tuned"
    return runs, pairs, origins


def the_study(runs: list[RunRecord], origins: dict[str, str] | None) -> Study:
    (study,) = studies(frames(runs, origins))
    return study


@pytest.mark.parametrize("named", [False, True])
def test_gains_are_paired_and_losers_come_first(named: bool) -> None:
    runs, pairs, origins = both()
    table = gains_table(the_study(runs, origins if named else None), pairs)
    assert table is not None
    rows = table.shown[["Partition", "Strategy", "Gain [points]", "Claim"]].to_numpy().tolist()
    # Mean over cells of each seed: (2 - 1 + 0) / 3 and the noises cancel.
    assert [row[1] for row in rows] == ["fedprox(mu=0.01)", "scaffold", "fedavg", ""]
    assert rows[0][2].startswith("-1.00 ± ")
    assert [row[3] for row in rows] == ["worse", "the default won", "better", ""]
    assert rows[1][2] == "0.00 (all equal)"
    assert rows[3][0] == "mean over three cells"
    assert rows[3][2] == "+0.33 (all equal)"
    d = np.array([[2 + noise, -1 - noise, 0] for noise in NOISE])
    found = table.raw.set_index("strategy")
    assert found.loc["fedavg", "p_step_down"] == pytest.approx(step_down(d).p[0])
    assert found.loc["fedavg", "p_holm"] == pytest.approx(step_down(d).holm[0])
    assert "Family of the corrected p: the three cells of this table" in " ".join(table.caption)


def test_a_cell_whose_tuned_runs_all_diverged_is_named() -> None:
    runs, pairs, origins = both()
    for seed in range(10):
        first = run(80, 0.05, seed, "fednova")
        lost = record(strategy="fednova", seed=seed, status="diverged", options=(("client_lr", 0.5),))
        runs += [first, lost]
        pairs.append((first.run_id, lost.run_id))
        origins |= {first.run_id: "default", lost.run_id: "tuned"}
    table = gains_table(the_study(runs, origins), pairs)
    assert table is not None
    assert "No pair finished of: iid, fednova." in table.caption
    assert "fednova" not in set(table.shown["Strategy"])


def test_gains_need_both_runs_on_the_same_rows() -> None:
    runs, pairs, _ = both()
    assert gains_table(the_study(runs, None), [("nothing", pairs[0][1])]) is None
    assert gains_table(the_study(runs, None), []) is None
    # Runs of different seeds are no pair.
    assert gains_table(the_study(runs, None), [(pairs[0][0], pairs[3][1])]) is None


def test_origins_become_a_column_and_tuned_runs_meet_tuned_runs() -> None:
    runs, _, origins = both()
    study = the_study(runs, origins)
    # Rates and mu follow from the origin: it alone splits, and FedProx goes by its name though its mu differs.
    assert study.panels == ("tuned",)
    shown = main_table(study).shown
    assert list(shown.columns) == ["Partition", "Tuned", "fedavg", "fedprox", "scaffold"]
    assert list(shown["Tuned"]) == ["default", "tuned"]
    assert shown.loc[0, "scaffold"] == shown.loc[1, "scaffold"]  # one run for both
    assert [label for label, _ in study.split()] == ["default", "tuned"]
    scores = score_table(study).shown
    prox = scores[scores["Strategy"] == "fedprox"]
    assert list(prox["Tuned"]) == ["default", "tuned"]
    assert list(prox["client_lr"]) == ["0.05", "0.1"]
    assert [text.split(", ")[3] for text in prox["Local training"]] == ["rate 0.05", "rate 0.1"]
    found = compared(study).set_index(["strategy", "tuned"])["difference"]
    assert found["fedprox", "default"] == pytest.approx(0)
    assert found["fedprox", "tuned"] == pytest.approx(-3)
    assert found["scaffold", "tuned"] == pytest.approx(85 - 80 - 4.5 - 2)


def test_default_and_tuned_values_are_ranked_apart() -> None:
    """They are the same cells twice: eight cells are no more than four."""
    runs, origins = [], {}
    for partition, tuned in (("iid", (90.0, 91.0)), ("quantity", (80.0, 81.0))):
        for strategy, default, better in zip(("fedavg", "fedprox"), (70.0, 60.0), tuned, strict=True):
            for rate, score, origin in ((0.05, default, "default"), (0.1, better, "tuned")):
                runs.append(run(score, rate, 0, strategy, partition))
                origins[runs[-1].run_id] = origin
    table = ranks_table(the_study(runs, origins))
    assert table is not None
    assert table.shown.drop(columns="95 % interval").values.tolist() == [
        ["default", "fedavg", "2", "1.00"],
        ["default", "fedprox", "2", "2.00"],
        ["tuned", "fedavg", "2", "2.00"],
        ["tuned", "fedprox", "2", "1.00"],
    ]
    assert "over two cells that all strategies have, default and tuned values apart" in " ".join(table.caption)


def test_tuned_values_are_ranked_wherever_they_are_from() -> None:
    """A cell that borrows its values is one more cell, also where a strategy has its own there."""
    runs, origins = [], {}
    for partition, first, second in (("iid", "tuned", "tuned"), ("quantity", "tuned on iid", "tuned")):
        for strategy, score, origin in (("fedavg", 70.0, first), ("fedprox", 60.0, second)):
            runs.append(run(score, 0.1, 0, strategy, partition))
            origins[runs[-1].run_id] = origin
    table = ranks_table(the_study(runs, origins))
    assert table is not None
    assert table.raw[["strategy", "cells", "mean_rank"]].values.tolist() == [["fedavg", 2, 1.0], ["fedprox", 2, 2.0]]


def test_two_strategies_of_a_family_keep_their_names() -> None:
    runs, _, origins = both()
    study = the_study([*runs, run(70, 0.05, 0, "fedprox(mu=1)")], origins)
    assert {"fedprox(mu=0.01)", "fedprox(mu=1)", "fedprox(mu=0.3)"} <= set(study.frames.runs["strategy"])


def test_borrowed_values_are_an_origin_of_their_own() -> None:
    runs = [run(80, 0.05, 0), run(81, 0.1, 0)]
    study = the_study(runs, {runs[1].run_id: "tuned on iid"})
    assert list(main_table(study).shown["Tuned"]) == ["default", "tuned on iid"]


def test_every_origin_of_a_run_has_its_own_rows() -> None:
    runs, _, origins = both()
    found = frames(runs, origins)
    assert len(found.runs) == len(runs) + 10
    assert (found.persons.groupby("run").size() == 3).all()
    assert found.runs["primary"].all()
    assert f"({len(runs)} runs)" in " ".join(main_table(the_study(runs, origins)).caption)
