"""Models, as notation: `mlp(hidden=[128, 64])` on features, `cnn1d(channels=[32, 64])` on raw windows.

A model travels and is optimised as one flat float32 vector w (d,). `Flat` lays that vector under a module's
parameters, so that loading a received model is one copy and its gradient is one vector. First weights are drawn layer
by layer from the run's own stream as PyTorch draws its default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and
biases, and never from global state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from experiments.errors import UserError


class Model(ABC):
    """A frozen dataclass of a model's settings."""

    notation: ClassVar[str]

    @abstractmethod
    def module(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The module for rows of `shape`: (features,) or (samples, channels); it returns logits (batch, classes)."""


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

    def module(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        widths = [int(np.prod(shape)), *self.hidden, classes]
        layers: list[nn.Module] = [nn.Flatten()] if len(shape) > 1 else []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


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

    def module(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        if len(shape) != 2:
            raise UserError(
                f"cnn1d wants windows (samples, channels), the data has rows of shape {shape}; add --form raw"
            )
        if shape[0] < 2 ** len(self.channels):
            raise UserError(
                f"cnn1d halves a window of {shape[0]} samples {len(self.channels)} times; use fewer channels"
            )
        widths = [shape[1], *self.channels]
        layers: list[nn.Module] = [ChannelsFirst()]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv1d(inputs, outputs, self.kernel, padding=self.kernel // 2), nn.ReLU(), nn.MaxPool1d(2)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


class ChannelsFirst(nn.Module):
    """(batch, samples, channels), as data is stored, to (batch, channels, samples), as Conv1d wants it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


def _check_widths(name: str, widths: object) -> None:
    if not isinstance(widths, tuple) or any(not isinstance(width, int) or width < 1 for width in widths):
        raise UserError(
            f"{name} must be a list of whole numbers of at least 1, e.g. {name}=[128, 64]; found {widths!r}"
        )


MODELS: Mapping[str, type[Model]] = {cls.notation: cls for cls in (MLP, CNN1d)}


class Flat:
    """A module whose parameters, and their gradients, are views of two flat vectors.

    A linear layer's weights and bias are one block (inputs + 1, outputs), the bias as its last row, as the compiled
    kernel wants them; any other parameter lies there as it is.

    Attributes:
        w: (d,) float32 weights. Writing here changes the module.
        g: (d,) float32 gradient; `backward` adds to it, so zero it first.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.w = torch.zeros(sum(parameter.numel() for parameter in module.parameters()))
        self.g = torch.zeros_like(self.w)
        for (parameter, weights), (_, gradient) in zip(_views(module, self.w), _views(module, self.g), strict=True):
            weights.copy_(parameter.detach())
            parameter.data = weights
            parameter.grad = gradient

    def load(self, w: NDArray[np.float32]) -> None:
        """Copy a received model in."""
        self.w.copy_(torch.from_numpy(w))


def _views(module: nn.Module, flat: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Each parameter with its view of a flat vector, in the order of the layers."""
    start = 0
    for layer in module.modules():
        parameters = list(layer.parameters(recurse=False))
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            rows = layer.in_features + 1
            block = flat[start : start + rows * layer.out_features].view(rows, layer.out_features)
            yield layer.weight, block[:-1].t()
            yield layer.bias, block[-1]
            start += block.numel()
        else:
            for parameter in parameters:
                yield parameter, flat[start : start + parameter.numel()].view_as(parameter)
                start += parameter.numel()


def linear_widths(module: nn.Module) -> tuple[int, ...] | None:
    """Widths of input, hidden layers and output if the module is linear layers with ReLU between them, else None."""
    layers = [layer for layer in module.children() if not isinstance(layer, nn.Flatten)]
    linear = [layer for layer in layers[::2] if isinstance(layer, nn.Linear) and layer.bias is not None]
    rectified = [layer for layer in layers[1::2] if isinstance(layer, nn.ReLU)]
    known = len(linear) == len(rectified) + 1 and len(linear) + len(rectified) == len(layers)
    if not isinstance(module, nn.Sequential) or not known:
        return None
    return (linear[0].in_features, *(layer.out_features for layer in linear))


def first_weights(module: nn.Module, rng: np.random.Generator) -> NDArray[np.float32]:
    """The flat first weights (d,) of a module, drawn from `rng`.

    Raises:
        UserError: a layer with parameters that is neither linear nor a convolution has no rule here.
    """
    flat = Flat(module)
    for layer in module.modules():
        if not list(layer.parameters(recurse=False)):
            continue
        if not isinstance(layer, nn.Linear | nn.Conv1d):
            raise UserError(
                f"no rule for the first weights of a {type(layer).__name__} layer; add one to first_weights"
            )
        bound = 1.0 / np.sqrt(layer.weight[0].numel())  # 1 / sqrt(fan_in)
        for parameter in layer.parameters(recurse=False):
            drawn = rng.uniform(-bound, bound, parameter.shape)
            parameter.data.copy_(torch.from_numpy(drawn))
    return flat.w.numpy().copy()
