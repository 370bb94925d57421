"""`bench`: what it costs, against what it could."""

from __future__ import annotations

import argparse

from experiments.bench.main import bench


def main(options: argparse.Namespace) -> int:
    """Measure, and print what was measured."""
    wanted = options.protection, options.privacy, options.rules, options.beside
    print(bench(options.out, options.repeats, options.quick, options.peers, *wanted), end="")
    return 0
