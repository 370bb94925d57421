"""FedAvg in fluke: the work of an npz file, seconds a round. Runs in an environment that has fluke, not ours."""

# mypy: ignore-errors

import json
import sys
from importlib.metadata import version
from itertools import pairwise
from time import perf_counter

import numpy as np
import torch

# torchvision, which fluke imports, comes from PyPI built for CUDA: beside a CPU build of PyTorch its operators do not
# load, and its import fails for want of these two. Nothing here calls them.
if "+cpu" in torch.__version__ and "+cpu" not in version("torchvision"):
    torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from fluke import DDict, FlukeENV
from fluke.algorithms.fedavg import FedAVG
from fluke.data import DataSplitter, DummyDataContainer, FastDataLoader
from fluke.utils import FederationObserver


class Clock(FederationObserver):
    """When every round ended."""

    def __init__(self):
        self.times = [perf_counter()]

    def end_round(self, round):
        self.times.append(perf_counter())


def main(path):
    torch.set_num_threads(1)
    with np.load(path) as work:
        x, y, widths = torch.from_numpy(work["x"]), torch.from_numpy(work["y"]), work["widths"].tolist()
        clients, rounds, batch, lr = int(work["clients"]), int(work["rounds"]), int(work["batch"]), float(work["lr"])
    env = FlukeENV()
    env.set_seed(0)
    env.set_device("cpu")
    env.set_inmemory(True)
    env.set_eval_cfg(pre_fit=False, post_fit=False, server=False, locals=False, eval_every=10**9)
    layers = [layer for sizes in pairwise(widths) for layer in (torch.nn.Linear(*sizes), torch.nn.ReLU())]
    rows = len(x) // clients
    loaders = [
        FastDataLoader(
            x[start : start + rows], y[start : start + rows], num_labels=widths[-1], batch_size=batch, shuffle=True
        )
        for start in range(0, rows * clients, rows)
    ]
    data = DummyDataContainer(loaders, [None] * clients, None, widths[-1])
    options = DDict(
        client={
            "batch_size": batch,
            "local_epochs": 1,
            "loss": "CrossEntropyLoss",
            "optimizer": {"name": "SGD", "lr": lr},
            "scheduler": {"name": "StepLR", "step_size": 1, "gamma": 1},
        },
        server={"weighted": True},
        model=torch.nn.Sequential(*layers[:-1]),
    )
    federation = FedAVG(clients, DataSplitter(data, distribution="iid"), options)
    clock = Clock()
    federation.set_callbacks(clock)
    clock.times[0] = perf_counter()
    federation.run(rounds, 1.0, finalize=False)
    print()
    print(json.dumps({"version": version("fluke-fl"), "rounds": np.diff(clock.times).tolist()}))


if __name__ == "__main__":
    main(sys.argv[1])
