"""NAB and changepoint scores against hand-worked cases and the scores that NAB publishes."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.benchmark.measures import point_counts
from converter.benchmark.nab_score import (
    LOW_FN,
    LOW_FP,
    NEVER,
    PROFILES,
    STANDARD,
    Changepoints,
    NabSeries,
    best_threshold,
    changepoint_score,
    changes,
    nab_score,
    normalised,
    probation_rows,
    raw_score,
    row_values,
    sigma,
    sweep,
    window_rows,
)

Floats = NDArray[np.float64]


def test_sigma() -> None:
    """The values that NAB's own documentation gives."""
    positions = np.array([-1.0, -0.5, 0.0, 1.0, 3.0, 7.0])
    expected = [0.98661, 0.84828, 0.0, -0.98661, -1.0, -1.0]
    assert sigma(positions) == pytest.approx(expected, abs=5e-6)


def test_probation() -> None:
    assert [probation_rows(n) for n in (10, 4032, 5000, 22_695)] == [1, 604, 750, 750]


def test_row_values_by_hand() -> None:
    values = row_values(60, [(10, 19), (40, 49)], STANDARD)
    assert values[:10] == pytest.approx(-0.11)  # no window before
    assert values[10] == pytest.approx(1.0)
    assert values[19] == pytest.approx((2 / (1 + math.exp(-0.5)) - 1) / 0.986614298)
    assert values[28] == pytest.approx(-0.11 * 0.986614298)  # one width past the right edge
    assert values[39] == pytest.approx(-0.11 * math.tanh(2.5 * 20 / 9))
    assert values[50] == pytest.approx(-0.11 * math.tanh(2.5 / 9))  # counts from the second window
    assert row_values(60, [(10, 19)], LOW_FP)[5] == pytest.approx(-0.22)


def hand_series() -> NabSeries:
    """200 rows, 30 of them on probation; each score appears once."""
    scores = np.zeros(200)
    scores[[5, 55, 60, 110]] = [1.0, 0.6, 0.9, 0.8]
    return NabSeries(scores, ((55, 64), (150, 159)))


def test_raw_score_by_hand() -> None:
    series = hand_series()
    inside = math.tanh(2.5 * 5 / 10) / 0.986614298
    past = -1.0  # 46 rows past a window of 10: beyond three widths
    assert raw_score(series, NEVER, STANDARD) == -2.0
    assert raw_score(series, 1.0, STANDARD) == -2.0  # on probation
    assert raw_score(series, 0.9, STANDARD) == pytest.approx(inside - 1)
    assert raw_score(series, 0.8, STANDARD) == pytest.approx(inside - 1 + 0.11 * past)
    assert raw_score(series, 0.6, STANDARD) == pytest.approx(1 - 1 + 0.11 * past)
    assert raw_score(series, 0.8, LOW_FP) == pytest.approx(inside - 1 + 0.22 * past)
    assert raw_score(series, 0.9, LOW_FN) == pytest.approx(inside - 2)
    with pytest.raises(ValueError, match="NaN"):
        raw_score(NabSeries(np.array([np.nan, 1.0]), ()), 0.5, STANDARD)


def test_one_threshold_for_the_corpus() -> None:
    rng = np.random.default_rng(3)
    corpus = [
        hand_series(),
        NabSeries(np.round(rng.random(400), 2), ((100, 120), (300, 350))),
        NabSeries(np.round(rng.random(300), 2), ()),
    ]
    for profile in PROFILES:
        thresholds, total = sweep(corpus, profile)
        slow = [sum(raw_score(one, t, profile) for one in corpus) for t in thresholds]
        assert total == pytest.approx(slow)
        assert best_threshold(corpus, profile) == thresholds[np.argmax(slow)]
        assert nab_score(corpus, profile) == pytest.approx(normalised(max(slow), 4, profile))


def test_null_perfect_and_never_detecting() -> None:
    windows = ((60, 69), (120, 139))
    perfect = np.zeros(200)
    perfect[[60, 120]] = 1.0
    for profile in PROFILES:
        assert nab_score([NabSeries(perfect, windows)], profile) == pytest.approx(100.0)
        assert (
            normalised(raw_score(NabSeries(np.zeros(200), windows), 0.5, profile), 2, profile) == 0
        )
    # Everything is a detection at the only threshold there is besides "never", which is better.
    assert best_threshold([NabSeries(np.ones(2000), ((1900, 1904),))], STANDARD) == NEVER
    with pytest.raises(ValueError, match="no window"):
        normalised(0.0, 0, STANDARD)


def nab_file(folder: Path, name: str) -> tuple[NDArray[np.datetime64], Floats]:
    with gzip.open(folder / f"{name}.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return (
        np.array([row[0] for row in rows], "datetime64[s]"),
        np.array([float(row[1]) for row in rows]),
    )


def nab_windows(
    folder: Path, name: str, times: NDArray[np.datetime64]
) -> tuple[tuple[int, int], ...]:
    windows = json.loads((folder / "windows.json").read_text())[name]
    return window_rows(times, [(np.datetime64(a), np.datetime64(b)) for a, b in windows])


