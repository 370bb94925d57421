"""Records of private runs without training: scores that fall with the noise, and promises as the experiments write."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from results.record import RunRecord
from results.sections import Privacy
from tests.results.builder import record

PERSONS = 21
ROWS = 7352
EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def strategy(
    epsilon: float | None = 8.0,
    inner: str = "fedavg",
    noise: str = "own",
    unit: str = "window",
    clip: float | None = 1.0,
    simulate: int | None = None,
    **more: Any,
) -> str:
    """The canonical text, defaults left out."""
    called = inner if inner.endswith(")") else f"{inner}()"
    given = {"epsilon": epsilon, "noise_multiplier": 0.0 if epsilon is None else None, "simulate": simulate} | more
    given |= {"inner": None if inner == "fedavg" else called, "unit": "person" if unit == "person" else None}
    given |= {"noise": "shared" if noise == "shared" else None}
    given["clip_norm"] = "'none'" if clip is None else None if clip == 1 else clip
    text = f"dp_sgd({', '.join(f'{key}={value}' for key, value in sorted(given.items()) if value is not None)})"
    return f"masked_sum(bits=32, inner={text})" if noise == "shared" else text


def private(
    epsilon: float | None = 8.0,
    inner: str = "fedavg",
    noise: str = "own",
    unit: str = "window",
    clip: float | None = 1.0,
    simulate: int | None = None,
    changes: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    **case: Any,
) -> RunRecord:
    """One run.

    Args:
        epsilon: None is infinite.
        changes: of the record's privacy.
        more: further options of the strategy.
        case: of the builder's `Case`.
    """
    name = strategy(epsilon, inner, noise, unit, clip, simulate, **(more or {}))
    made = record(strategy=name, rounds=case.pop("rounds", 5), **case)
    units = [1838] * 4 if unit == "window" else [6, 5, 5, 5]
    office = {"epsilon": epsilon, "epsilon_rdp": None if epsilon is None else 1.1 * epsilon, "steps": 5}
    office |= {"noise_multiplier": 0.0 if epsilon is None else 8.0 / epsilon, "sampling_rate": 1.0}
    found: dict[str, Any] = {
        "mechanism": "dp_sgd",
        "unit": unit,
        "units": ROWS if unit == "window" else PERSONS,
        "inner": inner,
        "target_epsilon": epsilon,
        "epsilon": epsilon,
        "epsilon_rdp": office["epsilon_rdp"],
        "delta": 1e-5,
        "accountant": "prv",
        "orders": "integers 2 to 256",
        "relation": "add or remove one",
        "observer": "server, other offices, reader of the model",
        "noise": noise,
        "noise_source": "reproducible",
        "clip_norm": clip,
        "simulated_units": simulate,
        "sampling": "all",
        "public": ["rows of each office", "local steps"],
        "offices": [office | {"units": count} for count in units],
    }
    if unit == "window":
        infinite = epsilon is None
        found["group_person"] = {"windows": 409, "epsilon": None if infinite else 3e4 * epsilon}  # type: ignore[operator]
        found["group_signal"] = {"windows": 3, "epsilon": None if infinite else 4 * epsilon}  # type: ignore[operator]
    assert made.final is not None
    score = level(epsilon, noise, unit, clip, simulate) + (made.final.score or 0) / 30 - 0.03
    spread = np.random.default_rng(case.get("seed", 0)).normal(0, 0.004)
    final = msgspec.structs.replace(
        made.final,
        score=score + spread,
        test_f1_per_class=tuple(score - 0.02 * place + 2 * spread for place in range(6)),
    )
    privacy = msgspec.convert(found | (changes or {}), Privacy)
    return msgspec.structs.replace(made, privacy=privacy, final=final)


def level(epsilon: float | None, noise: str, unit: str, clip: float | None, simulate: int | None) -> float:
    """What a run scores, about as measured."""
    top = (0.957 if unit == "window" else 0.93) - (0.0 if clip is None else 0.004)
    if epsilon is None:
        return top
    unevenly = 0.06 if unit == "window" else 2.2 * PERSONS / (simulate or PERSONS)
    return max(0.2, top - unevenly * (2.0 if noise == "own" else 1.0) / epsilon)


def swept(
    seeds: int = 3,
    units: tuple[str, ...] = ("window", "person"),
    partitions: tuple[str, ...] = ("iid", "by_person"),
    lines: tuple[tuple[str, str], ...] = (
        ("fedavgm(beta=0.8)", "own"),
        ("fedavgm(beta=0.8, weighting=uniform)", "shared"),
        ("fedavg", "own"),
        ("fedprox(mu=0.1)", "own"),
    ),
) -> list[RunRecord]:
    """As the grid `privacy` leaves them."""
    return [
        private(epsilon, inner, noise, unit, clip, partition=partition, seed=seed)
        for unit in units
        for partition in partitions
        for inner, noise in lines
        for epsilon, clip in [*((epsilon, 1.0) for epsilon in EPSILONS), (None, 1.0), (None, None)]
        for seed in range(seeds)
    ]


def simulated(seeds: int = 3, noise: str = "own", inner: str = "fedavg") -> list[RunRecord]:
    """Person level at epsilon 8, as it is, without noise, and under the noise of more persons."""
    return [
        private(*one, seed=seed, partition="by_person")
        for one in [
            *((8.0, inner, noise, "person", 1.0, count) for count in (None, 42, 105, 210, 420)),
            (None, inner, noise, "person", None, None),
        ]
        for seed in range(seeds)
    ]
