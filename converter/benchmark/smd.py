"""SMD: servers of 38 metrics a minute (OmniAnomaly, KDD 2019), and what ASD shares with it.

In: `smd/*.npz` with train (normal), test and label, `*_interpretation.txt` with the channels to
blame. Out: ranking measures, events, and whether the right channel was named. Never: a threshold
or a ranking chosen on the labels, point-adjusted figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from converter.benchmark.case import Case, Kind, Test, sensor
from converter.benchmark.families import Pair
from converter.benchmark.measures import (
    Timeline,
    event_view,
    hit_rate,
    point_counts,
    summed,
    top_right,
)
from converter.benchmark.ranking import average_precision, period_rows, vus
from converter.benchmark.report import Key, Report, Request
from converter.benchmark.rivals import ALWAYS, EWMA_Z, FOREST, LAG_T2Q, NEVER, RESIDUAL_PCA, TSB_PCA
from converter.benchmark.slow import (
    Flags,
    Floats,
    Measures,
    Said,
    event_measures,
    family_rows,
    files_below,
    mean_measures,
    measured_row,
    published_row,
    rival_rows,
    row_auc,
    same_keys,
    with_interval,
)
from converter.benchmark.trace import Trace
from converter.errors import UsageError
from converter.models.training import TrainSettings
from edge_agent.bundles.manifest import AlarmSpec, SmoothFrontEnd, WindowSpec

# Minutes are noisy, so three make a mean; a load has its hours, so every channel counts by its
# distance from its own slow mean of five; half an hour makes a window. Not blind: 37 settings of a
# linear stand-in were compared by their VUS-PR on these very test arrays. The weighted score was
# chosen on anomalies made in the normal arrays, with the figures of the test arrays in sight.
KIND = Kind(
    front_end=SmoothFrontEnd(
        mean_rows=3, ewma_alpha=1.0, baseline_alpha=1 / 300, decimate=3, settle_samples=30
    ),
    window=WindowSpec(length=10, hop=1),
    train_hop=2,
    alarm=AlarmSpec(on_delay_windows=2, off_delay_windows=5, clear_ratio=0.8),
    units={"dense": (128, 32, 128)},
    train=TrainSettings(epochs=30, batch_size=64, denoise=1.0),
    activation={"dense": "tanh"},
    score="weighted",
)
RATE_HZ = 1 / 60
RANKED = ("vus_pr", "auc", "ap")

# VUS-PR of single machines, TSB-AD-M's merged table (TheDatumOrg/TSB-AD 8763009): AE, LSTMAD,
# CNN, OmniAnomaly, USAD, PCA, IForest, KMeansAD, MCD. Fitted on the start of the test series.
METHODS = ("AE", "LSTMAD", "CNN", "OmniAnomaly", "USAD", "PCA", "IForest", "KMeansAD", "MCD")
PUBLISHED = {
    "machine-1-2": (0.259, 0.438, 0.414, 0.267, 0.265, 0.240, 0.105, 0.270, 0.166),
    "machine-2-1": (0.350, 0.366, 0.335, 0.236, 0.246, 0.253, 0.209, 0.452, 0.233),
    "machine-2-2": (0.182, 0.218, 0.204, 0.356, 0.336, 0.181, 0.122, 0.105, 0.178),
}


class Segment(NamedTuple):
    """Rows `first` .. `end` (exclusive) and the channels to blame, from 0."""

    first: int
    end: int
    channels: frozenset[int]


class Machine(NamedTuple):
    """One machine; `buffer_rows` is TSB-AD's for its VUS-PR."""

    name: str
    train: Floats
    test: Floats
    label: Flags
    segments: tuple[Segment, ...]
    buffer_rows: int


def read_machine(path: Path, last_inside: bool) -> Machine:
    """One `.npz` and, if there is one, its interpretation. Raises `UsageError`."""
    with np.load(path, allow_pickle=False) as stored:
        missing = {"train", "test", "label"} - set(stored.files)
        if missing:
            raise UsageError(f"{path}: no array {', '.join(sorted(missing))}")
        train, test = stored["train"].astype(np.float64), stored["test"].astype(np.float64)
        label = stored["label"] > 0
    if train.ndim != 2 or test.shape[1:] != train.shape[1:] or len(label) != len(test):
        raise UsageError(f"{path}: train {train.shape}, test {test.shape}, label {label.shape}")
    told = path.with_name(f"{path.stem}_interpretation.txt")
    segments = _segments(told, last_inside) if told.exists() else ()
    return Machine(path.stem, train, test, label, segments, period_rows(test[:, 0]))


def _segments(path: Path, last_inside: bool) -> tuple[Segment, ...]:
    found = []
    for number, line in enumerate(path.read_text().split(), 1):
        try:
            rows, channels = line.split(":")
            first, last = (int(row) for row in rows.split("-"))
            blamed = frozenset(int(channel) - 1 for channel in channels.split(","))
        except ValueError:
            raise UsageError(f"{path}, line {number}: expected first-last:channels") from None
        found.append(Segment(first, last + last_inside, blamed))
    return tuple(found)


