"""Rivals: the linear and trivial detectors that stand beside our networks in every table.

In: training rows, float64[n, channels], finite. Out: a scorer of later rows, float64[m, channels]
to float64[m]: finite, high = anomalous, row i from rows 0..i only. Never: a label, the length of
the series, a row of the future; only the clock may count rows, and it is marked so.

A scorer starts anew with every call: before its first row it assumes quiet, not the training's end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats  # type: ignore[import-untyped,unused-ignore]
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped,unused-ignore]

Rows = NDArray[np.float64]
Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]
Scorer: TypeAlias = Callable[[Rows], Scores]

CALIBRATION_QUANTILE, CALIBRATION_FACTOR = 0.995, 1.2
# A channel that stood still in training: any move is far outside a static limit.
STILL = 1e-12


class Fitted(NamedTuple):
    """A detector ready to score. `limit` is its own (alarm above it), None if it has to be set on
    calibration scores."""

    score: Scorer
    limit: float | None = None


class Rival(NamedTuple):
    """A name for the table and how to fit. `sees_position` marks the rows that know where in the
    file they are and look at no value: no detector, a test of the benchmark."""

    name: str
    fit: Callable[[Rows], Fitted]
    sees_position: bool = False


def limit_of(
    calibration: Scores,
    quantile: float = CALIBRATION_QUANTILE,
    factor: float = CALIBRATION_FACTOR,
) -> float:
    """Factor times a quantile of scores of normal rows that the rival was not fitted on."""
    if not len(calibration):
        raise ValueError("no calibration scores: keep normal rows back for the limit")
    return float(factor * np.quantile(calibration, quantile))


def alarms(fitted: Fitted, rows: Rows, calibration: Rows | None = None) -> Flags:
    """Alarm per row, bool[m]: score above the rival's own limit, else above `limit_of` its scores
    of the `calibration` rows. Raises `ValueError` if there is neither."""
    limit = fitted.limit
    if limit is None:
        if calibration is None:
            raise ValueError("this rival has no limit of its own: give normal calibration rows")
        limit = limit_of(fitted.score(calibration))
    return fitted.score(rows) > limit


def _finite(rows: Rows) -> Rows:
    values = np.asarray(rows, np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"rows of shape {values.shape}: expected [n, channels], n > 0")
    if not np.isfinite(values).all():
        raise ValueError(f"{np.sum(~np.isfinite(values))} values are NaN or infinite")
    return values


class _Scale(NamedTuple):
    mean: Rows
    sd: Rows

    def __call__(self, rows: Rows) -> Rows:
        return np.asarray((_finite(rows) - self.mean) / self.sd, np.float64)


def _scale(train: Rows, still: float = 0.0) -> _Scale:
    """Population standard deviation; 1 for a channel whose own is `still` or less."""
    sd = train.std(axis=0)
    # The deviation of a constant is not always 0 but the rounding of its mean.
    noise = np.maximum(still, 10 * np.finfo(np.float64).eps * np.abs(train).max(axis=0))
    return _Scale(train.mean(axis=0), np.where(sd <= noise, 1.0, sd))


class _Axes(NamedTuple):
    """Principal axes [kept, features] and the variance along each, largest first."""

    axes: Rows
    variance: Rows
    ratio: Rows


def _axes(scaled: Rows, share: float, beyond: bool = False) -> _Axes:
    """The fewest axes whose variance reaches `share` of the whole (`beyond`: exceeds it)."""
    variance, vectors = np.linalg.eigh(np.atleast_2d(np.cov(scaled, rowvar=False)))
    variance, vectors = np.maximum(variance[::-1], 0.0), vectors[:, ::-1]
    ratio = variance / max(float(variance.sum()), STILL)
    sofar = np.cumsum(ratio)
    kept = int(np.sum(sofar <= share if beyond else sofar < share)) + 1
    return _Axes(vectors.T[:kept], variance[:kept], ratio[:kept])


def _residual(scaled: Rows, axes: Rows) -> Rows:
    return np.asarray(scaled - (scaled @ axes.T) @ axes, np.float64)


def _lagged(rows: Rows, lag: int) -> Rows:
    """Each row with the lag - 1 before it, [m, lag * channels]; before the first row stands the
    first row."""
    padded = np.concatenate([np.repeat(rows[:1], lag - 1, axis=0), rows])
    windows = np.lib.stride_tricks.sliding_window_view(padded, lag, axis=0)
    return np.asarray(windows.reshape(len(rows), -1), np.float64)


def _running_median(values: Scores, rows: int) -> Scores:
    """Median of the last `rows` values; 0 (quiet) until there are that many."""
    out = np.zeros(len(values))
    if len(values) >= rows:
        windows = np.lib.stride_tricks.sliding_window_view(values, rows)
        out[rows - 1 :] = np.median(windows, axis=1)
    return out


# -- Linear ---------------------------------------------------------------------------------------


def fit_lag_t2q(train: Rows, lag: int = 10, variance: float = 0.9) -> Fitted:
    """PCA T2 + Q on lag windows: the larger of T2 and Q, each over its 99 % training quantile.

    Channels scaled by training mean and deviation. No limit of its own.
    """
    scale = _scale(_finite(train))
    lagged = _lagged(scale(train), lag)[lag - 1 :]
    if len(lagged) < 2:
        raise ValueError(f"{len(train)} training rows: expected more than {lag}")
    centre = lagged.mean(axis=0)
    found = _axes(lagged, variance)

    def parts(windows: Rows) -> Rows:
        centred = windows - centre
        t2 = np.sum((centred @ found.axes.T) ** 2 / np.maximum(found.variance, STILL), axis=1)
        return np.stack([t2, np.sum(_residual(centred, found.axes) ** 2, axis=1)], axis=1)

    unit = np.maximum(np.quantile(parts(lagged), 0.99, axis=0), STILL)
    return Fitted(lambda rows: np.max(parts(_lagged(scale(rows), lag)) / unit, axis=1))


def fit_residual_pca(train: Rows, variance: float = 0.95) -> Fitted:
    """PCA reconstruction error, mean square per row: z by the training rows (a deviation under
    1e-4 counts as 1), clipped to +-10. The SMD and ASD floor."""
    scale = _scale(_finite(train), still=1e-4)
    z = scale(train)
    axes = _axes(z, variance).axes

    def score(rows: Rows) -> Scores:
        error = _residual(np.clip(scale(rows), -10.0, 10.0), axes) ** 2
        return np.asarray(error.mean(axis=1), np.float64)

    return Fitted(score)


def fit_tsb_pca(series: Rows, variance: float = 0.25) -> Fitted:
    """TSB-AD's PCA: distances of a row to the unit axes, each over its variance ratio, summed.

    TSB-AD fits it on the series that it then scores, so the table's figures need that too. Axes
    until their share exceeds `variance`, each with its largest loading positive.
    """
    rows = _finite(series)
    moving = np.ptp(rows, axis=0) > 0
    scale = _scale(rows[:, moving])
    found = _axes(scale(rows[:, moving]), variance, beyond=True)
    largest = np.take_along_axis(
        found.axes, np.argmax(np.abs(found.axes), axis=1)[:, np.newaxis], axis=1
    )
    axes = found.axes * np.sign(largest)

    def score(test: Rows) -> Scores:
        z = scale(_finite(test)[:, moving])
        away = np.stack([np.linalg.norm(z - axis, axis=1) for axis in axes], axis=1)
        return np.asarray(away @ (1.0 / found.ratio), np.float64)

    return Fitted(score)


# -- The leaderboard's two, for the proof that the protocol is read rightly -----------------------

SKAB_RISK = 0.999


def _grid_quantile(below: Callable[[Scores], Scores]) -> float:
    """The leaderboard's quantile: the last of 10,000 points on [0, 15] below the risk."""
    grid = np.linspace(0.0, 15.0, 10_000)
    return float(grid[below(grid) < SKAB_RISK][-1])


