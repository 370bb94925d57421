"""`check`: repeat the runs of the grid `baselines` and hold them against the files in `results/baselines/`.

`--update` writes the files instead: cells whose rounds are the same to the bit keep their line; the others are
measured anew, their jitter from several runs a seed whose first weights were moved by one ulp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from msgspec.structs import replace

from experiments.config.errors import UserError
from experiments.federation import provenance
from experiments.federation.run import nested
from experiments.regression.repeat import GRID, Cells, Part, cell_of, outcomes, prepare
from results.baselines.baselines import Baselines, Cell, CellKey, Jitter, Outcome, Outcomes, jitter, read, write
from results.baselines.changes import Judgement, Verdict, changes, judge, summary, table
from results.reporting.render import to_text
from results.store import check_writable
from strategies import Strategy

Committed = Mapping[str, Baselines | None]  # files by data set


@dataclass(frozen=True)
class Options:
    """The command line's; `results` is the folder that `baselines` lies in."""

    results: Path
    quick: bool = False
    means_only: bool = False
    update: bool = False
    only: Sequence[str] = ()
    data: Path | None = None
    workers: int | None = None

    def path(self, dataset: str) -> Path:
        """The file of a data set."""
        return self.results / "baselines" / f"{dataset}.json"


def check(options: Options) -> tuple[str, int]:
    """Judge, or rewrite.

    Returns:
        the text for people; and the exit status: 0 if no cell fails (a warning where bits changed), else 1.

    Raises:
        UserError, DataError, ResultsError: before anything is trained.
        KeyboardInterrupt: Ctrl-C; nothing was written.
    """
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers must be at least 1; found {options.workers}")
    for flag, given in (("--quick", options.quick), ("--means-only", options.means_only)):
        if options.update and given:
            raise UserError(f"--update {flag}: a baseline takes every seed and its bits; leave {flag} out")
    if options.update and any(text.partition("=")[0].strip() == "seed" for text in options.only):
        raise UserError("--update --only seed=...: a baseline takes every seed; narrow by another option")
    parts, absent = prepare(options.only, options.quick, options.data)
    committed = {part.name: read(options.path(part.name)) for part in parts}
    for part in parts:
        _comparable(part, committed[part.name], options)
    if options.update:
        check_writable(options.path(parts[0].name).parent)
    started = perf_counter()
    provenance.commit()  # looked up once, and now: files may be edited while the runs are made
    found, seconds = outcomes(parts, options.workers)
    text, fails = (_update if options.update else _judge)(parts, found, committed, options)
    runs = sum(len(part.work.specs) for part in parts)
    moved = " and those moved by an ulp" if options.update else f", {seconds:.0f} s of CPU time in them"
    time = f"{runs} runs{moved}; {perf_counter() - started:.0f} s"
    return "\n".join([text, *absent, time]) + "\n", int(fails)


def _comparable(part: Part, old: Baselines | None, options: Options) -> None:
    """Refuse to compare, or to mix in one file, what was made differently.

    Raises:
        UserError: what differs.
    """
    if old is None or (options.update and not options.only):
        return
    path = options.path(part.name)
    if old.dataset != part.name:
        raise UserError(f"{path} holds baselines of {old.dataset}, expected {part.name}; take it from git again")
    if old.settings != part.head.settings:
        raise UserError(
            f"{path} was made with {old.settings}, but the grid {GRID} has {part.head.settings}; "
            f"make it anew with `make baselines`"
        )
    elsewhere = old.elsewhere(part.head)
    if old.draws != part.head.draws:
        elsewhere.append(f"{part.head.draws} moved runs a seed (baseline: {old.draws})")
    if options.update and elsewhere:
        raise UserError(f"--update --only: {path} was made elsewhere ({'; '.join(elsewhere)}); leave --only out")


def _judge(
    parts: Sequence[Part], found: Mapping[str, Cells], committed: Committed, options: Options
) -> tuple[str, bool]:
    """The tables, one line of summary, and what to do."""
    count = sum(len(cells) for cells in found.values())
    texts: list[str] = []
    every: list[Judgement] = []
    for part in parts:
        old = committed[part.name]
        elsewhere = [] if old is None else old.elsewhere(part.head)
        bits = not options.means_only and not elsewhere
        rows = _rows(part, found[part.name], old, count, bits)
        if not options.only:
            rows += _gone(part, old)
        title = f"{part.title} against {options.path(part.name)}"
        texts.append(to_text(table(title, [_how(old, bits, elsewhere)], rows)))
        every += rows
    texts.append("\n".join([summary(every), *_advice(every)]))
    return "\n".join(texts), any(row.verdict.fails for row in every)


def _rows(part: Part, cells: Cells, old: Baselines | None, count: int, bits: bool) -> list[Judgement]:
    known = {} if old is None else old.by_key
    strategies = {cell_of(spec): spec.strategy for spec in part.work.specs}
    rows = []
    for key, runs in cells.items():
        if key in known:
            rows.append(judge(known[key], runs, cells=count, bits=bits and reproducible(strategies[key])))
        else:
            rows.append(Judgement(key, Verdict.NEW, note="no baseline yet: make baselines"))
    for key, reason in part.refused.items():
        rows.append(Judgement(key, Verdict.REGRESSED if key in known else Verdict.REFUSED, note=reason))
    return rows


