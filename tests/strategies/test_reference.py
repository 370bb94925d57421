"""Each strategy against its paper's pseudocode, written here as loops over offices and weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.strategies.least_squares import (
    BATCH,
    EPOCHS,
    LR,
    ROUNDS,
    ROWS,
    SIZES,
    START,
    A,
    B,
    federate,
)
from tests.strategies.protection.key_files import PROTECTED


def local_sgd(w_t: list[float], rows: np.ndarray, mu: float, steps: int | None = None) -> tuple[list[float], int]:
    """E epochs of minibatch SGD on h(w) = 1/(2b) sum (a.w - b)^2 + mu/2 |w - w_t|^2; the model and its steps."""
    w = list(w_t)
    taken = 0
    while steps is None or taken < steps:
        for start in range(0, len(rows), BATCH):
            if taken == steps:
                break
            batch = rows[start : start + BATCH]
            gradient = [0.0] * 5
            for row in batch:
                residual = sum(A[row, j] * w[j] for j in range(5)) - B[row]
                for j in range(5):
                    gradient[j] += residual * A[row, j] / len(batch)
            for j in range(5):
                w[j] -= LR * (gradient[j] + mu * (w[j] - w_t[j]))
            taken += 1
        if steps is None and taken == EPOCHS * -(-len(rows) // BATCH):
            break
    return w, taken


def averaging(
    weight: Callable[[int, int], float], mu: float, cohorts: list[list[int]], beta: float = 0.0, server_lr: float = 1.0
) -> list[float]:
    """McMahan et al. 2017, Algorithm 1, over given cohorts; `weight(rows, steps)` of an office before normalisation.

    With beta or another server_lr, Hsu et al. 2019, section 4.3: v = beta v + d, w = w - server_lr v, d the mean of
    w_t - w_k, written in their sign.
    """
    w_t, v = list(START), [0.0] * 5
    for cohort in cohorts:
        models, weights = [], []
        for office in cohort:
            model, steps = local_sgd(w_t, ROWS[office], mu)
            models.append(model)
            weights.append(weight(SIZES[office], steps))
        for j in range(5):
            d = sum(p * (w_t[j] - w[j]) for p, w in zip(weights, models, strict=True)) / sum(weights)
            v[j] = beta * v[j] + d
            w_t[j] = w_t[j] - server_lr * v[j]
    return w_t


Rule = tuple[Callable[[int, int], float], float]
RULES: dict[str, Rule] = {
    "fedavg": (lambda rows, steps: rows, 0.0),
    "fedavg(weighting=uniform)": (lambda rows, steps: 1, 0.0),
    "fedavg(weighting=batches)": (lambda rows, steps: steps, 0.0),
    "fedprox(mu=0.3)": (lambda rows, steps: rows, 0.3),
    "fedprox(mu=0.3, weighting=uniform)": (lambda rows, steps: 1, 0.3),
    "flower(path=flwr.serverapp.strategy.FedAvg)": (lambda rows, steps: rows, 0.0),
    "flower(path=flwr.serverapp.strategy.FedProx, proximal_mu=0.3)": (lambda rows, steps: rows, 0.3),
}


@pytest.mark.parametrize("cohort", [3, 2, 1])
@pytest.mark.parametrize("strategy", RULES)
def test_averaging(strategy: str, cohort: int) -> None:
    ours, cohorts = federate(strategy, cohort)
    assert [len(offices) for offices in cohorts] == [cohort] * ROUNDS
    np.testing.assert_allclose(ours, averaging(*RULES[strategy], cohorts), rtol=1e-10)


STEPS: dict[str, tuple[Rule, tuple[float, float]]] = {
    "fedavgm(beta=0.5, server_lr=0.7)": (RULES["fedavg"], (0.5, 0.7)),
    "fedavgm(beta=0.9, weighting=uniform)": (RULES["fedavg(weighting=uniform)"], (0.9, 1.0)),
    "flower(path=flwr.serverapp.strategy.FedAvgM, server_momentum=0.5, server_learning_rate=0.7)": (
        RULES["fedavg"],
        (0.5, 0.7),
    ),
}


@pytest.mark.parametrize("cohort", [3, 2, 1])
@pytest.mark.parametrize("strategy", STEPS)
def test_momentum_at_the_server(strategy: str, cohort: int) -> None:
    """Ours and Flower's, over more rounds: the momentum is that of all rounds before."""
    ours, cohorts = federate(strategy, cohort, rounds=5)
    (weight, mu), (beta, server_lr) = STEPS[strategy]
    np.testing.assert_allclose(ours, averaging(weight, mu, cohorts, beta, server_lr), rtol=1e-9)


@pytest.mark.parametrize("protocol", PROTECTED)
@pytest.mark.parametrize("inner", [*list(RULES)[:5], *list(STEPS)[:2]])
def test_with_many_bits_protection_is_the_papers_too(protocol: str, inner: str) -> None:
    """Sums and steps are computed in float64; what stays of the grid of 32 bits is less than the model's float32."""
    call = inner if inner.endswith(")") else f"{inner}()"
    ours, cohorts = federate(f"{protocol}(bits=32, clip=20, inner={call})", rounds=5)
    rule, step = STEPS[inner] if inner in STEPS else (RULES[inner], (0.0, 1.0))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, averaging(*rule, cohorts, *step), rtol=2e-6)


def test_the_weightings_differ_here() -> None:
    finals = [federate(f"fedavg(weighting={kind})")[0] for kind in ("examples", "uniform", "batches")]
    assert min(np.abs(finals[i] - finals[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-3


@pytest.mark.parametrize("cohort", [3, 2])
def test_local_is_each_office_alone(cohort: int) -> None:
    ours, cohorts = federate("local", cohort)
    for office in range(3):
        w = list(START)
        for offices in cohorts:
            if office in offices:
                w, _ = local_sgd(w, ROWS[office], 0.0)
        np.testing.assert_allclose(ours[office], w, rtol=1e-10)


@pytest.mark.parametrize(("steps", "a_round"), [("all", 12), ("one", 4)])
def test_centralised_is_sgd_on_all_rows(steps: str, a_round: int) -> None:
    # Offices take 2 epochs of 3, 2 and 1 batches: 12 steps together, 4 on average.
    assert sum(EPOCHS * -(-size // BATCH) for size in SIZES) == 12
    ours, _ = federate(f"centralised(steps={steps})")
    w = list(START)
    for _ in range(ROUNDS):
        w, taken = local_sgd(w, np.arange(sum(SIZES)), 0.0, steps=a_round)
        assert taken == a_round
    np.testing.assert_allclose(ours, w, rtol=1e-10)
