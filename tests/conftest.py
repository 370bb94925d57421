"""For all tests: what is there after collection is no garbage.

Flower collects garbage whenever it turns a message into arrays; with all that tests import, each time takes a tenth of
a second unless what stays is set aside.
"""

from __future__ import annotations

import gc

import experiments  # noqa: F401  sets what NumPy reads when it loads


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
