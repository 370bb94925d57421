"""`python -m results.statistics`: the simulated figures beside what they must be; status 1 if one is missed."""

from __future__ import annotations

import sys

from results.statistics.simulate import figures


def main() -> int:
    """Print a row a figure, as it is measured."""
    print(f"{'what':<74}{'reached':>9}  wanted")
    missed = 0
    for figure in figures():
        missed += not figure.kept
        wanted = f"{figure.low:g} to {figure.high:g}" + ("" if figure.kept else "   MISSED")
        print(f"{figure.what:<74}{figure.reached:>9.4g}  {wanted}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
