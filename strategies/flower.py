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
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from strategies.base import Federation, Job, Memory, Strategy, StrategyError, Vector
from strategies.fedavg import everyone
from strategies.wire import config_of

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid
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

    def server(self, grid: Grid, federation: Federation) -> FlowerStrategy:
        """The object; the sampling options are ours (see `everyone`).

        Raises:
            StrategyError: its constructor refuses a value.
        """
        cls = self._class()
        known = inspect.signature(cls).parameters
        sampling = everyone(federation)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            sampling = {key: value for key, value in sampling.items() if key in known}
        options = {
            key: value.server(grid, federation) if isinstance(value, Strategy) else value for key, value in self.options
        }
        try:
            return cls(**sampling, **options)
        except (TypeError, ValueError) as error:
            raise StrategyError(f"{self.path}: {error}") from None

    def open(self, message: Message, memory: Memory) -> Job:
        """FedAvg's, with what else the server's configuration asks of a client."""
        config = config_of(message.content)
        unknown = sorted(set(config) - {"server-round", _PROXIMAL})
        if unknown:
            raise StrategyError(
                f"{self.path} asks its clients for {', '.join(unknown)}, which FedAvg's local training does not do"
            )
        job = super().open(message, memory)
        asked = {_PROXIMAL: np.array(config[_PROXIMAL], dtype=float)} if _PROXIMAL in config else {}
        return replace(job, memory={**memory, **asked})

    def drift(self, w_t: Vector, memory: Memory) -> tuple[float, Vector | None]:
        """Flower's FedProx: the squared term of its docstring (its example code leaves out the square)."""
        return (float(memory[_PROXIMAL]), None) if _PROXIMAL in memory else (0.0, None)


_PROXIMAL = "proximal-mu"
_SAMPLING = ("fraction_train", "min_train_nodes", "min_available_nodes", "fraction_evaluate", "min_evaluate_nodes")
