"""Realistic records without training: accuracies that rise over rounds, fall with skew, and differ by seed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from experiments.config.spec import label_skewed
from results.frame import frames
from results.record import RunRecord, decode_fields
from results.reporting.study import Study, studies
from results.rules import family

HAR = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
OFFICES = ("CBS", "ISTAT", "ONS", "STATCAN")
STRATEGIES = ("fedavg", "fedprox(mu=0.01)", "local", "centralised")
# Each with its cost in points and its label skew as a Dirichlet concentration; None shares labels evenly.
PARTITIONS: dict[str, tuple[float, float | None]] = {
    "iid": (0, None),
    "stratified": (0, None),
    "by_person": (1, 20),
    "dirichlet(alpha=0.1)": (14, 0.1),
    "dirichlet(alpha=0.5)": (5, 0.5),
    "dirichlet_even(alpha=0.1)": (16, 0.1),
    "dirichlet_even(alpha=0.3)": (8, 0.3),
    "majority(ratio=0.8)": (4, 0.6),
    "quantity(alpha=0.3)": (0, None),
    "shards(classes=2)": (30, 0.05),
    "sizes(gini=0.6)": (1, None),
}
# What a made-up round under a protocol takes: seconds to encrypt (four offices), add, decrypt; keys once a run; bytes
# an office up and down over plain; who learns what.
SHARED = {"server": "nothing of updates, sums, model", "office": "model, sums", "server and one office": "all updates"}
PROTOCOLS: dict[str, tuple[float, float, float, float, float, float, dict[str, str]]] = {
    "quantised": (0.004, 0.001, 0.001, 0.0, 0.75, 0.5, SHARED | {"server": "updates, sums"}),
    "masked_sum": (0.006, 0.001, 0.003, 0.01, 0.75, 0.5, SHARED),
    "secagg": (
        *(0.03, 0.006, 0.001, 0.0, 0.8, 0.6),
        {
            "server": "sums, hence the model up to its first weights",
            "office": "model, sums",
            "server and one office": "no single update",
            "server and t offices": "all updates",
        },
    ),
    "paillier": (2.3, 0.02, 3.5, 30.0, 0.76, 0.51, SHARED),
    "bfv": (0.2, 0.006, 0.02, 0.1, 3.0, 2.4, SHARED),
}
BASE_BYTES = 80_000  # of an office and round under plain strategies
BASE_TRAIN_S = 0.08  # of a round
STRATEGY_OPTIONS = {"fedprox(mu=0.01)": {"mu": 0.01}, "centralised": {"steps": "all"}}
GAINS = {"fedavg": 0.0, "fedprox(mu=0.01)": 0.8, "local": -25.0, "centralised": 3.0}


@dataclasses.dataclass(frozen=True)
class Case:
    """What a test asks of a record; `options` override the spec's."""

    partition: str = "iid"
    strategy: str = "fedavg"
    seed: int = 0
    rounds: int = 25
    clients: int = 4
    classes: tuple[str, ...] = HAR
    status: str = "ok"
    filtered: bool = False
    validation: float = 0.2
    test: bool = True
    engine: str = "inprocess"
    title: str = "UCI HAR"
    dataset: str = "uci-har"
    notes: tuple[str, ...] = ("official scaling used all rows",)
    commit: str | None = "0123456789ab"
    sources_hash: str = "feedfacefeedface"
    options: tuple[tuple[str, Any], ...] = ()
    # Not in the repr, which the accuracies are drawn from: what was measured changes no figure.
    measured: int | None = dataclasses.field(default=None, repr=False)  # rounds of a protected run; None is all
    protection: tuple[tuple[str, Any], ...] = dataclasses.field(default=(), repr=False)  # changes of the record's


def spec_of(case: Case) -> dict[str, Any]:
    """All options, as the experiments write them."""
    return {
        "dataset": case.dataset,
        "form": "features",
        "test_persons": "official",
        "partition": case.partition,
        "partition_seed": None,
        "strategy": case.strategy,
        "clients": case.clients,
        "fraction": 1.0,
        "rounds": case.rounds,
        "local_epochs": 1,
        "local_steps": None,
        "batch_size": 32,
        "client_lr": 0.05,
        "lr_schedule": "constant",
        "optimizer": "sgd",
        "loss": "cross_entropy",
        "model": "mlp",
        "validation": case.validation,
        "standardise": "auto",
        "min_examples": 64,
        "row_order": "shuffled",
        "reject_nonfinite": True,
        "trainer": "auto",
        "seed": case.seed,
        "data_hash": digest(case.title, 64),
    } | dict(case.options)


