"""The rivals of the benchmark: published and measured figures reproduced on real recordings."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.benchmark import rivals
from converter.benchmark.measures import (
    EventView,
    Timeline,
    event_view,
    mean_interval,
    point_counts,
    summed,
)
from converter.benchmark.nab_score import Changepoints, changepoint_score, changes
from converter.benchmark.ranking import average_precision, period_rows, runs, vus
from converter.benchmark.rivals import Rival, alarms, limit_of
from converter.evaluate import auc
from converter.tables import read_table

Floats = NDArray[np.float64]

TRAIN_ROWS = 400
HOLD_ROWS = {rivals.SKAB_FOREST.name: 30}
CLOCK, LATE_CLOCK = rivals.clock(170, 569), rivals.clock(170)
EVERY = (*rivals.RIVALS, rivals.SKAB_T2Q, rivals.SKAB_FOREST, CLOCK, LATE_CLOCK)


class SkabFile(NamedTuple):
    """One experiment; rows from TRAIN_ROWS on are the test part."""

    time_seconds: Floats
    rows: Floats
    anomaly: NDArray[np.bool_]
    changepoint: NDArray[np.bool_]


@pytest.fixture(scope="module")
def skab(data_dir: Path) -> list[SkabFile]:
    files = []
    for path in sorted((data_dir / "skab").glob("*/*.csv.gz")):
        table = read_table(path)
        columns = dict(table.columns)
        anomaly, changepoint = columns.pop("anomaly"), columns.pop("changepoint")
        assert table.time_s is not None
        rows = np.stack(list(columns.values()), axis=1)
        files.append(SkabFile(table.time_s, rows, anomaly > 0, changepoint > 0))
    assert (len(files), sum(len(f.rows) for f in files)) == (23, 25_286)
    return files


def skab_alarms(skab: list[SkabFile], rival: Rival) -> list[Timeline]:
    return [
        Timeline(
            file.time_seconds[TRAIN_ROWS:],
            file.anomaly[TRAIN_ROWS:],
            alarms(rival.fit(file.rows[:TRAIN_ROWS]), file.rows[TRAIN_ROWS:]),
        )
        for file in skab
    ]


class Golden(NamedTuple):
    """F1, FAR %, MAR %; NAB standard, low FP, low FN, missed, false; false events, segments found,
    median delay."""

    rival: Rival
    points: tuple[float, float, float]
    nab: tuple[float, float, float, int, int] | None
    events: tuple[int, int, float]


# benchmarks of the SKAB reference files; None where only the point figures were known before.
SKAB_GOLDEN = [
    Golden(rivals.SKAB_T2Q, (0.757, 28.30, 24.54), (22.34, 10.92, 28.78, 49, 161), (7, 21, 48.0)),
    Golden(
        rivals.SKAB_FOREST, (0.257, 2.53, 84.93), (24.03, 16.74, 28.72, 52, 100), (22, 21, 68.0)
    ),
    Golden(
        rivals.THREE_SIGMA, (0.769, 44.07, 14.29), (-8.39, -51.39, 7.11, 52, 651), (27, 22, 1.0)
    ),
    Golden(CLOCK, (0.926, 8.79, 7.47), (21.08, 19.16, 23.98, 59, 18), (1, 23, 0.0)),
    Golden(LATE_CLOCK, (0.823, 48.51, 1.38), None, (2, 23, 0.0)),
    Golden(rivals.ALWAYS, (0.703, 100.0, 0.0), None, (1, 24, 0.0)),
]


@pytest.mark.data("skab")
@pytest.mark.parametrize("golden", SKAB_GOLDEN, ids=lambda golden: golden.rival.name)
def test_skab_leaderboard_and_floors(skab: list[SkabFile], golden: Golden) -> None:
    lines = skab_alarms(skab, golden.rival)
    counts = summed(point_counts(line.labels, line.alarms) for line in lines)
    assert counts.f1 == pytest.approx(golden.points[0], abs=5e-4)
    assert counts.far_percent == pytest.approx(golden.points[1], abs=5e-3)
    assert counts.mar_percent == pytest.approx(golden.points[2], abs=5e-3)
    events = event_view(lines, row_seconds=1.0)
    assert events_of(events) == golden.events
    assert events.segments == 24
    assert events.normal_days * 24 == pytest.approx(2.04, abs=5e-3)
    if golden.nab is not None:
        hold = HOLD_ROWS.get(golden.rival.name, 1)
        changed = changepoint_score(
            [
                Changepoints(
                    line.time_seconds, file.changepoint[TRAIN_ROWS:], changes(line.alarms, hold)
                )
                for file, line in zip(skab, lines, strict=True)
            ]
        )
        assert changed.windows == 84
        assert (changed.missed, changed.false_positives) == golden.nab[3:]
        measured = (changed.standard, changed.low_fp, changed.low_fn)
        assert measured == pytest.approx(golden.nab[:3], abs=5e-3)


def events_of(seen: EventView) -> tuple[int, int, float | None]:
    return seen.false_events, seen.segments_found, seen.delay_p50_seconds


@pytest.mark.data("skab")
def test_skab_clean_false_alarms(data_dir: Path) -> None:
    """Fitted on the first 70 % of normal operation, the leaderboard's T2+Q flags 1.49 % of the
    rest."""
    table = read_table(data_dir / "skab" / "anomaly-free.csv.gz")
    rows = np.stack(list(table.columns.values()), axis=1)
    cut = int(0.7 * len(rows))
    flagged = alarms(rivals.SKAB_T2Q.fit(rows[:cut]), rows[cut:])
    assert 100 * flagged.mean() == pytest.approx(1.49, abs=5e-3)


@pytest.mark.data("skab")
def test_skab_says_little_that_a_clock_does_not(skab: list[SkabFile]) -> None:
    """VUS-PR with a buffer of 50: the order of the measured table, clock first."""
    means = {}
    for rival in (CLOCK, rivals.LAG_T2Q, rivals.EWMA_Z, rivals.SKAB_FOREST):
        volumes = [
            vus(
                file.anomaly[TRAIN_ROWS:],
                rival.fit(file.rows[:TRAIN_ROWS]).score(file.rows[TRAIN_ROWS:]),
                50,
            )
            for file in skab
        ]
        means[rival.name] = mean_interval([v.pr for v in volumes if v is not None]).mean
    assert list(means) == sorted(means, key=lambda name: -means[name])


# Machine, published VUS-PR of TSB-AD's PCA.
TSB_PUBLISHED = [("1-2", 0.240), ("2-1", 0.253), ("2-2", 0.181)]


@pytest.mark.data("smd")
@pytest.mark.parametrize(("machine", "published"), TSB_PUBLISHED)
def test_smd_pca_scores_as_published_by_tsb_ad(
    data_dir: Path, machine: str, published: float
) -> None:
    arrays = np.load(data_dir / "smd" / f"machine-{machine}.npz")
    series = arrays["test"].astype(np.float64)
    scores = rivals.TSB_PCA.fit(series).score(series)
    volumes = vus(arrays["label"], scores, period_rows(series[:, 0]))
    assert volumes is not None
    assert round(volumes.pr, 3) == published


# Series, AUROC, average precision, prevalence, segments.
PCA_FLOOR = [
    ("smd/machine-1-2", 0.849, 0.158, 0.023, 10),
    ("smd/machine-2-1", 0.633, 0.171, 0.049, 13),
    ("smd/machine-2-2", 0.588, 0.140, 0.120, 11),
    ("asd/omi-1", 0.474, 0.138, 0.102, 7),
    ("asd/omi-2", 0.729, 0.232, 0.013, 4),
    ("asd/omi-3", 0.646, 0.118, 0.034, 6),
    ("asd/omi-4", 0.573, 0.119, 0.035, 5),
]


@pytest.mark.data("smd", "asd")
@pytest.mark.parametrize(("name", "roc", "precise", "prevalence", "segments"), PCA_FLOOR)
def test_pca_floor(
    data_dir: Path, name: str, roc: float, precise: float, prevalence: float, segments: int
) -> None:
    arrays = np.load(data_dir / f"{name}.npz")
    fitted = rivals.RESIDUAL_PCA.fit(arrays["train"].astype(np.float64))
    scores = fitted.score(arrays["test"].astype(np.float64))
    labels = arrays["label"].astype(bool)
    area = auc(scores[~labels], scores[labels])
    average = average_precision(labels, scores)
    assert area is not None
    assert average is not None
    assert (round(area, 3), round(average, 3)) == (roc, precise)
    assert round(float(labels.mean()), 3) == prevalence
    assert len(runs(labels)) == segments


# -- What every rival promises --------------------------------------------------------------------


def machine_rows(rows: int, seed: int) -> Floats:
    """Three coupled channels and one that stands still."""
    rng = np.random.default_rng(seed)
    load = np.cumsum(rng.normal(0, 0.05, rows))
    load -= load.mean()
    noise = rng.normal(0, 0.1, (rows, 3))
    return np.column_stack([load, -load, 2 * load]) @ np.eye(3, 4) + np.pad(noise, ((0, 0), (0, 1)))


@pytest.mark.parametrize("rival", EVERY, ids=lambda rival: rival.name)
def test_a_rival_is_finite_and_causal(rival: Rival) -> None:
    fitted = rival.fit(machine_rows(400, 1))
    test = machine_rows(200, 2)
    test[120:, 3] = 1.0  # the channel that stood still moves
    scores = fitted.score(test)
    assert scores.shape == (200,)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    assert fitted.score(test[:90]) == pytest.approx(scores[:90], rel=1e-9)
    assert fitted.score(test[:1]) == pytest.approx(scores[:1], rel=1e-9)
    flagged = alarms(fitted, test, machine_rows(100, 3))
    assert flagged.shape == (200,)
    assert flagged.dtype == bool


@pytest.mark.parametrize(
    "rival", [r for r in rivals.RIVALS if r.name not in ("always", "never")], ids=lambda r: r.name
)
def test_a_rival_finds_what_breaks(rival: Rival) -> None:
    rng = np.random.default_rng(7)
    load = rng.normal(0, 1, (900, 1))
    rows = load * [1.0, -1.0, 2.0] + rng.normal(0, 0.1, (900, 3))
    fitted = rival.fit(rows[:400])
    rows[700:] += [6.0, 6.0, 0.0]
    scores = fitted.score(rows[500:])
    area = auc(scores[:200], scores[200:])
    assert area is not None
    assert area > 0.95


def test_only_clocks_see_the_position() -> None:
    assert [rival.name for rival in EVERY if rival.sees_position] == [
        "clock, rows 170 to 569",
        "clock, rows 170 to the end",
    ]
    train, test = machine_rows(400, 1), machine_rows(800, 2)
    assert runs(alarms(CLOCK.fit(train), test)).tolist() == [[170, 569]]
    assert runs(alarms(LATE_CLOCK.fit(train), test)).tolist() == [[170, 799]]
    assert int(np.argmax(CLOCK.fit(train).score(test))) in (369, 370)
    # A row's place makes no difference to a rival without memory.
    moved = rivals.THREE_SIGMA.fit(train).score(test[::-1])[::-1]
    assert moved == pytest.approx(rivals.THREE_SIGMA.fit(train).score(test))


def test_limits() -> None:
    assert limit_of(np.arange(1001.0)) == pytest.approx(1.2 * 995)
    assert limit_of(np.arange(1001.0), quantile=0.5, factor=2.0) == pytest.approx(1000)
    with pytest.raises(ValueError, match="no calibration scores"):
        limit_of(np.zeros(0))
    fitted = rivals.EWMA_Z.fit(machine_rows(400, 1))
    with pytest.raises(ValueError, match="no limit of its own"):
        alarms(fitted, machine_rows(10, 2))


@pytest.mark.parametrize(
    "rival", [*rivals.RIVALS[:5], rivals.SKAB_T2Q], ids=lambda rival: rival.name
)
def test_nan_is_refused(rival: Rival) -> None:
    rows = machine_rows(400, 1)
    fitted = rival.fit(rows)
    broken = rows.copy()
    broken[7, 1] = np.nan
    with pytest.raises(ValueError, match="1 values are NaN or infinite"):
        rival.fit(broken)
    with pytest.raises(ValueError, match="1 values are NaN or infinite"):
        fitted.score(broken)
    with pytest.raises(ValueError, match="expected"):
        fitted.score(rows[:, 0])


@pytest.mark.parametrize("rival", [rivals.LAG_T2Q, rivals.EWMA_Z], ids=lambda rival: rival.name)
def test_too_few_training_rows(rival: Rival) -> None:
    with pytest.raises(ValueError, match="5 training rows: expected more than"):
        rival.fit(machine_rows(5, 1))
