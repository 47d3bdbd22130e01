"""Ranking: how well scores order the rows, at every threshold at once.

In: labels and scores, one array per series. Out: average precision, VUS-PR and VUS-ROC, and the
buffer that a VUS stands for. Never: a threshold, a point-adjusted score (a random one wins there).

Area under the ROC curve and rank correlation are in `converter.evaluate`. High score = anomalous.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Whole = NDArray[np.int64]

VUS_THRESHOLDS = 250
# TSB-AD's way to choose a buffer: the period of channel 0.
PERIOD_ROWS = 20_000
FIRST_LAG, LAST_LAG = 3, 400
FIRST_INDEX, LAST_INDEX = 3, 300
DEFAULT_BUFFER_ROWS = 125


def _checked(labels: NDArray[np.generic], scores: Floats) -> tuple[Flags, Floats]:
    """Labels as flags and scores as numbers, both [n]. Raises `ValueError` for NaN or lengths."""
    truth, values = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise ValueError(f"labels {truth.shape} and scores {values.shape}: expected [n] and [n]")
    if np.isnan(values).any():
        raise ValueError(f"{np.isnan(values).sum()} of {len(values)} scores are NaN")
    return truth, values


def average_precision(labels: NDArray[np.generic], scores: Floats) -> float | None:
    """Area under the precision-recall curve as a sum of steps (scikit-learn's definition).

    `labels` [n], 0/1; `scores` [n]. Rows with equal scores enter together. None without an
    anomalous row. Raises `ValueError` for NaN.
    """
    truth, values = _checked(labels, scores)
    if not truth.any():
        return None
    order = np.argsort(-values, kind="stable")
    last_of_ties = np.append(np.diff(values[order]) != 0, True)
    hits = np.cumsum(truth[order])[last_of_ties]
    predicted = np.flatnonzero(last_of_ties) + 1
    gained = np.diff(hits, prepend=0)
    return float(np.sum(gained * hits / predicted) / truth.sum())


def runs(flags: Flags) -> Whole:
    """Runs of True as [k, 2] of first and last row, both inside."""
    edges = np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]]))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1], axis=1)


class Vus(NamedTuple):
    """Volumes under the precision-recall and the ROC surface, and the buffer they stand for:
    figures of different buffers do not compare."""

    pr: float
    roc: float
    buffer_rows: int


class _Ranked(NamedTuple):
    """One score at its thresholds j = 0 (highest) .. k-1. `step[i]` is the first threshold that
    row i reaches, k if none; `predicted[j]` counts the rows at or above threshold j."""

    step: Whole
    predicted: Floats
    thresholds: int


def _ranked(values: Floats, thresholds: int) -> _Ranked:
    ascending = np.sort(values)
    places = np.linspace(0, len(values) - 1, thresholds).astype(int)
    levels = ascending[::-1][places]
    # Levels fall, so -levels rise: the first j with levels[j] <= value.
    step = np.searchsorted(-levels, -values, side="left")
    predicted = len(values) - np.searchsorted(ascending, levels, side="left")
    return _Ranked(step.astype(np.int64), predicted.astype(np.float64), thresholds)


def _soft_labels(truth: Flags, segments: Whole, buffer_rows: int) -> Floats:
    """1 inside; beside a segment, at distance d <= buffer // 2, sqrt(1 - d / buffer), summed over
    the segments and clipped at 1."""
    soft = truth.astype(np.float64)
    if buffer_rows < 2:
        return soft
    away = np.arange(1, buffer_rows // 2 + 1)
    slope = np.broadcast_to(np.sqrt(1 - away / buffer_rows), (len(segments), len(away)))
    for rows in (segments[:, :1] - away, segments[:, 1:] + away):
        inside = (rows >= 0) & (rows < len(truth))
        np.add.at(soft, rows[inside], slope[inside])
    return np.minimum(soft, 1.0)


def _merged(segments: Whole, half: int, rows: int) -> Whole:
    """Segments widened by `half` rows on both sides; overlapping ones become one."""
    first = np.maximum(segments[:, 0] - half, 0)
    last = np.minimum(segments[:, 1] + half, rows - 1)
    apart = np.flatnonzero(segments[:-1, 1] + half < segments[1:, 0] - half)
    return np.stack([first[np.append(0, apart + 1)], last[np.append(apart, -1)]], axis=1)


def _buffer_areas(
    truth: Flags, segments: Whole, ranked: _Ranked, buffer_rows: int
) -> tuple[float, float]:
    """Areas under the precision-recall and the ROC curve of one buffer."""
    count = ranked.thresholds
    positives = float(truth.sum())
    soft = _soft_labels(truth, segments, buffer_rows)

    def reached(weights: Floats) -> Floats:
        return np.cumsum(np.bincount(ranked.step, weights, count + 1)[:count])

    hits = reached(soft)
    # Soft rows count as labelled only where predicted, rows of a segment always.
    labelled = positives + hits - reached(truth.astype(np.float64))
    half_way = (positives + labelled) / 2.0
    wide = _merged(segments, buffer_rows // 2, len(truth))
    earliest = [int(ranked.step[a : b + 1].min()) for a, b in wide]
    found = np.cumsum(np.bincount(earliest, minlength=count + 1)[:count]) / len(wide)
    recall = np.minimum(hits / half_way, 1.0) * found
    false_rate = (ranked.predicted - hits) / (len(truth) - half_way)
    precise = float(np.sum(np.diff(recall, prepend=0.0) * hits / ranked.predicted))
    x, y = np.concatenate([[0], false_rate, [1]]), np.concatenate([[0], recall, [1]])
    return precise, float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2.0))


def vus(
    labels: NDArray[np.generic],
    scores: Floats,
    buffer_rows: int,
    thresholds: int = VUS_THRESHOLDS,
) -> Vus | None:
    """VUS-PR and VUS-ROC as TSB-AD computes them ("opt"; Paparrizos et al., VLDB 2022).

    `labels` [n], 0/1; `scores` [n]; `buffer_rows` >= 0, the largest buffer: the mean over all
    buffers 0..buffer_rows. None without both kinds of rows. Raises `ValueError` for NaN.
    """
    truth, values = _checked(labels, scores)
    if buffer_rows < 0:
        raise ValueError(f"buffer of {buffer_rows} rows: expected 0 or more")
    if truth.all() or not truth.any():
        return None
    segments, ranked = runs(truth), _ranked(values, thresholds)
    areas = [_buffer_areas(truth, segments, ranked, b) for b in range(buffer_rows + 1)]
    pr, roc = np.mean(areas, axis=0)
    return Vus(float(pr), float(roc), buffer_rows)


def period_rows(channel: Floats) -> int:
    """TSB-AD's automatic buffer: the period of `channel` [n] in rows, by its autocorrelation.

    Of the first 20,000 rows the highest strict local maximum over lags 4..399; 125 when there is
    none or it is not between lag 6 and lag 303. Raises `ValueError` for NaN.
    """
    values = np.asarray(channel[:PERIOD_ROWS], np.float64)
    if np.isnan(values).any():
        raise ValueError(f"{np.isnan(values).sum()} values are NaN")
    values = values - values.mean()
    spectrum = np.fft.rfft(values, 2 * len(values))
    correlation = np.fft.irfft(spectrum * spectrum.conj())[: min(LAST_LAG + 1, len(values))]
    energy = correlation[0]
    correlation = correlation[FIRST_LAG:]
    if len(correlation) < 3 or energy <= 0:
        return DEFAULT_BUFFER_ROWS
    inner = correlation[1:-1]
    peaks = 1 + np.flatnonzero((inner > correlation[:-2]) & (inner > correlation[2:]))
    if not len(peaks):
        return DEFAULT_BUFFER_ROWS
    highest = int(peaks[np.argmax(correlation[peaks])])
    return highest + FIRST_LAG if FIRST_INDEX <= highest <= LAST_INDEX else DEFAULT_BUFFER_ROWS
