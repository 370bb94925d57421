"""Figures: that they are drawn without a warning, can be read, embed their fonts, and are the same again."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from results.reporting import figures
from results.reporting.index import FIGURES
from results.reporting.study import Study
from results.reporting.style import DOUBLE, FONT, SINGLE, looks, save, style
from tests.results.builder import HAR, PARTITIONS, STRATEGIES, only_study, record, records

MANY = tuple(f"fedprox(mu={n / 100})" for n in range(1, 19))
TWELVE = tuple(f"class {n} of the exercise" for n in range(12))
SHAPES: dict[str, Callable[[], Study]] = {
    "eleven by four": lambda: only_study(records(seeds=5)),
    "one by one": lambda: only_study(records(("iid",), ("fedavg",), seeds=1)),
    "one long name, three rounds": lambda: only_study(
        records(("sizes(shares=[0.4, 0.3, 0.2, 0.1])",), ("fedavg", "local"), seeds=2, rounds=3)
    ),
    "one round": lambda: only_study(records(("iid",), seeds=3, rounds=1)),
    "two classes, thirty offices": lambda: only_study(
        records(("iid", "shards(classes=2)"), ("fedavg", "local"), seeds=2, classes=("no", "yes"), clients=30)
    ),
    "twelve classes": lambda: only_study(records(("iid", "dirichlet(alpha=0.1)"), seeds=2, classes=TWELVE)),
    "twenty strategies": lambda: only_study(records(("iid", "by_person"), (*MANY, "local", "centralised"), seeds=2)),
    "thirteen partitions": lambda: only_study(
        records((*PARTITIONS, "pick_two", "sizes(shares=[0.4, 0.3, 0.2, 0.1])"), ("fedavg",), seeds=2)
    ),
    "unfinished": lambda: only_study(
        [
            *records(("iid",), seeds=3),
            record(seed=3, status="diverged"),
            record(seed=0, partition="by_person", strategy="local", status="failed"),
            record(seed=1, partition="by_person", strategy="fedavg", status="diverged"),
        ]
    ),
}


def draw(study: Study, label: str = "") -> list[Figure]:
    """Every figure of a study, laid out."""
    look = looks(study.frames.runs["strategy"].cat.categories)
    made = [figure for _, one in FIGURES.values() for figure in one(study, look, label)]
    for figure in made:
        figure.draw_without_rendering()
    return made


@pytest.fixture(autouse=True)
def _no_warnings() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with style():
            yield


def texts(figure: Figure) -> list[Text]:
    """Every text that is drawn (an axis keeps labels of ticks beyond its limits, which are not)."""
    drawn: list[Text] = []
    draw = Text.draw

    def seen(text: Text, renderer: object) -> None:
        drawn.append(text)
        draw(text, renderer)  # type: ignore[arg-type]

    with mock.patch.object(Text, "draw", seen):
        figure.draw_without_rendering()
    return [text for text in drawn if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("shape", SHAPES)
def test_figures_can_be_read(shape: str) -> None:
    for figure in draw(SHAPES[shape](), "client_lr 0.1"):
        can_be_read(figure)


def can_be_read(figure: Figure) -> None:
    """It fits a page, its texts are large enough, and none lies on another."""
    assert figure.get_figwidth() in (SINGLE, DOUBLE)
    assert figure.get_figheight() < 9.7  # a page of a journal
    shown = texts(figure)
    assert len(shown) > 8
    assert min(text.get_fontsize() for text in shown) >= FONT
    page = figure.bbox.padded(1)
    for text in shown:
        box = text.get_window_extent()
        assert page.contains(box.x0, box.y0), text
        assert page.contains(box.x1, box.y1), text
    # No text lies on another, nor on a panel that is not its own (slanted ones have boxes larger than themselves).
    level = [(text, text.get_window_extent()) for text in shown if text.get_rotation() % 90 == 0]
    for (one, a), (other, b) in itertools.combinations(level, 2):
        assert not overlap(a, b), (one, other)
    panels = [panel.get_window_extent() for panel in figure.axes]
    outside = [(text, box) for text, box in level if text.axes is None or text in text.axes.get_yticklabels()]
    for text, box in outside:
        assert not any(overlap(box, panel) for panel in panels), text


def overlap(a: Bbox, b: Bbox) -> bool:
    """Whether two boxes share more than rounding."""
    shared = Bbox.intersection(a, b)
    return shared is not None and shared.width > 1 and shared.height > 1


def test_axes_name_their_units() -> None:
    counts, curves, scores, classes = draw(only_study(records(("iid", "by_person"), ("fedavg", "local"), seeds=2)))
    for figure, x, y in ((counts, "Office", "Training rows"), (curves, "Round", "Test accuracy [%]")):
        assert figure.get_supxlabel() == x
        assert {panel.get_ylabel() for panel in figure.axes} == {y, ""}
    assert scores.get_supxlabel() == "Score [%] (test accuracy, last five rounds)"
    assert "F1 [%]" in {panel.get_ylabel() for panel in classes.axes}
    for figure in (counts, curves, scores):
        assert figure.legends[0].get_title().get_text().startswith("UCI HAR: ")


def test_one_seed_has_no_band_and_says_so() -> None:
    _, curves, scores, _ = draw(SHAPES["one by one"]())
    assert not curves.axes[0].collections
    for figure in (curves, scores):
        assert "One seed: no interval" in figure.legends[0].get_title().get_text()
    _, curves, _, _ = draw(only_study(records(("iid",), ("fedavg",), seeds=2)))
    assert len(curves.axes[0].collections) == 1
    assert "Mean over two seeds, band: its 95 % t interval" in curves.legends[0].get_title().get_text()


def test_class_counts_show_the_offices_with_their_unevenness() -> None:
    panel = draw(only_study(records(("iid",), ("fedavg",), seeds=2)))[0].axes[0]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["CBS", "ISTAT", "ONS", "STATCAN"]
    assert panel.get_title() == "iid\nGini 0.00, JS 0.00, seed 0"
    assert sum(bar.get_height() for bar in panel.patches) == 6000
    assert len(panel.patches) == 4 * len(HAR)


def test_curves_are_the_means() -> None:
    study = only_study(records(("iid",), ("fedavg", "local"), seeds=3))
    _, curves, _, _ = draw(study)
    wanted = study.frames.rounds.merge(study.scored[["strategy"]], left_on="run", right_index=True)
    for line, strategy in zip(curves.axes[0].lines, ("fedavg", "local"), strict=True):
        means = wanted[wanted["strategy"] == strategy].groupby("round")["test_accuracy"].mean()
        np.testing.assert_allclose(np.asarray(line.get_ydata()), 100 * means)


def test_rounds_are_whole() -> None:
    curves = draw(only_study(records(("iid",), ("fedavg",), seeds=2, rounds=3)))[1]
    assert [text.get_text() for text in curves.axes[0].get_xticklabels() if text in texts(curves)] == ["1", "2", "3"]


def test_unfinished_cells_say_so() -> None:
    scores = draw(SHAPES["unfinished"]())[2]
    notes = " ".join(text.get_text() for text in texts(scores))
    assert "3/4 finished" in notes
    assert "local:  0/1 finished" in notes


def test_strategies_keep_their_look_in_every_figure() -> None:
    study = only_study(records(("iid",), seeds=2))
    look = looks(STRATEGIES)
    _, curves, scores, _ = draw(study)
    for figure in (curves, scores):
        legend = figure.legends[0]
        found = {
            text.get_text(): handle for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
        }
        for strategy in STRATEGIES:
            assert to_hex(found[strategy].get_color()) == look[strategy].colour.lower()  # type: ignore[union-attr]
            assert found[strategy].get_marker() == look[strategy].marker  # type: ignore[union-attr]


def test_looks_differ_and_arms_keep_theirs() -> None:
    found = looks([*MANY, *(f"x{n}" for n in range(24)), "local", "centralised", "centralised(steps=one)"])
    assert len({(one.colour, one.marker) for name, one in found.items() if "centralised" not in name}) == 43
    assert found["centralised"] != found["centralised(steps=one)"]
    assert found["local"] == looks(["local"])["local"]


def test_pages_hold_everything() -> None:
    made = figures.class_counts(SHAPES["thirteen partitions"]())
    assert len(made) == 2
    titles = [panel.get_title().split("\n")[0] for figure in made for panel in figure.axes]
    assert len(titles) == 13
    assert len(set(titles)) == 13
    scores = figures.scores(SHAPES["twenty strategies"](), looks([*MANY, "local", "centralised"]))
    assert [len(figure.axes[0].get_yticks()) for figure in scores] == [2]


def test_nothing_to_draw() -> None:
    assert draw(only_study([record(status="failed")])) == []
    assert len(draw(only_study([record(test=False)]))) == 1  # the partition alone


def test_files_embed_their_fonts_and_are_the_same_again(tmp_path: Path) -> None:
    study = only_study(records(("iid",), ("fedavg",), seeds=2))
    for name in ("a", "b"):
        for place, figure in enumerate(draw(study)):
            save(figure, tmp_path / f"{name}{place}.v1")
    for place in range(4):
        for ending in ("pdf", "png"):
            first, second = (tmp_path / f"{name}{place}.v1.{ending}" for name in ("a", "b"))
            assert first.read_bytes() == second.read_bytes()
        pdf = first.with_suffix(".pdf").read_bytes()
        assert b"/FontFile2" in pdf  # TrueType, embedded as Type 42
        assert b"/Type3" not in pdf
        assert b"CreationDate" not in pdf


def test_a_figure_leaves_no_settings_behind() -> None:
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30, "text.usetex": False, "axes.grid": False}):
        changed = dict(mpl.rcParams)
        with style():
            assert mpl.rcParams["font.size"] == FONT
            assert mpl.rcParams["pdf.fonttype"] == 42
        assert dict(mpl.rcParams) == changed
    assert dict(mpl.rcParams) == before
