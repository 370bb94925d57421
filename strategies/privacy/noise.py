"""temporary"""
from __future__ import annotations
from typing import Any
import math, os
import numpy as np
from numba import njit, types
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

@njit(types.void(types.float32[::1], types.uint32[::1], types.float64), cache=True)
def add_normals(target: Any, words: Any, scale: float) -> None:
    n = len(target)
    for i in range(0, n, 2):
        u = (words[i] + 0.5) / 4294967296.0
        r = scale * math.sqrt(-2 * math.log(u))
        t = 2 * math.pi * words[i + 1] / 4294967296.0
        target[i] += np.float32(r * math.cos(t))
        if i + 1 < n:
            target[i + 1] += np.float32(r * math.sin(t))

class NoiseStream:
    def __init__(self, key: bytes) -> None:
        self._c = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    def words(self, n: int) -> Any:
        return np.frombuffer(self._c.update(bytes(4 * n)), np.uint32).copy()
    def normals(self, n: int, scale: float = 1.0) -> Any:
        out = np.zeros(n, np.float32)
        add_normals(out, self.words(n + n % 2), scale)
        return out
    def coins(self, n: int, p: float) -> Any:
        return self.words(n) < round(p * 2**32)

def from_seed(entropy: Any) -> NoiseStream:
    return NoiseStream(entropy.generate_state(8, np.uint32).tobytes())
def from_system() -> NoiseStream:
    return NoiseStream(os.urandom(32))
