"""What protection costs: one update under Paillier against phe's way, a whole round against plain FedAvg's.

A round is that of `rounds.Federated`: training of five local epochs by our trainer, all offices' encryptions, the
additions and one opening. Its bases are the same epochs by the plain PyTorch loop on one thread, and our own round of
plain FedAvg. phe takes hours for an update: its seconds are those of a sample, multiplied.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter, process_time

import numpy as np

from experiments.bench import kernels
from experiments.bench.clock import interleave, progress
from experiments.bench.figures import Figures
from experiments.bench.rounds import Federated
from experiments.bench.targets import Target
from experiments.bench.work import Work
from experiments.federation.run import RunData
from strategies.crypto.paillier.cryptor import Cryptor, naive_cost
from strategies.crypto.paillier.cryptosystem import PrivateKey, generate
from strategies.crypto.paillier.packing import Packing
from strategies.paillier import KEY, Paillier
from strategies.protection.base import Protected
from strategies.protection.keys import Keys
from strategies.protection.vault import make_vault

UPDATE, ROUND = "Protection: one update under Paillier", "Protection: a round of 4 offices, 5 local epochs"
EPOCHS = 5
PAILLIER = {"paillier": "safe", "paillier(obfuscator=short)": "safe", "paillier(key=subgroup)": "subgroup"}
OTHERS = ("masked_sum", "masked_sum(bits=12)", "secagg", "bfv", "ckks")
PLAIN_LOOP, PLAIN = "plain PyTorch loop", "fedavg"


def make_keys(bits: int, processes: int, figures: Figures) -> dict[str, PrivateKey]:
    """A key of each kind, made here and timed."""
    keys = {}
    for kind in ("safe", "subgroup"):
        progress(f"protection: a {kind} key of {bits} bits")
        started = perf_counter()
        keys[kind] = generate(bits, kind, processes)
        figures.add(UPDATE, "make the keys (once a run)", kind, perf_counter() - started, "s")
    return keys


def measure_updates(
    keys: Mapping[str, PrivateKey], work: Work, pilot: Work, figures: Figures, repeats: int, sample: int = 20
) -> None:
    """One process' CPU seconds for one update, and the bytes it takes."""
    naive = naive_cost(keys["safe"], len(work.first()), sample)
    figures.add(UPDATE, f"phe, a number a ciphertext ({sample} numbers, extrapolated)", "safe", naive.encrypt_s, "s")
    for kind, key in keys.items():
        for name in ("full", "short", "djn") if kind == "safe" else ("full",):
            progress(f"protection: one update, {name}, {kind} key")
            seconds = _encrypt(key, name, len(work.first()), 16, repeats)
            figures.add(UPDATE, f"encrypt, {name}", kind, seconds, "s")
            figures.add(UPDATE, f"phe over encrypt, {name}", kind, naive.encrypt_s / seconds)
        packing = Packing(len(work.first()), 16, key.public.capacity)
        with Cryptor(key, "full") as cryptor:
            payload = cryptor.encrypt(packing.pack(np.zeros(packing.count, np.uint32), 1))
        figures.add(UPDATE, "decrypt a sum", kind, _cpu(partial(key.decrypt, payload), repeats), "s")
    large = _encrypt(keys["safe"], "full", len(pilot.first()), 16, max(1, repeats // 3))
    figures.add(UPDATE, f"encrypt, full, {pilot.model}", "safe", large, "s")
    for bits in (16, 12):
        packing = Packing(len(work.first()), bits, keys["safe"].public.capacity)
        size = packing.plaintexts * keys["safe"].public.ciphertext_bytes
        figures.add(UPDATE, f"bytes over float32, {bits} bits", "safe", size / work.first().nbytes)


def _encrypt(key: PrivateKey, obfuscator: str, count: int, bits: int, repeats: int) -> float:
    packing = Packing(count, bits, key.public.capacity)
    values = np.random.default_rng(0).integers(0, 2 ** (bits - 2), count).astype(np.uint32)
    with Cryptor(key, obfuscator) as cryptor:
        cryptor.setup()
        return _cpu(lambda: cryptor.encrypt(packing.pack(values, 1)), repeats)


def _cpu(call: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds: what phe's are taken in, and what another process on the machine does not change."""
    seconds = []
    for _ in range(repeats):
        started = process_time()
        call()
        seconds.append(process_time() - started)
    return median(seconds)


def measure_rounds(
    keys: Mapping[str, PrivateKey], work: Work, data: RunData, figures: Figures, repeats: int, processes: int
) -> None:
    """Whole rounds, contestants in turn; Paillier on `processes`, all else on one."""
    with ExitStack() as stack:
        rounds = {text: stack.enter_context(_federated(work, data, text, {}, 1)) for text in (PLAIN, *OTHERS)}
        progress("protection: rounds of the cheap protocols")
        interleave({name: one.round for name, one in rounds.items()}, 3 * repeats)
        progress("protection: rounds of Paillier, and the plain loop")
        for text, kind in PAILLIER.items():
            rounds[text] = stack.enter_context(_federated(work, data, text, {KEY: keys[kind].jwk()}, processes))
        loop = kernels.plain_loop(work)
        in_turn: dict[str, Callable[[], object]] = {text: rounds[text].round for text in PAILLIER}
        in_turn[PLAIN_LOOP] = lambda: [loop() for _ in range(EPOCHS)]
        plain = interleave(in_turn, max(3, repeats // 2))[PLAIN_LOOP]
        figures.add(ROUND, PLAIN_LOOP, "wall", plain, "s")
        own = _median(rounds[PLAIN].round_seconds)
        for name, federated in rounds.items():
            wall, cpu = _median(federated.round_seconds)
            figures.add(ROUND, name, "wall", wall, "s")
            figures.add(ROUND, name, "CPU", cpu, "s")
            figures.add(ROUND, name, "wall over the plain loop", wall / plain)
            figures.add(ROUND, name, "wall over our FedAvg", wall / own[0])
            figures.add(ROUND, name, "CPU over our FedAvg", cpu / own[1])
            figures.add(ROUND, name, "update over float32", median(federated.update_bytes) / work.first().nbytes)


def _median(seconds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of wall and CPU seconds, without the first round, which also warms up."""
    wall, cpu = zip(*seconds[1:], strict=True)
    return median(wall), median(cpu)


def _federated(work: Work, data: RunData, text: str, keys: Mapping[str, str], processes: int) -> Federated:
    spec = work.spec(strategy=text, local_epochs=EPOCHS)
    if not isinstance(spec.strategy, Protected):
        return Federated(spec, data)
    made = keys if isinstance(spec.strategy, Paillier) else spec.strategy.make_keys(work.clients)
    return Federated(spec, data, Keys(make_vault(made), None, processes))


def measure_memory(work: Work, data: RunData, figures: Figures) -> None:
    """Peak memory of the server while it adds, in updates."""
    for clients in (work.clients, 30):
        with _federated(replace(work, clients=clients), data, "masked_sum", {}, 1) as federated:
            replies = federated.train()
            gc.collect()
            tracemalloc.start()
            federated.add(replies)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            column = f"masked_sum, {clients} offices"
            figures.add("Protection: memory while adding", "peak, in updates", column, peak / federated.update_bytes[0])


def protection_targets(figures: Figures) -> list[Target]:
    """The bars of the issue; a round's depend on how fast the machine's plain loop is."""
    look = figures.look
    plain = look(ROUND, PLAIN_LOOP, "wall")
    full, short = (8.0, 5.5) if plain is not None and plain < 0.7 else (3.6, 2.8)
    targets = [
        Target("phe over encrypt, full", look(UPDATE, "phe over encrypt, full", "safe"), 4e3, 8e3, at_least=True),
        Target("phe over encrypt, short", look(UPDATE, "phe over encrypt, short", "safe"), 2e4, 4e4, at_least=True),
    ]
    for bits, reach in ((16, 1.02), (12, 0.77)):
        size = look(UPDATE, f"bytes over float32, {bits} bits", "safe")
        targets.append(Target(f"an encrypted update over float32, {bits} bits", size, reach))
    for name, bar in (("paillier", full), ("paillier(obfuscator=short)", short), ("paillier(key=subgroup)", full)):
        measured = look(ROUND, name, "wall over the plain loop")
        targets.append(Target(f"a round of {name} over the plain loop", measured, bar, bar / 2))
    for name, reach, stretch in (("masked_sum", 1.05, 1.02), ("secagg", 1.2, 1.1)):
        loop, own = (look(ROUND, name, f"wall over {base}") for base in ("the plain loop", "our FedAvg"))
        ours = look(ROUND, PLAIN, "wall over the plain loop")
        added = None if loop is None or ours is None else 1 + loop - ours
        targets.append(Target(f"a round of {name} over plain, by the plain loop", added, reach, stretch))
        targets.append(Target(f"the same over our own FedAvg, {name}", own, reach, stretch))
    pilot = next((cell.value for cell in figures.cells if cell.row.startswith("encrypt, full, 561-")), None)
    targets.append(Target("encrypt the pilot's 561-437-312-6, all layers", pilot, 6, 2, unit="s"))
    for clients in (4, 30):
        peak = look("Protection: memory", "peak, in updates", f"masked_sum, {clients} offices")
        # The sum so far, the next one, and a block of work: whatever the number of offices.
        targets.append(Target(f"memory while adding {clients} updates, in updates", peak, 2.5))
    return targets
