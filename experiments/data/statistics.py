"""The statistics of a UCI HAR feature vector, each over the last axis of an array.

Anguita, Ghio, Oneto, Parra and Reyes-Ortiz, "A Public Domain Dataset for Human Activity Recognition
Using Smartphones", ESANN 2013, computed them in MATLAB; what its text leaves open was worked out
from the published columns: `mad` is about the mean, quantiles are Hazen's, entropy is that of an
8-bit image, moments are biased.

Where a window is constant, a ratio 0 / 0 is taken as 0 (MATLAB's NaN would stop every learner).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

AR_ORDER = 4
LEVELS = 256  # of MATLAB's 8-bit image


def _ratio(a: Array, b: Array) -> Array:
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b != 0)


def _mean(x: Array) -> Array:
    return np.asarray(x.mean(-1))


def std(x: Array) -> Array:
    """With n - 1."""
    return np.asarray(x.std(-1, ddof=1))


def mad(x: Array) -> Array:
    """Mean absolute deviation from the mean (not the median)."""
    return _mean(np.abs(x - x.mean(-1, keepdims=True)))


def energy(x: Array) -> Array:
    """Mean of squares."""
    return _mean(x * x)


def iqr(x: Array) -> Array:
    """Interquartile range; MATLAB puts the k-th of n values at (k - 0.5) / n, which is Hazen's rule."""
    low, high = np.quantile(x, (0.25, 0.75), axis=-1, method="hazen")
    return np.asarray(high - low)


def entropy(x: Array) -> Array:
    """H = -sum p log2 p [bits] of the histogram of x taken as an image: clipped to [0, 1], in 256 levels.

    A value within rounding of a level's edge may fall either side: a step of some 0.01 bit."""
    level = np.floor(np.clip(x, 0, 1) * (LEVELS - 1) + 0.5).astype(np.int64)  # half rounds up, as in MATLAB
    flat = level.reshape(-1, x.shape[-1])
    flat += LEVELS * np.arange(len(flat))[:, None]
    p = np.bincount(flat.ravel(), minlength=LEVELS * len(flat)).reshape(-1, LEVELS) / x.shape[-1]
    bits = -(p * np.log2(np.where(p > 0, p, 1))).sum(-1)
    return np.asarray(bits.reshape(x.shape[:-1]))


def burg(x: Array) -> Array:
    """Autoregression coefficients a_1..a_4 of x[n] + sum_i a_i x[n-i] = e[n], by Burg's recursion: (..., 4).

    J. P. Burg, "Maximum Entropy Spectral Analysis", 1975. With f, b the forward and backward errors:
        k_m = -2 sum f b / sum (f^2 + b^2),   a <- a + k_m reverse(a),   f, b <- f + k_m b, b + k_m f."""
    f, b = x[..., 1:], x[..., :-1]
    a = np.ones((*x.shape[:-1], 1))
    for _ in range(AR_ORDER):
        k = _ratio(-2 * (f * b).sum(-1), (f * f + b * b).sum(-1))[..., None]
        a = np.concatenate([a, np.zeros_like(a[..., :1])], -1)
        a = a + k * a[..., ::-1]
        f, b = (f + k * b)[..., 1:], (b + k * f)[..., :-1]
    return a[..., 1:]


def correlation(x: Array) -> Array:
    """Pearson's r of the axes XY, XZ, YZ: (n, 3, samples) -> (n, 3)."""
    d = x - x.mean(-1, keepdims=True)
    first, second = d[:, [0, 0, 1]], d[:, [1, 2, 2]]
    scale = np.sqrt((first * first).sum(-1)) * np.sqrt((second * second).sum(-1))
    return _ratio((first * second).sum(-1), scale)


def spectrum(x: Array) -> Array:
    """F = 2 |FFT(x)| / n, bins 1..n/2, no taper, without the constant: (..., n) -> (..., n/2)."""
    n = x.shape[-1]
    return np.asarray(2 * np.abs(np.fft.rfft(x))[..., 1:] / n)


def peak(f: Array) -> Array:
    """The bin, counted from 1, that holds the largest amplitude."""
    return np.asarray(f.argmax(-1) + 1.0)


def mean_frequency(f: Array) -> Array:
    """sum k F_k / sum F_k, in bins."""
    k = np.arange(1, f.shape[-1] + 1)
    return _ratio((k * f).sum(-1), f.sum(-1))


def skewness(f: Array) -> Array:
    """m3 / m2^1.5, biased."""
    d = f - f.mean(-1, keepdims=True)
    return _ratio(_mean(d * d * d), _mean(d * d) ** 1.5)


def kurtosis(f: Array) -> Array:
    """m4 / m2^2, biased: 3 for a normal."""
    d = f - f.mean(-1, keepdims=True)
    squares = d * d
    return _ratio(_mean(squares * squares), _mean(squares) ** 2)


def angle(a: Array, b: Array) -> Array:
    """Between vectors, [rad]: atan2(|a x b|, a . b); (n, 3) each -> (n,)."""
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)))
