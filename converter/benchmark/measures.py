"""Measures: rows, events, explanations and means, each with the protocol that it follows.

In: labels, alarms, times and channel rankings, one array per series. Out: numbers. Never: a file,
a model, a threshold chosen on the labels. Measures that need no alarm are in `ranking`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SECONDS_PER_DAY = 86_400.0


class Counts(NamedTuple):
    """Rows by truth and alarm. Shares without a row to count are None."""

    tp: int
    fp: int
    tn: int
    fn: int

    @property
    def f1(self) -> float | None:
        """TP / (TP + (FP + FN) / 2), 0..1; None if nothing is anomalous and nothing alarmed."""
        return _share(self.tp, self.tp + (self.fp + self.fn) / 2.0)

    @property
    def far_percent(self) -> float | None:
        """False alarm rate: 100 FP / (FP + TN)."""
        return _share(100.0 * self.fp, self.fp + self.tn)

    @property
    def mar_percent(self) -> float | None:
        """Missed alarm rate: 100 FN / (FN + TP)."""
        return _share(100.0 * self.fn, self.fn + self.tp)


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def point_counts(labels: NDArray[np.generic], alarms: NDArray[np.generic]) -> Counts:
    """Rows of one series; `labels` and `alarms` [n], 0/1. Raises `ValueError` for lengths."""
    truth, alarm = np.asarray(labels).astype(bool), np.asarray(alarms).astype(bool)
    if truth.shape != alarm.shape:
        raise ValueError(f"labels {truth.shape} and alarms {alarm.shape}: expected the same rows")
    return Counts(
        int(np.sum(truth & alarm)),
        int(np.sum(~truth & alarm)),
        int(np.sum(~truth & ~alarm)),
        int(np.sum(truth & ~alarm)),
    )


def summed(counts: Iterable[Counts]) -> Counts:
    """The counts of all series together: SKAB adds first and divides once."""
    total = np.sum(list(counts), axis=0, initial=0)
    return Counts(*(int(number) for number in np.broadcast_to(total, 4)))


class Timeline(NamedTuple):
    """One series: `time_seconds` [n] rising, any origin; `labels` and `alarms` [n], 0/1."""

    time_seconds: Floats
    labels: NDArray[np.generic]
    alarms: NDArray[np.generic]


class EventView(NamedTuple):
    """False events, found segments and delays over all series. Delays are those of the found
    segments, None if none is found; days are days of normal rows."""

    false_events: int
    false_events_per_day: float | None
    segments_found: int
    segments: int
    delay_p50_seconds: float | None
    delay_p90_seconds: float | None
    normal_days: float
    normal_alarm_share: float | None


def _stretches(time_seconds: Floats, flags: Flags, gap_seconds: float) -> Floats:
    """Flagged rows at most `gap_seconds` apart as one stretch: [k, 2] of first, last second."""
    at = time_seconds[flags]
    if not len(at):
        return np.zeros((0, 2))
    cuts = np.flatnonzero(np.diff(at) > gap_seconds)
    return np.stack([at[np.append(0, cuts + 1)], at[np.append(cuts, len(at) - 1)]], axis=1)


def _series_events(line: Timeline, merge: float, segment_gap: float) -> tuple[int, list[float]]:
    """False events, and per segment its delay in seconds (NaN if missed)."""
    time = np.asarray(line.time_seconds, np.float64)
    truth, alarm = np.asarray(line.labels).astype(bool), np.asarray(line.alarms).astype(bool)
    anomalous, alarmed = time[truth], time[alarm]
    false = sum(
        not np.any((anomalous >= first) & (anomalous <= last))
        for first, last in _stretches(time, alarm, merge)
    )
    delays = []
    for first, last in _stretches(time, truth, segment_gap):
        inside = alarmed[(alarmed >= first) & (alarmed <= last)]
        delays.append(float(inside[0] - first) if len(inside) else float("nan"))
    return int(false), delays


def event_view(
    series: Sequence[Timeline],
    row_seconds: float,
    merge_seconds: float = 30.0,
    segment_gap_seconds: float = 5.0,
) -> EventView:
    """Alarms as events (benchmark protocol of this project, SKAB's values as defaults).

    Alarm rows at most `merge_seconds` apart form one event; it is false if no anomalous row lies
    between its first and last row. Anomalous rows at most `segment_gap_seconds` apart form a
    segment, found if any alarm row lies in it. `row_seconds` is what one normal row counts for.
    Read false events beside `normal_alarm_share`: one endless event is one event.
    """
    events = [_series_events(line, merge_seconds, segment_gap_seconds) for line in series]
    counts = summed(point_counts(line.labels, line.alarms) for line in series)
    delays = np.array([delay for _, per_series in events for delay in per_series], np.float64)
    found = delays[~np.isnan(delays)]
    false_events = sum(false for false, _ in events)
    normal_days = (counts.fp + counts.tn) * row_seconds / SECONDS_PER_DAY
    return EventView(
        false_events,
        _share(false_events, normal_days),
        len(found),
        len(delays),
        float(np.quantile(found, 0.5)) if len(found) else None,
        float(np.quantile(found, 0.9)) if len(found) else None,
        normal_days,
        _share(counts.fp, counts.fp + counts.tn),
    )


def _top(row: Floats, count: int) -> set[int]:
    """The channels with the highest values; of equal ones the first."""
    if np.isnan(row).any():
        raise ValueError(f"{np.isnan(row).sum()} of {len(row)} channel values are NaN")
    return {int(channel) for channel in np.argsort(-row, kind="stable")[:count]}


def hit_rate(rankings: Floats, true_channels: Sequence[Collection[int]], percent: float) -> float:
    """HitRate@P (OmniAnomaly, KDD 2019), per segment instead of per row.

    `rankings` [segments, channels], high = to blame; `true_channels` per segment, from 0, at least
    one. Of g true channels the share among the round(g * percent / 100) highest, at least one;
    mean over segments.
    """
    shares = []
    for row, right in zip(rankings, true_channels, strict=True):
        count = max(1, round(len(right) * percent / 100.0))
        shares.append(len(_top(row, count) & set(right)) / len(right))
    return float(np.mean(shares))


def top_right(rankings: Floats, true_channels: Sequence[Collection[int]], count: int) -> float:
    """Share of segments with a true channel among the `count` highest (1: top-1, 3: top-3);
    arguments as for `hit_rate`."""
    pairs = zip(rankings, true_channels, strict=True)
    return float(np.mean([bool(_top(row, count) & set(right)) for row, right in pairs]))


class Interval(NamedTuple):
    """A mean and the bounds of its bootstrap interval."""

    mean: float
    low: float
    high: float
    series: int


def mean_interval(
    values: Sequence[float] | Floats, seed: int = 0, draws: int = 10_000, confidence: float = 0.95
) -> Interval:
    """Mean over series with its percentile bootstrap interval: series are drawn, never rows.

    `values` [series], at least one, no NaN (`ValueError`). The same seed gives the same interval.
    """
    sample = np.asarray(values, np.float64)
    if not len(sample) or np.isnan(sample).any():
        raise ValueError(f"{len(sample)} values, expected at least one and no NaN")
    picks = np.random.default_rng(seed).integers(len(sample), size=(draws, len(sample)))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(sample[picks].mean(axis=1), [tail, 1.0 - tail])
    return Interval(float(sample.mean()), float(low), float(high), len(sample))
