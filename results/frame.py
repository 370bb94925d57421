"""Records as tidy data frames: a row a run, a round, an office, a class, a test person, a protected or private run.

A *cell* is all that is asked of a run but its seed: runs of one cell are repetitions, and every mean and interval is
over a cell. The trainer (whose kernels agree to 1e-5) and the engine (whose bits agree) are not part of it. Where a
cell holds one seed twice, made by two engines say, one of the two is `primary` and counts; costs alone look at all of
them.

A report of tuned runs beside default ones tells them apart by `origins`, a text a run: it becomes the option `ORIGIN`.
A run that stands for both (its default won the tuning) is then a row for each.

Rows are in the order of the runs' keys, whatever the order the records came in, so that every sum made of them is the
same.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from results import ResultsError
from results.compact import table
from results.record import RunRecord
from results.sections import Audit, Privacy, Promise, Protection, Section

NOT_IN_CELL = ("seed", "data_hash", "trainer")  # of the spec; the data's hash stands with the data set
ORIGIN = "tuned"  # where a run's hyper-parameters are from: an option like others, but given by the report's caller
DEFAULT = "default"  # of runs that `origins` does not name
Of = TypeVar("Of", bound=Section)
BOTH = f"{DEFAULT}, "  # a run's origin begins so where its default won: it stands for the default and for the rest


@dataclass(frozen=True)
class Frames:
    """What came out of many runs.

    Attributes:
        runs: one row a run, with the spec's options as columns, the final figures, unevenness, cost and environment;
            `cell` is a number, `primary` whether the run counts, `label_skewed` as the record's partition says it.
            Accuracies and F1 in [0, 1].
        rounds: one row a round, `run` being the row of `runs`.
        offices: one row an office, with `run` and `office` (from 0); `class_counts` is a list.
        classes: one row a class, with `run`, `class_` (from 0) and `f1` in [0, 1] of the final model.
        persons: one row a test person, with `run`, `person` (text) and `accuracy` of the final model in [0, 1] over
            its `total` rows.
        protection: one row a protected run, with `run` and the keys of the record's `protection`; its `rounds` are
            `all_rounds` here, `sees` is a dict, `clip` a number or `auto`.
        privacy: one row a private run, with `run` and the keys of the record's `privacy`: an infinite epsilon is inf,
            `clip_norm` nan where nothing was clipped, `steps` the most of any office, `public` a tuple of text and
            `offices` one of `PrivateOffice`. A promise within a promise (windows within offices) has a further row, in
            which `nested` is true.
        options: names of the spec's options, in their order; with origins, `ORIGIN` is the last.
    """

    runs: pd.DataFrame
    rounds: pd.DataFrame
    offices: pd.DataFrame
    classes: pd.DataFrame
    persons: pd.DataFrame
    protection: pd.DataFrame
    privacy: pd.DataFrame
    options: tuple[str, ...]

    def of(self, chosen: pd.Series[bool] | NDArray[np.bool_]) -> Frames:
        """The frames of some runs; `run` goes on pointing at the index of `runs`."""
        runs = self.runs[chosen]
        parts = {name: part for name, part in vars(self).items() if name not in ("runs", "options")}
        return replace(self, runs=runs, **{name: part[part["run"].isin(runs.index)] for name, part in parts.items()})


Skewed = Callable[[str], bool]  # whether a partition is label-skewed, by its notation


def skewed_unless_known(partition: str) -> bool:
    """The careful answer where nobody can tell: under skew a claim takes more seeds."""
    return True


def frames(
    records: Iterable[RunRecord] | pa.Table,
    origins: Mapping[str, str] | None = None,
    label_skewed: Skewed = skewed_unless_known,
) -> Frames:
    """Frames of records, or of a table of them (`compact.table`).

    Args:
        origins: by run_id, where a run's hyper-parameters are from (`default`, `tuned`, `tuned on iid`,
            `default, tuned`); without, nothing is told apart by it.
        label_skewed: of partitions of which no record says so (older ones do not).

    Raises:
        ResultsError: there is no run.
    """
    runs = records if isinstance(records, pa.Table) else table(records)
    if runs.num_rows == 0:
        raise ResultsError("no runs to report: make some with `sweep` or `run`, or name their folder with --results")
    if origins is not None:
        runs, origin = _by_origin(runs, origins)
    spec = _spec(runs["spec"])
    if origins is not None:
        spec[ORIGIN] = origin
    wide = pd.concat(
        [_pandas(runs.select(["run_id", "engine", "status", "error", "filtered"])), spec, _flat(runs)], axis=1
    )
    wide["strategy_options"] = runs["strategy_options"].to_pylist()
    wide["label_skewed"] = _skewed(wide, label_skewed)
    wide["cell"] = _cells(spec, wide["data_hash"])
    wide["primary"] = _primary(wide)
    classes = _exploded(runs, "final", "test_f1_per_class").rename(columns={"value": "f1", "place": "class_"})
    offices = _exploded(runs, "offices").rename(columns={"place": "office"})
    rounds, persons = _exploded(runs, "rounds"), _persons(runs)
    protection = _sections(runs["protection"], Protection, _PROTECTION, _protected)
    privacy = _sections(runs["privacy"], Privacy, _PRIVACY, _promises)
    return Frames(wide, rounds, offices, classes, persons, protection, privacy, tuple(spec.columns))


def _by_origin(runs: pa.Table, origins: Mapping[str, str]) -> tuple[pa.Table, list[str]]:
    """A row for every origin of a run, and the origins."""
    texts = [origins.get(run_id, DEFAULT) for run_id in runs["run_id"].to_pylist()]
    pairs = [
        (place, one)
        for place, text in enumerate(texts)
        for one in ((DEFAULT, text.removeprefix(BOTH)) if text.startswith(BOTH) else (text,))
    ]
    return runs.take([place for place, _ in pairs]), [one for _, one in pairs]


def _persons(runs: pa.Table) -> pd.DataFrame:
    """One row a test person of every run; the counts are JSON text in the table, since every run has its own names."""
    texts = pc.struct_field(runs["final"].combine_chunks(), "test_correct_by_person").to_pylist()
    decoder = msgspec.json.Decoder(dict[str, tuple[int, int]])
    rows = [
        (run, person, correct / total, total)
        for run, text in enumerate(texts)
        if text is not None
        for person, (correct, total) in decoder.decode(text).items()
        if total
    ]
    columns = {"run": "int64", "person": "str", "accuracy": "float64", "total": "int64"}
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _sections(
    column: pa.ChunkedArray, kind: type[Of], kinds: dict[str, Any], told: Callable[[Of], Iterable[dict[str, Any]]]
) -> pd.DataFrame:
    """What `told` makes of every run's section, a row each; a key that is not told is missing.

    Args:
        column: the sections as JSON text, null where a run has none.
        kinds: the columns, and what they hold.
    """
    decoder = msgspec.json.Decoder(kind)
    texts = enumerate(column.to_pylist())
    rows = [{"run": run, **row} for run, text in texts if text is not None for row in told(decoder.decode(text))]
    columns = {"run": "int64", **kinds}
    return pd.DataFrame(rows, columns=list(columns), dtype=object).astype(columns)


def _kinds(section: type[Section], prefix: str = "") -> dict[str, Any]:
    """The fields of a section as columns: text, numbers (as floats, so that they may be missing), or whatever it is."""
    found = {}
    for name, hint in typing.get_type_hints(section).items():
        held = set(typing.get_args(hint) or [hint]) - {type(None), msgspec.UnsetType}
        found[f"{prefix}{name}"] = "str" if held == {str} else float if held <= {int, float} else object
    return found


def _protected(found: Protection) -> Iterable[dict[str, Any]]:
    """A run's rounds have their name already: those of its protection take another."""
    yield {_RENAMED.get(name, name): value for name, value in _known(found).items()}


