"""The learning rate as an axis: when it is one, the range within a point of the best, and what a lost run does."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import pytest

from results.record import RunRecord
from results.reporting.render import to_csv, to_markdown
from results.reporting.study import Study
from results.reporting.style import looks, style
from results.reporting.subjects.sensitivity import sensitivity, sensitivity_table, swept
from tests.results.builder import only_study, record, records

SCORES = {0.003: 70.0, 0.01: 88.9, 0.03: 90.0, 0.1: 91.0, 0.3: 90.5, 1.0: 91.0}


def at_rates(
    scores: Mapping[float, float] = SCORES, lost: float | None = None, strategy: str = "fedavg"
) -> Iterator[RunRecord]:
    """Two seeds, half a point to both sides of the score; at `lost` one of them diverged."""
    for rate, score in scores.items():
        for seed in range(2):
            asked = {"strategy": strategy, "seed": seed, "options": (("client_lr", rate),)}
            if rate == lost and seed == 1:
                yield record(status="diverged", **asked)
                continue
            made = record(**asked)
            assert made.final is not None
            final = msgspec.structs.replace(made.final, score=(score - 0.5 + seed) / 100)
            yield msgspec.structs.replace(made, final=final)


def row(study: Study) -> list[str]:
    table = sensitivity_table(study)
    assert table is not None
    return table.shown.loc[0, ["Rates", "Unfinished", "Best rate", "Score there [%]", "Within one point"]].tolist()


def test_rates_within_a_point_of_the_best() -> None:
    # Two rates are best alike: the lower counts. From it 0.03 is exactly a point below, and 0.01 too far.
    study = only_study(at_rates())
    assert row(study) == ["6", "0", "0.1", "91.00", "0.03–1"]
    table = sensitivity_table(study)
    assert table is not None
    assert table.raw.loc[0, "factor"] == pytest.approx(1 / 0.03)
    assert table.raw.loc[0, "rates_within"] == 4


def test_a_gap_ends_the_range() -> None:
    assert row(only_study(at_rates({**SCORES, 0.3: 80.0})))[-1] == "0.03–0.1"
    assert row(only_study(at_rates({0.01: 10, 0.1: 50, 1: 10})))[-1] == "0.1 alone"


def test_a_rate_at_which_a_run_diverged_is_out() -> None:
    assert row(only_study(at_rates(lost=0.3))) == ["6", "1", "0.1", "91.00", "0.03–0.1"]
    assert row(only_study(at_rates(lost=0.1)))[2] == "1"  # the best that finished


def test_three_rates_make_an_axis() -> None:
    assert swept(only_study(at_rates({0.01: 50, 0.1: 60, 1: 50})))
    two = only_study(at_rates({0.01: 50, 0.1: 60}))
    assert not swept(two)
    assert sensitivity_table(two) is None
    assert sensitivity(two, {}) == []
    # A rate that follows from the strategy is none, however many there are.
    followed = [
        one
        for place, name in enumerate(("fedavg", "a", "b"))
        for one in records(("iid",), (name,), seeds=1, options=(("client_lr", 0.1 + place),))
    ]
    assert not swept(only_study(followed))


def test_the_figure_is_broken_where_a_run_was_lost() -> None:
    study = only_study([*at_rates(lost=0.3), *at_rates(dict.fromkeys(SCORES, 80), strategy="local")])
    with style():
        (figure,) = sensitivity(study, looks(["fedavg", "local"]))
        figure.draw_without_rendering()
    panel = figure.axes[0]
    assert panel.get_xscale() == "log"
    fedavg, cross, _ = panel.lines
    drawn = np.asarray(fedavg.get_ydata(), dtype=float)
    np.testing.assert_allclose(drawn, [70, 88.9, 90, 91, np.nan, 91])
    assert list(np.asarray(cross.get_xdata())) == [0.3]
    heading = figure.legends[0].get_title().get_text()
    assert "band: its 95 % t interval\n×: a run did not finish" in heading
    assert "Too few pairs to tell a least detectable difference" in heading  # all differences are alike

    varied = [*at_rates(), *records(("iid",), ("local",), seeds=2, options=(("client_lr", 0.1),))]
    with style():
        (figure,) = sensitivity(only_study(varied), looks(["fedavg", "local"]))
    assert "\nLeast detectable difference in score: " in figure.legends[0].get_title().get_text()


def test_the_same_bytes_whatever_the_order() -> None:
    made = [*at_rates(lost=0.3), *at_rates(strategy="local")]
    texts = set()
    for seed in range(3):
        random.Random(seed).shuffle(made)
        table = sensitivity_table(only_study(made))
        assert table is not None
        texts.add(to_csv(table) + to_markdown(table))
    assert len(texts) == 1
