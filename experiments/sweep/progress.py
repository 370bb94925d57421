"""Progress of a sweep on stderr: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from time import perf_counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from results.record import RunRecord

EVERY_S = 15.0  # between two lines where there is no terminal


class Progress:
    """Count finished runs; use as a context.

    Rate and time left are those of finished runs at the workers' full width. The time since the start is no measure:
    it holds what is done once, as Ray's start and the loading of every worker.

    Args:
        workers: runs at a time; may be set later, when they are known.
        divergence_is_news: name every run that diverges; in tuning, high learning rates are expected to.
    """

    def __init__(self, total: int, workers: int = 1, divergence_is_news: bool = True) -> None:
        self.silent = {"ok", "stopped"} if divergence_is_news else {"ok", "stopped", "diverged"}
        self.total, self.workers, self.counts = total, workers, Counter[str]()
        self.timed, self.seconds = 0, 0.0  # runs that took time, and how much
        self.last_line = perf_counter()
        console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[outlook]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("runs", total=total, outlook="")

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def finished(self, record: RunRecord, seconds: float = 0.0) -> None:
        """One run more; a failed one is named at once.

        Args:
            seconds: that it took; 0 for one that was there already, or that broke off.
        """
        self.counts[record.status] += 1
        self.timed, self.seconds = self.timed + (seconds > 0), self.seconds + seconds
        done, outlook = self.counts.total(), self.outlook()
        self.bar.update(self.task, completed=done, outlook=outlook)
        if record.status not in self.silent:
            first = (record.error or "").partition("\n")[0]
            what = f"{record.spec['strategy']} on {record.spec['partition']}, seed {record.spec['seed']}"
            line = f"{record.status}: {what} ({record.run_id}): {first}"
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        if not self.bar.console.is_terminal and (done == self.total or perf_counter() - self.last_line > EVERY_S):
            self.last_line = perf_counter()
            print(", ".join(filter(None, (f"{done}/{self.total} runs", outlook))), file=sys.stderr, flush=True)

    def outlook(self) -> str:
        """Rate and time left; nothing before a run has taken time."""
        if not self.timed:
            return ""
        rate = min(self.workers, self.total) * self.timed / self.seconds  # runs a second
        left = (self.total - self.counts.total()) / rate
        return f"{60 * rate:.0f} runs/min, {left / 60:.1f} min left"
