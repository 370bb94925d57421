"""`bench`: what it costs, against what it could."""

from __future__ import annotations

import argparse

from experiments.bench.main import bench


def main(options: argparse.Namespace) -> int:
    """Measure, and print what was measured."""
    print(
        bench(options.out, options.repeats, options.quick, options.peers, options.protection, options.privacy), end=""
    )
    return 0
