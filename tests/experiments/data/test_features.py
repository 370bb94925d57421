"""The extractor against an oracle that computes one number at a time with plain loops."""

from __future__ import annotations

import cmath
import csv
import math
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest

from experiments.data import features

Signal = list[float]


def mean(x: Signal) -> float:
    return math.fsum(x) / len(x)


def quantile(x: Signal, p: float) -> float:
    """MATLAB's: the k-th smallest of n values is the (k - 0.5) / n quantile, linear between."""
    ordered, n = sorted(x), len(x)
    for k in range(1, n):
        low, high = (k - 0.5) / n, (k + 0.5) / n
        if low <= p <= high:
            return ordered[k - 1] + (ordered[k] - ordered[k - 1]) * (p - low) / (high - low)
    raise AssertionError


def entropy(x: Signal) -> float:
    levels = Counter(math.floor(min(max(v, 0.0), 1.0) * 255 + 0.5) for v in x)
    return -sum(c / len(x) * math.log2(c / len(x)) for c in levels.values())


def burg(x: Signal) -> Signal:
    """Each stage picks the reflection that minimises the energy of both errors; Levinson updates the rest."""
    a: Signal = []
    f, b = list(x), list(x)
    for stage in range(1, 5):
        times = range(stage, len(x))
        k = -2 * sum(f[n] * b[n - 1] for n in times) / sum(f[n] ** 2 + b[n - 1] ** 2 for n in times)
        a = [a[i] + k * a[stage - 2 - i] for i in range(stage - 1)] + [k]
        f, b = (
            [f[n] + k * b[n - 1] if n >= stage else 0.0 for n in range(len(x))],
            [b[n - 1] + k * f[n] if n >= stage else 0.0 for n in range(len(x))],
        )
    return a


def pearson(x: Signal, y: Signal) -> float:
    mx, my = mean(x), mean(y)
    top = sum((u - mx) * (v - my) for u, v in zip(x, y, strict=True))
    return top / math.sqrt(sum((u - mx) ** 2 for u in x) * sum((v - my) ** 2 for v in y))


