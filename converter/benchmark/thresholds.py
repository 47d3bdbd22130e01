"""Thresholds: the same int8 scores under every rule that the product has, one table.

In: seeds; the battery's machine, and labelled recordings of `skab/` where a folder is given.
Out: for each rule what it flags of healthy windows, also of a machine that wears in, and what the
alarm behind it finds. Never: a rule that saw a score of a test, another alarm for another rule.

The scores are made once a seed by the agent's pipeline and run through the agent's own threshold
and alarm, rule by rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from converter.benchmark import battery, skab
from converter.benchmark.case import Case, Test
from converter.benchmark.families import Outcome
from converter.benchmark.measures import Timeline, event_view, point_counts, summed
from converter.benchmark.report import Key, Report, Request, run_families
from converter.benchmark.slow import Flags, Floats, Measures, mean_measures, measured_row
from converter.benchmark.trace import Trace, joined, run_alarm
from edge_agent.judging.threshold import Method, commission
from edge_agent.judging.threshold_spec import ThresholdSpec

# Friction falls within half a day and stays where it is: one percent less current, .15 of a degree
# less heat, 1.5 percent less vibration. Its size was set so that it
# matters, not blind: of a smaller one even the fixed rules had noticed nothing, and at three times
# as much the scores pass the cap of every rule that follows.
WEAR = {"current": -0.1, "temperature": -0.15, "vibration": -0.02}
WEAR_SECONDS = battery.DAY_SECONDS // 2
HEALTHY, WORN = "normal", "wear-in"


class Rule(NamedTuple):
    """Arguments of `commission`."""

    method: Method
    q: float = 0.995
    factor: float = 1.2
    adaptation: Literal["conformal", "spot"] | None = None

    def commission(self, scores: Floats) -> ThresholdSpec:
        """The threshold that a bundle would carry."""
        return commission(scores, self.method, self.q, self.factor, self.adaptation)


RULES = {
    "mean + 3 sigma": Rule("mean_3sigma"),
    "quantile 99 %": Rule("quantile", 0.99, 1.0),
    "quantile 99.5 % x 1.2": Rule("quantile"),
    "peaks over threshold": Rule("pot"),
    "spot": Rule("pot", adaptation="spot"),
    "conformal": Rule("quantile", adaptation="conformal"),
}
# What `build` takes where nobody says anything.
SHIPPED = "quantile 99.5 % x 1.2"


class Truth(NamedTuple):
    """What is known of one test from `first_row` on: anomalous rows; with those in which an alarm
    still belongs to them, and which are neither right nor wrong; rows that are healthy for sure."""

    case: Case
    test: str
    first_row: int
    anomalous: Flags
    belongs: Flags
    healthy: Flags


class Data(NamedTuple):
    """One set."""

    name: str
    cases: list[Case]
    truths: list[Truth]


def run(request: Request) -> Report:
    """Every rule on every set."""
    sets = [_battery()]
    # No folder was given; "." would be one.
    if request.data.parts:
        sets.append(_skab(request))
    pairs = run_families(request, [case for one in sets for case in one.cases])
    rows = []
    for one in sets:
        for family in request.families:
            by_seed = [
                {case.name: pairs[Key(case.name, family, seed)].int8 for case in one.cases}
                for seed in range(1, request.seeds + 1)
            ]
            request.steps.begin(f"rules, {one.name}", len(RULES))
            for number, (name, rule) in enumerate(RULES.items(), 1):
                found = mean_measures(_measured(one, outcomes, rule) for outcomes in by_seed)
                rows.append(
                    measured_row(
                        f"{one.name}, {family}: {name}", found, shipped=name == SHIPPED, int8=True,
                        seeds=request.seeds,
                    )
                )  # fmt: skip
                request.steps.advance(number, name)
    notes = [
        "flagged, flagged_worn: healthy windows over the limit, of a usual day and of one in which "
        "the machine wears in; alarm_worn: the share of that day in an alarm",
        f"battery: an alarm within {battery.GRACE_SECONDS} s after an anomaly belongs to it",
    ]
    files = [f"{truth.case.name} {truth.test}" for one in sets for truth in one.truths]
    return Report("thresholds", files, rows, [], notes)


def worn_in(seed: int) -> Floats:
    """A day of a healthy machine that wears in: float64[seconds, channel]."""
    rows = battery.machine(seed, battery.DAY_SECONDS)
    share = np.minimum(np.arange(len(rows)) / WEAR_SECONDS, 1.0)
    for name, shift in WEAR.items():
        rows[:, battery.CHANNELS.index(name)] += share * shift
    return rows


def _battery() -> Data:
    case, events = battery.case_and_events()
    # The same day as the usual one, so that nothing else differs.
    worn = Test(WORN, worn_in(battery.NORMAL_SEED).astype(np.float32))
    case = replace(case, name="thresholds", tests=(*case.tests, worn))
    truths = []
    for test in case.tests:
        anomalous = np.zeros(len(test.rows), np.bool_)
        belongs = anomalous.copy()
        for event in events.get(test.name, []):
            anomalous[event.first : event.end] = True
            belongs[event.first : event.end + battery.GRACE_SECONDS] = True
        healthy = np.full(len(test.rows), test.name in (HEALTHY, WORN))
        truths.append(Truth(case, test.name, 0, anomalous, belongs, healthy))
    return Data("battery", [case], truths)


def _skab(request: Request) -> Data:
    """Healthy for sure is what lies before a file's first fault; after it the pump is warm."""
    experiments = skab.read_all(request.data)
    cases = [skab.case_of(one) for one in experiments]
    truths = [
        Truth(case, "test", skab.TRAIN_ROWS, one.anomaly, one.anomaly,
              np.logical_or.accumulate(one.anomaly) == 0)
        for one, case in zip(experiments, cases, strict=True)
    ]  # fmt: skip
    return Data("skab", cases, truths)