def reproducible(strategy: Strategy) -> bool:
    """Whether a run of it has the same bits again: noise of the operating system has others every time."""
    return not any(getattr(part, "secure_rng", False) for part in nested(strategy))


def _gone(part: Part, old: Baselines | None) -> list[Judgement]:
    known = () if old is None else old.by_key
    note = "the grid has no such cell any more: make baselines"
    return [Judgement(key, Verdict.GONE, note=note) for key in known if key not in part.every]


def _how(old: Baselines | None, bits: bool, elsewhere: Sequence[str]) -> str:
    """What the verdicts of a table rest on."""
    if old is None:
        return "There is no such file yet."
    if bits:
        return "Same versions, CPU path and data: bits are compared."
    why = f"made elsewhere ({'; '.join(elsewhere)})" if elsewhere else "as asked"
    return f"Means are judged, bits are not: {why}."


def _advice(rows: Sequence[Judgement]) -> list[str]:
    """What to do, a line a matter."""
    found = {row.verdict for row in rows}
    lines = []
    if Verdict.CHANGED in found:
        lines.append("warning: bits changed, scores did not; if that was meant, `make baselines` records it")
    if found & {Verdict.REGRESSED, Verdict.IMPROVED}:
        lines.append(
            "failed: scores moved by more than rounding moves them; `make baselines` records it if it was meant"
        )
    if found & {Verdict.NEW, Verdict.GONE}:
        lines.append("failed: the files do not name the strategies that there are; `make baselines` mends them")
    return lines


def _update(
    parts: Sequence[Part], found: Mapping[str, Cells], committed: Committed, options: Options
) -> tuple[str, bool]:
    """Write the files; the differences for a commit message, and whether a run failed."""
    kept = {part.name: _kept(part, found[part.name], committed[part.name]) for part in parts}
    failed = {part.name: _failed(found[part.name]) for part in parts}
    anew = [part.only(set(found[part.name]) - set(kept[part.name]) - set(failed[part.name])) for part in parts]
    jitters = jitter_of(anew, found, options.workers)
    lines: list[str] = []
    for part in parts:
        old, path = committed[part.name], options.path(part.name)
        before = {} if old is None else old.by_key
        cells = {key: cell for key, cell in before.items() if options.only or key in failed[part.name]}
        cells |= kept[part.name]
        for key, measured in jitters[part.name].items():
            cells[key] = _cell(key, found[part.name][key], measured)
        new = replace(part.head, cells=tuple(cells[key] for key in sorted(cells)))
        if new != old:
            write(path, new)
        moved = changes(old, new)
        lines.append(f"{path}: {len(cells)} cells, {f'{len(moved)} changed' if moved else 'nothing changed'}")
        lines += [f"  {line}" for line in moved]
        lines += [f"  {', '.join(key)}: refused, so it has no baseline: {why}" for key, why in part.refused.items()]
        lines += [f"  {', '.join(key)}: left as it was, {why}" for key, why in failed[part.name].items()]
    return "\n".join(lines), any(failed.values())


def _kept(part: Part, cells: Cells, old: Baselines | None) -> dict[CellKey, Cell]:
    """Cells whose rounds are the same to the bit; their jitter and commit stand."""
    if old is None or old.settings != part.head.settings or old.draws != part.head.draws:
        return {}
    return {key: cell for key, cell in old.by_key.items() if key in cells and cell.seeds == _plain(cells[key])}


def _plain(runs: Outcomes) -> dict[int, Outcome]:
    """As a file holds them, without why there is no score."""
    return {seed: Outcome(outcome.score, outcome.digest) for seed, outcome in runs.items()}


def _failed(cells: Cells) -> dict[CellKey, str]:
    """Cells with a run that raised, and its error. No baseline is made of those."""
    problems = ((key, outcome.problem or "") for key, runs in cells.items() for outcome in runs.values())
    return {key: problem for key, problem in problems if problem.startswith("failed")}


def _cell(key: CellKey, runs: Outcomes, measured: Jitter | None) -> Cell:
    sd, df = measured or (None, None)
    return Cell(
        partition=key.partition,
        strategy=key.strategy,
        seeds=_plain(runs),
        jitter=sd,
        df=df,
        commit=provenance.commit(),
    )


def jitter_of(
    parts: Sequence[Part], found: Mapping[str, Cells], workers: int | None
) -> dict[str, dict[CellKey, Jitter | None]]:
    """The jitter of every cell of `parts`, from its runs in `found` and `draws` moved ones a seed."""
    draws: dict[str, dict[CellKey, dict[int, list[float | None]]]] = {
        part.name: {
            key: {seed: [outcome.score] for seed, outcome in found[part.name][key].items()}
            for key in dict.fromkeys(cell_of(spec) for spec in part.work.specs)
        }
        for part in parts
    }
    if not any(draws.values()):
        return {part.name: {} for part in parts}
    for draw in range(1, parts[0].head.draws + 1):
        moved, _ = outcomes(parts, workers, draw)
        for name, cells in moved.items():
            for key, runs in cells.items():
                for seed, outcome in runs.items():
                    draws[name][key][seed].append(outcome.score)
    return {name: {key: jitter(scores) for key, scores in cells.items()} for name, cells in draws.items()}
