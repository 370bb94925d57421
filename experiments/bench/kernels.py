"""One round of local training by other means than ours: what to beat, and the limit.

Each function sets up and returns a contestant: a call that trains every client for one epoch from the first weights, in
the order of its rows, without momentum. That is less than our trainer does, which shuffles and takes unequal clients.

    plain loop       nn.Module, autograd, torch.optim: what most code does
    NumPy            backward pass written out, client by client
    torch, batched   the same with all clients stacked, one batched product a layer
    products         the matrix products of these steps and nothing else: no kernel on this BLAS is faster
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from experiments.bench.work import Work

Layers = list[tuple[Any, Any]]  # matrix (inputs, outputs) and bias (outputs,) of each layer
Contestant = Callable[[], list[Layers]]  # trained layers by client


def plain_loop(work: Work) -> Contestant:
    """What a tutorial writes."""
    modules: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(work.widths):
        modules += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1])
    linear = [module for module in model if isinstance(module, torch.nn.Linear)]
    first = [(torch.from_numpy(matrix.T), torch.from_numpy(bias)) for matrix, bias in work.layers()]
    x, y = (torch.from_numpy(part) for part in work.stacked())

    def train() -> list[Layers]:
        trained = []
        for client in range(work.clients):
            with torch.no_grad():
                for layer, (matrix, bias) in zip(linear, first, strict=True):
                    layer.weight.copy_(matrix)
                    layer.bias.copy_(bias)
            optimizer = torch.optim.SGD(model.parameters(), lr=work.lr)
            for rows, labels in zip(
                torch.split(x[client], work.batch), torch.split(y[client], work.batch), strict=True
            ):
                optimizer.zero_grad()
                functional.cross_entropy(model(rows), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            trained.append([(layer.weight.detach().T.clone(), layer.bias.detach().clone()) for layer in linear])
        return trained

    return train


def numpy_written_out(work: Work) -> Contestant:
    """d_L = (softmax - onehot) lr / b;  d_{l-1} = (d_l W_l^T) (h_{l-1} > 0);  W_l -= h_{l-1}^T d_l."""
    x, y = work.stacked()
    first, batches = work.layers(), work.batches()
    classes = np.eye(work.widths[-1], dtype=np.float32)

    def train() -> list[Layers]:
        trained = []
        for client in range(work.clients):
            layers = [(matrix.copy(), bias.copy()) for matrix, bias in first]
            own, wanted = x[client], classes[y[client]]
            for batch in batches:
                h = [own[batch]]
                for matrix, bias in layers[:-1]:
                    h.append(np.maximum(h[-1] @ matrix + bias, 0))
                z = h[-1] @ layers[-1][0] + layers[-1][1]
                p = np.exp(z - z.max(axis=1, keepdims=True))
                d = (p / p.sum(axis=1, keepdims=True) - wanted[batch]) * np.float32(work.lr / len(z))
                for level in range(len(layers) - 1, -1, -1):
                    matrix, bias = layers[level]
                    below = (d @ matrix.T) * (h[level] > 0) if level else d
                    matrix -= h[level].T @ d
                    bias -= d.sum(axis=0)
                    d = below
            trained.append(layers)
        return trained

    return train


def torch_batched(work: Work) -> Contestant:
    """The same formulas on arrays with a leading axis of clients; the update is part of the product."""
    x, y = (torch.from_numpy(part) for part in work.stacked())
    first = [(torch.from_numpy(matrix), torch.from_numpy(bias)) for matrix, bias in work.layers()]
    batches, clients = work.batches(), work.clients

    @torch.no_grad()
    def train() -> list[Layers]:
        matrices = [matrix.repeat(clients, 1, 1) for matrix, _ in first]
        biases = [bias.repeat(clients, 1, 1) for _, bias in first]
        wanted = functional.one_hot(y, work.widths[-1]).float()
        for batch in batches:
            h = [x[:, batch]]
            for matrix, bias in zip(matrices[:-1], biases[:-1], strict=True):
                h.append(torch.baddbmm(bias, h[-1], matrix).relu_())
            d = torch.baddbmm(biases[-1], h[-1], matrices[-1]).softmax(2)
            d.sub_(wanted[:, batch]).div_(d.shape[1])
            for level in range(len(matrices) - 1, -1, -1):
                below = torch.bmm(d, matrices[level].mT).mul_(h[level] > 0) if level else d
                matrices[level].baddbmm_(h[level].mT, d, alpha=-work.lr)
                biases[level].sub_(d.sum(1, keepdim=True), alpha=work.lr)
                d = below
        return [[(m[k], b[k, 0]) for m, b in zip(matrices, biases, strict=True)] for k in range(clients)]

    return train


def numpy_products(work: Work) -> Callable[[], None]:
    """Forward, backward and step of every batch, by NumPy's BLAS, into room that is there already."""
    return _products(work, np.asarray, np.matmul)


def torch_products(work: Work) -> Callable[[], None]:
    """The same by PyTorch's BLAS."""
    return _products(work, torch.from_numpy, torch.mm)


def _products(work: Work, of_numpy: Callable[[Any], Any], product: Callable[..., Any]) -> Callable[[], None]:
    x = of_numpy(work.stacked()[0])
    matrices, batches = [of_numpy(matrix) for matrix, _ in work.layers()], work.batches()
    steps = [of_numpy(np.empty_like(matrix)) for matrix, _ in work.layers()]
    h = [of_numpy(np.ones((work.batch, width), np.float32)) for width in work.widths]
    d = [of_numpy(np.ones((work.batch, width), np.float32)) for width in work.widths]

    @torch.no_grad()
    def multiply() -> None:
        for client in range(work.clients):
            for batch in batches:
                size = batch.stop - batch.start
                below = x[client, batch]
                inputs = [below]
                for level, matrix in enumerate(matrices):
                    below = product(below, matrix, out=h[level + 1][:size])
                    inputs.append(below)
                for level in range(len(matrices) - 1, -1, -1):
                    product(inputs[level].T, d[level + 1][:size], out=steps[level])
                    if level:
                        product(d[level + 1][:size], matrices[level].T, out=d[level][:size])

    return multiply


def forward_products(work: Work, x: Any) -> dict[str, Callable[[], object]]:
    """The products of scoring rows x (n, inputs): by NumPy at once and in pieces that stay in the cache, by PyTorch."""
    matrices = [matrix for matrix, _ in work.layers()]
    tensors = [torch.from_numpy(matrix) for matrix in matrices]
    rows = torch.from_numpy(x)

    def by_numpy(size: int) -> Callable[[], object]:
        room = [np.empty((size, width), np.float32) for width in work.widths]

        def multiply() -> None:
            for start in range(0, len(x), size):
                h = x[start : start + size]
                for matrix, out in zip(matrices, room[1:], strict=True):
                    h = np.matmul(h, matrix, out=out[: len(h)])

        return multiply

    @torch.no_grad()
    def by_torch() -> None:
        h = rows
        for matrix in tensors:
            h = h @ matrix

    return {"NumPy": by_numpy(len(x)), "NumPy in pieces": by_numpy(256), "torch": by_torch}
