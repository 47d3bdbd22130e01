"""Contest: healthy runs against faulty ones, where a whole run is one or the other.

In: cases whose tests are healthy or faulty as a whole. Out: the rows and series of a report: areas
under the curve, false alarms, what int8 cost, rivals on the same windows. Never: a threshold that
saw a test.

Rivals get what the network gets, the features of every window, so that the table compares
detectors and not front ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.benchmark.case import Case, Rows, as_recording
from converter.benchmark.families import Pair
from converter.benchmark.measures import Counts, mean_interval
from converter.benchmark.ranking import average_precision
from converter.benchmark.report import Key, Request, run_families, run_rival
from converter.benchmark.rivals import (
    ALWAYS,
    EWMA_Z,
    FOREST,
    LAG_T2Q,
    NEVER,
    RESIDUAL_PCA,
    THREE_SIGMA,
    Rival,
)
from converter.benchmark.trace import Trace, joined
from converter.dataset import cut, draft_manifest
from converter.evaluate import auc

RIVALS = (LAG_T2Q, RESIDUAL_PCA, FOREST, EWMA_Z, THREE_SIGMA, ALWAYS, NEVER)
FIDELITY = ("auc_delta", "f1_delta", "spearman", "size_ratio", "top_channel_same")

Traces = Mapping[str, Trace]


class Contest(NamedTuple):
    """One model's tests by name: `healthy`; `shifted`, healthy at another operating point; and the
    `faulty` ones of each series of the report. `running`: for each test, which of its windows show
    a machine that moves; where it is given, `auc_running` is of those alone."""

    case: Case
    healthy: tuple[str, ...]
    faulty: dict[str, tuple[str, ...]]
    shifted: tuple[str, ...] = ()
    running: Mapping[str, NDArray[np.bool_]] = MappingProxyType({})


class Verdict(NamedTuple):
    """One detector on one series."""

    series: str
    auc: float
    ap: float
    counts: Counts
    found: bool
    false_episodes: int
    alarm_share: float
    shifted_share: float | None
    auc_running: float | None


def run_contests(
    request: Request, contests: Sequence[Contest]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and series of a report: families, then rivals."""
    pairs = run_families(request, [contest.case for contest in contests])
    rows = [row for family in request.families for row in _family_rows(family, contests, pairs)]
    request.steps.begin("rivals", len(RIVALS))
    for number, rival in enumerate(RIVALS, 1):
        rows.append(_rival_row(rival, contests))
        request.steps.advance(number, rival.name)
    return rows, _series(request.families[0], contests, pairs)


def feature_case(case: Case) -> Case:
    """The same case with a row a window: what the front end makes of it."""
    draft = draft_manifest(case.name, case.sensor, case.kind.front_end, case.kind.window, "dense")

    def features(rows: Rows) -> Rows:
        found = cut(as_recording("rows", case.sensor, rows), draft, case.kind.window.hop).features
        return found.reshape(len(found), -1)

    return replace(
        case,
        normal=tuple(features(run) for run in case.normal),
        tests=tuple(test._replace(rows=features(test.rows)) for test in case.tests),
    )


def judge(contest: Contest, traces: Traces) -> list[Verdict]:
    """A verdict a series."""
    healthy = [traces[name] for name in contest.healthy]
    normal, over = joined(healthy, "score"), joined(healthy, "over")
    shifted = [traces[name] for name in contest.shifted]
    verdicts = []
    for series, names in contest.faulty.items():
        faulty = [traces[name] for name in names]
        scores, hits = joined(faulty, "score"), joined(faulty, "over")
        label = np.repeat([False, True], [len(normal), len(scores)])
        counts = Counts(int(hits.sum()), int(over.sum()), int((~over).sum()), int((~hits).sum()))
        verdicts.append(
            Verdict(
                series,
                auc(normal, scores) or 0.0,
                average_precision(label, np.concatenate([normal, scores])) or 0.0,
                counts,
                all(trace.active.any() for trace in faulty),
                sum(episodes(trace) for trace in healthy),
                float(joined(healthy, "active").mean()),
                float(joined(shifted, "over").mean()) if shifted else None,
                _auc_running(contest, names, traces),
            )
        )
    return verdicts


def _auc_running(contest: Contest, faulty: Sequence[str], traces: Traces) -> float | None:
    def moving(names: Sequence[str]) -> NDArray[np.float64]:
        return np.concatenate([traces[name].score[contest.running[name]] for name in names])

    return auc(moving(contest.healthy), moving(faulty)) if contest.running else None


