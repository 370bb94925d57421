"""Named streams: independent, repeatable, and never the trap of lists as seeds."""

from __future__ import annotations

import itertools

import numpy as np

from experiments.federation.seeds import Purpose, stream


def test_streams_differ_in_every_part_of_their_name() -> None:
    names = list(itertools.product((0, 1, 2**40), Purpose, (0, 1, 7), (0, 1, 5)))
    firsts = {tuple(stream(*name).integers(0, 2**63, 2)) for name in names}
    assert len(firsts) == len(names)


def test_a_stream_repeats() -> None:
    assert np.array_equal(stream(3, Purpose.ORDER, 2, 1).random(5), stream(3, Purpose.ORDER, 2, 1).random(5))


def test_streams_are_not_correlated() -> None:
    draws = np.stack(
        [stream(0, Purpose.ORDER, round_, client).standard_normal(4000) for round_ in (1, 2) for client in (0, 1)]
    )
    correlations = np.corrcoef(draws)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)


def test_the_numbers_of_purposes_never_change() -> None:
    expected = ["INITIAL_WEIGHTS", "PARTITION", "VALIDATION", "COHORT", "ORDER", "STRATEGY"]
    assert [purpose.name for purpose in sorted(Purpose)][: len(expected)] == expected
