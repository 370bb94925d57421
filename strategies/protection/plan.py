"""A protected run before round 1, keys at the offices and a server without any, and what its record says afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np

from strategies.base import Federation, Job, Letter, Memory, Prepared, Setting, Update
from strategies.crypto.streams import ProtectionError
from strategies.protection.desk import Desk
from strategies.protection.keys import Keys
from strategies.protection.layout import Layout, layout_of, supposed
from strategies.protection.meter import Meter, total
from strategies.protection.office import ProtectedOffice
from strategies.protection.options import ProtectionOptions
from strategies.protection.server import ProtectedServer
from strategies.protection.vault import IN_CLEAR, Vault

if TYPE_CHECKING:
    from strategies.privacy.plan import PrivacyPlan
    from strategies.protection.shares import NoiseShares

TIMES = ("train_s", "evaluate_s", "encrypt_s", "add_s", "decrypt_s", "critical_s", "clipped")


@dataclass(frozen=True)
class ProtectionPlan:
    """What the offices of a protected run are given, and the server is not.

    Attributes:
        strategy: with its protocol.
        setting: of the run, with its keys.
        privacy: plan of the private strategy inside, or None.
    """

    strategy: ProtectionOptions
    setting: Setting
    privacy: PrivacyPlan | None = None

    @property
    def keys(self) -> Keys:
        """Of the run; without any, no round is computed in earnest."""
        keys: Keys = self.setting.keys or Keys(measured=frozenset())
        return keys

    def report(self, outcome: Any, cost: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The record's section on protection, how updates were kept from the server, and costs by name: of the rounds
        that were computed in earnest.

        Args:
            outcome: with `meters`, `rounds` that ended, and `bytes_by_round`.
            cost: `cpu_s` and `wall_s` of the run as it was measured from outside.
        """
        spent = total(outcome.meters, self.keys.measured)
        in_earnest = range(1, self.setting.rounds + 1) if self.keys.measured is None else self.keys.measured
        measured = len(in_earnest)
        costs = {name: spent[name] for name in TIMES if name in spent} | {
            "keygen_s": self.keys.seconds + spent["keygen_s"],
            # Without what was spent to learn what phe alone would take, which is no part of the run.
            "cpu_s": cost["cpu_s"] + spent.get("crypto_cpu_s", 0.0) - spent.get("aside_cpu_s", 0.0),
            "wall_s": cost["wall_s"] - spent.get("aside_wall_s", 0.0),
            "encrypted_share": self.strategy.encrypted_share if measured else 0.0,
            "crypto_processes": self.keys.processes if measured else 0,
        }
        found = {
            "protocol": type(self.strategy).__module__.rpartition(".")[2],
            "assumption": self.strategy.assumes,
            "sees": {party: sees.value for party, sees in self.strategy.sees.items()},
            "bits": self.strategy.bits,
            "rounding": self.strategy.rounds_by,
            "clip": self.strategy.clip,
            "min_offices": self.strategy.min_offices,
            "measured_rounds": measured,
            "measured_bytes_up": sum(outcome.bytes_by_round["up", round_] for round_ in in_earnest),
            "measured_bytes_down": sum(outcome.bytes_by_round["down", round_] for round_ in in_earnest),
            "rounds": len(outcome.rounds),
            "clipped_share": spent["clipped"] / spent["sent"] if spent.get("sent") else None,
            "error": spent.get("error"),
            "error_bound": spent.get("error_bound"),
        }
        return found | {name: value for name, value in spent.items() if name.startswith("naive_")}, costs


def prepare(ours: ProtectionOptions, setting: Setting) -> Prepared:
    """A run whose sums are protected.

    Raises:
        ProtectionError: rounds are to be computed in earnest, and there are no keys.
    """
    inner = ours.inner.prepare(replace(setting, protected=True, keys=None))  # whatever is inside needs no keys
    privacy = inner.privacy and replace(inner.privacy, protection=ours)
    plan = ProtectionPlan(ours, setting, privacy)
    if plan.keys.vault is None and plan.keys.measured != frozenset():
        raise ProtectionError("a round computed in earnest wants keys, and this run was given none")
    return replace(
        inner,
        strategy=ours.planned(inner.strategy, plan),
        server=partial(ProtectedServer, ours, measured=plan.keys.measured),
        offices=ProtectedOffices,
        privacy=privacy,
        protection=plan,
    )


