"""Filters, overlap and succession of windows."""

from __future__ import annotations

import numpy as np

from experiments.data.windows import cut, filter_recording, filter_windows, follows, number_runs, sample_after


def recording(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, 6))


def test_windows_overlap_by_half_and_drop_the_rest() -> None:
    x = recording(300)
    windows = cut(x)
    assert windows.shape == (3, 128, 6)
    np.testing.assert_array_equal(windows[2], x[128:256])
    np.testing.assert_array_equal(windows[0, 64:], windows[1, :64])


def test_a_recording_shorter_than_a_window_gives_none() -> None:
    assert cut(recording(127)).shape == (0, 128, 6)
    assert cut(recording(128)).shape == (1, 128, 6)


def test_runs_end_where_halves_differ_and_where_the_group_changes() -> None:
    first, second = cut(recording(256)), cut(recording(192, seed=1))  # 3 and 2 windows
    windows = np.concatenate([first, second, second[1:]])
    group = np.array([0, 0, 1, 1, 1, 1])
    next_ones = follows(windows, group)
    assert next_ones.tolist() == [False, True, False, False, True, False]
    assert number_runs(next_ones).tolist() == [0, 0, 1, 2, 2, 3]


def test_the_sample_after_a_window_is_the_recordings_own() -> None:
    x = recording(256)
    windows = cut(x)
    after = sample_after(windows, follows(windows, np.zeros(3, dtype=np.int64)))
    np.testing.assert_array_equal(after[:2], x[[128, 192]])
    assert np.isnan(after[2]).all()


def test_gravity_is_what_stands_still() -> None:
    t = np.arange(1500) / 50
    still = np.array([0.6, 0.0, 0.8])
    acc = still + 0.5 * np.sin(2 * np.pi * 3 * t)[:, None]  # a movement of 3 Hz
    nine = filter_recording(acc, np.ones((1500, 3)))
    gravity = nine[:, 6:] - nine[:, :3]
    np.testing.assert_allclose(gravity[500:], np.broadcast_to(still, (1000, 3)), atol=0.01)
    np.testing.assert_allclose(nine[:, 3:6], 1.0)


def test_noise_above_20_hz_and_single_spikes_are_removed() -> None:
    t = np.arange(1000) / 50
    gyro = np.stack([np.sin(2 * np.pi * f * t) for f in (1.0, 24.5, 1.0)], axis=1)
    spiked = gyro.copy()
    spiked[500, 2] += 50
    nine = filter_recording(np.ones((1000, 3)), spiked)
    power = nine[200:, 3:6].std(axis=0) / gyro[200:].std(axis=0)
    assert 0.95 < power[0] < 1.05
    assert power[1] < 0.05
    assert np.abs(nine[:, 5]).max() < 1.1


def test_the_filters_look_back_only() -> None:
    """What comes later changes nothing before it (but for the median's one sample ahead)."""
    x = recording(400)
    longer = np.concatenate([x, 10 + recording(100, seed=1)])
    np.testing.assert_array_equal(
        filter_recording(longer[:, :3], longer[:, 3:])[:399], filter_recording(x[:, :3], x[:, 3:])[:399]
    )


def test_overlapping_windows_are_filtered_as_their_recording() -> None:
    first, second = recording(320), recording(192, seed=1)
    six = np.concatenate([cut(first), cut(second)])
    group = np.repeat([0, 1], [4, 2])
    nine = filter_windows(six, follows(six, group))
    expected = [cut(filter_recording(x[:, :3], x[:, 3:])) for x in (first, second)]
    np.testing.assert_array_equal(nine, np.concatenate(expected))
