"""Private runs: what a promise is named by, infinite and simulated ones look it, figures show the table."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from pandas.testing import assert_frame_equal

from results.frame import frames
from results.record import RunRecord
from results.reporting.index import report
from results.reporting.render import Table, to_csv, to_latex, to_markdown, to_text
from results.reporting.study import Study
from results.reporting.style import looks, style
from results.reporting.subjects import privacy_figures
from results.reporting.subjects.privacy import costs, needed_table, offices_table, persons_needed, privacy_table
from results.reporting.subjects.privacy import private as promises
from results.reporting.subjects.protection import protection_table
from results.reporting.tables import main_table
from results.sections import Privacy
from results.statistics import half_width, least_detectable
from results.store import Store
from tests.results.builder import only_study, record, records
from tests.results.private import EPSILONS, private, simulated, swept
from tests.results.reporting.test_figures import can_be_read, texts

AUDIT = {"auc": 0.56, "tpr_at_1pct": 0.031, "lower_bound": 0.42, "ceiling": 2.3, "canaries": 100, "unit": "window"}
AUDIT |= {"included": 50, "guesses": 50, "right": 28, "confidence": 0.95, "delta": 1e-5}


def made(table: Table | None) -> Table:
    assert table is not None
    return table


def row(*runs: RunRecord, at: int = 0) -> dict[str, str]:
    """A row of the table as readers see it."""
    found = made(privacy_table(only_study(runs))).shown.to_dict("records")[at]
    return {str(name): str(value) for name, value in found.items()}


def said(table: Table | None) -> str:
    return " ".join(made(table).caption)


def draw(study: Study, label: str = "") -> list[Figure]:
    with style():
        look = looks(study.frames.runs["strategy"].cat.categories)
        done = [
            *privacy_figures.privacy(study, look, label),
            *privacy_figures.privacy_persons(study, look, label),
        ]
        for figure in done:
            figure.draw_without_rendering()
    return done


def marks(panel: Axes) -> list[tuple[list[float], list[float]]]:
    """Positions and means of every line of a panel."""
    dots = [held.lines[0] for held in panel.containers if isinstance(held, ErrorbarContainer)]
    return [(list(map(float, dot.get_xdata())), list(map(float, dot.get_ydata()))) for dot in dots]  # type: ignore[arg-type]


def test_it_comes_through_the_store_whole(store: Store) -> None:
    store.put(private(changes={"audit": AUDIT}))
    found, again = (frames(store.compact()).privacy for _ in range(2))
    assert_frame_equal(found, again)  # the second is from Parquet
    [one] = found.to_dict("records")
    wanted = {"epsilon": 8.0, "target_epsilon": 8.0, "delta": 1e-5, "inner": "fedavg", "unit": "window", "steps": 5.0}
    wanted |= {"person_windows": 409.0, "person_epsilon": 2.4e5, "signal_epsilon": 32.0, "clip_norm": 1.0}
    wanted |= {
        "audit_auc": 0.56,
        "audit_lower_bound": 0.42,
        "nested": False,
        "public": ("rows of each office", "local steps"),
    }
    assert {name: one[name] for name in wanted} == wanted
    assert [office.units for office in one["offices"]] == [1838] * 4
    assert np.isnan(one["simulated_units"])


def test_null_is_an_infinite_epsilon_and_a_missing_key_is_none() -> None:
    older = private(None)
    assert older.privacy is not None
    known = msgspec.structs.replace(older.privacy, epsilon_rdp=msgspec.UNSET, inner=None, offices=None)
    [one] = frames([msgspec.structs.replace(older, privacy=known)]).privacy.to_dict("records")
    assert one["epsilon"] == one["person_epsilon"] == np.inf
    assert np.isnan(one["epsilon_rdp"])
    assert one["inner"] != one["inner"]
    assert draw(only_study([msgspec.structs.replace(older, privacy=known)])) != []


def test_a_row_names_all_that_an_epsilon_needs() -> None:
    found = row(*(private(seed=seed) for seed in range(3)))
    wanted = {
        "Unit": "window",
        "Epsilon": "8",
        "By RDP": "8.8",
        "Target": "8",
        "Delta": "1e-05",
        "Accountant": "prv",
        "Neighbours": "add or remove one",
        "Noise": "own",
        "Noise source": "seeded",
        "Clip": "1",
        "Sampling": "all",
        "Rounds": "5",
        "Steps": "5",
        "A person's windows": "409 windows: 2.4e+05",
        "samples of one window": "3 windows: 32",
        "Observer": "server, other offices, reader of the model",
        "Runs": "3",
    }
    assert {name: found[name] for name in wanted} == wanted


def test_scores_and_the_worst_class_are_means_with_intervals() -> None:
    runs = [private(seed=seed) for seed in range(4)]
    finals = [one.final for one in runs if one.final]
    found = row(*runs)
    for name, values in (
        ("Score [%]", [one.score for one in finals]),
        ("Worst-class F1 [%]", [min(f1 for f1 in one.test_f1_per_class or () if f1 is not None) for one in finals]),
    ):
        numbers = 100 * np.array(values, dtype=float)
        half = float(half_width(numbers.std(ddof=1), 4))
        assert found[name] == f"{numbers.mean():.2f} ± {half:.2f}"


def test_the_largest_epsilon_of_the_seeds_is_given() -> None:
    runs = [private(seed=seed, changes={"epsilon": 7.9 + seed / 100, "target_epsilon": 8}) for seed in range(3)]
    assert row(*runs)["Epsilon"] == "7.92"
    assert made(privacy_table(only_study(runs))).raw["epsilon"].tolist() == ["7.92"]


def test_infinite_epsilons() -> None:
    clipped, plain = row(private(None), private(None, clip=None)), row(private(None), private(None, clip=None), at=1)
    assert [one["Epsilon"] for one in (clipped, plain)] == ["infinite", "infinite"]
    assert [one["Clip"] for one in (clipped, plain)] == ["1", "none"]
    assert (plain["Target"], plain["A person's windows"]) == ("–", "409 windows: infinite")
    table = made(privacy_table(only_study([private(None)])))
    assert table.raw.loc[0, ["epsilon", "target_epsilon", "delta"]].tolist() == ["inf", "", "1e-05"]
    assert "∞" not in to_latex(table)  # which LaTeX has no letter for


def test_the_caption_says_what_is_outside() -> None:
    caption = said(privacy_table(only_study([private()])))
    for words in (
        "one row; neighbours share half their samples",
        "Epsilon: of each run alone",
        "tuning) is outside epsilon",
        "Declared public: local steps, rows of each office.",
        "The official scaling of UCI HAR used all rows: that is outside epsilon.",
        "Seeded noise can be taken off by whoever knows the seed: it is for simulation only",
    ):
        assert words in caption
    others = said(privacy_table(only_study([private(unit="person", dataset="watch", changes={"noise_source": "os"})])))
    for words in ("neighbours share half", "official scaling of UCI HAR", "Seeded noise", "Simulated", "Audit"):
        assert words not in others


def test_simulated_rows_are_marked() -> None:
    study = only_study(simulated(seeds=1))
    table = made(privacy_table(study))
    found = table.shown["Epsilon"].tolist()
    assert found[-1] == "infinite"
    assert found[0].startswith("8 (simulated: 42 units)") or "8" in found
    assert sum("simulated" in one for one in found) == 4
    assert "Simulated: noise as small as so many units would make it" in said(table)
    assert "Four runs with simulate=n: the noise of n units on fewer" in said(main_table(study))  # type: ignore[arg-type]
    offices = made(offices_table(study)).shown["Epsilon"]
    assert offices.str.contains("simulated").sum() == 16
    assert "simulate=n" not in said(main_table(only_study([private()])))


def scores(runs: list[RunRecord], seeds: int) -> np.ndarray[Any, Any]:
    """(rows, seeds) in percent."""
    return 100 * np.array([one.final.score for one in runs if one.final]).reshape(-1, seeds)


def test_noise_is_charged_what_it_cost_and_clip_and_noise_together() -> None:
    runs = [
        private(*one, seed=seed)
        for one in ((8.0,), (None,), (None, "fedavg", "own", "window", None))
        for seed in range(3)
    ]
    study = only_study(runs)
    found = costs(study, promises(study)).set_index("strategy")
    noised, clipped, free = scores(runs, 3)
    private_row, clipped_row = "dp_sgd(epsilon=8.0)", "dp_sgd(noise_multiplier=0.0)"
    assert found.loc[private_row, "noise_cost"] == pytest.approx((noised - clipped).mean())
    assert found.loc[private_row, "both_cost"] == pytest.approx((noised - free).mean())
    assert found.loc[clipped_row, "both_cost"] == pytest.approx((clipped - free).mean())
    assert np.isnan(found.loc[clipped_row, "noise_cost"]), "without noise there is none to charge"
    for name, differences in (("noise", noised - clipped), ("both", noised - free)):
        wanted = least_detectable(np.array([differences.std(ddof=1)]), np.array([3]))[0]
        assert found.loc[private_row, f"{name}_least"] == pytest.approx(wanted)
    assert len(found) == 2  # the base is not held against itself
    shown = row(*runs)
    assert shown["Noise [points]"].startswith(f"{(noised - clipped).mean():+.2f} ± ")
    assert shown["Clip and noise [points]"].startswith(f"{(noised - free).mean():+.2f} ± ")


def test_noise_is_charged_nothing_of_another_clip_or_training() -> None:
    for other in (private(None, clip=0.5), private(None, clip=None), private(None, inner="fedprox(mu=0.1)")):
        assert row(private(), other)["Noise [points]"] == "–"
    means = [private(8.0, more={"means": "True"}), private(None), private(None, more={"means": "True"})]
    noised, _, clipped = scores(means, 1)[:, 0]
    assert row(*means, at=1)["Noise [points]"] == f"{noised - clipped:+.2f}", "private means are part of the training"
    other = only_study([private(inner="fedprox(mu=0.1)"), private(None, clip=None)])
    assert costs(other, promises(other)).empty


def test_a_clip_has_its_own_row_without_noise() -> None:
    """Where several clips are tried, each is held against itself."""
    runs = [private(epsilon, clip=clip) for clip in (1.0, 0.5) for epsilon in (8.0, None)]
    runs += [private(None, clip=None)]
    found = costs(study := only_study(runs), promises(study)).set_index("strategy")
    by_clip = scores(runs[:4], 1).reshape(2, 2)
    for name, (noised, clipped) in zip(("dp_sgd(", "dp_sgd(clip_norm=0.5, "), by_clip, strict=True):
        assert found.loc[f"{name}epsilon=8.0)", "noise_cost"] == pytest.approx(noised - clipped)
    assert found["both_cost"].notna().all()


def test_other_settings_of_a_row_without_noise_are_named() -> None:
    rate = (("client_lr", 0.2),)
    alike = made(privacy_table(only_study([private(options=rate), private(None, options=rate), record(rounds=5)])))
    assert alike.raw["noise_other_settings"].tolist() == ["", ""]
    assert "settings of their own" not in " ".join(alike.caption)
    apart = made(privacy_table(only_study([private(options=rate), private(None)])))
    assert apart.raw["noise_other_settings"].tolist() == ["client_lr 0.05", ""]
    assert "Some rows without noise have settings of their own" in " ".join(apart.caption)


def test_unfinished_runs_have_no_score() -> None:
    failed = record(strategy="dp_sgd(epsilon=8.0)", seed=1, rounds=5, status="failed")
    stopped = msgspec.structs.replace(private(seed=2), status="diverged", final=None)
    found = row(private(), failed, stopped)
    assert found["Runs"] == "[1/2]"  # what failed made no promise
    assert "±" not in found["Score [%]"]
    assert row(stopped)["Score [%]"] == "–"
    assert draw(only_study([stopped])) == []


def test_windows_within_offices_have_a_row_of_their_own() -> None:
    inner = private().privacy
    outer = {"mechanism": "dp_fedavg", "unit": "office", "epsilon": 3.0, "noise": "server", "units": 4, "steps": 7}
    promise = Privacy(**outer, inner="fedavg", delta=1e-5, local=inner)
    both = msgspec.structs.replace(private(), privacy=promise)
    table = made(privacy_table(only_study([both])))
    assert table.shown[["Unit", "Epsilon", "Steps"]].to_numpy().tolist() == [["office", "3", "7"], ["window", "8", "5"]]
    assert "the unit is an office" in said(table)
    assert set(made(offices_table(only_study([both]))).shown["Unit"]) == {"window"}
    [figure] = draw(only_study([both]))
    assert "unit office" in figure.legends[0].get_title().get_text()


def test_audits_stand_beside_the_promise() -> None:
    found = row(private(changes={"audit": AUDIT}))
    assert (found["Audit AUC"], found["TPR at 1 % FPR"], found["Lower bound"], found["Its ceiling"]) == (
        *("0.560", "0.031", "0.42", "2.3"),
    )
    assert "one run refutes little" in said(privacy_table(only_study([private(changes={"audit": AUDIT})])))
    assert "Audit AUC" not in row(private())


def test_epsilon_by_office() -> None:
    offices: list[dict[str, Any]] = [
        {"epsilon": e, "epsilon_rdp": 2 * e, "noise_multiplier": 3.0, "sampling_rate": q, "steps": 50, "units": n}
        for e, q, n in ((7.0, 0.25, 100), (8.0, 0.5, 50))
    ]
    runs = [private(changes={"offices": offices, "epsilon": 8.0}), private(seed=1)]
    table = made(offices_table(only_study(runs)))
    names = ["Office", "Epsilon", "By RDP", "Units", "Sampling rate", "Steps", "Noise multiplier"]
    shown = table.shown[names].to_numpy().tolist()
    assert shown[0] == [
        "CBS",
        "8",
        "14",
        "969 (100–1838)",
        "0.6250 (0.2500–1.0000)",
        "28 (5–50)",
        "2.000 (1.000–3.000)",
    ]
    assert shown[2] == ["ONS", "8", "8.8", "1838", "1.0000", "5", "1.000"]
    infinite = made(offices_table(only_study([private(None)])))
    assert set(infinite.shown["Epsilon"]) == set(infinite.shown["By RDP"]) == {"infinite"}
    assert offices_table(only_study([private(changes={"offices": []})])) is None


def test_lines_are_strategies_less_their_budget() -> None:
    study = only_study(swept(seeds=1, partitions=("iid",)))
    found = promises(study)
    assert set(found["label"]) == {
        "fedavgm(beta=0.8), own noise",
        "fedavgm(beta=0.8), shared noise",
        "fedavg, own noise",
        "fedprox(mu=0.1), own noise",
    }
    assert (found.groupby(["unit", "label"]).size() == len(EPSILONS) + 2).all()


def test_a_clip_that_was_tuned_by_epsilon_makes_no_line_of_its_own() -> None:
    tuned = promises(only_study([private(8.0), private(1.0, clip=0.5), private(None, clip=None)]))
    assert set(tuned["label"]) == {"fedavg, own noise"}
    several = promises(only_study([private(8.0), private(8.0, clip=0.5)]))
    assert set(several["label"]) == {"fedavg, own noise", "fedavg, own noise, clip_norm=0.5"}


def test_lines_of_one_name_are_told_apart() -> None:
    runs = [private(noise="shared", more=more) for more in ({}, {"curious": 0})]
    assert set(promises(only_study(runs))["label"]) == {"fedavg, shared noise", "fedavg, shared noise, curious=0"}


def test_persons_needed_are_interpolated() -> None:
    runs = [
        private(*one, partition="by_person")
        for one in (
            (8.0, "fedavg", "own", "person"),
            (8.0, "fedavg", "own", "person", 1.0, 42),
            (8.0, "fedavg", "own", "person", 1.0, 168),
            (None, "fedavg", "own", "person", None),
        )
    ]
    scores = dict(zip(range(4), (0.5, 0.8, 0.915, 0.93), strict=True))
    runs = [
        msgspec.structs.replace(one, final=msgspec.structs.replace(one.final, score=scores[place]))
        for place, one in enumerate(runs)
        if one.final
    ]
    [found] = persons_needed(only_study(runs)).to_dict("records")
    assert found["persons"] == 21
    assert found["real"]
    assert found["within_2"] == pytest.approx(42 * 4 ** ((0.91 - 0.8) / 0.115))
    assert found["within_1"] == np.inf
    assert found["offices"] == 4
    table = made(needed_table(only_study(runs)))
    assert table.shown.iloc[0].tolist()[3:] == ["93.00", "21 (real)", "50.00", "159", "not reached"]
    assert "a promise to nobody" in said(table)
    [without] = persons_needed(only_study(runs[:3])).to_dict("records")
    assert np.isnan(without["within_2"])
    assert made(needed_table(only_study(runs[:3]))).shown.iloc[0].tolist()[6:] == ["not known", "not known"]
    words = " ".join(privacy_figures.needed_words(only_study(runs)))
    assert "(by_person, epsilon 8): fedavg, own noise 159 (40 an office) / not reached." in words


def test_persons_in_several_offices_are_not_counted_by_office() -> None:
    runs = [
        msgspec.structs.replace(one, privacy=msgspec.structs.replace(one.privacy, units=10))
        for one in simulated(seeds=1)
    ]
    assert persons_needed(only_study(runs))["offices"].isna().all()
    assert "an office" not in " ".join(privacy_figures.needed_words(only_study(runs)))


def test_what_is_near_enough_at_once_takes_no_more() -> None:
    runs = [private(8.0, "fedavg", "own", "person", 1.0, n) for n in (None, 42)] + [
        private(None, unit="person", clip=None)
    ]
    runs = [
        msgspec.structs.replace(one, final=msgspec.structs.replace(one.final, score=0.9)) for one in runs if one.final
    ]
    assert persons_needed(only_study(runs))[["within_2", "within_1"]].to_numpy().tolist() == [[21.0, 21.0]]


def test_nothing_private() -> None:
    for study in (only_study([record()]), only_study([record(status="failed", strategy="dp_sgd(epsilon=8.0)")])):
        assert privacy_table(study) is offices_table(study) is needed_table(study) is None
        assert draw(study) == []
    assert needed_table(only_study([private()])) is None


def test_other_runs_stay_out() -> None:
    study = only_study([*records(("iid",), seeds=2), private()])
    assert made(privacy_table(study)).shown["Strategy"].tolist() == ["dp_sgd(epsilon=8.0)"]
    assert len(draw(study)) == 1


def everything(study: Study) -> str:
    tables = [privacy_table(study), offices_table(study), needed_table(study)]
    return "".join(form(made(one)) for one in tables for form in (to_csv, to_markdown, to_latex, to_text))


def test_the_order_of_records_changes_nothing() -> None:
    runs = simulated(seeds=2)
    wanted = everything(only_study(runs))
    random.Random(3).shuffle(runs)
    assert everything(only_study(runs)) == wanted


@pytest.fixture
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


ONE = (("fedavg", "own"),)
AUDITED = [private(epsilon, changes={"audit": AUDIT}, options=(("audit", 100),)) for epsilon in (0.5, 8.0, None)]


@pytest.mark.usefixtures("_no_warnings")
@pytest.mark.parametrize(
    ("runs", "pages"),
    [
        ([*swept(seeds=2, units=("window",)), *AUDITED], 1),
        (swept(seeds=1, units=("window",), partitions=("iid",), lines=ONE), 1),
        (
            swept(
                seeds=1,
                units=("person",),
                partitions=("iid", "by_person", "shards(classes=2)", "stratified"),
                lines=ONE,
            ),
            2,
        ),
        ([private(epsilon) for epsilon in (0.003, 0.1, 900.0)], 1),
        ([private(None)], 1),
        ([*simulated(seeds=2), *simulated(noise="shared", inner="fedavgm(weighting=uniform)")], 2),
        ([private(8.0, "fedavg", "own", "person", 1.0, 42)], 1),
    ],
)
def test_the_figures_can_be_read(runs: list[RunRecord], pages: int) -> None:
    done = draw(only_study(runs), "client_lr 0.1")
    assert len(done) == pages
    with style():
        for figure in done:
            can_be_read(figure)


def test_the_figure_shows_the_table() -> None:
    runs = swept(seeds=3, units=("window",), partitions=("iid",), lines=ONE)
    study = only_study(runs)
    [figure] = draw(study)
    score, worst = figure.axes
    assert score.get_xscale() == "log"
    table = made(privacy_table(study)).raw
    for panel, name in ((score, "score_percent"), (worst, "worst_f1_percent")):
        [(where, means)] = marks(panel)
        assert where[:6] == pytest.approx(list(EPSILONS))
        assert 16 < where[6] < where[7]  # clipped, then not
        assert means == pytest.approx(table[name].astype(float).tolist())
    names = [text.get_text() for text in worst.get_xticklabels()]
    assert names == ["0.5", "1", "2", "4", "8", "16", "∞\nclipped", "∞"]
    named = "Epsilon of one window (delta 1e-05, neighbours: add or remove one, accountant prv)"
    assert figure.get_supxlabel().replace("\n", " ") == named
    heading = figure.legends[0].get_title().get_text().replace("\n", " ")
    assert "Mean over three seeds, bar: its 95 % t interval; epsilon of each run alone" in heading
    assert "Least detectable difference in score to the same clip without noise: " in heading


def test_columns_are_partitions_and_colours_inner_strategies() -> None:
    window, person = draw(only_study(swept(seeds=1)))
    assert [panel.get_title() for panel in window.axes[:2]] == ["iid", "by_person"]
    assert "unit person" in person.legends[0].get_title().get_text()
    assert [panel.get_ylabel() for panel in window.axes] == ["Score [%]", "", "Worst-class F1 [%]", ""]
    for figure in (window, person):
        legend = figure.legends[0]
        shown = {text.get_text(): line for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)}
        own, shared = (shown[f"fedavgm(beta=0.8), {noise} noise"] for noise in ("own", "shared"))
        assert to_hex(own.get_color()) == to_hex(shared.get_color())
        assert own.get_linestyle() != shared.get_linestyle()
        assert len({line.get_marker() for line in shown.values()}) == 4


def test_audits_stand_beneath_and_audited_runs_lend_no_score() -> None:
    study = only_study([*swept(seeds=2, units=("window",), partitions=("iid",), lines=ONE), *AUDITED])
    [figure] = draw(study)
    score, _, auc, bound = figure.axes
    plain = draw(only_study(swept(seeds=2, units=("window",), partitions=("iid",), lines=ONE)))[0].axes[0]
    assert marks(score) == marks(plain)
    assert (auc.get_ylabel(), bound.get_ylabel()) == ("Audit:\nAUC", "Audit:\nbound")
    drawn = {(line.get_marker(), tuple(np.unique(line.get_ydata()))) for line in bound.lines}  # type: ignore[arg-type]
    assert {("o", (0.42,)), ("_", (2.3,))} <= drawn
    [alone] = draw(only_study(AUDITED))
    assert marks(alone.axes[0])[0][1] != []


def test_audited_runs_say_nothing_of_how_many_persons_it_takes() -> None:
    plain = simulated(seeds=2)
    audited = [
        private(*one, partition="by_person", seed=seed, changes={"audit": AUDIT}, options=(("audit", 100),))
        for one in ((8.0, "fedavg", "own", "person", 1.0), (None, "fedavg", "own", "person", None))
        for seed in (2, 3)
    ]
    assert_frame_equal(persons_needed(only_study([*plain, *audited])), persons_needed(only_study(plain)))


def test_simulated_persons_are_open_and_the_real_ones_full() -> None:
    figure = draw(only_study(simulated(seeds=2)))[1]
    [panel] = figure.axes
    real, open_ = [held.lines[0] for held in panel.containers if isinstance(held, ErrorbarContainer)]
    assert list(real.get_xdata()) == [21]  # type: ignore[arg-type]
    assert list(open_.get_xdata()) == [42, 105, 210, 420]  # type: ignore[arg-type]
    assert open_.get_markerfacecolor() == "white" != real.get_markerfacecolor()
    assert panel.get_xscale() == "log"
    assert [text.get_text() for text in panel.get_xticklabels()] == ["21", "42", "105", "210", "420"]
    heading = figure.legends[0].get_title().get_text()
    assert "simulated" in heading
    assert "not reached" in heading.replace("\n", " ")
    assert any("simulated" in text.get_text() for text in texts(figure) if text.get_text().startswith("Persons whose"))
    assert np.allclose(real.get_ydata(), 100 * _mean(simulated(seeds=2)[:2]))


def _mean(runs: list[RunRecord]) -> float:
    return float(np.mean([one.final.score for one in runs if one.final]))


def test_simulated_runs_are_in_no_figure_of_what_is_promised() -> None:
    first = draw(only_study(simulated(seeds=2)))[0]
    [(where, _)] = marks(first.axes[0])
    assert where[0] == 8
    assert len(where) == 2


def test_the_report_has_tables_and_figures(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.reporting.index.FIGURES", {})  # drawing is what takes the time
    for one in [*simulated(seeds=1), record(partition="by_person", rounds=5), *AUDITED]:
        store.put(one)
    done = report(store, store.root / "out")
    names = {path.name for path in done.written}
    assert {f"uci-har-{name}.csv" for name in ("privacy", "epsilon-by-office", "persons-needed")} <= names
    assert {"uci-har-privacy.pdf", "uci-har-privacy-2.png", "uci-har-privacy-persons.png"} <= names
    index = done.index.read_text("utf-8")
    assert "UCI HAR: privacy and utility ([PDF](figures/uci-har-privacy.pdf)). One seed" in index
    assert "Simulated: noise as small as so many persons would make it, and no promise to anybody." in index


def test_a_report_without_private_runs_has_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.reporting.index.FIGURES", {})
    store.put(record())
    assert not any("privacy" in path.name for path in report(store, store.root / "out").written)


def test_rounds_may_follow_the_budget() -> None:
    runs = [private(epsilon, noise="shared", rounds=rounds) for epsilon, rounds in ((1.0, 5), (8.0, 9))]
    study = only_study(runs)
    assert made(privacy_table(study)).shown["Rounds"].tolist() == ["5", "9"]
    both = [record(strategy="masked_sum", rounds=n, seed=n) for n in (3, 4)]
    assert made(protection_table(only_study(both))).shown["Rounds measured"].tolist() == ["3 of 3", "4 of 4"]
