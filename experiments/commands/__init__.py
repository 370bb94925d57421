"""What each command of the command line does: one module a command, with one function `main(options) -> exit status`.

`__main__` imports the module of the command that was typed and no other: what one command stands on (PyTorch, pandas,
Optuna, matplotlib) takes seconds to load, which the others do without.
"""

from __future__ import annotations

import sys


def say(text: str | None) -> None:
    """Tell people, on stderr: stdout is for what other programs read."""
    if text:
        print(text, file=sys.stderr, flush=True)
