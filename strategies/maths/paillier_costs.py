"""What one update costs under Paillier: `python -m strategies.maths.paillier_costs --help`.

Every figure is a median of several, measured in one run beside the naive cost: one number a ciphertext, by phe with
gmpy2. Ratios to it carry over to other machines, seconds do not. With one process seconds are the CPU's, so that
other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from strategies.maths.cryptor import Cryptor, naive_cost
from strategies.maths.obfuscators import OBFUSCATORS, check_fit
from strategies.maths.paillier import DEFAULT_BITS, Kind, PaillierError, PrivateKey, generate
from strategies.maths.slots import Slots

KINDS: tuple[Kind, ...] = ("safe", "subgroup")


def main() -> None:
    """Make a key of each kind and print what everything takes."""
    options = argparse.ArgumentParser(description="Costs of one update under Paillier, in seconds.")
    options.add_argument("--weights", type=int, default=80_582, help="length of the update (default %(default)s)")
    options.add_argument("--bits", type=int, default=16, help="bits of a weight (default %(default)s)")
    options.add_argument("--modulus", type=int, default=DEFAULT_BITS, help="bits of n (default %(default)s)")
    options.add_argument("--processes", type=int, default=1, help="worker processes (default %(default)s)")
    options.add_argument(
        "--expected",
        type=int,
        default=42_200,
        help="obfuscators that tables are made for (default %(default)s, 25 rounds of four offices)",
    )
    options.add_argument("--repeats", type=int, default=5, help="each figure is a median of so many")
    options.add_argument("--textbook", action="store_true", help="measure the slow reference as well")
    chosen = options.parse_args()
    for kind in KINDS:
        start = time.perf_counter()
        key = generate(chosen.modulus, kind, chosen.processes)
        print(f"\n{kind} key of {chosen.modulus} bits made in {time.perf_counter() - start:.2f} s")
        report(key, Slots(chosen.weights, chosen.bits, key.public.capacity), chosen)


def report(key: PrivateKey, slots: Slots, chosen: argparse.Namespace) -> None:
    """Print one key's figures."""
    clock = Clock(wall=chosen.processes > 1)
    values = np.random.default_rng(0).integers(0, 2 ** (slots.bits - 2), slots.count).astype(np.uint32)
    plaintexts = slots.pack(values, 1)
    pack = clock.median(chosen.repeats, slots.pack, values, 1)
    unpack = clock.median(chosen.repeats, slots.unpack, plaintexts)
    size = slots.plaintexts * key.public.ciphertext_bytes
    print(
        f"{slots.plaintexts} ciphertexts, {size / (4 * slots.count):.4f} of float32's bytes, "
        f"pack {1e3 * pack:.1f} ms, unpack {1e3 * unpack:.1f} ms"
    )
    for name in OBFUSCATORS:
        try:
            check_fit(name, key)
        except PaillierError:
            continue
        if name == "textbook" and not chosen.textbook:
            continue
        with Cryptor(key, name, chosen.processes, chosen.expected) as cryptor:
            tables = clock.median(1, cryptor.setup)
            naive = naive_cost(key, slots.count)  # beside what it is compared with: a busy machine changes its pace
            encrypt = clock.median(chosen.repeats, cryptor.encrypt, plaintexts)
            cryptor.prepare(slots.plaintexts * chosen.repeats)
            cryptor.setup()  # returns when that is done
            ahead = clock.median(chosen.repeats, cryptor.encrypt, plaintexts)
            payload = cryptor.encrypt(plaintexts)
            decrypt = clock.median(min(3, chosen.repeats), cryptor.decrypt, payload)
        print(
            f"{name:>9}: naive {naive.encrypt_s:.0f} and {naive.decrypt_s:.0f}, tables {tables:.2f}, "
            f"encrypt {encrypt:.4f} (1/{naive.encrypt_s / encrypt:,.0f}), with prepared obfuscators {ahead:.4f}, "
            f"decrypt {decrypt:.2f} (1/{naive.decrypt_s / decrypt:,.0f})"
        )
    check = clock.median(chosen.repeats, key.public.check, payload, slots.plaintexts)
    add = clock.median(chosen.repeats, key.public.add, payload, payload)
    print(f"check {1e3 * check:.1f} ms, add {1e3 * add:.1f} ms")


class Clock:
    """Medians of CPU seconds, or of wall seconds where other processes do the work."""

    def __init__(self, wall: bool) -> None:
        self._now = time.perf_counter if wall else time.process_time

    def median(self, repeats: int, what: Callable[..., object], *arguments: object) -> float:
        """Seconds of one call, of so many."""
        seconds = []
        for _ in range(repeats):
            start = self._now()
            what(*arguments)
            seconds.append(self._now() - start)
        return statistics.median(seconds)


if __name__ == "__main__":
    main()
