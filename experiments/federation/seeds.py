"""Named random streams from one seed.

Every use of chance has a purpose of its own, and every round and office a stream of its own, so that no two uses ever
share numbers and a resumed run continues where it was:

    SeedSequence(seed, spawn_key=(purpose, round, client))

`SeedSequence` hashes its key into independent streams (O'Neill's construction, see numpy's documentation). Lists of
integers as a seed are the trap avoided: `default_rng([5])` equals `default_rng([5, 0])`.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is for. The numbers are part of every result: never renumber, only append."""

    INITIAL_WEIGHTS = 0
    PARTITION = 1
    VALIDATION = 2
    COHORT = 3
    ORDER = 4
    STRATEGY = 5
    DROPOUT = 6
    ROUNDING = 7
    NOISE = 8
    SAMPLING = 9
    SHARE = 10
    AUDIT = 11
    CORRUPTION = 12


def sequence(seed: int, purpose: Purpose, round_: int = 0, client: int = 0) -> np.random.SeedSequence:
    """The entropy of one purpose, round and client."""
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), round_, client))


def stream(seed: int, purpose: Purpose, round_: int = 0, client: int = 0) -> np.random.Generator:
    """The generator of one purpose, round and client."""
    return np.random.default_rng(sequence(seed, purpose, round_, client))
