"""Progress of a sweep on stderr: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from time import perf_counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from results.record import RunRecord

EVERY_S = 15.0  # between two lines where there is no terminal


class Progress:
    """Count finished runs; use as a context.

    Args:
        divergence_is_news: name every run that diverges; in tuning, high learning rates are expected to.
    """

    def __init__(self, total: int, divergence_is_news: bool = True) -> None:
        self.silent = {"ok", "stopped"} if divergence_is_news else {"ok", "stopped", "diverged"}
        self.total, self.counts, self.started = total, Counter[str](), perf_counter()
        self.last_line = self.started
        console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("runs", total=total, rate="")

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def finished(self, record: RunRecord) -> None:
        """One run more; a failed one is named at once."""
        self.counts[record.status] += 1
        done, seconds = self.counts.total(), perf_counter() - self.started
        rate = f"{60 * done / seconds:.0f} runs/min"
        self.bar.update(self.task, completed=done, rate=rate)
        if record.status not in self.silent:
            first = (record.error or "").partition("\n")[0]
            what = f"{record.spec['strategy']} on {record.spec['partition']}, seed {record.spec['seed']}"
            line = f"{record.status}: {what} ({record.run_id}): {first}"
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        if not self.bar.console.is_terminal and (done == self.total or perf_counter() - self.last_line > EVERY_S):
            self.last_line = perf_counter()
            left = seconds / done * (self.total - done)
            print(f"{done}/{self.total} runs, {rate}, {left / 60:.1f} min left", file=sys.stderr, flush=True)