def digest(value: object, length: int = 16) -> str:
    """A stable hash of anything with a repr."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:length]


def record(case: Case | None = None, **changes: Any) -> RunRecord:
    """One record."""
    case = dataclasses.replace(case or Case(), **changes)
    spec = spec_of(case)
    fields: dict[str, Any] = {
        "run_id": digest(json.dumps(spec, sort_keys=True)),
        "engine": case.engine,
        "status": case.status,
        "spec": spec,
        "strategy_options": {"weighting": "examples", **STRATEGY_OPTIONS.get(case.strategy, {})},
        "data": {
            "name": case.dataset,
            "title": case.title,
            "form": "features",
            "classes": case.classes,
            "hash": spec["data_hash"],
            "notes": case.notes,
        },
        "environment": {
            "versions": {"python": "3.12.3", "numpy": "2.4.6"},
            "machine": "Xeon, Linux",
            "cpu_path": "AVX2",
            "commit": case.commit,
            "sources_hash": case.sources_hash,
            "data_hash": spec["data_hash"],
        },
        "filtered": case.filtered,
        "cost": {
            "train_s": 2.0,
            "wall_s": 2.5 + case.seed / 10,
            "cpu_s": 2.4,
            "bytes_up": 8_000_000,
            "bytes_down": 8_000_000,
        },
    }
    if case.status == "failed":
        return decode_fields(fields | {"error": "RuntimeError: no memory\n  File x.py, line 1"})
    if family(case.strategy) in PROTOCOLS:
        _protect(case, fields)
    fields |= _dealt(case)
    if case.status == "diverged":
        return decode_fields(fields | {"error": "all updates of round 3 are not finite", "rounds": _rounds(case)[:3]})
    return decode_fields(
        fields | {"rounds": (rounds := _rounds(case)), "final": _final(case, rounds, fields["offices"])}
    )


def _protect(case: Case, fields: dict[str, Any]) -> None:
    """Costs and rounding of a protected run; seconds of one seed differ from another's, errors too."""
    encrypt, add, decrypt, keys, up, down, sees = PROTOCOLS[protocol := family(case.strategy)]
    measured = case.rounds if case.measured is None else case.measured
    spent = measured * (1 + case.seed / 100)
    fields["cost"] |= {
        "encrypt_s": encrypt * spent,
        "add_s": add * spent,
        "decrypt_s": decrypt * spent,
        "critical_s": (encrypt / case.clients + add + decrypt) * spent,
        "keygen_s": keys * bool(measured),
        "encrypted_share": float(protocol != "quantised") * bool(measured),
        "crypto_processes": int(measured > 0),
    }
    fields["protection"] = {
        "protocol": protocol,
        "assumption": f"what {protocol} rests on",
        "sees": sees,
        "bits": 12 if "bits=12" in case.strategy else 16,
        "rounding": "feedback" if "bits=12" in case.strategy else "nearest",
        "clip": "auto",
        "min_offices": 3,
        "measured_rounds": measured,
        "measured_bytes_up": round(measured * case.clients * up * BASE_BYTES),
        "measured_bytes_down": round(measured * case.clients * down * BASE_BYTES),
        "rounds": case.rounds,
        "clipped_share": 2e-5,
        "error": 1.5e-6 * (1 + case.seed / 10),
        "error_bound": 4e-6,
    } | dict(case.protection)


def records(
    partitions: Sequence[str] = tuple(PARTITIONS),
    strategies: Sequence[str] = STRATEGIES,
    seeds: int = 5,
    **changes: Any,
) -> Iterator[RunRecord]:
    """A grid of records."""
    for partition in partitions:
        for strategy in strategies:
            for seed in range(seeds):
                yield record(partition=partition, strategy=strategy, seed=seed, **changes)


def _rng(*parts: object) -> np.random.Generator:
    return np.random.default_rng(int(digest(parts, 12), 16))