def shares_of(strategy: ProtectionOptions, setting: Setting, privacy: PrivacyPlan | None) -> NoiseShares | None:
    """Shares of noise in what offices send; None where there are none.

    Raises:
        StrategyError: the grid has no room for them.
    """
    if not strategy.noised:
        return None
    from strategies.privacy.plan import noise_shares

    assert privacy is not None
    return noise_shares(strategy, setting, privacy, sum(setting.layout()))


class ProtectedOffices:
    """The offices of one process under protection: keys, first weights, and what they share.

    Args:
        side: what the harness gives them (`strategies.protection.office.Side`), with the prepared strategy, the
            workloads, and `processes` that may share the work where that is not the keys' own number.
    """

    def __init__(self, side: Any) -> None:
        self.side, self.meter = side, Meter()
        self.strategy: ProtectionOptions = side.prepared.strategy
        self.strategy.check_planned()
        self.plan: ProtectionPlan = self.strategy.plan
        setting, keys, strategy = self.plan.setting, self.plan.keys, self.strategy
        vault = Vault.load(keys.vault) if isinstance(keys.vault, Path) else keys.vault or IN_CLEAR
        with self.meter.time("keygen_s"):
            shares = shares_of(strategy, setting, self.plan.privacy)
            processes = side.processes or keys.processes
            self.desk = Desk(
                strategy, vault, setting.clients, setting.cohort, self._layout(), processes, keys.measured, shares
            )

    def _layout(self) -> Layout:
        """Of what is sent, from what an office would send."""
        layers = self.plan.setting.layout()
        nothing = np.zeros(sum(layers), np.float32)
        received = self.side.received({"w": nothing}, 1, 0)
        before = self.strategy.before(np.ones(self.side.classes, np.int64))  # as if an office held a row of each
        federation = Federation(self.plan.setting.clients, self.plan.setting.cohort, before=before)
        with np.errstate(all="ignore"):
            sent = supposed(self.strategy, received, federation, nothing, max(received.steps, 1))
        return layout_of(sent, layers)

    def office(self, client: int) -> ProtectedOffice:
        """One office."""
        work, setting = self.side.workloads[client], self.plan.setting
        return ProtectedOffice(client, work, self.strategy, setting, self.side, self.desk, self.meter)

    def open(self, letter: Letter, office: int, memory: Memory) -> tuple[Sequence[Job], Memory]:
        return self.office(office).open(letter, memory)

    def close(self, update: Update, office: int, memory: Memory) -> tuple[Letter, Memory]:
        return self.office(office).close(update, memory)

    def query(self, letter: Letter, office: int, memory: Memory) -> tuple[Letter, Memory]:
        return self.office(office).query(letter, memory)

    def evaluate(self, letter: Letter, office: int, memory: Memory) -> tuple[Letter, Memory]:
        return self.office(office).evaluate(letter, memory)

    @contextmanager
    def training(self, round_: int, messages: int) -> Iterator[None]:
        """Work ahead on a round's messages while the offices train, and time the training."""
        self.desk.holder_of(round_).prepare(messages)
        with self.meter.time("train_s", round_):
            yield

    def finish(self, outcome: Any, memories: Mapping[int, Memory]) -> None:
        """At the end of a run: the costs, and the model, which no server has."""
        self.meter.expected.clear()
        outcome.meters.append(self.meter)
        newest = max(memories.values(), key=lambda memory: int(memory.get("round", -1)))
        if "model" in newest:
            outcome.models = newest["model"][None]
        self.close_keys()

    def close_keys(self) -> None:
        """Let worker processes go, and learn what the same would have cost done naively."""
        desk, largest = self.desk, self.meter.largest
        if desk.measured != frozenset():
            wall, cpu = perf_counter(), process_time()
            largest |= desk.holder.naive()
            largest |= {"aside_wall_s": perf_counter() - wall, "aside_cpu_s": process_time() - cpu}
        largest["crypto_cpu_s"] = desk.holder.cpu_seconds()
        desk.holder.close()
