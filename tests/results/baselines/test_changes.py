"""Verdicts: each one on made-up numbers, the limit by hand, and how often a check cries wolf."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from results.baselines.baselines import CellKey, Outcome
from results.baselines.changes import BITS_ONLY, CATCH, Judgement, Verdict, changes, detectable, judge, summary, table
from results.reporting.render import to_markdown, to_text
from tests.results.baselines.test_baselines import baselines, cell

OLD = (80.0, 70.0, 75.0, 78.0, 72.0)


def moved(by: float, digest: str | None = None) -> dict[int, Outcome]:
    """Every seed's score moved by as much."""
    return {seed: Outcome(score + by, digest or f"{seed:016x}") for seed, score in enumerate(OLD)}


def verdict(by: float, bits: bool, sd: float | None = 0.05, digest: str | None = None) -> Verdict:
    return judge(cell(scores=OLD, jitter=sd), moved(by, digest), cells=40, bits=bits).verdict


def test_the_same_bits_are_identical() -> None:
    assert verdict(0, bits=True) is Verdict.IDENTICAL
    assert not Verdict.IDENTICAL.fails


def test_other_bits_are_a_change_even_with_the_same_scores() -> None:
    assert verdict(0, bits=True, digest="f" * 16) is Verdict.CHANGED
    assert verdict(0.05, bits=True, digest="f" * 16) is Verdict.CHANGED
    assert not Verdict.CHANGED.fails


def test_another_score_from_the_same_rounds_is_no_identity() -> None:
    assert verdict(-1e-9, bits=True) is Verdict.CHANGED
    assert verdict(-1, bits=True) is Verdict.REGRESSED


def test_elsewhere_only_means_count() -> None:
    assert verdict(0.05, bits=False, digest="f" * 16) is Verdict.WITHIN
    assert verdict(0, bits=False) is Verdict.WITHIN
    assert verdict(-1, bits=False, digest="f" * 16) is Verdict.REGRESSED
    assert verdict(1, bits=False, digest="f" * 16) is Verdict.IMPROVED
    assert not Verdict.WITHIN.fails
    assert Verdict.REGRESSED.fails
    assert Verdict.IMPROVED.fails


def test_differences_are_paired() -> None:
    """Seeds are ten points apart; a shift of all by 0.2 is seen, and its mean is that."""
    row = judge(cell(scores=OLD, jitter=0.01), moved(-0.2), cells=40, bits=False)
    assert row.verdict is Verdict.REGRESSED
    assert row.difference == pytest.approx(-0.2)
    assert (row.seeds, row.committed, row.now) == (5, pytest.approx(75), pytest.approx(74.8))


def test_the_limit_by_hand() -> None:
    limit, least = detectable(0.1, 8.0, n=5, cells=40)
    assert limit == pytest.approx(stats.t.ppf(1 - 0.005 / 40, 8) * 0.1 / 5**0.5)
    assert least == pytest.approx(limit + stats.t.ppf(CATCH, 8) * 0.1 / 5**0.5)
    assert detectable(0.0, 8.0, n=5, cells=40) == (0.1, 0.1)
    assert detectable(0.01, 8.0, n=5, cells=40)[0] == 0.1, "never less than a tenth of a point"
    assert detectable(None, None, n=5, cells=40) == (None, None)
    assert detectable(0.1, 8.0, n=0, cells=40) == (None, None)


def test_either_side_of_the_limit() -> None:
    limit, _ = detectable(0.2, 8.0, n=5, cells=40)
    assert limit is not None
    assert verdict(-(limit - 1e-6), bits=False, sd=0.2) is Verdict.WITHIN
    assert verdict(-(limit + 1e-6), bits=False, sd=0.2) is Verdict.REGRESSED


def test_a_cell_that_cannot_tell_a_point_guards_bits_only() -> None:
    rows = [judge(cell(scores=OLD, jitter=sd), moved(-1), cells=40, bits=False) for sd in (0.05, 2.0, None)]
    assert [row.bits_only for row in rows] == [False, True, True]
    assert [row.verdict for row in rows] == [Verdict.REGRESSED, Verdict.WITHIN, Verdict.WITHIN]
    assert to_text(table("t", [], rows)).count(BITS_ONLY) == 2
    same = judge(cell(scores=OLD, jitter=2.0), moved(0, "f" * 16), cells=40, bits=True)
    assert (same.verdict, same.bits_only) == (Verdict.CHANGED, True), "its bits are still looked at"


def test_the_least_detectable_change_is_caught_as_often_as_promised() -> None:
    rng = np.random.default_rng(1)
    sd, tries = 0.3, 1000
    _, least = detectable(sd, 1e6, n=5, cells=40)
    assert least is not None
    caught = [
        judge(
            cell(scores=OLD, jitter=sd, df=1e6),
            {
                seed: Outcome(score - least + noise, "")
                for seed, (score, noise) in enumerate(zip(OLD, row, strict=True))
            },
            cells=40,
            bits=False,
        ).verdict
        is Verdict.REGRESSED
        for row in sd * rng.normal(size=(tries, 5))
    ]
    assert np.mean(caught) == pytest.approx(CATCH, abs=0.01)


