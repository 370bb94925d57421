"""`check`: do the strategies still score what they did; or record what they score now."""

from __future__ import annotations

import argparse
import dataclasses

from experiments.regression.compare import Options, check


def main(options: argparse.Namespace) -> int:
    """Judge the committed baselines, or rewrite them."""
    text, status = check(Options(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Options)}))
    print(text, end="")
    return status
