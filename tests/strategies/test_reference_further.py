"""SCAFFOLD, FedNova, FedAdam, FedDyn, FedExP, q-FFL, median, Krum and Ditto against their papers, office by office.

Least squares in float64, three rounds of three unequal offices: weights and state agree to 1e-10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from experiments.federation.dropout import Drop
from strategies.base import Federation, Job, Round, Setting, StrategyError, Update
from strategies.fedadam import FedAdam
from strategies.fedexp import FedExP
from strategies.fednova import FedNova
from strategies.krum import Krum
from strategies.median import Median
from tests.strategies.least_squares import BATCH, EPOCHS, LR, ROWS, SIZES, START, A, B, Small

Vector = np.ndarray
STEPS = [EPOCHS * -(-size // BATCH) for size in SIZES]
ROUND_2_WITHOUT_1 = Drop(schedule=((2, 1, "update"),))
COHORTS = [[0, 1, 2], [0, 2], [0, 1, 2]]  # with the drop above


def slope(w: Vector, rows: Vector) -> Vector:
    """Gradient of the mean of (a.w - b)^2 / 2, row by row."""
    total = np.zeros(5)
    for row in rows:
        total += (A[row] @ w - B[row]) * A[row]
    return total / len(rows)


def local(w: Vector, office: int, extra: Callable[[Vector], Any] = lambda w: 0.0) -> Vector:
    """The office's steps in file order, w - lr (gradient + extra(w))."""
    rows, step = ROWS[office], 0
    while step < STEPS[office]:
        for start in range(0, len(rows), BATCH):
            if step < STEPS[office]:
                w = w - LR * (slope(w, rows[start : start + BATCH]) + extra(w))
                step += 1
    return w


