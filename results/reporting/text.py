"""How numbers of a cell are written in tables: one place for decimals, signs, marks and shortened lists."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

NOTHING = "–"  # no value
HASH = 8  # digits shown


def level(found: pd.DataFrame, name: str) -> pd.Series[str]:
    """A measure of cells, in percent: `91.23 ± 0.45`, or without interval for one run."""
    values = zip(100 * found[name], 100 * found[f"{name}_half"], found[f"{name}_equal"], strict=True)
    return _series((_level(*value) for value in values), found)


def _level(mean: float, half: float, equal: bool) -> str:
    if mean != mean:
        return NOTHING
    if half != half:
        return f"{mean:.2f}"
    return f"{mean:.2f} (all equal)" if equal else f"{mean:.2f} ± {half:.2f}"


def points(mean: pd.Series[float], half: pd.Series[float], equal: pd.Series[bool]) -> pd.Series[str]:
    """Signed differences with their half-width, as `level`."""
    return _series((_points(*value) for value in zip(mean, half, equal, strict=True)), mean)


def _points(mean: float, half: float, equal: bool) -> str:
    if mean != mean:
        return NOTHING
    signed = f"{mean:+.2f}"
    text = "0.00" if signed in ("+0.00", "-0.00") else signed
    if half != half:
        return text
    return f"{text} (all equal)" if equal else f"{text} ± {half:.2f}"


def numbers(values: pd.Series[float], digits: int = 2) -> pd.Series[str]:
    """Numbers with a fixed number of decimals; a zero has no sign."""
    zero = f"-{0:.{digits}f}"
    texts = (NOTHING if value != value else f"{value:.{digits}f}" for value in values)
    return _series((text[1:] if text == zero else text for text in texts), values)


def significant(values: pd.Series[float], digits: int = 2, nothing: str = NOTHING) -> pd.Series[str]:
    """Numbers with so many significant digits: `0.0012`, `3.4e-05`."""
    return _series((nothing if value != value else f"{value:.{digits}g}" for value in values), values)


def p_values(values: pd.Series[float]) -> pd.Series[str]:
    """`0.031`, or `<0.001`."""
    return _series(
        (NOTHING if value != value else "<0.001" if value < 0.001 else f"{value:.3f}" for value in values), values
    )


def spread(mean: pd.Series[float], low: pd.Series[float], high: pd.Series[float], digits: int = 2) -> pd.Series[str]:
    """`0.29 (0.11–0.45)`, or the mean alone where all values look the same."""

    def one(middle: float, least: float, most: float) -> str:
        parts = [f"{value:.{digits}f}" for value in (middle, least, most)]
        return parts[0] if parts[1] == parts[2] else f"{parts[0]} ({parts[1]}–{parts[2]})"

    return _series((one(*value) for value in zip(mean, low, high, strict=True)), mean)


def finished(found: pd.DataFrame) -> pd.Series[str]:
    """`5`, or `[3/5]` where two of five did not finish."""
    counts = zip(found["finished"], found["runs"], strict=True)
    return _series((str(runs) if done == runs else f"[{done}/{runs}]" for done, runs in counts), found)


def flags(found: pd.DataFrame) -> pd.Series[str]:
    """What must be said of a cell, in a few characters: unfinished runs, filtered updates, draws that moved rows."""
    columns = zip(found["finished"], found["runs"], found["filtered"], found["marked"], strict=True)
    return _series(
        (
            f" [{done}/{runs}]" * (done != runs) + " (f)" * bool(filtered) + " (m)" * bool(marked)
            for done, runs, filtered, marked in columns
        ),
        found,
    )


def marks(found: pd.DataFrame) -> pd.Series[str]:
    """The same in words with their counts."""
    words = {"diverged": "diverged", "failed": "failed", "filtered": "filtered (f)", "marked": "moved > 5 % (m)"}
    columns = zip(*(found[name] for name in words), strict=True)
    return _series(
        (", ".join(f"{n} {word}" for n, word in zip(row, words.values(), strict=True) if n) for row in columns), found
    )


def ranges(values: Sequence[int]) -> str:
    """Sorted whole numbers with runs shortened: `0-4, 7`."""
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][-1] + 1:
            parts[-1].append(value)
        else:
            parts.append([value])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def digest(hashes: Sequence[str]) -> str:
    """One short name for the partitions of a cell's seeds: a hash's first digits, or those of the hash of all."""
    if len(hashes) < 2:
        return hashes[0][:HASH] if hashes else NOTHING
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:HASH]


def strategy_options(text: str, notation: str) -> tuple[str, str]:
    """A strategy's weighting and its other options.

    Args:
        text: its options with their values as JSON, defaults included; `{}` where the record does not hold them.
        notation: its canonical text, which leaves defaults out.
    """
    known: dict[str, Any] = json.loads(text)
    if not known:
        inside = notation.partition("(")[2].removesuffix(")")
        weighting = re.search(r"\bweighting=(\w+)", inside)
        rest = re.sub(r"\bweighting=\w+(, )?", "", inside).removesuffix(", ")
        return (weighting[1] if weighting else "default"), rest or NOTHING
    rest = ", ".join(f"{name}={_option(value)}" for name, value in sorted(known.items()) if name != "weighting")
    return str(known.get("weighting", NOTHING)), rest or NOTHING


def _option(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _series(texts: Iterable[str], like: pd.DataFrame | pd.Series[Any]) -> pd.Series[str]:
    return pd.Series(list(texts), index=like.index, dtype=str)
