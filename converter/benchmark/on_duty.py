"""On duty: scores to what an operator is told of one asset, day and night.

In: scores of windows that follow each other, a threshold, an alarm. Out: when an alarm was on, how
often one began and how often somebody was told.
Never: a decision of its own: threshold, alarm and annunciator are the agent's.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.benchmark.trace import Trace
from edge_agent.alarms.annunciator import Annunciator, Policy, Told
from edge_agent.bundles.manifest import AlarmSpec
from edge_agent.judging.alarm import Alarm
from edge_agent.judging.explain import NO_REASON
from edge_agent.judging.pipeline import AlarmEvent
from edge_agent.judging.threshold import Threshold
from edge_agent.judging.threshold_spec import ThresholdSpec

# The operator comes round once an hour or so; until then nothing is learnt.
SEEN_AFTER_SECONDS = (1800.0, 5400.0)


class Duty(NamedTuple):
    """`active` is bool[window]; of `began` episodes `told` were told."""

    active: NDArray[np.bool_]
    began: int
    told: int


class Desk:
    """One asset, its annunciator with the policy that a site gets if it says nothing, and the one
    who answers it."""

    def __init__(self, spec: ThresholdSpec, alarm: AlarmSpec, seed: int) -> None:
        self.threshold, self.alarm = Threshold(spec), Alarm(alarm)
        self.annunciator = Annunciator(Policy())
        self.told = 0
        self._random = np.random.default_rng(seed)
        self._seen_t = inf

    def judge(self, t: float, score: float) -> bool:
        """One window, in the order in which pipeline and service do it; whether an alarm is on."""
        if t >= self._seen_t:
            self.annunciator.acknowledge()
            self._seen_t = inf
        teachable = self.annunciator.acknowledged
        change = self.alarm.judge(t, self.threshold.ratio(score))
        if teachable and not self.alarm.active:
            self.threshold.learn(score)
        if change:
            limit = self.threshold.value
            event = AlarmEvent("asset", change, score, limit, NO_REASON, None)
            self._hear(self.annunciator.take(event), t)
        self._hear(self.annunciator.tick(t), t)
        return self.alarm.active

    def _hear(self, told: Told | None, t: float) -> None:
        if told and told.seq == 1:
            self.told += 1
            self._seen_t = t + float(self._random.uniform(*SEEN_AFTER_SECONDS))


def on_duty(
    runs: Iterable[Trace], rate_hz: float, spec: ThresholdSpec, alarm: AlarmSpec, seed: int
) -> Duty:
    """Runs one after the other, with a gap between any two. Of their traces only the scores count:
    what their own threshold said is not looked at."""
    desk, active = Desk(spec, alarm, seed), []
    begin_row = 0
    for run in runs:
        desk.alarm.gap()
        ends_t = (begin_row + run.end_row) / rate_hz
        for t, score in zip(ends_t.tolist(), run.score.tolist(), strict=True):
            active.append(desk.judge(t, score))
        begin_row += run.rows
    return Duty(np.array(active, np.bool_), desk.alarm.number, desk.told)
