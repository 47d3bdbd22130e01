"""NAB scores: early detections in labelled windows earn, detections elsewhere cost.

In: scores with windows of rows (NAB v1.1), or predicted changepoints with times (SKAB v0.9).
Out: raw and normalised scores. Never: a window of its own making, a file.

Both are protocol checks, not headlines: a random detector scores well on NAB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Whole = NDArray[np.int64]

PROBATION_SHARE, PROBATION_ROWS = 0.15, 750
FAR_PAST = 3.0
NEVER = float("inf")


class Profile(NamedTuple):
    """What a found window earns, a false detection costs, a missed window costs."""

    name: str
    found: float
    false: float
    missed: float


STANDARD = Profile("standard", 1.0, 0.11, 1.0)
LOW_FP = Profile("reward_low_FP_rate", 1.0, 0.22, 1.0)
LOW_FN = Profile("reward_low_FN_rate", 1.0, 0.11, 2.0)
PROFILES = (STANDARD, LOW_FP, LOW_FN)


# -- NAB v1.1 (Numenta; nab/sweeper.py, config/profiles.json) -------------------------------------


class NabSeries(NamedTuple):
    """One file: `scores` [n], high = anomalous; `windows` of first and last row, both inside,
    rising and apart."""

    scores: Floats
    windows: tuple[tuple[int, int], ...]


def sigma(position: Floats) -> Floats:
    """2 / (1 + e^(5y)) - 1: +.987 at -1 (left edge), 0 at 0, and -1 past 3 window widths."""
    y = np.minimum(np.asarray(position, np.float64), FAR_PAST)
    value: Floats = np.where(y < FAR_PAST, 2.0 / (1.0 + np.exp(5.0 * y)) - 1.0, -1.0)
    return value


LEFT_EDGE = float(sigma(np.array([-1.0]))[0])


def probation_rows(rows: int) -> int:
    """Rows at the start of a file that are not scored: 15 %, at most 750."""
    return min(int(PROBATION_SHARE * rows), PROBATION_ROWS)


def window_rows(
    times: NDArray[np.datetime64], windows: Sequence[tuple[np.datetime64, np.datetime64]]
) -> tuple[tuple[int, int], ...]:
    """Windows of times as windows of rows of `times` [n]. Raises `ValueError` for a bound that
    is no row's time."""
    bounds = np.array(windows, dtype=times.dtype).reshape(-1, 2)
    rows = np.minimum(np.searchsorted(times, bounds), len(times) - 1)
    if not np.array_equal(times[rows], bounds):
        between = bounds[times[rows] != bounds]
        raise ValueError(f"window bounds that are no row's time: {between}")
    return tuple((int(first), int(last)) for first, last in rows)


def row_values(rows: int, windows: Sequence[tuple[int, int]], profile: Profile) -> Floats:
    """What a detection is worth at each of `rows` rows: positive in a window, negative outside."""
    at = np.arange(rows, dtype=np.float64)
    position = np.full(rows, FAR_PAST)
    for first, last in windows:
        position[last + 1 :] = (at[last + 1 :] - last) / max(last - first, 1)
    value = profile.false * sigma(position)
    for first, last in windows:
        inside = at[first : last + 1]
        earned = sigma(-(last - inside + 1.0) / (last - first + 1.0))
        value[first : last + 1] = profile.found * earned / LEFT_EDGE
    return value


def _pieces(series: NabSeries, profile: Profile) -> tuple[tuple[Floats, Floats], list[Floats]]:
    """Scored rows outside the windows as (scores, values), and per window [k, 2] of the same."""
    scores = np.asarray(series.scores, np.float64)
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN")
    values = row_values(len(scores), series.windows, profile)
    start = probation_rows(len(scores))
    outside = np.arange(len(scores)) >= start
    inner = []
    for first, last in series.windows:
        outside[first : last + 1] = False
        rows = slice(max(first, start), last + 1)
        inner.append(np.stack([scores[rows], values[rows]], axis=1))
    return (scores[outside], values[outside]), inner


def raw_score(series: NabSeries, threshold: float, profile: Profile) -> float:
    """Sum of one file, detections being scored rows with score >= `threshold`. A window earns its
    best detection or costs `missed`. Raises `ValueError` for NaN."""
    (scores, values), inner = _pieces(series, profile)
    total = float(values[scores >= threshold].sum())
    for window in inner:
        hits = window[window[:, 0] >= threshold, 1]
        total += float(hits.max()) if len(hits) else -profile.missed
    return total