def spectrum(x: Signal) -> Signal:
    n = len(x)
    turns = [cmath.exp(-2j * math.pi * i / n) for i in range(n)]
    return [2 * abs(sum(v * turns[i * k % n] for i, v in enumerate(x))) / n for k in range(1, n // 2 + 1)]


def moment(x: Signal, order: int) -> float:
    m = mean(x)
    return mean([(v - m) ** order for v in x])


def common(axes: list[Signal]) -> Signal:
    statistics = [
        mean,
        lambda x: math.sqrt(moment(x, 2) * len(x) / (len(x) - 1)),
        lambda x: mean([abs(v - mean(x)) for v in x]),
        max,
        min,
        None,
        lambda x: mean([v * v for v in x]),
        lambda x: quantile(x, 0.75) - quantile(x, 0.25),
        entropy,
    ]
    out: Signal = []
    for statistic in statistics:
        out += [statistic(x) for x in axes] if statistic else [sum(mean([abs(v) for v in x]) for x in axes)]
    return out


def time_block(axes: list[Signal]) -> Signal:
    out = common(axes) + [a for x in axes for a in burg(x)]
    if len(axes) == 3:
        x, y, z = axes
        out += [pearson(x, y), pearson(x, z), pearson(y, z)]
    return out


def frequency_block(axes: list[Signal]) -> Signal:
    spectra = [spectrum(x) for x in axes]
    out = common(spectra)
    out += [1.0 + f.index(max(f)) for f in spectra]
    out += [sum(k * v for k, v in enumerate(f, start=1)) / sum(f) for f in spectra]
    for f in spectra:
        out += [moment(f, 3) / moment(f, 2) ** 1.5, moment(f, 4) / moment(f, 2) ** 2]
    if len(axes) == 3:
        edges = [(1, 8), (9, 16), (17, 24), (25, 32), (33, 40), (41, 48), (49, 56), (57, 64)]
        edges += [(1, 16), (17, 32), (33, 48), (49, 64), (1, 24), (25, 48)]
        out += [mean([v * v for v in f[a - 1 : b]]) for f in spectra for a, b in edges]
    return out


def angle(a: Signal, b: Signal) -> float:
    cosine = sum(u * v for u, v in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
    return math.acos(cosine)


def slow(window: np.ndarray, after: np.ndarray) -> Signal:
    """The 561 features of one window (128, 9)."""
    signals = [[float(v) for v in channel] for channel in window.T]
    acc, gyro = signals[0:3], signals[3:6]
    gravity = [[t - b for t, b in zip(signals[6 + i], acc[i], strict=True)] for i in range(3)]

    def jerk(axes: list[Signal], following: np.ndarray) -> list[Signal]:
        steps = [[x[n + 1] - x[n] for n in range(127)] for x in axes]
        return [
            [*s, s[-1] if math.isnan(nxt) else float(nxt) - x[-1]]
            for s, x, nxt in zip(steps, axes, following, strict=True)
        ]

    def norm(axes: list[Signal]) -> Signal:
        return [math.hypot(*sample) for sample in zip(*axes, strict=True)]

    acc_jerk, gyro_jerk = jerk(acc, after[0:3]), jerk(gyro, after[3:6])
    out: Signal = []
    for axes in (acc, gravity, acc_jerk, gyro, gyro_jerk):
        out += time_block(axes)
    for axes in (acc, acc, acc_jerk, gyro, gyro_jerk):  # the second stands for tGravityAccMag
        out += time_block([norm(axes)])
    for axes in (acc, acc_jerk, gyro):
        out += frequency_block(axes)
    for axes in (acc, acc_jerk, gyro, gyro_jerk):
        out += frequency_block([norm(axes)])
    down = [mean(x) for x in gravity]
    out += [angle([mean(x) for x in axes], down) for axes in (acc, acc_jerk, gyro, gyro_jerk)]
    return out + [angle(axis, down) for axis in ([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0])]


def random_windows(n: int, seed: int = 0) -> np.ndarray:
    """Like a walk: body acceleration 0.3 g, rotation 1 rad/s, gravity that turns slowly."""
    rng = np.random.default_rng(seed)
    body = rng.normal(0, 0.3, (n, 128, 3)) + 0.2 * np.sin(np.arange(128) / 4)[:, None]
    gravity = rng.normal(0.5, 0.2, (n, 1, 3)) + 0.001 * np.arange(128)[:, None] * rng.normal(size=(n, 1, 3))
    return np.concatenate([body, rng.normal(0, 1, (n, 128, 3)), body + gravity], axis=2)


def test_every_feature_equals_the_plain_loops() -> None:
    windows, after = random_windows(4), random_windows(4, seed=1)[:, 0]
    after[2:] = np.nan  # as at the end of a recording
    fast = features.extract(windows, after)
    expected = np.array([slow(w, a) for w, a in zip(windows, after, strict=True)])
    np.testing.assert_allclose(fast, expected, rtol=1e-8, atol=1e-8)


def test_the_sample_after_matters_to_the_jerk_alone() -> None:
    windows = random_windows(2)
    known, repeated = features.extract(windows, random_windows(2, seed=1)[:, 0]), features.extract(windows)
    changed = {features.feature_names()[i] for i in np.flatnonzero((known != repeated).any(axis=0))}
    assert "tBodyAccJerk-mean()-X" in changed
    assert all("Jerk" in name for name in changed)


def test_chunks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = random_windows(7)
    whole = features.extract(windows)
    monkeypatch.setattr(features, "CHUNK", 3)
    np.testing.assert_array_equal(features.extract(windows), whole)


def test_no_windows_give_no_rows() -> None:
    assert features.extract(np.empty((0, 128, 9))).shape == (0, 561)


def test_constant_windows_stay_finite() -> None:
    still = np.zeros((1, 128, 9))
    still[..., 8] = 1.0
    assert np.isfinite(features.official_scale(features.extract(still))).all()


@pytest.mark.parametrize("shape", [(5, 128, 6), (5, 64, 9), (128, 9)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(n, 128, 9\)"):
        features.extract(np.zeros(shape))


def test_names() -> None:
    names = features.feature_names()
    assert len(names) == 561
    known = {
        1: "tBodyAcc-mean()-X",
        16: "tBodyAcc-sma()",
        37: "tBodyAcc-arCoeff()-Z,4",
        265: "tBodyGyroJerkMag-arCoeff()4",
        291: "fBodyAcc-maxInds-X",
        303: "fBodyAcc-bandsEnergy()-1,8",
        316: "fBodyAcc-bandsEnergy()-25,48",
        555: "angle(tBodyAccMean,gravity)",
        561: "angle(Z,gravityMean)",
    }
    assert {index: names[index - 1] for index in known} == known


def test_committed_scale_belongs_to_the_names_and_brings_548_columns_back() -> None:
    rows = list(csv.DictReader(files("experiments.data").joinpath("feature_scale.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == list(features.feature_names())
    back = [row["name"] for row in rows if float(row["error_999"]) <= 1e-3]
    lost = {row["name"].rstrip("1234").rstrip(",") for row in rows if row["name"] not in back}
    assert len(back) == 548
    assert lost == {*(f"tGravityAcc-arCoeff()-{a}" for a in "XYZ"), "tBodyGyroJerkMag-entropy()"}


def test_official_scale_is_one_affine_map_a_column() -> None:
    a, b, c = features.extract(random_windows(3))
    mapped = features.official_scale(np.stack([a, b, c, 0.25 * a + 0.75 * b])).astype(np.float64)
    assert mapped.shape == (4, 561)
    np.testing.assert_allclose(mapped[3], 0.25 * mapped[0] + 0.75 * mapped[1], rtol=1e-4, atol=1e-4)
    assert (np.abs(mapped[0] - mapped[2]) > 0).sum() > 500
