"""A PyTorch module over one flat vector: loading a received model is one copy, its gradient is one vector."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from experiments.config.errors import UserError


class Flat:
    """A module whose parameters, and their gradients, are views of two flat vectors.

    A linear layer's weights and bias are one block (inputs + 1, outputs), the bias as its last row, as in `models`; any
    other parameter lies there as it is.

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
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            rows = layer.in_features + 1
            block = flat[start : start + rows * layer.out_features].view(rows, layer.out_features)
            yield layer.weight, block[:-1].t()
            yield layer.bias, block[-1]
            start += block.numel()
        else:
            for parameter in layer.parameters(recurse=False):
                yield parameter, flat[start : start + parameter.numel()].view_as(parameter)
                start += parameter.numel()


def layout(module: nn.Module) -> tuple[int, ...]:
    """Length of every layer's part of the flat vector: all parameters of one layer together."""
    own = (sum(parameter.numel() for parameter in layer.parameters(recurse=False)) for layer in module.modules())
    return tuple(length for length in own if length)


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
        bound = layer.weight[0].numel() ** -0.5  # 1 / sqrt(fan_in)
        for parameter in layer.parameters(recurse=False):
            parameter.data.copy_(torch.from_numpy(rng.uniform(-bound, bound, parameter.shape)))
    return flat.w.numpy().copy()


class ChannelsFirst(nn.Module):
    """(batch, samples, channels), as data is stored, to (batch, channels, samples), as Conv1d wants it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)
