"""Looking into a store: the lines of `results ls`, the pages of `results show`, and what a merge did."""

from __future__ import annotations

import msgspec

from results.record import Glance, RunRecord, encode
from results.rules import rule
from results.store import Merged, Store


def ls(store: Store, status: str | None = None) -> str:
    """A line a run, sorted by key: id, engine, status, score, data set, partition, rule, seed.

    Args:
        status: only runs of this status.

    Raises:
        ResultsError: a run's file is broken.
    """
    rows = [_line(one) for one in store.glances() if status in (None, one.status)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _line(one: Glance) -> tuple[str, ...]:
    score = "" if one.score is None else f"{100 * one.score:6.2f} %"
    dataset, partition, seed = (str(one.spec.get(name, "")) for name in ("dataset", "partition", "seed"))
    named = rule(one.spec.get("strategy", ""), one.spec.get("loss"))
    return (one.run_id, one.engine, one.status, score, dataset, partition, named, seed)


def show(record: RunRecord) -> str:
    """A whole record as indented JSON."""
    return msgspec.json.format(encode(record), indent=2).decode()


def merged(done: Merged) -> str:
    """What a merge did, in a line or two."""
    text = f"{len(done.copied)} runs copied, {len(done.same)} here already"
    if done.different:
        names = ", ".join("-".join(key) for key in done.different[:5])
        more = ", ..." if len(done.different) > 5 else ""
        text += f"\n{len(done.different)} differ from ours, which were kept (other code or CPU path?): {names}{more}"
    return text
