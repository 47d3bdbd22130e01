"""Pipeline: the whole idea in one file. Samples of one asset in, facts about its health out.

    samples -> front end -> windows -> features -> model -> score -> alarm -> facts

In: `Samples`, and the model as a callable. Out: `Gap`, `Judgement` and `AlarmEvent` values.
Never: reads a clock, does I/O, bridges a gap. Training, benchmark, replay, demo and service all
run this very class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.alarm import Alarm, Change
from edge_agent.explain import NO_REASON, Why, afterwards, explain
from edge_agent.front_end import make_front_end
from edge_agent.manifest import AlarmSpec, Manifest
from edge_agent.scoring import Score, Scorer
from edge_agent.threshold import Threshold
from edge_agent.window import Window, Windows
from firmware_bridge.samples import Samples

Features: TypeAlias = NDArray[np.float32]
Model: TypeAlias = Callable[[Features], Features]


class Gap(NamedTuple):
    """The window was emptied: `lost` samples are missing, or unknown many after a restart."""

    asset: str
    t: float
    lost: int
    reason: str


class Judgement(NamedTuple):
    """One window's score beside the threshold."""

    asset: str
    window_start: float
    first_row: int
    score: Score
    threshold: float
    ratio: float
    active: bool


class AlarmEvent(NamedTuple):
    """An episode began, got worse, or ended, and why."""

    asset: str
    change: Change
    score: float
    threshold: float
    why: Why


Fact: TypeAlias = Gap | Judgement | AlarmEvent


@dataclass(slots=True)
class PipelineCounters:
    """What one asset has been through."""

    samples: int = 0
    windows: int = 0
    gaps: int = 0
    samples_lost: int = 0
    episodes: int = 0


class Pipeline:
    """One asset: its window, its model, its alarm."""

    def __init__(
        self, asset: str, manifest: Manifest, model: Model, alarm: AlarmSpec | None = None
    ) -> None:
        self.asset = asset
        self.manifest = manifest
        self.counters = PipelineCounters()
        self.threshold = Threshold(manifest.threshold)
        self.alarm = Alarm(alarm or manifest.alarm)
        self.front_end = make_front_end(manifest.front_end, manifest.sensor)
        self.windows = Windows(
            manifest.window.length, manifest.window.hop, len(manifest.sensor.channels)
        )
        self._scorer = Scorer(manifest.scaler, manifest.normal_error, self.front_end.channel_of)
        self._model = model
        self._why = NO_REASON

    def feed(self, samples: Samples) -> list[Fact]:
        """Everything that a batch of samples brings to light, in order."""
        facts: list[Fact] = []
        if not samples.contiguous:
            reason = "board restarted" if samples.restarted else "samples lost"
            facts.append(self._gap(samples.t0, samples.lost_before, reason))
        self.counters.samples += len(samples.values)
        for window in self._cut(samples):
            self._judge(window, facts)
        return facts

    def features(self, samples: Samples) -> Iterator[tuple[Window, Features]]:
        """Windows and their features without any verdict: what training sees. The same gap rule."""
        if not samples.contiguous:
            self._gap(samples.t0, samples.lost_before, "samples lost")
        for window in self._cut(samples):
            yield window, self.front_end.features(window.values)

    def _cut(self, samples: Samples) -> Iterator[Window]:
        period_seconds = self.front_end.decimate / samples.rate_hz
        rows = self.front_end.condition(samples.values)
        t_end = samples.t0 + len(samples.values) / samples.rate_hz
        return self.windows.cut(rows, t_end - len(rows) * period_seconds, period_seconds)

    def _judge(self, window: Window, facts: list[Fact]) -> None:
        scaled = self._scorer.scale(self.front_end.features(window.values))
        score = self._scorer.score(window.t_end, scaled, self._model(scaled))
        threshold, ratio = self.threshold.value, self.threshold.ratio(score.value)
        change = self.alarm.judge(window.t_end, ratio)
        self.counters.windows += 1
        facts.append(
            Judgement(
                self.asset, window.t_start, window.first_row, score,
                threshold, ratio, self.alarm.active,
            )
        )  # fmt: skip
        if not self.alarm.active:
            self.threshold.learn(score.value)
        if self.alarm.active and (change or ratio >= self.alarm.peak_ratio):
            sensor = self.manifest.sensor
            self._why = explain(score, sensor, self.front_end.labels, self.alarm.windows_over)
        if change:
            self.counters.episodes += change.kind == "begin"
            why = afterwards(self._why) if change.kind == "end" else self._why
            facts.append(AlarmEvent(self.asset, change, score.value, threshold, why))

    def _gap(self, t: float, lost: int, reason: str) -> Gap:
        self.windows.clear()
        self.front_end.reset()
        self.alarm.gap()
        self.counters.gaps += 1
        self.counters.samples_lost += lost
        return Gap(self.asset, t, lost, reason)
