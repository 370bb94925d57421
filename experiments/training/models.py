"""Models, as notation: `mlp(hidden=[128, 64])` on features, `cnn1d(channels=[32, 64])` on raw windows.

A model travels and is trained as one flat float32 vector w (d,). Models of linear and ReLU layers are known by their
widths alone, (inputs, hidden..., classes), and need no PyTorch: a layer's weights and bias are one block
(inputs + 1, outputs) of w, the bias as its last row. Any other model is a PyTorch module (`flat.Flat`).

First weights are drawn layer by layer from the run's own stream as PyTorch draws its default,
U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and biases, and never from global state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from experiments.config.errors import UserError

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]  # of one row: (features,) or (samples, channels)


class Model(ABC):
    """A frozen dataclass of a model's settings."""

    notation: ClassVar[str]

    @abstractmethod
    def module(self, shape: Shape, classes: int) -> nn.Module:
        """The PyTorch module for rows of a shape; it returns logits (batch, classes)."""

    def widths(self, shape: Shape, classes: int) -> tuple[int, ...] | None:
        """Widths of input, hidden layers and output, if the model is linear layers with ReLU between them."""
        return None

    def layout(self, shape: Shape, classes: int) -> tuple[int, ...]:
        """Length of every layer's part of the flat model, in order."""
        widths = self.widths(shape, classes)
        if widths is not None:
            return tuple((inputs + 1) * outputs for inputs, outputs in pairwise(widths))
        from experiments.training.flat import layout

        return layout(self.module(shape, classes))

    def first_weights(self, shape: Shape, classes: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """The flat first weights (d,), drawn from `rng`."""
        from experiments.training.flat import first_weights

        return first_weights(self.module(shape, classes), rng)


@dataclass(frozen=True)
class MLP(Model):
    """Linear and ReLU layers; `mlp(hidden=[])` is multinomial logistic regression. Raw windows are flattened.

    Args:
        hidden: width of each hidden layer.
    """

    notation: ClassVar[str] = "mlp"

    hidden: tuple[int, ...] = (128, 64)

    def __post_init__(self) -> None:
        _check_widths("hidden", self.hidden)

    def widths(self, shape: Shape, classes: int) -> tuple[int, ...]:
        return (int(np.prod(shape)), *self.hidden, classes)

    def module(self, shape: Shape, classes: int) -> nn.Module:
        from torch import nn

        layers: list[nn.Module] = [nn.Flatten()] if len(shape) > 1 else []
        for inputs, outputs in pairwise(self.widths(shape, classes)):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def first_weights(self, shape: Shape, classes: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """As of the module, bit for bit, without making one."""
        drawn = []
        for inputs, outputs in pairwise(self.widths(shape, classes)):
            bound = inputs**-0.5
            weights = rng.uniform(-bound, bound, (outputs, inputs))
            drawn.append(np.vstack([weights.T, rng.uniform(-bound, bound, outputs)]).ravel())
        return np.concatenate(drawn).astype(np.float32)


@dataclass(frozen=True)
class CNN1d(Model):
    """Convolutions over time, each with ReLU and max-pooling by 2, then the mean over time and a linear layer.

    Args:
        channels: width of each convolution.
        kernel: samples a kernel spans (odd).
    """

    notation: ClassVar[str] = "cnn1d"

    channels: tuple[int, ...] = (32, 64)
    kernel: int = 5

    def __post_init__(self) -> None:
        _check_widths("channels", self.channels)
        if not self.channels:
            raise UserError("channels must name at least one convolution, e.g. channels=[32, 64]")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UserError(f"kernel must be odd and at least 1; found {self.kernel}")

    def module(self, shape: Shape, classes: int) -> nn.Module:
        if len(shape) != 2:
            raise UserError(
                f"cnn1d wants windows (samples, channels), the data has rows of shape {shape}; add --form raw"
            )
        if shape[0] < 2 ** len(self.channels):
            raise UserError(
                f"cnn1d halves a window of {shape[0]} samples {len(self.channels)} times; use fewer channels"
            )
        from torch import nn

        from experiments.training.flat import ChannelsFirst

        layers: list[nn.Module] = [ChannelsFirst()]
        for inputs, outputs in pairwise([shape[1], *self.channels]):
            layers += [nn.Conv1d(inputs, outputs, self.kernel, padding=self.kernel // 2), nn.ReLU(), nn.MaxPool1d(2)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(self.channels[-1], classes))


def _check_widths(name: str, widths: object) -> None:
    if not isinstance(widths, tuple) or any(type(width) is not int or width < 1 for width in widths):
        raise UserError(
            f"{name} must be a list of whole numbers of at least 1, e.g. {name}=[128, 64]; found {widths!r}"
        )


MODELS: Mapping[str, type[Model]] = {cls.notation: cls for cls in (MLP, CNN1d)}
