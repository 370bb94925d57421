"""`Protected`: the dataclass that every protected strategy extends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from strategies.base import Federation, Job, Memory, Prepared, Received, Setting, State, StrategyError
from strategies.protection.options import ProtectionOptions


@dataclass(frozen=True)
class Protected(ProtectionOptions):
    """Base of the protected strategies: their options, and what they need before a run.

    The parts of a run (offices, server, plan) know the options alone, so that files do not import each other.
    """

    def check(self, setting: Setting) -> None:
        """Refuse fewer offices in a round than a sum needs, too many for the grid, or noise that it has no room for."""
        from strategies.protection.plan import shares_of

        inside = replace(setting, protected=True)
        super().check(inside)
        self.grid_of(setting.clients)
        if setting.cohort < self.min_offices:
            two = setting.cohort == 2 and "unmask" not in self.phases
            hint = "; with two offices, min_offices=2 and allow_two=true" if two else ""
            raise StrategyError(
                f"{type(self).__name__} wants at least {self.min_offices} offices in a round; "
                f"{setting.cohort} of {setting.clients} take part. Set more --clients or --fraction{hint}"
            )
        if self.noised:
            shares_of(self, inside, self.inner.prepare(inside).privacy)

    def prepare(self, setting: Setting) -> Prepared:
        """Keys for the offices, a server without, and what may be claimed afterwards."""
        from strategies.protection.plan import prepare

        return prepare(self, setting)

    def start(self, x: Any, federation: Federation) -> State:
        self.check_planned()
        return super().start(x, federation)

    def open(self, received: Received, memory: Memory) -> Job | Sequence[Job]:
        self.check_planned()
        return super().open(received, memory)
