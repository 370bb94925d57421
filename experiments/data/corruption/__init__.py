"""Faulty offices: one file a corruption.

Copy the file that is nearest to yours and change its `corrupt`; the file's name is the corruption's name in grids,
tables and on the command line. `experiments.data.corruption.base` says what a corruption is given and what it owes.
"""

from experiments.data.corruption.base import Corruption

__all__ = ["Corruption"]
