"""What a record says of a protected run: how updates were kept from the server, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strategies.protection.keys import Keys
from strategies.protection.meter import total
from strategies.protection.options import ProtectionOptions

TIMES = ("train_s", "evaluate_s", "encrypt_s", "add_s", "decrypt_s", "critical_s", "clipped")


def section(
    strategy: ProtectionOptions, keys: Keys, rounds: int, outcome: Any, cost: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record's section, and costs by name: of the rounds that were computed in earnest.

    Args:
        keys: of the run.
        rounds: that were planned.
        outcome: with `meters`, `rounds` that ended, and `bytes_by_round`.
        cost: `cpu_s` and `wall_s` of the run as it was measured from outside.
    """
    spent = total(outcome.meters, keys.measured)
    in_earnest = range(1, rounds + 1) if keys.measured is None else keys.measured
    measured = len(in_earnest)
    costs = {name: spent[name] for name in TIMES if name in spent} | {
        "keygen_s": keys.seconds + spent["keygen_s"],
        # Without what was spent to learn what phe alone would take, which is no part of the run.
        "cpu_s": cost["cpu_s"] + spent.get("crypto_cpu_s", 0.0) - spent.get("aside_cpu_s", 0.0),
        "wall_s": cost["wall_s"] - spent.get("aside_wall_s", 0.0),
        "encrypted_share": strategy.encrypted_share if measured else 0.0,
        "crypto_processes": keys.processes if measured else 0,
    }
    found = {
        "protocol": type(strategy).__module__.rpartition(".")[2],
        "assumption": strategy.assumes,
        "sees": {party: sees.value for party, sees in strategy.sees.items()},
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
    }
    return found | {name: value for name, value in spent.items() if name.startswith("naive_")}, costs