def _at_thresholds(scores: Floats, worth: Floats, thresholds: Floats) -> Floats:
    """`worth[k]` where k of the `scores` reach the threshold."""
    return worth[len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")]


def sweep(corpus: Sequence[NabSeries], profile: Profile) -> tuple[Floats, Floats]:
    """Raw score of the whole corpus at every threshold that matters: thresholds [k], falling from
    "never", and scores [k]."""
    pieces = [_pieces(series, profile) for series in corpus]
    scores = np.concatenate([outside[0] for outside, _ in pieces])
    values = np.concatenate([outside[1] for outside, _ in pieces])
    inner = [window for _, windows in pieces for window in windows]
    seen = np.unique(np.concatenate([scores, *(window[:, 0] for window in inner)]))[::-1]
    thresholds = np.concatenate([[NEVER], seen])
    paid = np.cumsum(values[np.argsort(-scores, kind="stable")])
    total = _at_thresholds(scores, np.concatenate([[0.0], paid]), thresholds)
    for window in inner:
        best = np.maximum.accumulate(window[np.argsort(-window[:, 0], kind="stable"), 1])
        worth = np.concatenate([[-profile.missed], best])
        total = total + _at_thresholds(window[:, 0], worth, thresholds)
    return thresholds, total


def best_threshold(corpus: Sequence[NabSeries], profile: Profile) -> float:
    """The one threshold of a detector and profile: the highest of those with the best raw score
    over the whole corpus. NAB sets it on the labels it then scores."""
    thresholds, total = sweep(corpus, profile)
    return float(thresholds[np.argmax(total)])


def normalised(raw: float, windows: int, profile: Profile) -> float:
    """100 for a perfect detector, 0 for one that never detects; `raw` is the sum over a corpus
    with that number of windows. Raises `ValueError` without a window."""
    return _normalised(raw, profile.found * windows, -profile.missed * windows)


def _normalised(raw: float, perfect: float, null: float) -> float:
    if perfect == null:
        raise ValueError("no window: a score can't be normalised")
    return 100.0 * (raw - null) / (perfect - null)


def nab_score(corpus: Sequence[NabSeries], profile: Profile) -> float:
    """Normalised score of a corpus at its best threshold."""
    threshold = best_threshold(corpus, profile)
    raw = sum(raw_score(series, threshold, profile) for series in corpus)
    return normalised(raw, sum(len(series.windows) for series in corpus), profile)


# -- SKAB v0.9: changepoints (waico/SKAB, tsad evaluation, windows of 60 s to the right) ----------

CHANGEPOINT_WINDOW_SECONDS = 60.0
CURVE_POINTS = 1000


class Changepoints(NamedTuple):
    """One file's test part: `time_seconds` [n] rising; `true` and `predicted` [n], 0/1."""

    time_seconds: Floats
    true: NDArray[np.generic]
    predicted: NDArray[np.generic]


class ChangepointScore(NamedTuple):
    """Normalised scores of three profiles, and what they are made of. The delay is the mean over
    hits, None without a hit."""

    standard: float
    low_fp: float
    low_fn: float
    windows: int
    missed: int
    false_positives: int
    mean_delay_seconds: float | None


def changes(alarms: NDArray[np.generic], hold_rows: int = 1) -> Flags:
    """Changepoints out of row alarms [n]: where the alarm differs from the row before; the first
    row as it is. With `hold_rows` > 1 each alarm first lasts that many rows, and no row before
    the hold_rows-th can be one."""
    held = np.asarray(alarms).astype(bool)
    if hold_rows > 1:
        lately = np.cumsum(np.concatenate([[0], held]))
        held = np.zeros(len(held), bool)
        held[hold_rows - 1 :] = lately[hold_rows:] > lately[:-hold_rows]
    return np.diff(held, prepend=False)


def _windows(starts: Floats, seconds: float) -> list[tuple[float, float]]:
    """[c, c + seconds] per changepoint; a window begins no earlier than the one before ends."""
    windows: list[tuple[float, float]] = []
    for start in starts:
        first = float(start)
        if windows and windows[-1][1] >= first:
            first = windows[-1][1]
        windows.append((first, float(start) + seconds))
    return windows


def _hit_share(at: float, first: float, last: float) -> float:
    """1 at the left edge of a window, 0 at the right, between them a tanh on 1000 points."""
    point = min(int(CURVE_POINTS * (at - first) / (last - first)), CURVE_POINTS - 1)
    u = -np.pi / 2 + np.pi * point / (CURVE_POINTS - 1)
    return float(0.5 - 0.5 * np.tanh(u) / np.tanh(np.pi / 2))


class _Matched(NamedTuple):
    shares: list[float]
    delays: list[float]
    missed: int
    false_positives: int


def _matched(line: Changepoints, seconds: float) -> _Matched:
    time = np.asarray(line.time_seconds, np.float64)
    found = time[np.asarray(line.predicted).astype(bool)]
    outside = np.ones(len(found), bool)
    shares, delays, missed = [], [], 0
    for first, last in _windows(time[np.asarray(line.true).astype(bool)], seconds):
        inside = (found >= first) & (found <= last)
        outside &= ~inside
        if not inside.any():
            missed += 1
            continue
        at = float(found[inside][0])
        shares.append(_hit_share(at, first, last))
        delays.append(at - first)
    return _Matched(shares, delays, missed, int(outside.sum()))


def changepoint_score(
    series: Sequence[Changepoints], window_seconds: float = CHANGEPOINT_WINDOW_SECONDS
) -> ChangepointScore:
    """SKAB's changepoint task over all files: the first prediction in a window counts, every
    prediction outside all windows is false. Raises `ValueError` without a true changepoint."""
    matched = [_matched(line, window_seconds) for line in series]
    shares = [share for one in matched for share in one.shares]
    delays = [delay for one in matched for delay in one.delays]
    missed = sum(one.missed for one in matched)
    false = sum(one.false_positives for one in matched)
    count = len(shares) + missed

    def total(profile: Profile) -> float:
        # A hit falls from what a find earns to what a false detection costs.
        hits = sum(s * (profile.found + profile.false) - profile.false for s in shares)
        raw = hits - profile.false * false - profile.missed * missed
        return _normalised(raw, profile.found * count, -profile.missed * count)

    mean_delay = float(np.mean(delays)) if delays else None
    standard, low_fp, low_fn = (total(profile) for profile in PROFILES)
    return ChangepointScore(standard, low_fp, low_fn, count, missed, false, mean_delay)