def close_to(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_scaffold() -> None:
    """Algorithm 1, option II, with an office that is lost in round 2; c stays the mean of all c_i."""
    x, c, own = START.copy(), np.zeros(5), [np.zeros(5) for _ in SIZES]
    for cohort in COHORTS:
        models, changes = [], []
        for i in cohort:
            y = local(x, i, lambda w, b=c - own[i]: b)  # type: ignore[misc]
            new = own[i] - c + (x - y) / (STEPS[i] * LR)
            models.append(y)
            changes.append(new - own[i])
            own[i] = new
        x = x + 0.7 * (sum(models) / len(cohort) - x)
        c = c + len(cohort) / 3 * sum(changes) / len(cohort)
    small = Small.of("scaffold(server_lr=0.7)", dropout=ROUND_2_WITHOUT_1).play()
    close_to(small.w, x)
    close_to(small.state["c"], c)
    close_to(c, sum(own) / 3)


def test_scaffold_starts_as_fedavg() -> None:
    close_to(Small.of("scaffold").play(1).w, Small.of("fedavg(weighting=uniform)").play(1).w)


def weights() -> Vector:
    return np.array(SIZES) / sum(SIZES)


@pytest.mark.parametrize("mu", [0.0, 0.3])
def test_fednova(mu: float) -> None:
    """Equations (6) to (8)."""
    x = START.copy()
    for _ in range(3):
        total, tau = np.zeros(5), 0.0
        for i, p in enumerate(weights()):
            y = local(x, i, lambda w: mu * (w - x))  # noqa: B023
            kept = [(1 - LR * mu) ** (STEPS[i] - 1 - step) for step in range(STEPS[i])]  # a_i, entry by entry
            total += p * (y - x) / sum(kept)
            tau += p * (STEPS[i] if mu else sum(kept))
        x = x + tau * total
    close_to(Small.of(f"fednova(mu={mu})").play().w, x)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_length_under_momentum_is_that_of_the_unrolled_buffer(rho: float) -> None:
    for steps in (1, 2, 7):
        v, coefficients = np.zeros(steps), np.zeros(steps)
        for step in range(steps):
            v = rho * v
            v[step] += 1
            coefficients += v
        close_to(FedNova().length(steps, Job(None, 1, {}, LR, steps, rho)), coefficients.sum())


def test_fednova_of_equal_steps_is_fedavg() -> None:
    x, d = np.zeros(3), np.array([1.0, -2.0, 3.0])
    equal = Round(1, 2, 2, [0, 1], np.array([0.5, 0.5]), np.array([4, 4]), np.array([7, 7]))
    close_to(FedNova().server_step(x, {"w": d / 7, "a": 7.0}, {}, equal)[0], d)


def test_fedadam() -> None:
    """Algorithm 2: m from 0, v from tau^2, no bias correction."""
    x, m, v = START.copy(), np.zeros(5), np.full(5, 0.01**2)
    for _ in range(3):
        d = sum(p * (local(x, i) - x) for i, p in enumerate(weights()))
        m = 0.8 * m + 0.2 * d
        v = 0.95 * v + 0.05 * d**2
        x = x + 0.2 * m / (np.sqrt(v) + 0.01)
    small = Small.of("fedadam(server_lr=0.2, beta1=0.8, beta2=0.95, tau=0.01)").play()
    close_to(small.w, x)
    close_to(small.state["m"], m)
    close_to(small.state["v"], v)


def test_fedadam_of_a_large_tau_is_fedavg() -> None:
    ours = FedAdam(server_lr=1e9, beta1=0.0, beta2=0.0, tau=1e9)
    d = np.array([1.0, -2.0])
    x, _ = ours.server_step(np.zeros(2), {"w": d}, ours.start(np.zeros(2), Federation(1, 1)), None)  # type: ignore[arg-type]
    np.testing.assert_allclose(x, d, rtol=1e-8)


def test_feddyn() -> None:
    """Algorithm 1 with an office that is lost in round 2: |S| / m is that of the offices that answered."""
    alpha, x, h, own = 0.4, START.copy(), np.zeros(5), [np.zeros(5) for _ in SIZES]
    for cohort in COHORTS:
        models = []
        for i in cohort:
            y = local(x, i, lambda w, i=i: alpha * (w - x) - own[i])  # type: ignore[misc]  # noqa: B023
            own[i] = own[i] - alpha * (y - x)
            models.append(y)
        h = h - alpha / 3 * sum(y - x for y in models)
        x = sum(models) / len(cohort) - h / alpha
    small = Small.of("feddyn(alpha=0.4)", dropout=ROUND_2_WITHOUT_1).play()
    close_to(small.w, x)
    close_to(small.state["h"], h)
    assert set(small.memories[1]) & {"waiting-l", "l"}


def test_feddyns_first_round_is_twice_fedproxs() -> None:
    prox = Small.of("fedprox(mu=0.4, weighting=uniform)").play(1).w
    close_to(Small.of("feddyn(alpha=0.4)").play(1).w, START + 2 * (prox - START))


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_fedexp(weighting: str) -> None:
    """Algorithm 1: the same weights in the mean and in the step."""
    shares = weights() if weighting == "examples" else np.full(len(SIZES), 1 / len(SIZES))
    x = START.copy()
    for _ in range(3):
        moved = [local(x, i) - x for i in range(len(SIZES))]
        d = sum(p * one for p, one in zip(shares, moved, strict=True))
        length = sum(p * float(one @ one) for p, one in zip(shares, moved, strict=True))
        x = x + max(1.0, length / (2 * (float(d @ d) + 1e-3))) * d
    close_to(Small.of(f"fedexp(weighting={weighting})").play().w, x)


def test_fedexp_goes_further_the_more_updates_point_apart() -> None:
    rule, job = FedExP(), Job(np.array([1.0, 2.0, 3.0]), 1, {}, LR, 1)
    moved, shares = np.array([[1.0, 0.2, 0.0], [-0.9, 0.1, 0.4], [0.1, 0.1, -0.5]]), [0.2, 0.3, 0.5]
    sent = [rule.close(Update(job, job.w + one, 4, 1, None), {})[0] for one in moved]
    squares = [sum(float(v) ** 2 for v in one) for one in moved]
    close_to([one["squared"] for one in sent], squares)
    d = sum(p * one for p, one in zip(shares, moved, strict=True))
    length = sum(p * square for p, square in zip(shares, squares, strict=True))
    eta = length / (2 * (sum(float(v) ** 2 for v in d) + 1e-3))
    assert eta > 5
    close_to(rule.server_step(job.w, {"w": d, "squared": length}, {}, answered(3))[0], job.w + eta * d)


def test_fedexp_of_a_large_eps_is_fedavg() -> None:
    close_to(Small.of("fedexp(eps=1e9)").play().w, Small.of("fedavg").play().w)


@pytest.mark.parametrize("q", [0.0, 0.5, 2.0])
def test_qffl(q: float) -> None:
    """Algorithm 2: the loss is that of the received model on the office's rows."""
    x, lipschitz = START.copy(), 1 / LR
    for _ in range(3):
        top, bottom = np.zeros(5), 0.0
        for i, rows in enumerate(ROWS):
            loss = np.mean([(A[row] @ x - B[row]) ** 2 / 2 for row in rows])
            way = lipschitz * (x - local(x, i))
            top += loss**q * way
            bottom += q * loss ** (q - 1) * (way @ way) + lipschitz * loss**q
        x = x - top / bottom
    close_to(Small.of(f"qffl(q={q})").play().w, x)
    if q == 0:
        close_to(x, Small.of("fedavg(weighting=uniform)").play().w)


def test_median() -> None:
    x = START.copy()
    for _ in range(3):
        models = [local(x, i) for i in range(3)]
        x = np.array([sorted(model[j] for model in models)[1] for j in range(5)])
    close_to(Small.of("median").play().w, x)


def answered(number: int) -> Round:
    ones = np.ones(number)
    return Round(1, number, number, list(range(number)), ones / number, ones, ones)  # type: ignore[arg-type]


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    x, _ = Median().aggregate(np.zeros(1), {"w": np.array([[1.0], [2.0], [4.0], [9.0]])}, {}, answered(4))
    assert x.tolist() == [3.0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("k", "f"), [(4, 1), (5, 1), (7, 2), (9, 3)])
def test_krum(k: int, f: int, seed: int) -> None:
    """Section 4: sums over the K - f - 2 nearest others, by loops."""
    w = np.random.default_rng(seed).normal(size=(k, 6))
    scores = []
    for i in range(k):
        distances = sorted(float(sum((w[i][j] - w[o][j]) ** 2 for j in range(6))) for o in range(k) if o != i)
        scores.append(sum(distances[: k - f - 2]))
    x, _ = Krum(f=f).aggregate(np.zeros(6), {"w": w}, {}, answered(k))
    close_to(x, w[scores.index(min(scores))])


def test_krum_tells_updates_of_models_apart_that_are_nearly_one() -> None:
    """Distances are of updates in float64: of models in float32, as x^2 + y^2 - 2 x y, these would be noise."""
    w = 1e-7 * np.array([[1.0, 0.0], [1.0, 0.1], [1.1, 0.0], [9.0, 9.0]])
    x, _ = Krum(f=1).aggregate(np.full(2, 1.0), {"w": w}, {}, answered(4))
    close_to(x - 1.0, w[0])


def test_krum_and_ditto_refuse_what_makes_no_sense() -> None:
    setting = Setting(((),) * 4, 3, 4, lambda _: LR, lambda: (5,))  # type: ignore[arg-type]
    with pytest.raises(StrategyError, match=r"krum\(f=2\) wants at least 5 offices in a round; 4 take part"):
        Krum(f=2).check(setting)
    Krum(f=1).check(setting)


def test_ditto() -> None:
    """Algorithm 1: the common model is FedAvg's; an office's own takes as many steps near the received one."""
    x, own = START.copy(), [START.copy() for _ in SIZES]
    for _ in range(3):
        received = x
        own = [local(own[i], i, lambda v: 0.5 * (v - received)) for i in range(3)]  # noqa: B023
        x = sum(p * local(received, i) for i, p in enumerate(weights()))  # type: ignore[assignment]
    small = Small.of("ditto(mu=0.5)").play()
    close_to(small.w, x)
    for office, v in enumerate(own):
        memory = small.memories[office]
        close_to(memory.get("waiting-v", memory.get("v")), v)


def test_dittos_common_model_is_fedavgs_bit_for_bit() -> None:
    assert np.array_equal(Small.of("ditto").play().w, Small.of("fedavg").play().w)
