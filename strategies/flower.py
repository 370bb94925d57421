"""Any Flower strategy by its import path: `flower(path=flwr.serverapp.strategy.FedTrimmedAvg, beta=0.25)`.

Keyword arguments are handed on; a strategy given as an argument is built and passed as an object, so that Flower's
wrappers work:

    flower(path=flwr.serverapp.strategy.DifferentialPrivacyServerSideFixedClipping,
           strategy=fedavg(), noise_multiplier=0.1, clipping_norm=1.0, num_sampled_clients=4)

Clients run FedAvg's local training, with the proximal term where the server asks for it (Flower's FedProx sends
`proximal-mu`); a server that asks for anything else is refused in round 1, since a client that ignored it would give
another method's result under this one's name. Flower's classes draw from Python's and NumPy's global generators; a
run seeds those for this strategy alone.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from strategies.base import Federation, Job, Memory, Prepared, Received, Setting, Strategy, StrategyError

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy as FlowerStrategy


@dataclass(frozen=True)
class Flower(Strategy):
    """A Flower strategy as it is, right or wrong (the README tells which differ from their papers).

    Args:
        path: import path of a `flwr.serverapp.strategy.Strategy` subclass.
        options: every further keyword, for its constructor.
    """

    dp: ClassVar[str] = "refused: what a foreign server rule does with an update is not known"
    global_random: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "flower(path=flwr.serverapp.strategy.FedAvg)",
        "flower(path=flwr.serverapp.strategy.FedTrimmedAvg, beta=0.25)",
    )

    path: str
    options: tuple[tuple[str, Any], ...] = field(default=(), metadata={"rest": True})

    def __post_init__(self) -> None:
        cls = self._class()
        known = inspect.signature(cls).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        for key, value in self.options:
            if key in _SAMPLING:
                raise StrategyError(f"{key}: who takes part in a round is the run's own choice; set --fraction instead")
            if key == "strategy" and isinstance(value, str):
                raise StrategyError(f"strategy={value}: a strategy inside a call is written as a call, {value}()")
            if isinstance(value, Strategy) and (value.local_dp or value.central_dp):
                raise StrategyError(
                    f"{key}={type(value).__name__}: a Flower class calls its server alone, and none of its noise or "
                    "accounts; write it around a plain strategy, or Flower's own DP wrapper here"
                )
            if key not in known and not takes_any:
                raise StrategyError(f"{self.path} has no argument {key!r}; it takes {', '.join(known)}")
        given = {key for key, _ in self.options} | set(_SAMPLING)
        for name, parameter in known.items():
            required = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            if required and name not in given:
                raise StrategyError(f"{self.path} needs the argument {name!r}; it takes {', '.join(known)}")

    def _class(self) -> type[FlowerStrategy]:
        from flwr.serverapp.strategy import Strategy as FlowerStrategy

        module, _, name = self.path.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise StrategyError(
                f"cannot import {self.path!r} ({error}); expected a class such as flwr.serverapp.strategy.FedTrimmedAvg"
            ) from None
        if not (inspect.isclass(cls) and issubclass(cls, FlowerStrategy)):
            raise StrategyError(f"{self.path} is not a flwr.serverapp.strategy.Strategy but {cls!r}")
        return cls

    @property
    def linear(self) -> bool:
        """Nothing is known of a foreign server rule."""
        return False

    def prepare(self, setting: Setting) -> Prepared:
        return Prepared(self, setting.workloads, flower=self.build)

    def check(self, setting: Setting) -> None:
        """Refuse what the class's constructor refuses."""
        self.build(Federation(setting.clients, setting.cohort), lambda strategy: strategy)

    def build(self, federation: Federation, adapt: Callable[[Strategy], Any]) -> FlowerStrategy:
        """The Flower object; the sampling options are ours.

        Args:
            adapt: makes a Flower strategy of one of ours, for those that are given as options.

        Raises:
            StrategyError: its constructor refuses a value.
        """
        cls = self._class()
        known = inspect.signature(cls).parameters
        sampling = everyone(federation)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            sampling = {key: value for key, value in sampling.items() if key in known}
        options = dict(self.options)
        for key, value in self.options:
            if isinstance(value, Strategy):
                options[key] = value.build(federation, adapt) if isinstance(value, Flower) else adapt(value)
        try:
            return cls(**sampling, **options)
        except (TypeError, ValueError) as error:
            raise StrategyError(f"{self.path}: {error}") from None

    def open(self, received: Received, memory: Memory) -> Job:
        """FedAvg's, with what else the server's configuration asks of a client."""
        unknown = sorted(set(received.config) - {_PROXIMAL})
        if unknown:
            raise StrategyError(
                f"{self.path} asks its clients for {', '.join(unknown)}, which FedAvg's local training does not do"
            )
        asked = {_PROXIMAL: float(received.config[_PROXIMAL])} if _PROXIMAL in received.config else {}
        return received.job(**asked)

    def drift(self, job: Job) -> tuple[float, Any]:
        """Flower's FedProx: the squared term of its docstring (its example code leaves out the square)."""
        return (job.memory[_PROXIMAL], None) if _PROXIMAL in job.memory else (0.0, None)


def everyone(federation: Federation) -> dict[str, Any]:
    """Flower's sampling options for *all clients that the Grid shows* (which are the round's cohort) and no client
    evaluation.

    Left at Flower's defaults, round 1 trains two of four clients and a federation of one waits for ever.
    """
    return {
        "fraction_train": 1.0,
        "min_train_nodes": federation.cohort,
        "min_available_nodes": federation.cohort,
        "fraction_evaluate": 0.0,
        "min_evaluate_nodes": 0,
    }


_PROXIMAL = "proximal-mu"
_SAMPLING = tuple(everyone(Federation(1, 1)))
