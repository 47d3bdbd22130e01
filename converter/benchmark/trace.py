"""Trace: what a detector has said about every window of one test, and the same row by row.

In: judgements of the agent's pipeline, or scores of a rival and the agent's own threshold and
alarm. Out: arrays. Never: a look ahead: a row gets what was known when it was over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.evaluate import Scores
from edge_agent.bundles.manifest import AlarmSpec, Manifest
from edge_agent.judging.alarm import Alarm
from edge_agent.judging.pipeline import Judgement, Model, Pipeline
from edge_agent.judging.threshold import Threshold
from edge_agent.judging.threshold_spec import ThresholdSpec
from firmware_bridge.samples import Samples

Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]
# A pipeline wants batches, and how large they are must not matter.
BATCH_ROWS = 512


class Trace(NamedTuple):
    """`end_row[w]` is the row behind a window's last; `over` says whether the score was at or over
    the threshold, `active` whether an alarm was on; `by_channel` float64[w, channel] or None."""

    rows: int
    end_row: Indices
    score: Scores
    threshold: Scores
    over: Flags
    active: Flags
    by_channel: Scores | None = None

    def row_scores(self) -> Scores:
        """float64[rows]: the last window's score; before the first one, the lowest there is."""
        lowest = float(self.score.min()) if len(self.score) else 0.0
        return self._held(np.concatenate([[lowest], self.score]))

    def row_ratios(self) -> Scores:
        """float64[rows]: the last window's score over the threshold that it was compared with, as
        a subscriber is told; 0 before the first one."""
        none = np.zeros_like(self.score)
        ratios = np.divide(self.score, self.threshold, out=none, where=self.threshold > 0.0)
        return self._held(np.concatenate([[0.0], ratios]))

    def row_alarms(self) -> Flags:
        """bool[rows]: whether an alarm was on when the row was over."""
        return np.asarray(self._held(np.concatenate([[False], self.active])), np.bool_)

    def _held(self, values: Scores) -> Scores:
        # Row i is over when i + 1 rows are there.
        last = np.searchsorted(self.end_row, np.arange(1, self.rows + 1), side="right")
        held: Scores = values[last]
        return held


def run_pipeline(manifest: Manifest, model: Model, rows: NDArray[np.float32]) -> Trace:
    """One causal pass of the agent's own pipeline over `rows`."""
    pipeline = Pipeline("benchmark", manifest, model)
    rate_hz = manifest.sensor.rate_hz
    judged: list[Judgement] = []
    shares: list[Scores] = []
    for at in range(0, len(rows), BATCH_ROWS):
        batch = np.asarray(rows[at : at + BATCH_ROWS], np.float32)
        for fact in pipeline.feed(Samples(1, at, at / rate_hz, rate_hz, batch, 0, False, 0)):
            if isinstance(fact, Judgement):
                nothing = np.empty((0, 0))
                light = fact.score._replace(residuals=nothing, scaled=nothing.astype(np.float32))
                judged.append(fact._replace(score=light))
                shares.append(fact.score.by_channel)
    # A window is over when its last sample has been taken.
    end_row = [round(fact.score.t * rate_hz) for fact in judged]
    return Trace(
        len(rows),
        np.array(end_row, np.int64),
        np.array([fact.score.value for fact in judged], np.float64),
        np.array([fact.threshold for fact in judged], np.float64),
        np.array([fact.ratio >= 1.0 for fact in judged], np.bool_),
        np.array([fact.active for fact in judged], np.bool_),
        np.array(shares) if shares else None,
    )


def run_alarm(
    scores: Scores, end_row: Indices, rows: int, spec: ThresholdSpec, alarm: AlarmSpec
) -> Trace:
    """The agent's threshold and alarm on the scores of something else."""
    threshold, episodes = Threshold(spec), Alarm(alarm)
    limits, over, active = [], [], []
    for number, score in enumerate(scores.tolist()):
        ratio = threshold.ratio(score)
        limits.append(threshold.value)
        over.append(ratio >= 1.0)
        episodes.judge(float(number), ratio)
        active.append(episodes.active)
        if not episodes.active:
            threshold.learn(score)
    return Trace(
        rows, end_row, scores, np.array(limits), np.array(over, np.bool_),
        np.array(active, np.bool_),
    )  # fmt: skip


def joined(traces: Iterable[Trace], field: str = "score") -> NDArray[Any]:
    """One field of all traces, window after window, one after the other."""
    return np.concatenate([getattr(trace, field) for trace in traces])
