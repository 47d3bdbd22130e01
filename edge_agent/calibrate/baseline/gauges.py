"""Gauges: a few seconds of a machine to the numbers that people have judged it by for long.

In: contiguous rows of one stream. Out: a `Gauge`, one number a channel each. Never: compares
anything (that is `checks.py`), knows a model.

The envelope: what lies above a quarter of the rate is where casings ring when a bearing's ball is
struck; its amplitude beats at the rate of the blows. A healthy casing's beats are noise, whose
largest line in eight seconds stands some 15 times over the median line; a damaged bearing's stands
a thousand times over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.judging.limits import MM_S_OF

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]

BLOCK_SECONDS, SLOW_BLOCK_ROWS, MOST_BLOCK_ROWS = 8.0, 256, 1 << 16
# Under it a channel is slow: equal values in a row are its nature, and nothing beats in it.
FAST_HZ, LEAST_ENVELOPE_HZ = 50.0, 400.0
# Blows of a bearing come between so often a second and an eighth of the rate.
LEAST_BLOWS_HZ = 5.0
RUN = 3
TINY = 1e-30


class Gauge(NamedTuple):
    """One block; each float64[channels]. `at_extreme` and `at_range` are shares of its rows: in
    runs of its largest or smallest value, at the end of the sensor's range. Kurtosis and crest
    factor of a stream that is no acceleration, and `envelope` where the rate is too low, are 0."""

    mean: Floats
    rms: Floats
    spread: Floats
    kurtosis: Floats
    crest: Floats
    envelope: Floats
    at_extreme: Floats
    at_range: Floats


class GaugeKind(NamedTuple):
    """Of which stream: what can be asked of its rows."""

    rate_hz: float
    shaken: bool
    limit: float | None

    @property
    def rows(self) -> int:
        """Rows of one block."""
        if self.rate_hz < FAST_HZ:
            return SLOW_BLOCK_ROWS
        return min(round(BLOCK_SECONDS * self.rate_hz), MOST_BLOCK_ROWS)


def gauge_kind(rate_hz: float, unit: str, limit: float | None) -> GaugeKind:
    """`limit` is the sensor's range in its unit, if it says one."""
    return GaugeKind(rate_hz, unit in MM_S_OF and rate_hz >= FAST_HZ, limit)


def gauge(rows: Rows, kind: GaugeKind) -> Gauge:
    """Of float32[n, channels]."""
    values = rows.astype(np.float64)
    mean, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
    centred = values - mean
    variance = np.square(centred).mean(axis=0)
    none = np.zeros(len(mean))
    kurtosis = crest = envelope = at_extreme = none
    if kind.shaken:
        kurtosis = (centred**4).mean(axis=0) / np.maximum(variance**2, TINY)
        crest = np.abs(centred).max(axis=0) / np.sqrt(np.maximum(variance, TINY))
        envelope = _envelope(centred, kind.rate_hz)
    if kind.rate_hz >= FAST_HZ:
        at_extreme = np.maximum(_in_runs(values == low), _in_runs(values == high))
    at_range = none
    if kind.limit is not None:
        at_range = np.asarray((np.abs(values) >= 0.999 * kind.limit).mean(axis=0))
    return Gauge(
        mean, np.sqrt(variance), high - low, kurtosis, crest, envelope, at_extreme, at_range
    )


def gauges_of(kept: Sequence[Gauge]) -> Gauge:
    """All blocks, each float64[blocks, channels]."""
    return Gauge(*(np.array(column) for column in zip(*kept, strict=True)))


def _in_runs(same: NDArray[np.bool_]) -> Floats:
    """The share of rows that stand in a run of at least `RUN` of these."""
    n = len(same) - RUN + 1
    runs = np.logical_and.reduce([same[i : i + n] for i in range(RUN)])
    return np.asarray(runs.mean(axis=0), np.float64)


def _envelope(centred: Floats, rate_hz: float) -> Floats:
    """The largest line of the envelope's spectrum over the median one, of each channel."""
    if rate_hz < LEAST_ENVELOPE_HZ:
        return np.zeros(centred.shape[1])
    count = len(centred)
    spectrum = np.fft.rfft(centred, axis=0)
    spectrum[: count // 4] = 0.0
    whole = np.zeros(centred.shape, np.complex128)
    whole[: len(spectrum)] = spectrum
    beats = np.abs(np.fft.ifft(whole, axis=0))
    lines = np.abs(np.fft.rfft(beats - beats.mean(axis=0), axis=0)) ** 2
    hz = np.arange(len(lines)) * rate_hz / count
    heard = lines[(hz >= LEAST_BLOWS_HZ) & (hz <= rate_hz / 8)]
    return np.asarray(heard.max(axis=0) / np.maximum(np.median(heard, axis=0), TINY))