def _counts(case: Case) -> Any:
    """(K, C) rows; the same for every strategy of a partition and seed."""
    rng = _rng(case.partition, case.seed, case.clients)
    _, alpha = PARTITIONS.get(case.partition, (2, 1.0))
    total = 6000 / len(case.classes)
    shares = np.full((case.clients, len(case.classes)), 1 / case.clients)
    if alpha is not None:
        shares = rng.dirichlet([alpha] * case.clients, len(case.classes)).T
    if case.partition.startswith(("quantity", "sizes")):
        shares = shares * rng.dirichlet([0.8] * case.clients)[:, None] * case.clients
    return np.maximum(1, np.rint(shares * total)).astype(int)


def _dealt(case: Case) -> dict[str, Any]:
    counts = _counts(case)
    sizes = counts.sum(axis=1)
    k = case.clients
    gini = float((2 * np.arange(1, k + 1) - k - 1) @ np.sort(sizes) / (k * sizes.sum()))
    p = counts / sizes[:, None]
    entropy = -np.sum(p * np.log2(p), axis=1) / np.log2(len(case.classes))
    rng = _rng("dealt", case)
    offices = [
        {
            "name": OFFICES[i] if i < 4 else f"Office {i + 1}",
            "num_examples": sizes[i],
            "class_counts": counts[i],
            "num_persons": 17,
            "entropy": entropy[i],
            "js_distance": float(1 - entropy[i]) ** 0.5 if entropy[i] < 1 else 0.0,
            "validation_accuracy": float(rng.uniform(0.7, 0.9)) if case.validation else None,
            "bytes_up": 2_000_000,
            "bytes_down": 2_000_000,
            "rejected": int(case.filtered and i == 0),
        }
        for i in range(k)
    ]
    js = float(np.mean([office["js_distance"] for office in offices]))
    return {
        "offices": offices,
        "partition": {
            "hash": digest((case.partition, case.seed, case.clients), 64),
            "gini": gini,
            "gini_normalised": gini * k / max(k - 1, 1),
            "entropy": float(np.mean(entropy)),
            "js_distance": js,
            "information": js**2,
            "moved": 700 if "0.1" in case.partition and case.seed == 0 else 0,
            "moved_share": 0.1 if "0.1" in case.partition and case.seed == 0 else 0.0,
            "marked": "0.1" in case.partition and case.seed == 0,
            "label_skewed": label_skewed(case.partition),
        },
    }


def _rounds(case: Case) -> list[dict[str, Any]]:
    skew, _ = PARTITIONS.get(case.partition, (2, None))
    rng = _rng("deal", case.partition, case.seed)
    level = 93 - skew + rng.normal(0, 0.5 + skew / 4) + GAINS.get(case.strategy, 1.0)
    rng = _rng("rounds", case)
    t = np.arange(1, case.rounds + 1)
    accuracy = np.clip((level - 45 * np.exp(-t / 4) + rng.normal(0, 0.6 + skew / 12, case.rounds)) / 100, 0.05, 0.999)
    return [
        {
            "round": int(r),
            "test_accuracy": float(a) if case.test else None,
            "test_loss": float(2 * (1 - a)) if case.test else None,
            "test_macro_f1": float(a - 0.01) if case.test else None,
            "validation_accuracy": float(a - 0.02) if case.validation else None,
            "train_loss": float(1.5 * (1 - a)),
        }
        for r, a in zip(t, accuracy, strict=True)
    ]


def _final(case: Case, rounds: list[dict[str, Any]], offices: list[dict[str, Any]]) -> dict[str, Any]:
    scored = [office["validation_accuracy"] for office in offices if office["validation_accuracy"] is not None]
    out: dict[str, Any] = {
        "mean_office_accuracy": float(np.mean(scored)) if scored else None,
        "weighted_office_accuracy": float(np.mean(scored)) + 0.01 if scored else None,
        "worst_office_accuracy": min(scored) if scored else None,
        "validation_score": 0.8 if case.validation else None,
    }
    if not case.test:
        return out
    last = rounds[-1]["test_accuracy"]
    rng = _rng("final", case)
    return out | {
        "score": float(np.mean([one["test_accuracy"] for one in rounds[-5:]])),
        "test_accuracy": last,
        "test_macro_f1": rounds[-1]["test_macro_f1"],
        "test_f1_per_class": np.clip(last + rng.normal(0, 0.08, len(case.classes)), 0, 1),
        "test_correct_by_person": {str(person): (int(300 * last), 300) for person in (2, 4, 9)},
    }


def only_study(records: Iterable[RunRecord]) -> Study:
    """The study of records that share one data set."""
    (study,) = studies(frames(records))
    return study