def _promises(found: Privacy) -> Iterable[dict[str, Any]]:
    """The promise of a run with what attacked it, and the promise within it."""
    attack = {} if found.audit is None else {f"audit_{name}": value for name, value in _known(found.audit).items()}
    yield {"nested": False, **_promise(found), **attack}
    if found.local:
        yield {"nested": True, **_promise(found.local)}


def _promise(found: Promise) -> dict[str, Any]:
    """One promise, flat. Null is how JSON writes an infinite epsilon."""
    flat = _known(found)
    flat["steps"] = max((office.steps for office in found.offices), default=None) if found.offices else found.steps
    for kind, group in (("person", found.group_person), ("signal", found.group_signal)):
        if group is not None:
            flat |= {f"{kind}_windows": group.windows, f"{kind}_epsilon": group.epsilon}
    for name in ("epsilon", "epsilon_rdp", "person_epsilon", "signal_epsilon"):
        if name in flat and flat[name] is None:
            flat[name] = np.inf
    return flat


def _known(found: Section) -> dict[str, Any]:
    """What a section says, by key; without what is missing where null says something else."""
    return {name: value for name, value in msgspec.structs.asdict(found).items() if value is not msgspec.UNSET}


_RENAMED = {"rounds": "all_rounds"}
_PROTECTION = {_RENAMED.get(name, name): kind for name, kind in _kinds(Protection).items()}
_GROUPS = {f"{kind}_{name}": float for kind in ("person", "signal") for name in ("windows", "epsilon")}
_FLAT = {name: kind for name, kind in _kinds(Promise).items() if not name.startswith("group_")}
_PRIVACY = {"nested": "bool", **_FLAT, **_GROUPS, **_kinds(Audit, "audit_")}


