"""FedAvg in pfl: the work of an npz file, seconds a round. Runs in an environment that has pfl, not ours."""

# mypy: ignore-errors

import json
import sys
from importlib.metadata import version
from itertools import pairwise
from time import perf_counter

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel


class Module(torch.nn.Sequential):
    """The network with the two methods that pfl asks of a model."""

    def loss(self, x, y):
        return torch.nn.functional.cross_entropy(self(x), y)

    def metrics(self, x, y):
        return {}


class Clock(TrainingProcessCallback):
    """When every round ended."""

    def __init__(self):
        self.times = [perf_counter()]

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        self.times.append(perf_counter())
        return False, Metrics()


def main(path):
    torch.set_num_threads(1)
    with np.load(path) as work:
        x, y, widths = torch.from_numpy(work["x"]), torch.from_numpy(work["y"]), work["widths"].tolist()
        clients, rounds, batch, lr = int(work["clients"]), int(work["rounds"]), int(work["batch"]), float(work["lr"])
    layers = [layer for sizes in pairwise(widths) for layer in (torch.nn.Linear(*sizes), torch.nn.ReLU())]
    module = Module(*layers[:-1])
    rows = len(x) // clients

    def office(client):
        own = torch.randperm(rows) + client * rows  # a new order every round
        return Dataset((x[own], y[own]), user_id=str(client))

    data = FederatedDataset(office, get_user_sampler("minimize_reuse", list(range(clients))))
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), 1.0))
    clock = Clock()
    clock.times[0] = perf_counter()
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=10**9,
            train_cohort_size=clients,
            val_cohort_size=0,
        ),
        SimulatedBackend(training_data=data, val_data=data, postprocessors=[]),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=lr, local_batch_size=batch),
        NNEvalHyperParams(local_batch_size=batch),
        callbacks=[clock],
    )
    print()
    print(json.dumps({"version": version("pfl"), "rounds": np.diff(clock.times).tolist()}))


if __name__ == "__main__":
    main(sys.argv[1])