def run(request: Request) -> Report:
    """Every machine: fitted on its train array, scored on its test array."""
    paths = files_below(request.data, "smd", "*.npz")
    machines = [read_machine(path, last_inside=False) for path in paths]
    cases = [machine_case("smd", machine, KIND, RATE_HZ) for machine in machines]
    judge = partial(measured, machines, RATE_HZ)
    rows, pairs = family_rows(request, cases, judge, 0)
    add_named(rows, machines, cases, pairs, request)
    rivals = (LAG_T2Q, RESIDUAL_PCA, EWMA_Z, FOREST, ALWAYS, NEVER)
    rows += rival_rows(rivals, cases, judge, 0)
    known = [PUBLISHED[one.name] for one in machines if one.name in PUBLISHED]
    if len(known) == len(machines):
        means = np.mean(known, axis=0)
        rows += [
            published_row(method, {"vus_pr": float(mean)})
            for method, mean in zip(METHODS, means, strict=True)
        ]
    ranked = judge([_fitted_on_itself(machine) for machine in machines])
    only = {key: value for key, value in ranked.items() if key.startswith(RANKED)}
    rows.append(measured_row(TSB_PCA.name, only))
    series = machine_series(machines, cases, pairs, request)
    notes = [
        "settings were compared on these labels: an upper bound, no blind result",
        "vus_pr: " + ", ".join(f"{m.name} buffer {m.buffer_rows}" for m in machines),
    ]
    return Report("smd", [path.name for path in paths], same_keys(rows), series, notes)


def machine_case(folder: str, machine: Machine, kind: Kind, rate_hz: float) -> Case:
    """Every channel counts by its distance from its own slow mean."""
    names = [f"m{number}" for number in range(1, machine.train.shape[1] + 1)]
    front_end = kind.front_end.model_copy(update={"drifting": tuple(names)})
    return Case(
        f"{folder}-{machine.name}",
        sensor(names, "mixed", rate_hz),
        replace(kind, front_end=front_end),
        (machine.train.astype(np.float32),),
        (Test("test", machine.test.astype(np.float32), machine.label),),
    )


def measured(machines: Sequence[Machine], rate_hz: float, said: Sequence[Said]) -> Measures:
    """Means over machines of what needs no threshold; rows and events of all together."""
    ranked, lines = [], []
    for machine, mine in zip(machines, said, strict=True):
        volumes = vus(machine.label, mine.scores, machine.buffer_rows)
        ranked.append(
            {
                "vus_pr": volumes and volumes.pr,
                "auc": row_auc(machine.label, mine.scores),
                "ap": average_precision(machine.label, mine.scores),
            }
        )
        time_seconds = np.arange(len(machine.label)) / rate_hz
        lines.append(Timeline(time_seconds, machine.label, mine.alarms))
    # Two alarms or two anomalous rows next to each other belong together, none that are farther.
    step = 1.5 / rate_hz
    events = event_view(lines, 1 / rate_hz, merge_seconds=step, segment_gap_seconds=step)
    counts = summed(point_counts(line.labels, line.alarms) for line in lines)
    return {
        **with_interval("vus_pr", [one["vus_pr"] for one in ranked]),
        **with_interval("auc", [one["auc"] for one in ranked]),
        **with_interval("ap", [one["ap"] for one in ranked]),
        "f1": counts.f1,
        **event_measures(events),
    }


def _fitted_on_itself(machine: Machine) -> Said:
    """TSB-AD's PCA on the series that it was fitted on: what the leaderboard's figure is."""
    scores = TSB_PCA.fit(machine.test).score(machine.test)
    return Said(scores, np.zeros(len(scores), np.bool_))


def add_named(
    rows: list[dict[str, Any]],
    machines: Sequence[Machine],
    cases: Sequence[Case],
    pairs: dict[Key, Pair],
    request: Request,
) -> None:
    """How well the families' rows name the channels to blame, per segment of all machines."""
    for family in request.families:
        for form, name in (("int8", "int8"), ("float32", "float")):
            found = []
            for seed in range(1, request.seeds + 1):
                traces = [
                    getattr(pairs[Key(case.name, family, seed)], form).traces["test"]
                    for case in cases
                ]
                found.append(named(machines, traces))
            row = next(row for row in rows if row["detector"] == f"{family} {name}")
            row |= mean_measures(found)


def named(machines: Sequence[Machine], traces: Sequence[Trace]) -> Measures:
    """HitRate and top-k over all segments: shares, weighted by the scores inside the segment."""
    rankings, right = [], []
    for machine, trace in zip(machines, traces, strict=True):
        if trace.by_channel is None:
            continue
        weighted = trace.by_channel * trace.score[:, np.newaxis]
        for segment in machine.segments:
            # The windows that end in it, at least the first one that has seen it.
            first = int(np.searchsorted(trace.end_row, segment.first, side="right"))
            end = int(np.searchsorted(trace.end_row, segment.end, side="right"))
            inside = weighted[first : max(end, first + 1)]
            if len(inside) and segment.channels:
                rankings.append(inside.sum(axis=0))
                right.append(segment.channels)
    if not rankings:
        return {}
    table = np.array(rankings)
    return {
        "hit_rate_100": hit_rate(table, right, 100.0),
        "hit_rate_150": hit_rate(table, right, 150.0),
        "top1": top_right(table, right, 1),
        "top3": top_right(table, right, 3),
    }


def machine_series(
    machines: Sequence[Machine],
    cases: Sequence[Case],
    pairs: dict[Key, Pair],
    request: Request,
) -> list[dict[str, Any]]:
    """A line a machine: int8, mean over families and seeds."""
    lines = []
    for machine, case in zip(machines, cases, strict=True):
        traces = [pair.int8.traces["test"] for key, pair in pairs.items() if key.case == case.name]
        found = []
        for trace in traces:
            scores = trace.row_scores()
            volumes = vus(machine.label, scores, machine.buffer_rows)
            found.append({"vus_pr": volumes and volumes.pr, "auc": row_auc(machine.label, scores)})
        lines.append({"name": machine.name, **mean_measures(found)})
    return lines