def _skewed(runs: pd.DataFrame, label_skewed: Skewed) -> pd.Series[bool]:
    """Whether each run's partition is label-skewed: all runs of one notation have one answer."""
    known = dict(runs.loc[runs["label_skewed"].notna(), ["partition", "label_skewed"]].to_numpy())
    answers = {text: bool(known[text] if text in known else label_skewed(text)) for text in runs["partition"].unique()}
    return runs["partition"].map(answers).astype(bool)


def _spec(column: pa.ChunkedArray) -> pd.DataFrame:
    """One column an option; numbers as numbers where every run has the option."""
    decoder = msgspec.json.Decoder(dict[str, Any])
    found = pd.DataFrame([decoder.decode(text) for text in column.to_pylist()], dtype=object)
    # A missing value would turn whole numbers into floats, and 4 offices into 4.0.
    typed = {name: one.infer_objects() if one.notna().all() else one for name, one in found.items()}
    return pd.DataFrame(typed)


def _pandas(part: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = part.to_pandas()
    return frame


def _flat(runs: pa.Table) -> pd.DataFrame:
    """The nested structs as columns. Names that would clash or say too little take a prefix."""
    parts = []
    for struct, skipped, renamed in (
        ("data", ("form", "hash"), {name: f"data_{name}" for name in ("name", "title", "notes", "classes")}),
        ("partition", (), {"hash": "partition_hash"}),
        ("final", ("test_f1_per_class", "test_correct_by_person"), {}),
        ("cost", (), {}),
        ("environment", ("data_hash",), {}),
    ):
        column = runs[struct].combine_chunks()
        fields = [field.name for field in column.type if field.name not in skipped]
        part = pa.table({renamed.get(name, name): pc.struct_field(column, name) for name in fields})
        parts.append(_pandas(part))
    return pd.concat(parts, axis=1)


def _exploded(runs: pa.Table, *path: str) -> pd.DataFrame:
    """A nested list as one row an item, with the `run` it belongs to and its `place` in the list."""
    lists = runs[path[0]].combine_chunks()
    for name in path[1:]:
        lists = pc.struct_field(lists, name)
    run = pc.list_parent_indices(lists).to_numpy()
    items = lists.flatten()
    struct = pa.types.is_struct(items.type)
    values = _pandas(pa.Table.from_struct_array(items) if struct else pa.table({"value": items}))
    starts = np.searchsorted(run, run)  # first row of the same run: `run` ascends
    values.insert(0, "run", run)
    values.insert(1, "place", np.arange(len(run)) - starts)
    return values


def _cells(spec: pd.DataFrame, data_hash: pd.Series[str]) -> pd.Series[int]:
    """Cell numbers. An option that is null or false is the same as one that an older record does not know."""
    asked = spec.drop(columns=[name for name in NOT_IN_CELL if name in spec]).astype(object)
    rows = asked.where(asked.notna(), None).to_dict("records")
    said = [{k: v for k, v in row.items() if v is not None and v is not False} for row in rows]
    texts = [msgspec.json.encode(row, order="sorted") for row in said]
    names = pd.Series([text.decode() for text in texts], index=spec.index) + data_hash.astype(str)
    return pd.Series(pd.factorize(names, sort=True)[0], index=spec.index)


def _primary(runs: pd.DataFrame) -> pd.Series[bool]:
    """One run a cell and seed: finished before unfinished, in process before other engines, trainer `auto` first."""
    rank = pd.DataFrame(
        {
            "cell": runs["cell"],
            "seed": runs["seed"],
            "status": runs["status"].map({"ok": 0, "diverged": 1, "failed": 2}),
            "engine": runs["engine"].ne("inprocess"),
            "trainer": runs["trainer"].ne("auto") if "trainer" in runs else False,
        }
    ).sort_values(["cell", "seed", "status", "engine", "trainer"], kind="stable")
    return ~rank.duplicated(["cell", "seed"]).reindex(runs.index)
