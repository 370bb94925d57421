"""Where a run's clients live: in this process, under Flower's simulation, or (later) behind a SuperLink.

Every engine is a module with

    run(server_main, client_side, num_clients) -> Outcome

where `server_main(grid)` runs the rounds through a Flower Grid and `client_side.start()` builds the clients where
they train. Same spec, same bits, whatever the engine.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from experiments.config.errors import UserError

ENGINES = ("inprocess", "simulation")


def engine(name: str) -> Callable[..., Any]:
    """The `run` function of an engine.

    Raises:
        UserError: there is no such engine.
    """
    if name not in ENGINES:
        raise UserError(f"--engine must be one of {', '.join(ENGINES)}; found {name!r}")
    run: Callable[..., Any] = importlib.import_module(f"experiments.engines.{name}").run
    return run
