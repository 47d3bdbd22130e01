"""Suites: the sets of an ablation, each with one network for all of its files.

In: the folder of `skab/`; the battery's machine, which is let drift here. Out: cases, and what a
detector's traces are worth on all tests of one. Never: a label in what is learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from converter.benchmark import battery, skab
from converter.benchmark.case import Case, Kind, Rows, Test, sensor
from converter.benchmark.measures import Timeline, event_view, point_counts, summed
from converter.benchmark.ranking import average_precision, vus
from converter.benchmark.slow import Flags, Floats, Measures, after, mean_measures, row_auc
from converter.benchmark.trace import Trace
from converter.dataset import Shares
from converter.errors import UsageError
from edge_agent.bundles.manifest import WindowSpec

# Front ends, delays and factors are those of `skab` and `battery`. Only the window is longer: one
# of two steps has no spectrum. An alarm waits for as many rows as there.
WINDOW = WindowSpec(length=20, hop=5)
SHARES = Shares(fit=0.5, validation=0.2)
VUS_BUFFER_ROWS = 50
# Alarms so near to each other are one, and so are anomalous rows (`measures.event_view`).
MERGE_ROWS, SEGMENT_GAP_ROWS = 30, 5
# Drift in standard deviations over the whole test, each channel its own way; all of it is healthy.
# The battery tells a ramp in one channel at a quarter of one: so on both sides of that.
DRIFTS = (0.0, 0.1, 0.2, 0.4)
TRAIN_DAYS, TEST_DAYS, STEP_SECONDS = 6, 6, 60
FAULT_SECONDS, SPACING_SECONDS = 3600, 12 * 3600


class Suite(NamedTuple):
    """Rows from `first_row` on of each test are judged; every test has labels."""

    case: Case
    first_row: int

    @property
    def name(self) -> str:
        """For the table."""
        return self.case.name


class Judged(NamedTuple):
    """What a detector is worth on a set, and the area under the curve in each of its tests."""

    measures: Measures
    areas: list[float | None]


def pump(data: Path) -> Suite:
    """SKAB's files, each in deviations of its own first rows, which are normal: the pump stands
    elsewhere in each, and one network for all would see nothing but that."""
    experiments = skab.read_all(data)
    if any(one.channels != experiments[0].channels for one in experiments):
        raise UsageError(f"{data / 'skab'}: one network needs the same columns in every file")
    judged = [one.anomaly[skab.TRAIN_ROWS :] for one in experiments]
    if not any(0 < label.sum() < len(label) for label in judged):
        raise UsageError(f"{data / 'skab'}: no file has anomalous and normal rows to tell apart")
    tests = tuple(Test(one.name, _standard(one.rows), one.anomaly) for one in experiments)
    normal = tuple(test.rows[: skab.TRAIN_ROWS] for test in tests)
    like = skab.case_of(experiments[0])
    return Suite(Case("skab", like.sensor, _windowed(like.kind, 3), normal, tests), skab.TRAIN_ROWS)


def drift() -> Suite:
    """The battery's machine once a minute: it drifts, and twice a day its fan is stuck."""
    known = _machine(42, TRAIN_DAYS)
    tests = tuple(_drifting(number, share * known.std(axis=0))
                  for number, share in enumerate(DRIFTS))  # fmt: skip
    seen = sensor(battery.CHANNELS, "mixed", 1.0 / STEP_SECONDS)
    normal = (known.astype(np.float32),)
    return Suite(Case("drift", seen, _windowed(battery.KIND, 4), normal, tests), 0)


def judge(suite: Suite, traces: Mapping[str, Trace]) -> Judged:
    """All tests together; areas and precisions are means over them."""
    row_seconds = 1.0 / suite.case.sensor.rate_hz
    lines, ranked = [], []
    for test in suite.case.tests:
        assert test.label is not None
        label = test.label[suite.first_row :]
        said = after(traces[test.name], suite.first_row)
        time = np.arange(len(label), dtype=np.float64) * row_seconds
        lines.append(Timeline(time, label, said.alarms))
        ranked.append(_ranked(label, said.scores))
    counts = summed(point_counts(line.labels, line.alarms) for line in lines)
    events = event_view(
        lines, row_seconds, MERGE_ROWS * row_seconds, SEGMENT_GAP_ROWS * row_seconds
    )
    measures = mean_measures(ranked) | {
        "f1": counts.f1,
        "far": counts.far_percent,
        "mar": counts.mar_percent,
        "events": float(events.segments),
        "events_found": float(events.segments_found),
        "false_episodes_per_day": events.false_events_per_day,
    }
    return Judged(measures, [one["auc"] for one in ranked])


def _ranked(label: Flags, scores: Floats) -> Measures:
    volumes = vus(label, scores, VUS_BUFFER_ROWS)
    return {
        "auc": row_auc(label, scores),
        "vus_pr": volumes and volumes.pr,
        "ap": average_precision(label, scores),
    }


def _standard(rows: Floats) -> Rows:
    known = rows[: skab.TRAIN_ROWS]
    spread = known.std(axis=0)
    scaled: Floats = (rows - known.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0)
    return scaled.astype(np.float32)


def _drifting(number: int, reach: Floats) -> Test:
    """`reach`: how far each channel has drifted at the end, one way or the other."""
    random = np.random.default_rng([80, number])
    seconds = TEST_DAYS * battery.DAY_SECONDS
    begins = np.arange(0, seconds, SPACING_SECONDS) + random.integers(
        SPACING_SECONDS // 4, SPACING_SECONDS // 2, seconds // SPACING_SECONDS
    )
    faults = [battery.Event(int(at), int(at) + FAULT_SECONDS) for at in begins]
    rows = _machine(80 + number, TEST_DAYS, faults)
    way = reach * random.choice([-1.0, 1.0], len(reach))
    rows += np.linspace(0.0, 1.0, len(rows))[:, None] * way
    at = np.arange(len(rows))[:, None] * STEP_SECONDS
    label = np.asarray(((at >= begins) & (at < begins + FAULT_SECONDS)).any(axis=1), np.bool_)
    return Test(f"drift {DRIFTS[number]:g}", rows.astype(np.float32), label)


def _machine(seed: int, days: int, faults: list[battery.Event] | None = None) -> Floats:
    return battery.machine(seed, days * battery.DAY_SECONDS, faults)[::STEP_SECONDS]


def _windowed(kind: Kind, train_hop: int) -> Kind:
    delays = {
        "on_delay_windows": kind.alarm.on_delay_windows // WINDOW.hop,
        "off_delay_windows": kind.alarm.off_delay_windows // WINDOW.hop,
    }
    # What was chosen for one family of one protocol is left to the family's own default.
    return replace(
        kind, window=WINDOW, train_hop=train_hop, shares=SHARES, units={}, activation={},
        alarm=kind.alarm.model_copy(update=delays),
    )  # fmt: skip