def _t2_limit(kept: int, rows: int) -> float:
    f = _grid_quantile(lambda x: np.asarray(stats.f.cdf(x, kept, rows - kept), np.float64))
    return kept * (rows - 1) * (rows + 1) / (rows * (rows - kept)) * f


def _q_limit(scaled: Rows, kept: int) -> float:
    # The leaderboard's quirk, kept: LAPACK's order, and powers of the sum instead of sums of
    # powers.
    tail = float(np.sum(np.linalg.eig(np.cov(scaled, rowvar=False))[0][kept:].real))
    if tail <= 0.0:
        return math.inf  # all axes are kept: no residual, and nothing to limit
    th1, th2, th3 = tail, tail**2, tail**3
    h0 = 1.0 - 2.0 * th1 * th3 / (3.0 * th2**2)
    c = _grid_quantile(lambda x: np.asarray(stats.norm.cdf(x), np.float64))
    inner = 1.0 + c * h0 * np.sqrt(2.0 * th2) / th1 + th2 * h0 * (h0 - 1.0) / th1**2
    return float(th1 * inner ** (1.0 / h0))


def fit_skab_t2q(train: Rows) -> Fitted:
    """The SKAB leaderboard's T2+Q: one row, 85 % variance, 5-row running medians, own limits at
    p = 0.999. The score is the larger of T2 and Q, each over its limit; own limit 1."""
    rows = _finite(train)
    moving = np.ptp(rows, axis=0) > 0
    scale = _scale(rows[:, moving])
    z = scale(rows[:, moving])
    found = _axes(z, 0.85)
    kept = len(found.axes)
    t2_limit, q_limit = _t2_limit(kept, len(z)), _q_limit(z, kept)

    def score(test: Rows) -> Scores:
        z = scale(_finite(test)[:, moving])
        t2 = np.sum((z @ found.axes.T) ** 2 / found.variance, axis=1)
        q = np.sum(_residual(z, found.axes) ** 2, axis=1)
        return np.maximum(_running_median(t2, 5) / t2_limit, _running_median(q, 5) / q_limit)

    return Fitted(score, limit=1.0)


