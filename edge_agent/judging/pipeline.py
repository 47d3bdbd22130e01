"""Pipeline: the whole idea in one file. Samples of one asset in, facts about its health out.

    samples -> front end -> windows -> features -> model -> score -> alarm -> facts

In: `Samples`, and the model as a callable. Out: `Gap`, `Judgement` and `AlarmEvent` values.
Never: reads a clock, does I/O, bridges a gap. Training, benchmark, replay, demo and service all
run this very class.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import nan
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edge_agent.bundles.manifest import AlarmSpec, Manifest
from edge_agent.judging.alarm import Alarm, AlarmState, Change
from edge_agent.judging.drift import Drift, DriftCheck
from edge_agent.judging.explain import (
    NO_REASON,
    Why,
    afterwards,
    at_unseen_speed,
    beyond_limit,
    explain,
)  # fmt: skip
from edge_agent.judging.front_end import make_front_end
from edge_agent.judging.limits import Exceeded, Limits, LimitSpec
from edge_agent.judging.quiet import Quiet, QuietSpec
from edge_agent.judging.scoring import Score, Scorer
from edge_agent.judging.threshold import Threshold, ThresholdState
from edge_agent.judging.window import Window, Windows
from firmware_bridge.samples import Samples

Features: TypeAlias = NDArray[np.float32]
Model: TypeAlias = Callable[[Features], Features]


# What `accept_new_normal` looks back on.
RECENT_WINDOWS = 1000


class Site(NamedTuple):
    """What only the site can know: the alarm's delays (None: the bundle's), quiet windows, limits
    that never adapt."""

    alarm: AlarmSpec | None = None
    quiet: QuietSpec = QuietSpec()
    limits: tuple[LimitSpec, ...] = ()


class Rules(NamedTuple):
    """A site's wishes, made ready for one stream."""

    alarm: AlarmSpec
    quiet: Quiet
    limits: Limits


class Gap(NamedTuple):
    """The window was emptied: `lost` samples are missing, or unknown many after a restart."""

    asset: str
    t: float
    lost: int
    reason: str


class Judgement(NamedTuple):
    """One window's score beside the threshold. `ratio` is score / threshold, or value / limit where
    the site's limit is nearer. A `quiet` window neither alarms nor teaches. `calibration` is the id
    of the one that every sample of it went through, and of the baseline that it was judged by: one,
    or both with a `+` between."""

    asset: str
    window_start: float
    first_row: int
    score: Score
    threshold: float
    ratio: float
    active: bool
    quiet: bool = False
    calibration: str | None = None


class AlarmEvent(NamedTuple):
    """An episode began, got worse, or ended, and why; `worst` is the score that `why` is about,
    None if that was in an earlier process."""

    asset: str
    change: Change
    score: float
    threshold: float
    why: Why
    worst: Score | None
    calibration: str | None = None


Fact: TypeAlias = Gap | Judgement | AlarmEvent | Drift


class PipelineState(BaseModel):
    """What of a pipeline outlives the process."""

    # A sensor may have sent infinity, and the reason for an alarm says so.
    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="constants")

    alarm: AlarmState = AlarmState()
    why: Why = NO_REASON
    threshold: ThresholdState | None = None


@dataclass(slots=True)
class PipelineCounters:
    """What one asset has been through."""

    samples: int = 0
    windows: int = 0
    gaps: int = 0
    samples_lost: int = 0
    episodes: int = 0
    speeds_unseen: int = 0


