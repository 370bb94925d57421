"""What is run: grids, specs, data, local training, engines and sweeps.

The environment is set before NumPy or PyTorch can load: one thread a process (a sweep is parallel over runs; two
threads under contention are slower than one), and one code path, AVX2's, of all that they compute, so that the same
spec gives the same bits on every x86 machine of the last ten years. (Local training of linear-and-ReLU models takes no
such care: `training.kernels.tiles` has the same bits everywhere.) The allocator is told to keep what it is given back.
"""

import contextlib
import ctypes
import os
from pathlib import Path

_ONE_PATH = {
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
_NUMPY = "NPY_DISABLE_CPU_FEATURES"
PATH_VARIABLES = (*_ONE_PATH, _NUMPY)  # what libraries choose their path by
ANY_PATH = "FEDERATED_OFFICES_ANY_PATH"  # 1: they may use all that the machine has (the bench: see `__main__`)


def _cpu_flags() -> set[str]:
    """What the vector unit can do, as Linux names it; nothing where it does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("flags"):
                return set(line.split())
    return set()


_flags = _cpu_flags() if os.environ.get(ANY_PATH) != "1" else set()
if {"avx2", "fma"} <= _flags:
    for _name, _value in _ONE_PATH.items():
        os.environ.setdefault(_name, _value)
if "avx512f" in _flags:  # NumPy's own loops; it warns of what a machine does not have
    os.environ.setdefault(_NUMPY, "X86_V4,AVX512_ICL,AVX512_SPR")
for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_threads] = "1"
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own 15 starves a sweep on a shared machine
os.environ.setdefault(
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
)  # the default of later Ray, which warns until it is set


def _keep_freed_memory() -> None:
    """Let glibc hand a round the memory that the last one freed.

    Left alone it returns arrays of a model's size to the system and maps them anew, with a page fault for every 4 kB:
    on a virtual machine a tenth of a round. Arrays of more than a million weights still come and go with their use.
    """
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such switch, and needs none
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 4 << 20)
        mallopt(trim_threshold, 256 << 20)


_keep_freed_memory()
