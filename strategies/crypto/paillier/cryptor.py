"""Encryption and decryption of whole updates, over worker processes, with obfuscators made ahead.

What costs in Paillier's encryption is the obfuscator, and it does not depend on the plaintext: `prepare` has the
workers make some while the office trains, and `encrypt` then takes two multiplications a ciphertext:

    c = (1 + n m) o mod n^2 = o + n (m o mod n)     mod n^2

An obfuscator used twice gives the difference of two plaintexts away. Here each is taken from the stock once, no two
processes ever share a stock (a fork's copy is thrown away), and workers draw from the operating system's generator.

Workers are processes, not threads: big integers hold Python's lock. They are spawned, get the key through a pipe and
nothing on a command line or in the environment, and end with their parent. They import NumPy, gmpy2 and phe, and numba
for the compiled code of `lanes` with their first table or ciphertext: 0.6 s and 70 MB, once.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from multiprocessing.connection import Connection
from typing import Any, Literal, NamedTuple

import numpy as np
from gmpy2 import mpz

from strategies.crypto.paillier.cryptosystem import PaillierError, Payload, PrivateKey
from strategies.crypto.paillier.obfuscators import EXPECTED, Make, build, check_fit

Task = Literal["setup", "make", "decrypt"]
SAMPLE = 20  # numbers by which phe's cost is known
_DEAD = "an encryption process has died: close this Cryptor and make a new one"


class Cryptor:
    """Encrypts and decrypts lists of plaintexts under one key.

    Args:
        key: the offices' private key.
        obfuscator: one of `obfuscators.OBFUSCATORS`.
        processes: 1 works in this process; more are worker processes, started here.
        expected: how many obfuscators it is likely to make in its life: chooses the size of the tables.

    Tables are made when first needed; `setup` makes them at a time of your choosing. A script that starts workers does
    so under `if __name__ == "__main__":`, since they import it.
    """

    def __init__(self, key: PrivateKey, obfuscator: str = "full", processes: int = 1, expected: int = EXPECTED) -> None:
        check_fit(obfuscator, key)
        if processes < 1:
            raise PaillierError(f"processes must be at least 1; found {processes}")
        self.public = key.public
        self.processes = processes
        self._stock: deque[mpz] = deque()
        self._process = os.getpid()
        self._closed = False
        self._here = _Engine(key, obfuscator, expected) if processes == 1 else None
        workers = processes if processes > 1 else 0
        self._workers = [_Worker(key, obfuscator, -(-expected // workers)) for _ in range(workers)]

    @property
    def cpu_s(self) -> float:
        """CPU seconds that worker processes have used since they started, as of their last answers."""
        return sum(worker.cpu_s for worker in self._workers)

    def setup(self) -> None:
        """Have all tables made, and wait for it."""
        self._owned()
        self._run("setup", [0] * self.processes)

    def prepare(self, count: int) -> None:
        """Have `count` more obfuscators made for later calls of `encrypt`.

        Worker processes make them in the background, one call at a time; without workers they are made here and now.
        """
        self._owned()
        self._collect()
        if self._here:
            self._stock.extend(self._here.run("make", count))
        for i, worker in enumerate(self._workers):
            worker.send("make", count * (i + 1) // self.processes - count * i // self.processes)

    def encrypt(self, plaintexts: Sequence[mpz]) -> Payload:
        """Ciphertexts (plaintexts, ciphertext_bytes) of integers in [0, n), each under an obfuscator of its own."""
        self._owned()
        n, square = self.public.n, self.public.square
        if any(not 0 <= m < n for m in plaintexts):
            raise PaillierError("plaintexts must be in [0, n)")
        if len(self._stock) < len(plaintexts):
            self._collect()
        if (missing := len(plaintexts) - len(self._stock)) > 0:
            self.prepare(missing)
            self._collect()
        used = [self._stock.popleft() for _ in plaintexts]
        sums = (o + n * (m * o % n) for m, o in zip(plaintexts, used, strict=True))
        return self.public.payload(c - square if c >= square else c for c in sums)

    def decrypt(self, payload: Payload) -> list[mpz]:
        """Plaintexts in [0, n) of a payload, which is checked first."""
        self._owned()
        self.public.check(payload, len(payload))
        return [m for part in self._run("decrypt", np.array_split(payload, self.processes)) for m in part]

    def close(self) -> None:
        """End the workers and forget what was prepared."""
        self._closed = True
        self._stock.clear()
        if self._process == os.getpid():
            for worker in self._workers:
                worker.close()
        self._workers = []

    def __enter__(self) -> Cryptor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, task: Task, arguments: Sequence[Any]) -> list[Any]:
        """One task on every worker, or here: their results."""
        self._collect()
        if self._here:
            return [self._here.run(task, arguments[0])]
        for worker, argument in zip(self._workers, arguments, strict=True):
            worker.send(task, argument)
        return _answers(self._workers)

    def _collect(self) -> None:
        """Take what workers have prepared into the stock; waits for it."""
        for made in _answers([worker for worker in self._workers if worker.busy]):
            self._stock.extend(made)

    def _owned(self) -> None:
        """Refuse work after `close`, and what a fork has copied: two processes must never share obfuscators."""
        if self._closed:
            raise PaillierError("this Cryptor is closed: make a new one")
        if self._process != os.getpid():
            if self._workers:
                raise PaillierError("this Cryptor's workers belong to the process that made it: make one here")
            self._stock.clear()
            self._process = os.getpid()


class _Engine:
    """What a worker does, or the process itself where there are none."""

    def __init__(self, key: PrivateKey, obfuscator: str, expected: int) -> None:
        self._key, self._obfuscator, self._expected = key, obfuscator, expected

    @cached_property
    def _make(self) -> Make:
        return build(self._obfuscator, self._key, self._expected)

    def run(self, task: Task, argument: Any) -> list[mpz]:
        """`make` so many obfuscators, or `decrypt` a payload; `setup` makes the tables and nothing else."""
        return self._key.decrypt(argument) if task == "decrypt" else self._make(argument)


class _Worker:
    """A process with an engine of its own, and the pipe to it. It has one task at a time."""

    def __init__(self, key: PrivateKey, obfuscator: str, expected: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        how = (theirs, key.jwk(), key.test_only, obfuscator, expected)
        self._process = context.Process(target=_serve, args=how, daemon=True)
        self._process.start()
        theirs.close()  # the worker alone holds it now, so that either side sees the other end
        self.busy = False
        self.cpu_s = 0.0

    def send(self, task: Task, argument: Any) -> None:
        try:
            self._connection.send((task, argument))
        except OSError:
            raise PaillierError(_DEAD) from None
        self.busy = True

    def receive(self) -> list[mpz] | Exception:
        """The result of the task under way, or the error that it ended with."""
        self.busy = False
        try:
            result, self.cpu_s = self._connection.recv()
        except (EOFError, OSError):
            result = PaillierError(_DEAD)
        return result  # type: ignore[no-any-return]

    def close(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.join()


def _serve(connection: Connection, jwk: str, test_only: bool, obfuscator: str, expected: int) -> None:
    """The life of a worker: one answer to each task, until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted parent closes the pipe
    engine = _Engine(PrivateKey.from_jwk(jwk, test_only), obfuscator, expected)
    with suppress(EOFError, OSError):  # the pipe's other end is closed
        while True:
            task, argument = connection.recv()
            result: list[mpz] | Exception
            try:
                result = engine.run(task, argument)
            except Exception as error:
                result = error
            connection.send((result, time.process_time()))


def _answers(workers: Sequence[_Worker]) -> list[list[mpz]]:
    """Of all of them, before the first error is raised: a pipe with an answer in it would give it to the next task."""
    answers = [worker.receive() for worker in workers]
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return [answer for answer in answers if not isinstance(answer, Exception)]


class NaiveCost(NamedTuple):
    """CPU seconds of phe alone, one number a ciphertext."""

    encrypt_s: float
    decrypt_s: float


def naive_cost(key: PrivateKey, count: int, sample: int = SAMPLE) -> NaiveCost:
    """What phe takes to encrypt, and to decrypt, `count` numbers one by one, extrapolated from `sample` of them."""
    public, private = key.phe()
    weights = [secrets.SystemRandom().gauss(0.0, 0.1) for _ in range(sample)]
    start = time.process_time()
    ciphertexts = [public.encrypt(weight) for weight in weights]
    middle = time.process_time()
    opened = [private.decrypt(ciphertext) for ciphertext in ciphertexts]
    end = time.process_time()
    if opened != weights:
        raise PaillierError("phe did not give back what it had encrypted: this key is broken")
    scale = count / sample
    return NaiveCost((middle - start) * scale, (end - middle) * scale)
