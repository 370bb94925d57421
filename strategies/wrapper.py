"""A strategy around another, as those of privacy and protection are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from inspect import isfunction
from typing import Any, ClassVar

from strategies.base import HOOKS, Prepared, Setting, Strategy
from strategies.errors import StrategyError


class Wrapper(Strategy, ABC):
    """A strategy around another, `inner`: what it does not say itself, the inner one says.

    Attributes:
        plan: what `prepare` made for a run. Privacy and protection refuse to train without it.
    """

    inner: Strategy
    plan: ClassVar[Any] = None

    def planned(self, inner: Strategy, plan: Any) -> Any:
        """A copy that holds a plan, around another inner strategy. It is the same strategy: equal, and so written."""
        copied = replace(self, inner=inner)  # type: ignore[type-var]
        object.__setattr__(copied, "plan", plan)
        return copied

    @abstractmethod
    def prepare(self, setting: Setting) -> Prepared:
        """The wrapper's plan for a run, and the inner strategy's within it."""

    def check_planned(self) -> None:
        """Refuse to run without a plan.

        Raises:
            StrategyError: there is none.
        """
        if self.plan is None:
            raise StrategyError(
                f"{type(self).__name__} needs its plan (noise, budget, keys) before it trains anything: call "
                "prepare(setting) and run the strategy that this returns"
            )

    def overrides(self, *hooks: str) -> bool:
        own = any(getattr(type(self), hook) is not getattr(Wrapper, hook) for hook in hooks)
        return own or self.inner.overrides(*hooks)

    @property
    def linear(self) -> bool:
        return self.inner.linear and type(self).aggregate is Wrapper.aggregate

    @property
    def local_dp(self) -> Any:
        return self.inner.local_dp

    @property
    def central_dp(self) -> Any:
        return self.inner.central_dp

    @property
    def protects(self) -> str | None:
        return self.inner.protects

    def check_inner(self) -> None:
        """Refuse a name in the place of a strategy."""
        if not isinstance(self.inner, Strategy):
            raise StrategyError(f"inner must be a strategy, e.g. inner=fedprox(mu=0.1); found {self.inner!r}")


def _handed_on(hook: str) -> Callable[..., Any]:
    """The inner strategy's hook, as the wrapper's own."""

    def asked(self: Wrapper, *values: Any, **named: Any) -> Any:
        return getattr(self.inner, hook)(*values, **named)

    asked.__name__, asked.__doc__ = hook, getattr(Strategy, hook).__doc__
    return asked


# All of them, those of later days included: a wrapper that forgot one would silently change the rule inside.
for _hook in HOOKS - {"overrides", "prepare", "search_space"}:
    if isfunction(getattr(Strategy, _hook)):
        setattr(Wrapper, _hook, _handed_on(_hook))
