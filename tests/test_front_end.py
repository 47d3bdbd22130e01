"""Front ends against slow, obviously right versions of themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundles.manifest import RawFrontEnd, Sensor, SmoothFrontEnd, SpectralFrontEnd
from edge_agent.judging.front_end import EXTRA_FEATURES, Smooth, Spectral, make_front_end
from tests.manifests import ACCELEROMETER

SPEC = SpectralFrontEnd(segment_length=64, segment_hop=32, segments=5, bands=6, high_hz=1600)


def naive_band_powers(window: np.ndarray, rate_hz: float, labels: list[str]) -> np.ndarray:
    """log10 of the mean Welch density of each labelled band, one channel at a time, in loops."""
    length, hop = SPEC.segment_length, SPEC.segment_hop
    hann = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / length) for n in range(length)])
    out = []
    for channel in window.T.astype(np.float64):
        channel = channel - channel.mean()
        density = np.zeros(length // 2 + 1)
        for segment in range(SPEC.segments):
            part = channel[segment * hop : segment * hop + length] * hann
            for k in range(length // 2 + 1):
                wave = np.exp(-2j * np.pi * k * np.arange(length) / length)
                density[k] += abs(np.sum(part * wave)) ** 2 * 2 / (rate_hz * np.sum(hann**2))
        density /= SPEC.segments
        frequency = np.arange(length // 2 + 1) * rate_hz / length
        for label in labels:
            low, high = (float(edge) for edge in label.removesuffix(" Hz").split("-"))
            out.append(np.log10(density[(frequency >= low) & (frequency <= high)].mean()))
    return np.array(out).reshape(window.shape[1], -1)


def test_spectral_features_equal_the_slow_way() -> None:
    front_end = Spectral(SPEC, 3, 3200.0)
    window = np.random.default_rng(1).normal(size=(SPEC.window_samples, 3)).astype(np.float32)
    found = front_end.features(window).reshape(3, -1)
    bands = found.shape[1] - len(EXTRA_FEATURES)
    expected = naive_band_powers(window, 3200.0, list(front_end.labels[:bands]))
    level = expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found[:, :bands], expected - level, atol=1e-4)
    np.testing.assert_allclose(found[:, bands], level[:, 0], atol=1e-4)
    for row, channel in zip(found, window.T.astype(np.float64), strict=True):
        centred = channel - channel.mean()
        kurtosis = (centred**4).mean() / (centred**2).mean() ** 2
        crest = np.abs(centred).max() / np.sqrt((centred**2).mean())
        assert row[bands + 2] == pytest.approx(np.log10(kurtosis + 1e-3), abs=1e-4)
        assert row[bands + 3] == pytest.approx(0.5 * np.log10(crest**2 + 1e-3), abs=1e-4)


def test_rms_velocity_of_a_sine_is_its_amplitude_over_omega() -> None:
    spec = SpectralFrontEnd(segment_length=512, segment_hop=256, segments=8)
    t = np.arange(spec.window_samples) / 3200
    sine = (3.0 * np.sin(2 * np.pi * 100 * t)).astype(np.float32)[:, None]
    front_end = Spectral(spec, 1, 3200.0)
    velocity = front_end.features(sine)[0, list(front_end.labels).index("velocity")]
    assert 10**velocity == pytest.approx(3.0 / np.sqrt(2) / (2 * np.pi * 100), rel=0.01)


def test_shape_does_not_see_gain_and_level_does() -> None:
    front_end = Spectral(SPEC, 1, 3200.0)
    window = np.random.default_rng(2).normal(size=(SPEC.window_samples, 1)).astype(np.float32)
    quiet, loud = front_end.features(window)[0], front_end.features(10 * window)[0]
    bands = len(quiet) - len(EXTRA_FEATURES)
    np.testing.assert_allclose(quiet[:bands], loud[:bands], atol=1e-4)
    assert loud[bands] - quiet[bands] == pytest.approx(2.0, abs=1e-3)


def test_a_known_shaft_names_the_orders_of_each_band() -> None:
    plain = Spectral(SPEC, 1, 3200.0).labels
    shaft = Spectral(SPEC.model_copy(update={"shaft_hz": 25.0}), 1, 3200.0).labels
    bands = len(plain) - len(EXTRA_FEATURES)
    assert shaft[bands:] == plain[bands:]
    for with_order, band in zip(shaft[:bands], plain[:bands], strict=True):
        low, high = (float(edge) for edge in band.removesuffix(" Hz").split("-"))
        assert with_order == f"{band} ({low / 25:.1f}-{high / 25:.1f} x shaft)"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_speed_has_no_spectrum(at: int) -> None:
    names = ["x", "y"]
    names.insert(at, "rpm")
    sensor = Sensor(channels=tuple(names), unit="g", rate_hz=3200.0, speed_channel="rpm")
    window = np.random.default_rng(1).normal(size=(SPEC.window_samples, 3)).astype(np.float32)
    front_end = make_front_end(SPEC, sensor)
    without = Spectral(SPEC, 2, 3200.0)
    expected = without.features(np.delete(window, at, axis=1))
    np.testing.assert_array_equal(front_end.features(window), expected)
    assert front_end.labels == without.labels
    assert set(front_end.channel_of.tolist()) == {0, 1, 2} - {at}


@pytest.mark.parametrize("window", [np.zeros, np.ones])
def test_a_dead_sensor_gives_finite_features(window: type[np.ndarray]) -> None:
    front_end = Spectral(SPEC, 3, 3200.0)
    assert np.isfinite(front_end.features(window((SPEC.window_samples, 3), np.float32))).all()


def test_every_band_holds_a_bin_and_labels_cover_all_features() -> None:
    for rate_hz, length, bands in [
        (3200, 512, 24),
        (48_000, 1024, 24),
        (100, 64, 40),
        (3200, 16, 9),
    ]:
        spec = SpectralFrontEnd(
            segment_length=length, segment_hop=length, segments=1, bands=bands,
            low_hz=rate_hz / 64, high_hz=rate_hz / 2,
        )  # fmt: skip
        front_end = Spectral(spec, 2, float(rate_hz))
        noise = np.random.default_rng(3).normal(size=(length, 2)).astype(np.float32)
        features = front_end.features(noise)
        assert features.shape == (1, len(front_end.labels)) == (1, len(front_end.channel_of))
        assert np.isfinite(features).all()


@given(batches=st.lists(st.integers(0, 20), max_size=12), decimate=st.integers(1, 5))
def test_smoothing_does_not_depend_on_batches(batches: list[int], decimate: int) -> None:
    values = np.random.default_rng(4).normal(size=(sum(batches), 2)).astype(np.float32)
    spec = SmoothFrontEnd(ewma_alpha=0.3, decimate=decimate, settle_samples=7)
    front_end, whole, at = Smooth(spec, ("a", "b")), [], 0
    for size in batches:
        whole.append(front_end.condition(values[at : at + size]))
        at += size
    mean, expected = None, []
    for i, row in enumerate(values.astype(np.float64)):
        mean = row if mean is None else mean + 0.3 * (row - mean)
        if i >= 7 and (i - 7) % decimate == 0:
            expected.append(mean)
    found = np.concatenate([*whole, np.empty((0, 2), np.float32)])
    np.testing.assert_array_equal(found, np.array(expected, np.float32).reshape(-1, 2))


def test_after_reset_the_smoother_knows_nothing() -> None:
    front_end = make_front_end(SmoothFrontEnd(settle_samples=0), ACCELEROMETER)
    front_end.condition(np.full((5, 3), 100, np.float32))
    front_end.reset()
    np.testing.assert_array_equal(front_end.condition(np.ones((4, 3), np.float32)), np.ones((4, 3)))


def test_raw_is_the_window() -> None:
    window = np.arange(30, dtype=np.float32).reshape(10, 3)
    assert make_front_end(RawFrontEnd(), ACCELEROMETER).features(window) is window


@given(batches=st.lists(st.integers(0, 20), max_size=8), mean_rows=st.integers(1, 9))
def test_a_drifting_channel_counts_from_its_own_slow_mean(
    batches: list[int], mean_rows: int
) -> None:
    values = np.random.default_rng(5).normal(size=(sum(batches), 2)).astype(np.float32)
    spec = SmoothFrontEnd(
        mean_rows=mean_rows, ewma_alpha=1.0, drifting=("b",), baseline_alpha=0.2, settle_samples=0
    )
    front_end, found, at = Smooth(spec, ("a", "b")), [np.empty((0, 2), np.float32)], 0
    for size in batches:
        found.append(front_end.condition(values[at : at + size]))
        at += size
    expected, baseline = np.empty((len(values), 2)), None
    for i in range(len(values)):
        mean = values[max(0, i + 1 - mean_rows) : i + 1].astype(np.float64).mean(axis=0)
        baseline = mean if baseline is None else 0.8 * baseline + 0.2 * mean
        expected[i] = mean[0], mean[1] - baseline[1]
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)


def test_a_moving_mean_forgets_a_fault_when_it_is_over() -> None:
    values = np.zeros((40, 1), np.float32)
    values[10:20] = 1e6
    spec = SmoothFrontEnd(mean_rows=5, ewma_alpha=1.0, settle_samples=0)
    after = Smooth(spec, ("a",)).condition(values)[24:]
    np.testing.assert_array_equal(after, np.zeros_like(after))
