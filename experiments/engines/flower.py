"""The one place that touches Flower's internals (written for Flower 1.41; a test names the version).

A `Message` can be made only by a process with a task identity, which Flower's own processes get from the SuperLink.
"""

from __future__ import annotations

import logging
import os

FLOWER_VERSION = "1.41"


def quiet() -> None:
    """No telemetry, no progress log: a sweep makes thousands of rounds."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    import flwr.supercore.logger  # noqa: F401  importing it sets the level

    logging.getLogger("flwr").setLevel(logging.ERROR)


def identify() -> None:
    """Give this process a task identity, so that it can make messages."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