def test_a_whole_check_cries_wolf_in_one_of_a_hundred_at_most() -> None:
    """Jitter measured from six moved draws, seeds of unequal spread, forty cells, a hundred checks."""
    from results.baselines.baselines import jitter

    rng = np.random.default_rng(2)
    cells, checks, alarms = 40, 100, 0
    scale = np.array([0.5, 0.1, 0.3, 0.2, 0.4])
    draws = scale[:, None] * rng.normal(size=(checks, cells, 5, 8))  # committed, six moved, and the check's own
    for check in draws:
        failed = False
        for one in check:
            measured = jitter({seed: one[seed, :7].tolist() for seed in range(5)})
            assert measured is not None
            limit, _ = detectable(measured.sd, measured.df, n=5, cells=cells)
            failed |= bool(abs((one[:, 7] - one[:, 0]).mean()) > (limit or 0))
        alarms += failed
    assert alarms <= stats.binom.ppf(0.999, checks, 0.01)


def test_two_seeds_are_judged_by_two() -> None:
    runs = {seed: outcome for seed, outcome in moved(-1).items() if seed < 2}
    row = judge(cell(scores=OLD), runs, cells=40, bits=False)
    assert (row.seeds, row.verdict) == (2, Verdict.REGRESSED)
    assert row.limit == detectable(0.05, 8.0, n=2, cells=40)[0]


def test_a_seed_without_baseline_is_new() -> None:
    row = judge(cell(scores=OLD[:4]), moved(0), cells=40, bits=True)
    assert (row.verdict, row.note) == (Verdict.NEW, "no baseline of seed 4")
    assert Verdict.NEW.fails


def test_a_run_that_lost_its_score_is_a_regression() -> None:
    for problem in ("diverged: round 3", "failed: RuntimeError"):
        runs = moved(0) | {3: Outcome(None, "0", problem)}
        row = judge(cell(scores=OLD), runs, cells=40, bits=True)
        assert (row.verdict, row.note) == (Verdict.REGRESSED, f"seed 3 {problem}")


def test_a_run_that_always_diverged_is_judged_by_its_bits() -> None:
    old = cell(scores=(*OLD[:4], None), jitter=None, df=None)
    diverged = Outcome(None, f"{4:016x}", "diverged: round 3")
    assert judge(old, moved(0) | {4: diverged}, cells=40, bits=True).verdict is Verdict.IDENTICAL
    other = Outcome(None, "f" * 16, "diverged: round 3")
    assert judge(old, moved(0) | {4: other}, cells=40, bits=True).verdict is Verdict.CHANGED
    assert judge(old, moved(0) | {4: other}, cells=40, bits=False).verdict is Verdict.WITHIN
    failed = Outcome(None, f"{4:016x}", "failed: RuntimeError")
    assert judge(old, moved(0) | {4: failed}, cells=40, bits=False).verdict is Verdict.REGRESSED
    healed = judge(old, moved(0), cells=40, bits=True)
    assert (healed.verdict, healed.note) == (Verdict.CHANGED, "seed 4 has a score now")


def test_a_cell_whose_runs_all_diverge_needs_no_number() -> None:
    old = cell(scores=(None, None), jitter=None, df=None)
    runs = {seed: Outcome(None, f"{seed:016x}", "diverged: round 1") for seed in (0, 1)}
    row = judge(old, runs, cells=40, bits=True)
    assert (row.verdict, row.seeds, row.difference) == (Verdict.IDENTICAL, 0, None)
    assert "–" in to_text(table("t", [], [row]))


def test_the_table_tells_the_verdicts_apart() -> None:
    rows = [
        judge(cell("fedavg", OLD), moved(0), cells=3, bits=True),
        judge(cell("fedprox", OLD), moved(0.02), cells=3, bits=True),
        judge(cell("local", OLD), moved(-1), cells=3, bits=True),
        Judgement(CellKey("iid", "fedsqrt"), Verdict.NEW, note="no baseline yet"),
    ]
    shown = table("watch", ["How."], rows)
    lines = to_text(shown).splitlines()[-4:]
    for line, told in zip(lines, ("identical", "changed, within jitter", "regressed", "new"), strict=True):
        assert told in line
    assert "-1.000" in lines[2]
    assert "no baseline yet" in lines[3]
    assert to_markdown(shown).count("\n|") == 6
    assert summary(rows) == "4 cells: 1 identical; 1 changed, within jitter; 1 regressed; 1 new"


def test_changes_read_as_a_commit_message() -> None:
    old = baselines(cell("fedavg", (80.0, 70.0)), cell("local", (60.0, 50.0)), cell("gone", (1.0, 2.0)))
    new = baselines(
        cell("fedavg", (79.0, 69.5), jitter=0.02), cell("local", (60.0, 50.0)), cell("late", (None, None), jitter=None)
    )
    assert changes(old, new) == [
        "iid, fedavg: 75.000 -> 74.250 (-0.750 points; jitter 0.014)",
        "iid, late: new, no score",
        "iid, gone: gone",
    ]
    assert changes(old, old) == []
    assert changes(None, baselines(cell("fedavg", (80.0, 70.0)))) == ["iid, fedavg: new, 75.000"]
    assert changes(old, baselines(*old.cells, cpu_path="AVX512F")) == ["CPU path AVX512F (baseline: AVX2)"]
