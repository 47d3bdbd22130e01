"""The benchmark's measures against hand-worked cases and the numbers of another tool."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.benchmark.measures import (
    Counts,
    Timeline,
    event_view,
    hit_rate,
    mean_interval,
    point_counts,
    summed,
    top_right,
)
from converter.benchmark.ranking import Vus, average_precision, period_rows, runs, vus

Floats = NDArray[np.float64]

# -- Ranking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 5 / 6),
        ([1, 0], [0.9, 0.1], 1.0),
        ([0, 1], [0.9, 0.1], 0.5),
        ([0, 1, 0, 1], [5.0, 5.0, 5.0, 5.0], 0.5),  # ties enter together: the prevalence
        ([1, 1], [0.0, 1.0], 1.0),
        ([0, 0], [0.0, 1.0], None),
    ],
)
def test_average_precision(labels: list[int], scores: list[float], expected: float | None) -> None:
    measured = average_precision(np.array(labels), np.array(scores))
    assert measured == (None if expected is None else pytest.approx(expected))


def test_runs() -> None:
    assert runs(np.array([1, 1, 0, 1, 0, 0, 1], bool)).tolist() == [[0, 1], [3, 3], [6, 6]]
    assert runs(np.zeros(3, bool)).shape == (0, 2)


# Package vus 0.0.6, RangeAUC_volume_opt with 250 thresholds, on the series of `vus_input`.
VUS_ORACLE = [
    ("fine", 0, 0.4047408139069978, 0.715487256371814),
    ("fine", 1, 0.4047408139069978, 0.715487256371814),
    ("fine", 7, 0.40866020593778685, 0.7332790820793653),
    ("fine", 50, 0.4793600125833804, 0.8060866597685017),
    ("fine", 125, 0.60222460087992, 0.875868723014346),
    ("tied", 0, 0.4005607413690455, 0.7128242128935532),
    ("tied", 7, 0.4039528652048172, 0.732065951263342),
    ("tied", 50, 0.4522829456510584, 0.8034889518876275),
    ("tied", 125, 0.5409022331291646, 0.871005453449752),
]


def vus_input(kind: str) -> tuple[NDArray[np.int64], Floats]:
    """Segments at both ends, two that a buffer of 3 merges, one of a single row."""
    row = np.arange(747)
    labels = np.zeros(747, np.int64)
    for first, end in ((0, 5), (100, 109), (112, 130), (400, 401), (700, 747)):
        labels[first:end] = 1
    scores = np.sin(0.37 * row * row) + 0.8 * labels
    return labels, np.round(scores, 1) if kind == "tied" else scores


@pytest.mark.parametrize(("kind", "buffer", "pr", "roc"), VUS_ORACLE)
def test_vus_equals_the_package_vus(kind: str, buffer: int, pr: float, roc: float) -> None:
    volumes = vus(*vus_input(kind), buffer)
    assert volumes is not None
    assert volumes.pr == pytest.approx(pr, abs=1e-12)
    assert volumes.roc == pytest.approx(roc, abs=1e-12)
    assert volumes.buffer_rows == buffer


def test_vus_by_hand() -> None:
    """Four rows, the one before the anomaly scores highest: buffers 0 and 1 give 1/2; buffer 2
    makes that row worth sqrt(1/2)."""
    near = math.sqrt(0.5)
    half_way = (1 + 1 + near) / 2
    with_buffer = near / half_way * near + (1 - near / half_way) * (1 + near) / 2
    volumes = vus(np.array([0, 1, 0, 0]), np.array([0.9, 0.5, 0.2, 0.1]), 2)
    assert volumes is not None
    assert volumes.pr == pytest.approx((0.5 + 0.5 + with_buffer) / 3)


def test_vus_of_scores_that_say_all_or_nothing() -> None:
    labels = np.array([0] * 40 + [1] * 10 + [0] * 50)
    assert vus(labels, labels.astype(np.float64), 0) == Vus(1.0, 1.0, 0)
    constant = vus(labels, np.full(100, 3.0), 0)
    assert constant is not None
    assert constant.pr == pytest.approx(0.1)
    assert constant.roc == pytest.approx(0.5)
    assert vus(np.zeros(100), np.arange(100.0), 5) is None
    assert vus(np.ones(100), np.arange(100.0), 5) is None


def test_what_is_no_ranking_is_refused() -> None:
    labels, scores = np.array([0, 1, 0]), np.array([0.1, np.nan, 0.3])
    for measure in (average_precision, lambda y, s: vus(y, s, 1)):
        with pytest.raises(ValueError, match="1 of 3 scores are NaN"):
            measure(labels, scores)
        with pytest.raises(ValueError, match="expected"):
            measure(labels, np.zeros(4))
    with pytest.raises(ValueError, match="buffer of -1"):
        vus(labels, np.zeros(3), -1)
    with pytest.raises(ValueError, match="NaN"):
        period_rows(scores)


def test_period() -> None:
    row = np.arange(3000)
    assert period_rows(np.sin(2 * np.pi * row / 24)) == 24
    assert period_rows(np.sin(2 * np.pi * row / 300)) == 300
    assert period_rows(np.sin(2 * np.pi * row / 350)) == 125  # beyond the longest allowed
    assert period_rows(np.ones(3000)) == 125
    assert period_rows(np.arange(3000.0)) == 125
    assert period_rows(np.array([1.0, 2.0])) == 125
    # Only the first 20,000 rows are looked at.
    long = np.concatenate([np.tile(np.sin(2 * np.pi * np.arange(50) / 50), 400), np.zeros(5000)])
    assert period_rows(long) == 50


# -- Rows -----------------------------------------------------------------------------------------


def test_point_counts_are_summed_before_the_division() -> None:
    first = point_counts(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0]))
    assert first == Counts(1, 1, 1, 1)
    both = summed([first, point_counts(np.array([0, 0, 0]), np.array([1, 1, 0]))])
    assert both == Counts(1, 3, 2, 1)
    assert both.f1 == pytest.approx(1 / 3)
    assert both.far_percent == pytest.approx(60.0)
    assert both.mar_percent == pytest.approx(50.0)
    assert summed([]) == Counts(0, 0, 0, 0)
    assert (summed([]).f1, summed([]).far_percent, summed([]).mar_percent) == (None,) * 3
    with pytest.raises(ValueError, match="same rows"):
        point_counts(np.zeros(3), np.zeros(1))


# -- Events ---------------------------------------------------------------------------------------


def test_event_view_by_hand() -> None:
    labels, alarms = np.zeros(400), np.zeros(400)
    labels[100:110] = labels[114:120] = 1  # 5 s from the last to the first: one segment
    labels[200:210] = labels[215:220] = 1  # 6 s: two
    alarms[[5, 35]] = 1  # 30 s apart: one false event
    alarms[66] = 1  # 31 s later: another
    alarms[[97, 104]] = 1  # begins early, but holds anomalous rows
    alarms[217] = 1
    seen = event_view([Timeline(np.arange(400.0), labels, alarms)], row_seconds=1.0)
    assert seen.false_events == 2
    assert (seen.segments_found, seen.segments) == (2, 3)
    assert seen.delay_p50_seconds == pytest.approx(3.0)
    assert seen.delay_p90_seconds == pytest.approx(3.8)
    assert seen.normal_days == pytest.approx(369 / 86_400)
    assert seen.false_events_per_day == pytest.approx(2 * 86_400 / 369)
    assert seen.normal_alarm_share == pytest.approx(4 / 369)


def test_event_view_of_two_series_and_of_nothing() -> None:
    quiet = Timeline(np.arange(60.0), np.zeros(60), np.zeros(60))
    all_of_it = Timeline(np.arange(60.0), np.zeros(60), np.ones(60))
    seen = event_view([quiet, all_of_it], row_seconds=60.0)
    assert (seen.false_events, seen.segments, seen.delay_p50_seconds) == (1, 0, None)
    assert seen.normal_alarm_share == pytest.approx(0.5)
    nothing = event_view([], row_seconds=1.0)
    assert (nothing.false_events, nothing.false_events_per_day) == (0, None)


# -- Explanations and intervals -------------------------------------------------------------------

RANKINGS = np.array([[0.9, 0.1, 0.5, 0.4], [0.0, 0.0, 0.0, 1.0]])
TRUE_CHANNELS = [{0, 3}, {1}]


def test_hit_rate_by_hand() -> None:
    # 100 %: {0, 2} holds 0 of {0, 3}; {3} misses 1. 150 %: {0, 2, 3} holds both; round(1.5) = 2
    # of equal values are {3, 0}.
    assert hit_rate(RANKINGS, TRUE_CHANNELS, 100) == pytest.approx((1 / 2 + 0) / 2)
    assert hit_rate(RANKINGS, TRUE_CHANNELS, 150) == pytest.approx((1 + 0) / 2)
    assert hit_rate(RANKINGS, TRUE_CHANNELS, 1) == pytest.approx((1 / 2 + 0) / 2)
    assert top_right(RANKINGS, TRUE_CHANNELS, 1) == pytest.approx(0.5)
    assert top_right(RANKINGS, TRUE_CHANNELS, 3) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="NaN"):
        hit_rate(np.array([[np.nan, 1.0]]), [{0}], 100)
    with pytest.raises(ValueError, match="zip"):
        hit_rate(RANKINGS, TRUE_CHANNELS[:1], 100)


def test_mean_interval() -> None:
    values = np.random.default_rng(5).normal(10.0, 2.0, 50)
    interval = mean_interval(values, seed=1)
    assert interval == mean_interval(values, seed=1)
    assert interval != mean_interval(values, seed=2)
    # Two standard errors each way, as the normal interval of the mean would say.
    error = values.std() / math.sqrt(50)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)
    assert mean_interval([0.5]) == (0.5, 0.5, 0.5, 1)
    for wrong in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="at least one and no NaN"):
            mean_interval(wrong)
