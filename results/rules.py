"""A *rule* is what trains: a strategy and a loss. It is the unit of rows, families, tuning and legends.

fedprox(mu=0.01)                            with the usual loss
fedprox(mu=0.01) + logit_adjusted(tau=1)    with another
"""

from __future__ import annotations

from typing import Any, NamedTuple

LOSS = "cross_entropy"  # the usual one, which a rule's text leaves out
BASELINE = "fedavg"
ARMS = ("local", "centralised")  # the reference arms, by their strategy's name
_PLUS = " + "


class Rule(NamedTuple):
    """The parts of a rule, in canonical notation."""

    strategy: str
    loss: str = LOSS

    @classmethod
    def of(cls, strategy: Any, loss: Any = None) -> Rule:
        """From the options of a run; older ones name no loss, which was the usual one then."""
        return cls(str(strategy), loss if isinstance(loss, str) else LOSS)

    @classmethod
    def parse(cls, text: str) -> Rule:
        """From its text."""
        strategy, plus, loss = text.rpartition(_PLUS)
        inside = strategy.count("(") != strategy.count(")")  # the plus is part of an option's value
        return cls(text) if inside or not plus else cls(strategy, loss)

    @property
    def text(self) -> str:
        """As tables and legends show it."""
        return self.strategy if self.loss == LOSS else f"{self.strategy}{_PLUS}{self.loss}"

    @property
    def family(self) -> Rule:
        """The rule without options."""
        return Rule(self.strategy.partition("(")[0], self.loss.partition("(")[0])

    @property
    def arm(self) -> str | None:
        """The reference arm that it is, whatever its loss; None of all others."""
        name = self.family.strategy
        return name if name in ARMS else None


def rule(strategy: Any, loss: Any = None) -> str:
    """A rule's text from the options of a run, which may lack a loss."""
    return Rule.of(strategy, loss).text


def family(text: str) -> str:
    """`fedprox(mu=0.01)` is of `fedprox`, `fedavg + logit_adjusted(tau=1)` of `fedavg + logit_adjusted`."""
    return Rule.parse(text).family.text


def is_arm(text: str) -> bool:
    """Whether a rule is a reference arm, which nobody can choose."""
    return Rule.parse(text).arm is not None
