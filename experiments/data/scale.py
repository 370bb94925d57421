"""Fitting the constants that map our features to the official scale: `feature_scale.csv`.

    python -m experiments.data.scale "UCI HAR Dataset.zip"

The official columns are our features min-max normalised to [-1, 1] over all 10,299 rows, one affine map
a column. It is fitted by least squares on the official test persons' windows whose successor is in the
file (elsewhere the last jerk sample is a guess), twice: the second time without the worst hundredth of
rows, so that an entropy on the edge of a grey level does not tilt the line. Beside the constants stands
the 99.9 % quantile of the error over these rows: the autoregression of tGravityAcc does not come back
(near-constant signals given in 7 digits), and its constants are a regression's only.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.data.features import feature_names
from experiments.data.statistics import Array
from experiments.data.uci_archive import open_archive
from experiments.data.uci_har import Part, extract_part, read_part

QUANTILE = 0.999
TARGET = Path(__file__).with_name("feature_scale.csv")


def complete(part: Part) -> NDArray[np.int64]:
    """The windows whose successor is in the file, so that every jerk sample is known."""
    return np.flatnonzero(part.follows) - 1


def fit(ours: Array, official: Array) -> tuple[float, float]:
    """(slope, offset) of official = slope * ours + offset; both (n,)."""
    kept = np.ones(len(ours), dtype=bool)
    for _ in range(2):
        # Centred, or a feature far from 0 with a small spread loses digits in the product.
        dx, dy = ours - ours[kept].mean(), official - official[kept].mean()
        slope = float((dx[kept] @ dy[kept]) / (dx[kept] @ dx[kept]))
        error = np.abs(dy - slope * dx)
        offset = float(official[kept].mean() - slope * ours[kept].mean())
        kept = error <= np.quantile(error, 0.99)
    return slope, offset


def main(path: str) -> None:
    """Write feature_scale.csv from the zip at `path`."""
    with open_archive(Path(path)) as archive:
        part = read_part(archive, "test", "extracted")
    rows = complete(part)
    ours, official = extract_part(part)[rows], part.x[rows]
    with TARGET.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "name", "slope", "offset", "error_999"])
        for index, name in enumerate(feature_names()):
            slope, offset = fit(ours[:, index], official[:, index])
            error = np.quantile(np.abs(slope * ours[:, index] + offset - official[:, index]), QUANTILE)
            writer.writerow([index + 1, name, repr(slope), repr(offset), f"{error:.1e}"])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
