"""Offices that vanish in the middle of a round: `--dropout "drop(rate=0.1, phase=update)"`.

An office that vanishes at a phase does nothing from that message of the round on, as if it had crashed before reading
it; in the next round it is back. Who vanishes is drawn from a stream of its own, or given as a schedule:

    drop(schedule=[[2, 0, update], [3, 1, unmask]])        round, office, phase
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

from experiments.config.errors import UserError
from experiments.federation.seeds import Purpose, stream

PHASES = ("keys", "shares", "update", "unmask")  # in the order of a round


@dataclass(frozen=True)
class Drop:
    """See the module.

    Args:
        rate: chance of each office to vanish in a round, in [0, 1).
        phase: at which message: `update` (the one that plain strategies have), or for secagg also `keys`, `shares`
            and `unmask`.
        schedule: instead, exactly these: (round, office, phase), offices counted from 0.
    """

    notation: ClassVar[str] = "drop"

    rate: float = 0.0
    phase: str = "update"
    schedule: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise UserError(f"rate must be in [0, 1); found {self.rate!r}")
        if bool(self.rate) == bool(self.schedule):
            raise UserError("drop wants a rate above 0 or a schedule, and not both, e.g. drop(rate=0.1, phase=update)")
        if not isinstance(self.schedule, tuple):
            raise UserError(f"schedule must be a list of [round, office, phase]; found {self.schedule!r}")
        for entry in self.schedule:
            if not (isinstance(entry, tuple) and len(entry) == 3 and all(type(n) is int for n in entry[:2])):
                raise UserError(f"schedule must be a list of [round, office, phase]; found {entry!r}")
        places = [tuple(entry[:2]) for entry in self.schedule]
        if len(set(places)) < len(places):
            raise UserError("schedule names an office twice in one round; it vanishes once")
        for phase in self.phases:
            if phase not in PHASES:
                raise UserError(f"phase must be one of {', '.join(PHASES)}; found {phase!r}")

    @property
    def phases(self) -> set[str]:
        """At which it may happen."""
        return {phase for _, _, phase in self.schedule} if self.schedule else {self.phase}

    def check(self, known: Collection[str], clients: int, rounds: int) -> None:
        """Refuse phases that a strategy does not have, and offices and rounds that do not exist.

        Raises:
            UserError: which.
        """
        unknown = sorted(self.phases - set(known))
        if unknown:
            raise UserError(f"dropout at {', '.join(unknown)}: this strategy's rounds have {', '.join(known)} alone")
        for round_, office, _ in self.schedule:
            if not (1 <= round_ <= rounds and 0 <= office < clients):
                raise UserError(
                    f"schedule names round {round_} and office {office}; expected rounds 1 to {rounds} and offices "
                    f"0 to {clients - 1}"
                )

    def vanishing(self, seed: int, round_: int, offices: Collection[int]) -> dict[int, str]:
        """Office -> phase at which it vanishes in a round."""
        if self.schedule:
            return {office: phase for number, office, phase in self.schedule if number == round_ and office in offices}
        return {
            office: self.phase
            for office in offices
            if stream(seed, Purpose.DROPOUT, round_, office).random() < self.rate
        }


DROPOUTS = {Drop.notation: Drop}
