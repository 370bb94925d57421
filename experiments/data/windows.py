"""From recordings to windows and back: filters, 50 % overlap, which windows follow each other.

UCI HAR's signals (Anguita et al. 2013): a 3-point median, a 3rd-order Butterworth low-pass at 20 Hz
against noise, then gravity by a 3rd-order Butterworth low-pass at 0.3 Hz; body = total - gravity.
The filters run forward only. The official windows show it: on joined recordings, once its start is
forgotten, the causal filter gives total_acc - body_acc back to 3e-7 g (median; zero-phase: 2e-3 g).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from experiments.data.statistics import Array

RATE = 50.0  # Hz
SAMPLES = 128  # 2.56 s
STEP = SAMPLES // 2
NOISE_HZ, GRAVITY_HZ = 20.0, 0.3
FILTERS = 1  # version of the filtered values: raise it when they change, for it is part of a data set's hash


def low_pass(x: Array, hertz: float, start: Array) -> Array:
    """3rd-order Butterworth along the first axis, forward only, at rest on `start` (channels,) before it."""
    from scipy import signal

    sections = signal.butter(3, hertz, fs=RATE, output="sos")  # second-order sections: 0.3 Hz needs the digits
    rest = signal.sosfilt_zi(sections)[..., None] * start  # (sections, 2, channels)
    return np.asarray(signal.sosfilt(sections, x, axis=0, zi=rest)[0])


def filter_recording(acc: Array, gyro: Array) -> Array:
    """The nine channels of a recording: body_acc [g], body_gyro [rad/s], total_acc [g].

    acc: (samples, 3) [g] with gravity; gyro: (samples, 3) [rad/s]; both at 50 Hz. Returns (samples, 9)."""
    from scipy import ndimage

    raw = np.concatenate([acc, gyro], axis=1).astype(np.float64)
    raw = ndimage.median_filter(raw, size=(3, 1), mode="nearest")
    clean = low_pass(raw, NOISE_HZ, start=raw[0])
    total, turn = clean[:, :3], clean[:, 3:]
    # At 0.3 Hz a wrong start is felt for seconds: a mean is nearer to gravity than one sample of a movement.
    gravity = low_pass(total, GRAVITY_HZ, start=total[:SAMPLES].mean(axis=0))
    return np.concatenate([total - gravity, turn, total], axis=1)


def cut(recording: Array) -> Array:
    """Windows of 128 samples, each half over the one before: (samples, c) -> (n, 128, c).

    The samples left over at the end are dropped; a recording under 128 samples gives no window."""
    starts = range(0, len(recording) - SAMPLES + 1, STEP)
    if not starts:
        return np.empty((0, SAMPLES, recording.shape[1]))
    return np.stack([recording[i : i + SAMPLES] for i in starts])


def follows(windows: NDArray[np.floating], group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether a window is the next one of the window before it: their shared half is equal.

    windows: (n, 128, c); only windows of one `group` (person, recording) can follow each other."""
    after = np.zeros(len(windows), dtype=bool)
    after[1:] = (windows[:-1, STEP:] == windows[1:, :STEP]).all(axis=(1, 2)) & (group[1:] == group[:-1])
    return after


def filter_windows(windows: NDArray[np.floating], follows: NDArray[np.bool_]) -> Array:
    """Windows straight from the sensors, (n, 128, 6) total_acc [g] and gyro [rad/s], as nine channels.

    Windows that follow each other are joined, filtered as one recording and cut again; gravity is poorly
    known in a window that stands alone, for its 2.56 s are shorter than the filter's memory."""
    done = []
    for run in np.split(windows, np.flatnonzero(~follows)[1:]):
        joined = np.concatenate([run[0], *run[1:, STEP:]])
        done.append(cut(filter_recording(joined[:, :3], joined[:, 3:])))
    return np.concatenate(done)


def number_runs(follows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) the number of the run of windows that a window is in, from 0."""
    return np.cumsum(~follows, dtype=np.int64) - 1


def sample_after(windows: NDArray[np.floating], follows: NDArray[np.bool_]) -> Array:
    """(n, c) the sample that comes after each window: the next window's sample 64; NaN at a run's end."""
    after = np.full((len(windows), windows.shape[2]), np.nan)
    last = np.flatnonzero(follows) - 1  # windows that have a next one
    after[last] = windows[last + 1, STEP]
    return after