def episodes(trace: Trace) -> int:
    """How often an alarm began."""
    return int(np.sum(np.diff(trace.active.astype(np.int8), prepend=0) == 1))


def _table_row(
    detector: str, shipped: bool, int8: bool, seeds: int, by_seed: list[list[Verdict]]
) -> dict[str, Any]:
    """Means over seeds; the interval is over series."""
    verdicts = [verdict for one in by_seed for verdict in one]
    per_series = np.array([[verdict.auc for verdict in one] for one in by_seed]).mean(axis=0)
    interval = mean_interval(per_series)
    shifted = [v.shifted_share for v in verdicts if v.shifted_share is not None]
    return {
        "detector": detector,
        "shipped": shipped,
        "int8": int8,
        "seeds": seeds,
        "auc": interval.mean,
        "auc_low": interval.low,
        "auc_high": interval.high,
        "auc_worst": float(per_series.min()),
        "auc_running": mean_of(v.auc_running for v in verdicts),
        "ap": mean_of(v.ap for v in verdicts),
        "f1": mean_of(v.counts.f1 for v in verdicts),
        "far": mean_of(v.counts.far_percent for v in verdicts),
        "mar": mean_of(v.counts.mar_percent for v in verdicts),
        "alarm_share": mean_of(v.alarm_share for v in verdicts),
        "shifted_share": mean_of(shifted),
        "false_episodes": mean_of(v.false_episodes for v in verdicts),
        "events": len(per_series),
        "events_found": sum(v.found for v in verdicts) / len(by_seed),
        **dict.fromkeys(FIDELITY),
    }


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of those that are there, or None."""
    had = [value for value in values if value is not None]
    return float(np.mean(had)) if had else None


def _family_rows(
    family: str, contests: Sequence[Contest], pairs: Mapping[Key, Pair]
) -> list[dict[str, Any]]:
    by_seed = _by_seed(family, contests, pairs)
    found: dict[str, list[list[Verdict]]] = {
        form: [
            [v for contest, pair in one for v in judge(contest, getattr(pair, form).traces)]
            for one in by_seed
        ]
        for form in ("int8", "float32")
    }
    seeds = len(by_seed)
    int8 = _table_row(family, True, True, seeds, found["int8"])
    float32 = _table_row(f"{family}, float", False, False, seeds, found["float32"])
    int8 |= fidelity([pair for one in by_seed for _, pair in one], int8, float32)
    return [int8, float32]


def fidelity(
    pairs: Sequence[Pair], int8: Mapping[str, Any], float32: Mapping[str, Any]
) -> dict[str, float | None]:
    """What int8 cost: means over all pairs, the largest difference of two table rows."""
    each = [pair.fidelity for pair in pairs]
    found: dict[str, float | None] = {
        key: mean_of(one.get(key) for one in each)
        for key in ("spearman", "size_ratio", "top_channel_same")
    }
    for key in ("auc", "f1"):
        both = int8.get(key), float32.get(key)
        if both[0] is not None and both[1] is not None:
            found[f"{key}_delta"] = both[0] - both[1]
    return found


def _by_seed(
    family: str, contests: Sequence[Contest], pairs: Mapping[Key, Pair]
) -> list[list[tuple[Contest, Pair]]]:
    seeds = sorted({key.seed for key in pairs})
    return [
        [(contest, pairs[Key(contest.case.name, family, seed)]) for contest in contests]
        for seed in seeds
    ]


def _rival_row(rival: Rival, contests: Sequence[Contest]) -> dict[str, Any]:
    verdicts = [
        verdict
        for contest in contests
        for verdict in judge(contest, run_rival(rival, feature_case(contest.case)))
    ]
    return _table_row(rival.name, False, False, 1, [verdicts])


def _series(
    family: str, contests: Sequence[Contest], pairs: Mapping[Key, Pair]
) -> list[dict[str, Any]]:
    """What the shipped form of the first family does on each series, mean over seeds."""
    by_seed = _by_seed(family, contests, pairs)
    verdicts = [
        [v for contest, pair in one for v in judge(contest, pair.int8.traces)] for one in by_seed
    ]
    return [
        {
            "name": same[0].series,
            "auc": mean_of(v.auc for v in same),
            "far": mean_of(v.counts.far_percent for v in same),
            "mar": mean_of(v.counts.mar_percent for v in same),
            "auc_running": mean_of(v.auc_running for v in same),
            "shifted_share": mean_of(v.shifted_share for v in same),
            "found": sum(v.found for v in same) / len(same),
        }
        for same in zip(*verdicts, strict=True)
    ]
