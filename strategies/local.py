"""The lower reference arm: every office trains alone and keeps its own model.

The model is a matrix with one office's model a row, (K, d): office k is handed row k, which becomes what it trained; an
office that does not train in a round keeps its row. Nothing is combined and nothing would travel, so its bytes are 0.
It answers whether federating pays at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strategies.base import Federation, Strategy, Vector


@dataclass(frozen=True)
class Local(Strategy):
    """With one office it is the centralised arm."""

    dp: ClassVar[str] = "refused: a reference arm, nothing leaves an office"
    federated: ClassVar[bool] = False
    own_models: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = ("local",)

    def initial(self, w: Vector, federation: Federation) -> Vector:
        """The same first weights for every office, (K, d)."""
        return np.tile(w, (federation.clients, 1))