def published(folder: Path) -> dict[tuple[str, str], dict[str, dict[str, str]]]:
    """(detector, profile) to file to row."""
    found: dict[tuple[str, str], dict[str, dict[str, str]]] = defaultdict(dict)
    with (folder / "published_per_file_scores.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["Detector"], row["Profile"]][row["File"]] = row
    return found


def windowed_gaussian(values: Floats, window: int = 6400, step: int = 100) -> Floats:
    """NAB's Windowed Gaussian detector: a two-sided tail of a normal fitted to the last 6,400
    values, refitted at every value until the window is full and then every 100."""
    scores = np.zeros(len(values))
    first, end, mean, sd = 0, 0, 0.0, 1.0
    for i, value in enumerate(values):
        if i:
            scores[i] = 1 - 0.5 * math.erfc(abs(value - mean) / sd / 1.4142)
        if i < window:
            end = i + 1
        elif i + 1 - end == step:
            first, end = first + step, end + step
        else:
            continue
        mean, sd = float(values[first:end].mean()), float(values[first:end].std()) or 1e-6
    return np.round(scores, 12)  # NAB keeps 12 digits: the threshold here is 1


@pytest.mark.data("nab")
def test_windowed_gaussian_scores_as_published(data_dir: Path) -> None:
    """A whole published detector, from the values of 8 files to its 24 published scores and its
    rows in and out of the windows."""
    folder = data_dir / "nab"
    scores = published(folder)
    for name in json.loads((folder / "windows.json").read_text()):
        times, values = nab_file(folder, name)
        series = NabSeries(windowed_gaussian(values), nab_windows(folder, name, times))
        start = probation_rows(len(values))
        for profile in PROFILES:
            row = scores["windowedGaussian", profile.name][name]
            threshold = float(row["Threshold"])
            assert raw_score(series, threshold, profile) == pytest.approx(
                float(row["Score"]), abs=1e-9
            )
            truth = np.zeros(len(values), bool)
            for first, last in series.windows:
                truth[first : last + 1] = True
            counts = point_counts(truth[start:], series.scores[start:] >= threshold)
            assert counts == tuple(int(row[key]) for key in ("TP", "FP", "TN", "FN"))


@pytest.mark.data("nab")
def test_the_null_detector_scores_as_published(data_dir: Path) -> None:
    scores = published(data_dir / "nab")
    for profile in PROFILES:
        for name, row in scores["", profile.name].items():
            times, values = nab_file(data_dir / "nab", name)
            windows = nab_windows(data_dir / "nab", name, times)
            series = NabSeries(np.full(len(values), 0.5), windows)
            assert raw_score(series, float(row["Threshold"]), profile) == float(row["Score"])


# Standard, low FP, low FN. "random" has no row for one file: 0 there, which flatters it.
NAB_TABLE = {
    "ARTime": (72.5, 59.6, 79.1),
    "contextOSE": (64.6, 60.4, 74.7),
    "numenta": (60.1, 52.8, 65.7),
    "randomCutForest": (46.6, 15.7, 51.6),
    "random": (26.7, 4.0, 40.9),
    "windowedGaussian": (7.9, 1.4, 10.4),
    "bayesChangePt": (-17.8, -62.6, 24.8),
}


@pytest.mark.data("nab")
@pytest.mark.parametrize("detector", NAB_TABLE)
def test_published_files_normalise_to_the_table(data_dir: Path, detector: str) -> None:
    scores = published(data_dir / "nab")
    measured = []
    for profile in PROFILES:
        raw = sum(float(row["Score"]) for row in scores[detector, profile.name].values())
        measured.append(round(normalised(raw, 13, profile), 1))
    assert tuple(measured) == NAB_TABLE[detector]


def test_windows_must_begin_and_end_at_rows() -> None:
    times = np.arange("2020-01-01", "2020-01-11", dtype="datetime64[D]")
    day = [np.datetime64(f"2020-01-{n:02d}") for n in range(1, 20)]
    assert window_rows(times, [(day[0], day[2]), (day[8], day[9])]) == ((0, 2), (8, 9))
    assert window_rows(times, []) == ()
    with pytest.raises(ValueError, match="2020-01-15"):
        window_rows(times, [(day[3], day[14])])


# -- SKAB's changepoints --------------------------------------------------------------------------


def test_changes() -> None:
    assert changes(np.array([1, 1, 0, 1, 0])).tolist() == [True, False, True, True, True]
    held = changes(np.array([0, 1, 0, 0, 0, 1]), hold_rows=3)
    assert held.tolist() == [False, False, True, False, True, True]


def flags(rows: list[int], length: int = 400) -> NDArray[np.bool_]:
    out = np.zeros(length, bool)
    out[rows] = True
    return out


def test_changepoints_by_hand() -> None:
    """Edges, a cut window, a boundary that serves two, and what lies outside."""
    time = np.arange(400.0)
    early = Changepoints(time, flags([100, 300]), flags([100, 130, 300]))
    seen = changepoint_score([early])
    assert seen.standard == pytest.approx(100.0)
    assert (seen.missed, seen.false_positives) == (0, 0)
    assert seen.mean_delay_seconds == 0
    late = changepoint_score([Changepoints(time, flags([100]), flags([160]))])
    assert late.standard == pytest.approx(50 * (1 - 0.11))  # the right edge: as a false alarm
    assert late.low_fp == pytest.approx(50 * (1 - 0.22))
    assert late.low_fn == pytest.approx(100 * (2 - 0.11) / 3)
    # Windows [100, 160] and [160, 200]: one prediction on the boundary serves both.
    shared = changepoint_score([Changepoints(time, flags([100, 140]), flags([160]))])
    assert (shared.missed, shared.windows, shared.mean_delay_seconds) == (0, 2, 30.0)
    assert shared.standard == pytest.approx(100 * (1 - 0.11 + 2) / 4)
    outside = changepoint_score([Changepoints(time, flags([100]), flags([99, 161]))])
    assert (outside.missed, outside.false_positives) == (1, 2)
    assert outside.standard == pytest.approx(-11.0)
    assert outside.mean_delay_seconds is None
    with pytest.raises(ValueError, match="no window"):
        changepoint_score([Changepoints(time, flags([]), flags([3]))])
