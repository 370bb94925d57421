"""Local optimisers, as notation: `sgd(momentum=0.9, weight_decay=1e-4)`.

An optimiser is a rule on the flat vector: state starts at zero in every round (an office's momentum does not outlive
the model it was made for). PyTorch's `torch.optim.SGD` is the oracle in the tests; it costs seconds to construct the
first time in a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from experiments.config.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SGD:
    """Minibatch SGD with PyTorch's momentum: v = momentum v + (g + weight_decay w);  w -= lr v.

    Args:
        momentum: in [0, 1).
        weight_decay: L2 term, at least 0.
    """

    notation: ClassVar[str] = "sgd"

    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum must be in [0, 1); found {self.momentum!r}")
        if not 0 <= self.weight_decay < float("inf"):
            raise UserError(f"weight_decay must be at least 0; found {self.weight_decay!r}")

    @property
    def plain(self) -> bool:
        """Whether a step is w - lr g."""
        return not self.momentum and not self.weight_decay

    def step(self, w: torch.Tensor, g: torch.Tensor, velocity: torch.Tensor | None, lr: float) -> torch.Tensor | None:
        """Update w (in place) and return the velocity for the next step (None without momentum)."""
        if self.weight_decay:
            g = g.add(w, alpha=self.weight_decay)
        if self.momentum:
            velocity = g.clone() if velocity is None else velocity.mul_(self.momentum).add_(g)
            g = velocity
        w.sub_(g, alpha=lr)
        return velocity


OPTIMIZERS: Mapping[str, type[SGD]] = {cls.notation: cls for cls in (SGD,)}