def _measured(data: Data, outcomes: dict[str, Outcome], rule: Rule) -> Measures:
    specs = {name: rule.commission(outcome.held_out) for name, outcome in outcomes.items()}
    traces = []
    for truth in data.truths:
        scored, alarm = outcomes[truth.case.name].traces[truth.test], truth.case.kind.alarm
        spec = specs[truth.case.name]
        traces.append(run_alarm(scored.score, scored.end_row, scored.rows, spec, alarm))
    usual, worn = (
        [
            (t, trace)
            for t, trace in zip(data.truths, traces, strict=True)
            if (t.test == WORN) is is_worn
        ]
        for is_worn in (False, True)
    )
    return {
        "flagged": _flagged(usual),
        "flagged_worn": _flagged(worn),
        "alarm_worn": float(joined([trace for _, trace in worn], "active").mean())
        if worn
        else None,
        **_alarms(usual),
    }


def _flagged(judged: Sequence[tuple[Truth, Trace]]) -> float | None:
    """The share of healthy windows that are over the limit."""
    over = []
    for truth, trace in judged:
        last = trace.end_row - 1
        over.append(trace.over[truth.healthy[last] & (last >= truth.first_row)])
    flags = np.concatenate(over) if over else np.empty(0, np.bool_)
    return float(flags.mean()) if len(flags) else None


def _alarms(judged: Sequence[tuple[Truth, Trace]]) -> Measures:
    """Events, false episodes and delays; F1 of rows, without those that are neither."""
    lines, counts = [], []
    for truth, trace in judged:
        kept = slice(truth.first_row, None)
        alarms, belongs = trace.row_alarms()[kept], truth.belongs[kept]
        anomalous = truth.anomalous[kept]
        lines.append(Timeline(np.arange(len(alarms), dtype=np.float64), belongs, alarms))
        clear = anomalous | ~belongs
        counts.append(point_counts(anomalous[clear], alarms[clear]))
    events = event_view(lines, row_seconds=1.0)
    return {
        "f1": summed(counts).f1,
        "events": float(events.segments),
        "events_found": float(events.segments_found),
        "false_episodes_per_day": events.false_events_per_day,
        "alarm_share": events.normal_alarm_share,
        "delay_p50_s": events.delay_p50_seconds,
    }
