"""Baselines: the file, the digest and the jitter, against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from results import ResultsError
from results.baselines.baselines import MEASURED, Baselines, Cell, Outcome, digest, encode, jitter, read, write
from results.record import Round
from tests.results.builder import record

HEAD = {"dataset": "watch", "data_hash": "ab" * 32, "settings": {"rounds": 10}, "draws": 4}
HOME = {"versions": {"python": "3.12.3", "torch": "2.13.0"}, "cpu_path": "AVX2"}


def cell(strategy: str = "fedavg", scores: tuple[float | None, ...] = (80.1, 79.3), **changes: object) -> Cell:
    seeds = {seed: Outcome(score, f"{seed:016x}") for seed, score in enumerate(scores)}
    fields = {"partition": "iid", "strategy": strategy, "seeds": seeds, "jitter": 0.05, "df": 8.0, "commit": "abc"}
    return Cell(**{**fields, **changes})


def baselines(*cells: Cell, **changes: object) -> Baselines:
    return Baselines(**{**HEAD, **HOME, "cells": cells, **changes})


def test_a_file_reads_as_it_was_written(tmp_path: Path) -> None:
    found = baselines(
        cell(scores=(100 * 0.1, 200 / 3)), cell("local", (None, 1e-17), jitter=None, df=None, commit=None)
    )
    path = tmp_path / "new" / "watch.json"
    write(path, found)
    assert read(path) == found
    assert [file.name for file in path.parent.iterdir()] == ["watch.json"]


def test_a_change_of_one_cell_is_a_change_of_one_line() -> None:
    one = encode(baselines(cell(), cell("local"))).decode().splitlines()
    other = encode(baselines(cell(), cell("local", (80.2, 79.3)))).decode().splitlines()
    assert [line for line in one if line not in other] == [line for line in one if '"local"' in line]
    assert len(one) == len(other)


def test_no_file_is_none_and_a_broken_one_says_what_to_do(tmp_path: Path) -> None:
    assert read(tmp_path / "watch.json") is None
    for text, told in (
        (b'{"schema": 1', "truncated"),
        (encode(baselines()).replace(b'"schema": 1', b'"schema": 7'), "schema version 7, expected 1"),
        (encode(baselines()).replace(b'"draws": 4', b'"draws": "x"'), "draws"),
    ):
        (tmp_path / "watch.json").write_bytes(text)
        with pytest.raises(ResultsError, match="make baselines") as caught:
            read(tmp_path / "watch.json")
        assert told in str(caught.value)


def test_a_folder_that_cannot_be_written_is_told() -> None:
    with pytest.raises(ResultsError, match="choose another --results"):
        write(Path("/proc/none/watch.json"), baselines())


def test_where_bits_do_not_compare_is_said() -> None:
    here = baselines()
    assert here.elsewhere(baselines(draws=9)) == []
    [version] = here.elsewhere(baselines(versions={"python": "3.12.3", "torch": "2.14.0"}))
    assert version == "torch 2.14.0 (baseline: 2.13.0)"
    [path] = here.elsewhere(baselines(cpu_path="AVX512F"))
    assert path == "CPU path AVX512F (baseline: AVX2)"
    [data] = here.elsewhere(baselines(data_hash="cd" * 32))
    assert data == "other data content cdcdcdcd (baseline: abababab)"


def test_a_digest_sees_every_figure_of_every_round_and_their_order() -> None:
    rows = (Round(round=1, test_accuracy=0.5, test_loss=1.0), Round(round=2, test_accuracy=0.6))
    seen = {digest(rows), digest(rows[::-1]), digest(rows[:1])}
    for name in MEASURED:
        value = 3 if name == "round" else np.nextafter(0.6, 1).item()
        seen.add(digest((rows[0], msgspec.structs.replace(rows[1], **{name: value}))))
    assert len(seen) == 3 + len(MEASURED)
    assert digest(rows) == digest(list(rows))


def test_an_outcome_is_in_points_and_compares_score_and_bits() -> None:
    whole = record()
    outcome = Outcome.of(whole)
    assert outcome.score == 100 * whole.final.score  # type: ignore[union-attr]
    assert outcome.same(Outcome(outcome.score, outcome.digest))
    assert not outcome.same(Outcome(outcome.score + 1e-12, outcome.digest))  # type: ignore[operator]
    assert not outcome.same(Outcome(outcome.score, "0" * 16))
    lost = Outcome.of(record(status="failed"))
    assert (lost.score, lost.problem) == (None, "failed: RuntimeError: no memory")
    assert (Outcome.of(record(status="diverged")).problem or "").startswith("diverged")


def test_jitter_by_hand() -> None:
    # Variances 0.02 and 0 with two degrees of freedom each: sd^2 = 2 (0.02 + 0) / 2; all of it lies in one seed.
    measured = jitter({0: [80.0, 80.2, 80.0], 1: [70.0, 70.0, 70.0]})
    v = np.var([80.0, 80.2, 80.0], ddof=1)
    assert measured is not None
    assert measured.sd == pytest.approx(np.sqrt(2 * v / 2))
    assert measured.df == pytest.approx(2)
    # Equal variances pool all degrees of freedom.
    measured = jitter({0: [80.0, 80.2, 80.0], 1: [70.0, 70.2, 70.0]})
    assert measured is not None
    assert measured.df == pytest.approx(4)


def test_jitter_is_the_spread_of_a_difference_of_two_draws() -> None:
    rng = np.random.default_rng(0)
    scales = np.array([0.05, 0.3])
    measured = jitter({seed: (80 + scale * rng.normal(size=4000)).tolist() for seed, scale in enumerate(scales)})
    d = scales * rng.normal(size=(4000, 2)) - scales * rng.normal(size=(4000, 2))
    assert measured is not None
    assert measured.sd / np.sqrt(2) == pytest.approx(d.mean(axis=1).std(), rel=0.03)


def test_no_jitter_is_zero_and_an_unknown_one_is_none() -> None:
    third = 100 * 0.1 / 3
    assert jitter({0: [third] * 5, 1: [70.0] * 5}) == (0.0, 8.0)
    assert jitter({0: [80.0, None, 80.0], 1: [70.0] * 3}) is None, "rounding decides whether there is a score"
    assert jitter({0: [80.0], 1: [70.0]}) is None
    assert jitter({}) is None
