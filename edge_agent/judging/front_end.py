"""Front end: windows to the features that the model eats.

In: rows of a stream (`condition`), then whole windows (`features`). Out: float32[steps, features].
Never: learns anything from the data, scales (that is the scaler's work), does I/O.
Training, benchmark, replay and service all come through here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge_agent.bundles.manifest import (
    FrontEndSpec,
    RawFrontEnd,
    Sensor,
    SmoothFrontEnd,
    SpectralFrontEnd,
)

Rows = NDArray[np.float32]

# 1e-24 of a squared unit a hertz: far below any sensor's noise, it keeps log10 finite for zeros.
POWER_FLOOR = np.float32(1e-24)
VARIANCE_FLOOR = np.float32(1e-15)  # its square must not underflow in float32
RATIO_FLOOR = np.float32(1e-3)
VELOCITY_BAND_HZ = (10.0, 1000.0)  # ISO 20816
EXTRA_FEATURES = ("level", "velocity", "kurtosis", "crest")


class FrontEnd(Protocol):
    """What the pipeline needs of a front end."""

    labels: tuple[str, ...]
    """What each feature means, for people: `500-630 Hz (10.0-12.6 x shaft)`, or empty where it is
    the channel."""
    channel_of: NDArray[np.intp]
    """The channel that each feature belongs to."""
    decimate: int
    """Rows in for one row out of `condition`."""

    @property
    def waiting(self) -> int:
        """Rows in since the last one that came out."""
        ...

    def condition(self, rows: Rows) -> Rows:
        """Stream filter; remembers what it needs until `reset`."""
        ...

    def reset(self) -> None:
        """Forgets the stream: there was a gap."""
        ...

    def features(self, window: Rows) -> Rows:
        """float32[steps, features] of one window float32[length, channel]."""
        ...


def make_front_end(spec: FrontEndSpec, sensor: Sensor) -> FrontEnd:
    """The front end that a manifest names."""
    if isinstance(spec, SpectralFrontEnd):
        return Spectral(spec, len(sensor.channels), sensor.rate_hz, sensor.speed_index)
    if isinstance(spec, SmoothFrontEnd):
        return Smooth(spec, sensor.channels)
    return Raw(spec, len(sensor.channels))


class Raw:
    """Samples as they are: every step is a row, every feature a channel."""

    decimate = 1
    waiting = 0

    def __init__(self, _spec: RawFrontEnd, channels: int) -> None:
        self.labels = ("",) * channels
        self.channel_of = np.arange(channels)

    def condition(self, rows: Rows) -> Rows:
        """The rows."""
        return rows

    def reset(self) -> None:
        """Nothing is remembered."""

    def features(self, window: Rows) -> Rows:
        """The window."""
        return window


class Smooth:
    """Moving mean, exponentially weighted mean, then decimation: slow channels without their
    noise; drifting ones without their slow mean."""

    def __init__(self, spec: SmoothFrontEnd, names: Sequence[str]) -> None:
        self.labels = ("",) * len(names)
        self.channel_of = np.arange(len(names))
        self.decimate = spec.decimate
        self._alpha = spec.ewma_alpha
        self._settle = spec.settle_samples
        # 0 for a channel that counts by its value.
        self._drifts = np.isin(names, spec.drifting).astype(np.float64)
        self._baseline_alpha = spec.baseline_alpha
        self._latest = np.zeros((spec.mean_rows, len(names)))
        self.reset()

    def reset(self) -> None:
        """The next row starts every mean anew."""
        self._mean: NDArray[np.float64] | None = None
        self._baseline: NDArray[np.float64] | float = 0.0
        self._latest[:] = 0.0
        self._row = 0

    def condition(self, rows: Rows) -> Rows:
        """Row by row in float64, so that the split into batches can't change a bit."""
        smoothed = np.empty_like(rows)
        for i, row in enumerate(rows.astype(np.float64)):
            smoothed[i] = self._smooth(row)
        numbers = np.arange(self._row - len(rows), self._row) - self._settle
        due: Rows = smoothed[(numbers >= 0) & (numbers % self.decimate == 0)]
        return due

    @property
    def waiting(self) -> int:
        """Rows in since the last one that came out."""
        return (self._row - self._settle - 1) % self.decimate

    def _smooth(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        count = len(self._latest)
        if count > 1:
            self._latest[self._row % count] = row
            row = np.add.reduce(self._latest, axis=0) / min(self._row + 1, count)
        self._row += 1
        if self._mean is None:
            self._mean, self._baseline = row, row
        self._mean = self._mean + self._alpha * (row - self._mean)
        self._baseline = self._baseline + self._baseline_alpha * (self._mean - self._baseline)
        return np.asarray(self._mean - self._drifts * self._baseline)

    def features(self, window: Rows) -> Rows:
        """The window of smoothed rows."""
        return window


class Spectral:
    """Welch spectrum in log bands, one step a window (Welch 1967; bands as in DESIGN.md), of every
    channel but the one that tells the speed.

    Its arrays are made once: a gateway computes one window and then sleeps, so each call begins
    with cold caches, and what NumPy prepares in Python costs more than the transform itself.
    """

    decimate = 1
    waiting = 0

    def __init__(
        self, spec: SpectralFrontEnd, channels: int, rate_hz: float, speed_index: int | None = None
    ) -> None:
        length, bin_hz = spec.segment_length, rate_hz / spec.segment_length
        hann = np.hanning(length + 1)[:-1]
        self._hann = hann.astype(np.float32)
        edges = _band_edges(spec, bin_hz)
        density = 2.0 / (rate_hz * np.sum(hann**2) * spec.segments)
        self._pool = _pooling(edges, length // 2 + 1, bin_hz, density)
        seen = np.delete(np.arange(channels), [] if speed_index is None else speed_index)
        self._seen = slice(None) if speed_index is None else seen
        self._rows = np.zeros((len(seen), spec.window_samples), np.float32)
        every_row = sliding_window_view(self._rows, length, axis=1)
        self._segments = every_row[:, :: spec.segment_hop]
        self._tapered = np.zeros(self._segments.shape, np.float32)
        # A bin hears from half a bin below its frequency to half a bin above.
        heard = np.minimum((np.array(edges) - 0.5) * bin_hz, rate_hz / 2)
        names = [_band(low, high, spec.shaft_hz) for low, high in pairwise(heard.tolist())]
        self._bands = len(names)
        self._inverse = np.float32(1.0 / spec.window_samples), np.float32(1.0 / len(names))
        self.labels = tuple(names + list(EXTRA_FEATURES)) * len(seen)
        self.channel_of = np.repeat(seen, len(names) + len(EXTRA_FEATURES))

    def condition(self, rows: Rows) -> Rows:
        """The rows."""
        return rows

    def reset(self) -> None:
        """Nothing is remembered."""

    def features(self, window: Rows) -> Rows:
        """float32[1, channels x (bands + 4)], channel by channel, without the speed."""
        rows, bands = self._rows, self._bands
        per_row, per_band = self._inverse
        rows[:] = window.T[self._seen]
        rows -= np.add.reduce(rows, axis=1, keepdims=True) * per_row
        spectrum = np.fft.rfft(np.multiply(self._segments, self._hann, out=self._tapered))
        # Real and imaginary parts side by side: their squares sum to the power.
        parts = spectrum.astype(np.complex64, copy=False).view(np.float32)
        logs = np.log10(np.einsum("csk,csk->ck", parts, parts) @ self._pool + POWER_FLOOR)
        level = np.add.reduce(logs[:, :bands], axis=1) * per_band
        squares = np.square(rows)
        variance = np.add.reduce(squares, axis=1) * per_row + VARIANCE_FLOOR
        fourth = np.einsum("cn,cn->c", squares, squares) * per_row
        features = np.empty((len(rows), bands + len(EXTRA_FEATURES)), np.float32)
        features[:, :bands] = logs[:, :bands] - level[:, None]
        features[:, bands] = level
        features[:, bands + 1] = 0.5 * logs[:, bands]
        features[:, bands + 2] = np.log10(fourth / variance**2 + RATIO_FLOOR)
        crest = np.maximum.reduce(squares, axis=1) / variance
        features[:, bands + 3] = 0.5 * np.log10(crest + RATIO_FLOOR)
        return features.reshape(1, -1)


def _band(low_hz: float, high_hz: float, shaft_hz: float | None) -> str:
    """What people call a band: its frequencies, and its orders where the shaft is known."""
    band = f"{low_hz:.0f}-{high_hz:.0f} Hz"
    if shaft_hz is None:
        return band
    return f"{band} ({low_hz / shaft_hz:.1f}-{high_hz / shaft_hz:.1f} x shaft)"


def _band_edges(spec: SpectralFrontEnd, bin_hz: float) -> list[int]:
    """First bin of each band and the end of the last: logarithmic, at least one bin a band."""
    low = max(1, round(spec.low_hz / bin_hz))
    high = min(spec.segment_length // 2, int(spec.high_hz / bin_hz)) + 1
    edges = [low]
    for edge in np.geomspace(low, high, spec.bands + 1)[1:]:
        edges.append(max(round(edge), edges[-1] + 1))
    return [edge for edge in edges if edge < high] + [high]


def _pooling(edges: list[int], bins: int, bin_hz: float, density: float) -> NDArray[np.float32]:
    """[2 bins, bands + 1]: squares to the mean density of each band; last, to the mean square of
    the integrated signal. Two equal rows a bin, for the real and for the imaginary part."""
    pool = np.zeros((bins, len(edges)))
    for band, (first, end) in enumerate(pairwise(edges)):
        pool[first:end, band] = 1.0 / (end - first)
    frequency = np.arange(bins) * bin_hz
    low, high = VELOCITY_BAND_HZ
    inside = (frequency >= low) & (frequency <= high)
    pool[inside, -1] = bin_hz / (2 * np.pi * frequency[inside]) ** 2
    return np.repeat(density * pool, 2, axis=0).astype(np.float32)
