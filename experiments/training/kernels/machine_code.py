"""The compiled kernels, ready before a clock starts.

numba compiles a kernel when its module is first imported on a machine, and keeps the machine code beside that module;
every later process reads it in a tenth of a second. The first compilation is no cost of a run, so it is done here: by
one process at a time, which says so, while others wait for it and read what it left. `make install` runs this file,
which compiles all there is.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from numba.core.event import Event, Listener, install_listener

if TYPE_CHECKING:
    from experiments.config.spec import RunSpec

# Seconds of one core that compiling a module's kernels took, on an AMD EPYC. A module stands below those it imports.
SECONDS = {
    "experiments.training.kernels.kernel": 16,
    "strategies.numerics.vectors": 2,
    "strategies.privacy.noise": 1,
    "experiments.training.kernels.ghost": 6,
    "strategies.privacy.discrete": 1,
    "strategies.crypto.paillier.lanes": 4,
}


def make_ready(spec: RunSpec, shape: tuple[int, ...], classes: int) -> None:
    """Load what a run of this spec is trained and scored with, and compile it if this machine never did.

    Args:
        shape: of one row of the data.
        classes: number of labels.
    """
    load(modules_of(spec, shape, classes))


def modules_of(spec: RunSpec, shape: tuple[int, ...], classes: int) -> list[str]:
    """The modules of kernels that a run needs, and that of its trainer, which may stand on PyTorch."""
    strategy, names = spec.strategy, ["strategies.numerics.vectors"]
    written_out = spec.model.widths(shape, classes) is not None
    if written_out:  # the kernel scores even where the plain loop trains
        names.append("experiments.training.kernels.kernel")
    if strategy.local_dp or strategy.central_dp:
        names.append("strategies.privacy.noise")
    if strategy.local_dp:
        names.append("experiments.training.kernels.ghost")
    if strategy.protected and (strategy.local_dp or strategy.central_dp):
        names.append("strategies.privacy.discrete")
    names += getattr(strategy, "kernels", ())
    fused = written_out and spec.trainer == "auto" and spec.loss.compiled
    names.append("experiments.training.kernels.fused" if fused else "experiments.training.reference")
    return names


def load(names: Iterable[str]) -> None:
    """Import modules; what has to be compiled is compiled by one process of this machine, which tells people."""
    wanted = {name for name in names if name not in sys.modules}
    if not wanted:
        return
    known = [name for name in SECONDS if name in wanted]
    missing = [*known, *sorted(wanted - set(known))]
    try:
        _import(missing, _Refusing())
    except _Cold:
        with _alone():
            _import(missing, _Telling())


def _import(names: Sequence[str], listener: _Listening) -> None:
    listener.seconds = sum(SECONDS.get(name, 0) for name in names)
    with install_listener("numba:compile", listener):
        for name in names:
            importlib.import_module(name)
            listener.seconds -= SECONDS.get(name, 0)


class _Cold(Exception):
    """Machine code is missing."""


class _Listening(Listener):
    """Is called by numba before it compiles what it found no machine code of.

    Attributes:
        seconds: that compiling the modules from here on may take.
    """

    seconds = 0

    def on_start(self, event: Event) -> None:
        raise NotImplementedError

    def on_end(self, event: Event) -> None:
        pass


class _Refusing(_Listening):
    """Stops the import instead: only a process that is alone compiles."""

    def on_start(self, event: Event) -> None:
        raise _Cold


class _Telling(_Listening):
    """Says so, once."""

    told = False

    def on_start(self, event: Event) -> None:
        if not self.told:
            _say(f"compiling the kernels, once on this machine, about {self.seconds} s")
        self.told = True


@contextmanager
def _alone() -> Iterator[None]:
    """No other process compiles for this folder meanwhile."""
    folder = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: then each compiles for itself, as numba does anyway
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _say("another process is compiling the kernels; waiting for it")
                fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    load(SECONDS)
