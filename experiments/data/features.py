"""The 561 UCI HAR features of a window of accelerometer and gyroscope, for every data set of windows.

Anguita et al., ESANN 2013 (features_info.txt of the data set), with the gaps filled in `statistics`.
A window is 128 samples at 50 Hz. Its signals:

    tBodyAcc = body_acc [g], tGravityAcc = total_acc - body_acc [g], tBodyGyro = body_gyro [rad/s],
    tBodyAccJerk[n] = body_acc[n+1] - body_acc[n]  (a difference, not a rate), tBodyGyroJerk alike,
    *Mag = Euclidean norm over the axes, f* = spectrum of t*.

The jerk's last difference needs the sample after the window; where a recording ends it is repeated.
The official tGravityAccMag columns repeat tBodyAccMag, so ours do.

`official_scale` maps each column affinely to the official [-1, 1]; its constants (feature_scale.csv)
were fitted by `python -m experiments.data.scale`. A window unlike a phone's may leave [-1, 1].
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from experiments.data import statistics as s
from experiments.data.statistics import Array

VERSION = 1  # of the values: raise it when a formula or a constant changes, for it is part of the data's hash
SAMPLES = 128
CHUNK = 256  # windows at a time: the working arrays stay within some 20 MB, near the processor

XYZ = ("X", "Y", "Z")
# Bins (from 1, inclusive) whose energies are features: eight bands of 8, four of 16, two of 24.
BANDS = tuple((a + 1, a + w) for w, end in ((8, 64), (16, 64), (24, 48)) for a in range(0, end, w))


def extract(windows: NDArray[np.floating], after: NDArray[np.floating] | None = None) -> Array:
    """All features of many windows: (n, 128, 9) -> (n, 561) in the official order, not yet scaled.

    windows: body_acc xyz [g], body_gyro xyz [rad/s], total_acc xyz [g]. after: (n, 9), the sample that
    follows each window, NaN where it is unknown (then, and without it, the last jerk is repeated).
    Computed in float64. Raises ValueError for another shape."""
    if windows.ndim != 3 or windows.shape[1:] != (SAMPLES, 9):
        raise ValueError(f"windows have shape {windows.shape}, expected (n, {SAMPLES}, 9)")
    if after is None:
        after = np.full((len(windows), 9), np.nan)
    parts = [_extract(windows[i : i + CHUNK], after[i : i + CHUNK]) for i in range(0, len(windows), CHUNK)]
    return np.concatenate(parts) if parts else np.empty((0, len(feature_names())))


def _extract(windows: NDArray[np.floating], after: NDArray[np.floating]) -> Array:
    # (n, 9, 128), laid out so: sums over a strided last axis take four times as long.
    signals = np.ascontiguousarray(windows.transpose(0, 2, 1), dtype=np.float64)
    acc, gyro, gravity = signals[:, 0:3], signals[:, 3:6], signals[:, 6:9] - signals[:, 0:3]
    acc_jerk, gyro_jerk = _jerk(acc, after[:, 0:3]), _jerk(gyro, after[:, 3:6])
    acc_mag, acc_jerk_mag, gyro_mag, gyro_jerk_mag = (
        np.sqrt((v * v).sum(1, keepdims=True)) for v in (acc, acc_jerk, gyro, gyro_jerk)
    )  # (n, 1, 128)

    columns = [_time(v) for v in (acc, gravity, acc_jerk, gyro, gyro_jerk)]
    columns += [_time(v) for v in (acc_mag, acc_mag, acc_jerk_mag, gyro_mag, gyro_jerk_mag)]
    columns += [_frequency(v) for v in (acc, acc_jerk, gyro)]
    columns += [_frequency(v) for v in (acc_mag, acc_jerk_mag, gyro_mag, gyro_jerk_mag)]
    down = gravity.mean(-1)  # (n, 3)
    columns += [s.angle(v.mean(-1), down)[:, None] for v in (acc, acc_jerk, gyro, gyro_jerk)]
    columns += [s.angle(axis, down)[:, None] for axis in np.eye(3)]
    return np.concatenate(columns, axis=1)


def _jerk(x: Array, after: NDArray[np.floating]) -> Array:
    """x[n+1] - x[n] for all samples: (n, 3, 128); after: (n, 3), NaN where unknown."""
    steps = np.diff(x)
    last = np.where(np.isnan(after), steps[..., -1], after - x[..., -1])
    return np.concatenate([steps, last[..., None]], axis=-1)


def _common(x: Array) -> list[Array]:
    """The statistics that time and frequency share; x: (n, axes, samples), one block of columns each."""
    sma = np.abs(x).mean(-1).sum(-1, keepdims=True)  # signal magnitude area, one number for all axes
    return [x.mean(-1), s.std(x), s.mad(x), x.max(-1), x.min(-1), sma, s.energy(x), s.iqr(x), s.entropy(x)]


def _time(x: Array) -> Array:
    """(n, 3, 128) -> (n, 40), or (n, 1, 128) -> (n, 13)."""
    blocks = [*_common(x), s.burg(x).reshape(len(x), -1)]
    if x.shape[1] == 3:
        blocks.append(s.correlation(x))
    return np.concatenate(blocks, axis=1)


def _frequency(x: Array) -> Array:
    """(n, 3, 128) -> (n, 79), or (n, 1, 128) -> (n, 13)."""
    f = s.spectrum(x)  # (n, axes, 64)
    shape = np.stack([s.skewness(f), s.kurtosis(f)], axis=-1).reshape(len(x), -1)  # an axis at a time
    blocks = [*_common(f), s.peak(f), s.mean_frequency(f), shape]
    if x.shape[1] == 3:
        bands = np.stack([s.energy(f[..., a - 1 : b]) for a, b in BANDS], axis=-1)  # (n, 3, 14)
        blocks.append(bands.reshape(len(x), -1))
    return np.concatenate(blocks, axis=1)


def _common_names(axes: tuple[str, ...]) -> list[str]:
    first, last = ("mean()", "std()", "mad()", "max()", "min()"), ("energy()", "iqr()", "entropy()")
    return [*(f"{v}{a}" for v in first for a in axes), "sma()", *(f"{v}{a}" for v in last for a in axes)]


@cache
def feature_names() -> tuple[str, ...]:
    """The 561 official names, in order (some repeat, as in features.txt: the bands name no axis)."""
    xyz = tuple(f"-{a}" for a in XYZ)
    names: list[str] = []
    for signal in ("tBodyAcc", "tGravityAcc", "tBodyAccJerk", "tBodyGyro", "tBodyGyroJerk"):
        block = [*_common_names(xyz), *(f"arCoeff(){a},{i}" for a in xyz for i in range(1, s.AR_ORDER + 1))]
        block += [f"correlation()-{pair}" for pair in ("X,Y", "X,Z", "Y,Z")]
        names += [f"{signal}-{statistic}" for statistic in block]
    for signal in ("tBodyAccMag", "tGravityAccMag", "tBodyAccJerkMag", "tBodyGyroMag", "tBodyGyroJerkMag"):
        block = [*_common_names(("",)), *(f"arCoeff(){i}" for i in range(1, s.AR_ORDER + 1))]
        names += [f"{signal}-{statistic}" for statistic in block]
    for signal in ("fBodyAcc", "fBodyAccJerk", "fBodyGyro"):
        block = [*_common_names(xyz), *(f"{v}{a}" for v in ("maxInds", "meanFreq()") for a in xyz)]
        block += [f"{v}{a}" for a in xyz for v in ("skewness()", "kurtosis()")]
        block += [f"bandsEnergy()-{a},{b}" for _ in xyz for a, b in BANDS]
        names += [f"{signal}-{statistic}" for statistic in block]
    # "BodyBody" is the official spelling.
    for signal in ("fBodyAccMag", "fBodyBodyAccJerkMag", "fBodyBodyGyroMag", "fBodyBodyGyroJerkMag"):
        block = [*_common_names(("",)), "maxInds", "meanFreq()", "skewness()", "kurtosis()"]
        names += [f"{signal}-{statistic}" for statistic in block]
    names += ["angle(tBodyAccMean,gravity)", "angle(tBodyAccJerkMean),gravityMean)"]
    names += ["angle(tBodyGyroMean,gravityMean)", "angle(tBodyGyroJerkMean,gravityMean)"]
    names += [f"angle({axis},gravityMean)" for axis in XYZ]
    return tuple(names)


@cache
def _scale() -> tuple[Array, Array]:
    """(slope, offset) of every column, from feature_scale.csv."""
    text = files("experiments.data").joinpath("feature_scale.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return np.array([float(r["slope"]) for r in rows]), np.array([float(r["offset"]) for r in rows])


def official_scale(features: Array) -> NDArray[np.float32]:
    """slope * feature + offset, a column: the official units, [-1, 1] on UCI HAR's own windows."""
    slope, offset = _scale()
    return (slope * features + offset).astype(np.float32)
