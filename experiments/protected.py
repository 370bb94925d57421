"""What a record says of a protected run: how updates were kept from the server, and what that cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strategies.protection.base import Protected
from strategies.protection.meter import total

if TYPE_CHECKING:
    from experiments.federation import Outcome
    from experiments.spec import RunSpec
    from experiments.training.clients import ClientSide


def add_protection(record: dict[str, Any], spec: RunSpec, clients: ClientSide, outcome: Outcome) -> None:
    """What protection cost, and what it was: of the rounds that were computed in earnest."""
    strategy = spec.strategy
    if not isinstance(strategy, Protected):
        return
    keys = clients.keys
    spent = total(outcome.meters, keys.measured)
    in_earnest = range(1, spec.rounds + 1) if keys.measured is None else keys.measured
    measured = len(in_earnest)
    names = ("train_s", "evaluate_s", "encrypt_s", "add_s", "decrypt_s", "critical_s", "clipped")
    record["cost"] |= {name: spent[name] for name in names if name in spent} | {
        "keygen_s": keys.seconds + spent["keygen_s"],
        # Without what was spent to learn what phe alone would take, which is no part of the run.
        "cpu_s": record["cost"]["cpu_s"] + spent.get("crypto_cpu_s", 0.0) - spent.get("aside_cpu_s", 0.0),
        "wall_s": record["cost"]["wall_s"] - spent.get("aside_wall_s", 0.0),
        "encrypted_share": strategy.encrypted_share if measured else 0.0,
        "crypto_processes": keys.processes if measured else 0,
    }
    record["protection"] = {
        "protocol": type(strategy).__module__.rpartition(".")[2],
        "assumption": strategy.assumes,
        "sees": dict(strategy.sees),
        "bits": strategy.bits,
        "rounding": strategy.rounds_by,
        "clip": strategy.clip,
        "min_offices": strategy.min_offices,
        "measured_rounds": measured,
        "measured_bytes_up": sum(outcome.bytes_by_round["up", round_] for round_ in in_earnest),
        "measured_bytes_down": sum(outcome.bytes_by_round["down", round_] for round_ in in_earnest),
        "rounds": len(outcome.rounds),
        "clipped_share": spent["clipped"] / spent["sent"] if spent.get("sent") else None,
        "error": spent.get("error"),
        "error_bound": spent.get("error_bound"),
    } | {name: value for name, value in spent.items() if name.startswith("naive_")}
