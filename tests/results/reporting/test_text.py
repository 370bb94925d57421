"""Small texts: lists of seeds, short hashes, file names, a strategy's options."""

from __future__ import annotations

import pandas as pd
import pytest

from results.files import slug
from results.reporting.study import natural
from results.reporting.text import digest, numbers, p_values, points, ranges, strategy_options


def test_small_words() -> None:
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert ranges([]) == ""
    assert slug("UCI HAR (rebuilt zip)") == "uci-har-rebuilt-zip"
    assert sorted(["a10", "a9", "a1e-3", "b"], key=natural) == ["a1e-3", "a9", "a10", "b"]
    assert digest([]) == "–"
    assert digest(["abcdef0123"]) == "abcdef01"
    assert digest(["a", "b"]) == digest(["a", "b"]) != digest(["b", "a"])


@pytest.mark.parametrize(
    ("known", "notation", "wanted"),
    [
        ('{"weighting":"examples","mu":0.01}', "fedprox(mu=0.01)", ("examples", "mu=0.01")),
        ('{"weighting":"uniform"}', "fedavg(weighting=uniform)", ("uniform", "–")),
        ('{"q":1.0,"on":true}', "qffl", ("–", "on=true, q=1.0")),
        ("{}", "fedprox(mu=0.01, weighting=uniform)", ("uniform", "mu=0.01")),
        ("{}", "fedavg", ("default", "–")),
    ],
)
def test_a_strategys_options(known: str, notation: str, wanted: tuple[str, str]) -> None:
    assert strategy_options(known, notation) == wanted


def test_numbers_with_no_sign_of_zero_and_no_value() -> None:
    nan = float("nan")
    assert list(numbers(pd.Series([-0.001, -0.01, nan, 2.0]))) == ["0.00", "-0.01", "–", "2.00"]
    assert list(p_values(pd.Series([0.0005, 0.001, 0.25, nan]))) == ["<0.001", "0.001", "0.250", "–"]
    found = points(pd.Series([1.0, nan]), pd.Series([0.5, nan]), pd.Series([False, False]))
    assert list(found) == ["+1.00 ± 0.50", "–"]
