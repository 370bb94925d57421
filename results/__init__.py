"""What came out: the record of a run, the store, statistics, tables, figures and the report.

Imports nothing of experiments, strategies or partitions. Importing this package loads no pandas, pyarrow, scipy or
matplotlib: a sweep's driver and its workers need the record and the store alone.
"""

from __future__ import annotations

__all__ = ["ResultsError"]


class ResultsError(ValueError):
    """What a user can set right: a broken or foreign file, an empty store, a folder that cannot be written."""