class Pipeline:
    """One asset: its window, its model, its alarm. While `teachable` is False, because nobody has
    seen the last alarm yet, the threshold learns nothing.

    Raises `ValueError` for what the site wants of a stream that can't give it.
    """

    def __init__(
        self, asset: str, manifest: Manifest, model: Model, site: Site | None = None
    ) -> None:
        sensor = manifest.sensor
        self.asset = asset
        self.manifest = manifest
        self.counters = PipelineCounters()
        self.threshold = Threshold(manifest.threshold)
        self.drift = DriftCheck(asset, manifest.threshold.sketch)
        self.front_end = make_front_end(manifest.front_end, sensor)
        self.teachable = True
        self.calibration: str | None = None
        self.baseline: str | None = None
        self._anew: str | None = None
        self.recent: deque[float] = deque(maxlen=RECENT_WINDOWS)
        self._rules = self.rules(site or Site())
        self.alarm = Alarm(self._rules.alarm)
        self.windows = Windows(manifest.window.length, manifest.window.hop, len(sensor.channels))
        self._scorer = Scorer(
            manifest.scaler, manifest.normal_error, self.front_end.channel_of, manifest.score
        )
        self._model = model
        self._why = NO_REASON
        self._worst: Score | None = None

    def feed(self, samples: Samples) -> list[Fact]:
        """Everything that a batch of samples brings to light, in order."""
        facts: list[Fact] = []
        if not samples.contiguous:
            reason = "board restarted" if samples.restarted else "samples lost"
            facts.append(self._gap(samples.t0, samples.lost_before, reason))
        elif self._anew is not None:
            facts.append(self._gap(samples.t0, 0, self._anew))
        self._anew = None
        self.counters.samples += len(samples.values)
        for window in self._cut(samples):
            self._judge(window, facts)
        return facts

    def calibrate(self, name: str | None) -> None:
        """Samples go through another calibration from now on: no window mixes the two."""
        if name != self.calibration:
            used = self.counters.samples > 0
            self._anew = f"calibration {name or 'none'} from now on" if used else None
            self.calibration = name

    @property
    def stamp(self) -> str | None:
        """The ids of what its windows go through and are judged by."""
        return "+".join(filter(None, (self.calibration, self.baseline))) or None

    def commission(self, name: str | None, manifest: Manifest, model: Model | None = None) -> None:
        """Judges by other levels from the next window on: the bundle's own `manifest`, or that with
        the threshold and the normal errors of the baseline `name`, which may have slots, and so a
        `model`, of its own. An episode goes on; what the threshold had learned does not."""
        self.baseline, self.manifest = name, manifest
        self.threshold = Threshold(manifest.threshold)
        self.drift = DriftCheck(self.asset, manifest.threshold.sketch)
        self._scorer = self._scorer.knowing(manifest.normal_error)
        self._model = model or self._model
        self.recent.clear()
        self.alarm.gap()

    def follow(self, before: Pipeline) -> None:
        """Goes on where the pipeline of another bundle was: its counters, its calibration, its
        episode. No window has samples from before: the next sample's gap says why."""
        self.restore(before.state())
        self.counters, self.teachable = before.counters, before.teachable
        self.calibration = before.calibration
        if self.counters.samples:
            self._anew = f"bundle {self.manifest.name} serial {self.manifest.serial} from now on"

    def rules(self, site: Site) -> Rules:
        """What a site wants, made ready for this stream. Raises `ValueError` if it can't be."""
        sensor, front_end = self.manifest.sensor, self.front_end
        return Rules(
            site.alarm or self.manifest.alarm,
            Quiet(site.quiet, sensor.channels),
            Limits(
                site.limits, sensor.channels, sensor.unit, front_end.labels, front_end.channel_of
            ),
        )

    def adopt(self, rules: Rules) -> None:
        """Other rules from now on; an episode goes on."""
        self._rules, self.alarm.spec = rules, rules.alarm

    def accept_new_normal(self, t: float) -> AlarmEvent | None:
        """What the last windows were is normal from now on: the threshold is commissioned anew on
        their scores, and an episode ends. Raises `ValueError` if there are too few of them."""
        self.threshold.accept(np.array(self.recent))
        change = self.alarm.close(t)
        return self._event(change, 0.0, self.threshold.value) if change else None

    def state(self) -> PipelineState:
        """What a later process needs to go on."""
        return PipelineState(
            alarm=self.alarm.state(), why=self._why, threshold=self.threshold.state()
        )

    def restore(self, state: PipelineState) -> None:
        """Goes on where an earlier process was."""
        self.alarm = Alarm(self.alarm.spec, state.alarm)
        self._why = state.why
        if state.threshold:
            self.threshold.restore(state.threshold)

    def lasting(self, t: float) -> AlarmEvent | None:
        """The episode that an earlier process began, if it is not over."""
        change, threshold = self.alarm.lasting(t), self.threshold.value
        return self._event(change, change.ratio * threshold, threshold) if change else None

    def features(self, samples: Samples) -> Iterator[tuple[Window, Features]]:
        """Windows and their features without any verdict: what training sees. The same gap rule."""
        if not samples.contiguous:
            self._gap(samples.t0, samples.lost_before, "samples lost")
        for window in self._cut(samples):
            yield window, self.front_end.features(window.values)

    def speed(self, window: Window) -> float:
        """The mean of the channel that tells it, in that channel's unit; NaN where there is none.
        It comes from the front end's rows, so a smoothed one is smooth."""
        index = self.manifest.sensor.speed_index
        return nan if index is None else float(window.values[:, index].mean(dtype=np.float64))

    def _cut(self, samples: Samples) -> Iterator[Window]:
        period_seconds = self.front_end.decimate / samples.rate_hz
        rows = self.front_end.condition(samples.values)
        # A window is over with its last row, whatever of the batch comes after it.
        taken = len(samples.values) - self.front_end.waiting
        t_end = samples.t0 + taken / samples.rate_hz
        return self.windows.cut(rows, t_end - len(rows) * period_seconds, period_seconds)

    def _judge(self, window: Window, facts: list[Fact]) -> None:
        features = self.front_end.features(window.values)
        scaled = self._scorer.scale(features)
        score = self._scorer.score(window.t_end, scaled, self._model(scaled))
        speed = self.speed(window)
        threshold, ratio = self.threshold.limit(speed), self.threshold.ratio(score.value, speed)
        over = self._rules.limits.nearest(window.values, features)
        if over is not None:
            ratio = max(ratio, over.ratio)
            over = over if over.ratio >= 1.0 else None
        quiet = self._rules.quiet.holds(window)
        severity = over.severity if over else 1
        change = None if quiet else self.alarm.judge(window.t_end, ratio, severity)
        self.counters.windows += 1
        self.counters.speeds_unseen += self.threshold.unseen(speed) is not None
        facts.append(
            Judgement(
                self.asset, window.t_start, window.first_row, score,
                threshold, ratio, self.alarm.active, quiet, self.stamp,
            )
        )  # fmt: skip
        if quiet:
            return
        self._learn(score, speed, facts)
        if self.alarm.active and (change or ratio >= self.alarm.peak_ratio):
            self._why, self._worst = self._explain(score, speed, over), score
        if change:
            self.counters.episodes += change.kind == "begin"
            facts.append(self._event(change, score.value, threshold))

    def _learn(self, score: Score, speed: float, facts: list[Fact]) -> None:
        pooled = self.threshold.pooled(score.value, speed)
        self.recent.append(pooled)
        if self.alarm.active:
            return
        if self.teachable:
            self.threshold.learn(score.value, speed)
        drift = self.drift.take(score.t, pooled)
        if drift:
            facts.append(drift)

    def _event(self, change: Change, score: float, threshold: float) -> AlarmEvent:
        why = afterwards(self._why) if change.kind == "end" else self._why
        return AlarmEvent(
            self.asset, change, score, threshold, why, self._worst, self.stamp
        )  # fmt: skip

    def _explain(self, score: Score, speed: float, over: Exceeded | None) -> Why:
        sensor, known = self.manifest.sensor, self.threshold.unseen(speed)
        why = explain(score, sensor, self.front_end.labels, self.alarm.windows_over)
        if known is not None:
            why = at_unseen_speed(why, sensor, speed, known)
        return beyond_limit(why, over) if over else why

    def _gap(self, t: float, lost: int, reason: str) -> Gap:
        self.windows.clear()
        self.front_end.reset()
        self._rules.quiet.restart()
        self.alarm.gap()
        self.counters.gaps += 1
        self.counters.samples_lost += lost
        return Gap(self.asset, t, lost, reason)