def fit_skab_forest(train: Rows) -> Fitted:
    """The SKAB leaderboard's isolation forest: contamination 0.0005, whose limit is its own, and a
    3-row running median (on scores, which alarms alike)."""
    forest = IsolationForest(contamination=0.0005, random_state=0).fit(_finite(train))

    def score(rows: Rows) -> Scores:
        return _running_median(-forest.score_samples(_finite(rows)), 3)

    return Fitted(score, limit=float(-forest.offset_))


# -- Simple ---------------------------------------------------------------------------------------


def fit_isolation_forest(train: Rows, seed: int = 0) -> Fitted:
    """Isolation forest (scikit-learn's defaults) on raw channels; score 0..1, no own limit."""
    forest = IsolationForest(random_state=seed).fit(_finite(train))
    return Fitted(lambda rows: np.asarray(-forest.score_samples(_finite(rows)), np.float64))


def fit_ewma_z(train: Rows, alpha: float = 0.1, warm_rows: int = 20) -> Fitted:
    """Largest |z| over channels of exponentially smoothed, standardised channels, standardised
    again by the training rows from the `warm_rows`-th on. Smoothing starts at the mean."""
    if len(train) <= warm_rows + 1:
        raise ValueError(f"{len(train)} training rows: expected more than {warm_rows + 1}")
    first = _scale(_finite(train))

    def smoothed(rows: Rows) -> Rows:
        return np.asarray(signal.lfilter([alpha], [1.0, alpha - 1.0], first(rows), axis=0))

    second = _scale(smoothed(train)[warm_rows:])
    return Fitted(lambda rows: np.max(np.abs(second(smoothed(rows))), axis=1))


def fit_three_sigma(train: Rows) -> Fitted:
    """Static limits: largest |x - mean| / sd over channels (sample sd); own limit 3."""
    rows = _finite(train)
    mean, sd = rows.mean(axis=0), np.maximum(rows.std(axis=0, ddof=1), STILL)
    return Fitted(lambda test: np.max(np.abs(_finite(test) - mean) / sd, axis=1), limit=3.0)


def fit_constant(train: Rows, value: float) -> Fitted:
    """The same score for every row; own limit 0.5."""
    return Fitted(lambda rows: np.full(len(rows), value), limit=0.5)


def fit_clock(train: Rows, first: int, last: int | None) -> Fitted:
    """Alarm on rows first..last whatever they hold (None: to the end); the score peaks half way,
    or at the end. Own limit 0.5."""

    def score(rows: Rows) -> Scores:
        at = np.arange(len(rows), dtype=np.float64)
        if last is None:
            return np.asarray((at + 1.0) / (at + 1.0 + first), np.float64)
        middle, half = (first + last) / 2.0, (last - first + 1) / 2.0
        return np.asarray(half / (half + np.abs(at - middle)), np.float64)

    return Fitted(score, limit=0.5)


ALWAYS = Rival("always", partial(fit_constant, value=1.0))
NEVER = Rival("never", partial(fit_constant, value=0.0))
LAG_T2Q = Rival("T2+Q, 10-row lag", fit_lag_t2q)
RESIDUAL_PCA = Rival("PCA residual", fit_residual_pca)
EWMA_Z = Rival("EWMA z", fit_ewma_z)
FOREST = Rival("Isolation forest", fit_isolation_forest)
THREE_SIGMA = Rival("static 3-sigma", fit_three_sigma)
SKAB_T2Q = Rival("T2+Q (SKAB leaderboard)", fit_skab_t2q)
SKAB_FOREST = Rival("Isolation forest (SKAB leaderboard)", fit_skab_forest)
TSB_PCA = Rival("PCA (TSB-AD, fitted on the scored series)", fit_tsb_pca)

# What stands in every table; the leaderboards' own and the clock only where their data set is.
RIVALS = (LAG_T2Q, RESIDUAL_PCA, EWMA_Z, FOREST, THREE_SIGMA, ALWAYS, NEVER)


def clock(first: int, last: int | None = None) -> Rival:
    """The row that knows where a data set's faults lie: its score is what the benchmark gives
    away."""
    name = f"clock, rows {first} to {'the end' if last is None else last}"
    return Rival(name, partial(fit_clock, first=first, last=last), sees_position=True)
