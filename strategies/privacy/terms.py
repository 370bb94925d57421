"""What the accounts of privacy read of the strategies that promise it, and of a protection around them.

`DpSgd` and `DpFedAvg` extend these classes; a plan knows the classes alone, so that files do not import each other.
"""

from __future__ import annotations

from strategies.wrapper import Wrapper


class Budget(Wrapper):
    """What both promises have: see `DpSgd` and `DpFedAvg` for each option."""

    epsilon: float | None
    noise_multiplier: float | None
    delta: float
    accountant: str
    curious: int
    secure_rng: bool


class LocalPrivacy(Budget):
    """A promise that the offices' local steps keep."""

    clip_norm: float | None
    unit: str
    noise: str
    means: bool
    simulate: int | None


class CentralPrivacy(Budget):
    """A promise that the sums of rounds keep."""

    clip_norm: float
    sampling: str
