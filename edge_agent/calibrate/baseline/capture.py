"""Capture: the windows of a healthy machine, as its bundle's own int8 model sees them.

In: batches of the stream that the bundle judges, which state the machine is in. Out: errors, speeds
and levels of each window, and how well it was heard. Never: keeps samples, or more windows than
`MOST_WINDOWS` and `MOST_NUMBERS` allow; a window that spans two states or a gap.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.assets import site_of
from edge_agent.bundles.bundle import Bundle
from edge_agent.bundles.model import model_of
from edge_agent.calibrate.baseline.gauges import gauge_kind
from edge_agent.calibrate.baseline.hearing import Hearing
from edge_agent.config import AssetSettings
from edge_agent.judging.pipeline import Features, Pipeline, Site
from edge_agent.judging.scoring import Scorer, mean_squares
from edge_agent.judging.window import Window
from firmware_bridge.samples import Samples
from firmware_bridge.schema import StreamSchema

MOST_WINDOWS = 20_000
# Of four bytes each: 64 MiB.
MOST_NUMBERS = 1 << 24

Floats = NDArray[np.float64]


class Taken(NamedTuple):
    """Windows in the order in which they came. `state` and `stretch` int64[n]; `speed` and `ratio`
    to the nearest limit of the site (0: there is none) float64[n]; `by_feature` and `level`, the
    mean of the scaled features, float32[n, features]; `by_step` float32[n, steps]; `scaled`
    float32[n, steps, features], empty but for a memory."""

    state: NDArray[np.int64]
    stretch: NDArray[np.int64]
    speed: Floats
    ratio: Floats
    by_feature: NDArray[np.float32]
    by_step: NDArray[np.float32]
    level: NDArray[np.float32]
    scaled: NDArray[np.float32]

    def pick(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Taken:
        """Some of them."""
        return Taken(
            self.state[chosen], self.stretch[chosen], self.speed[chosen], self.ratio[chosen],
            self.by_feature[chosen], self.by_step[chosen], self.level[chosen],
            self.scaled[chosen] if len(self.scaled) else self.scaled,
        )  # fmt: skip

    @property
    def windows(self) -> int:
        """How many."""
        return len(self.state)


class Capture:
    """One capture by the shipped bundle, whatever the gateway judges by now. Where that has `bins`
    of the speed, a window's state is its bin, whatever was begun.

    Raises `ModelError` if its model does not run, `ValueError` for limits of the site that this
    stream can't be held to."""

    def __init__(
        self, bundle: Bundle, stream: StreamSchema, settings: AssetSettings | None = None
    ) -> None:
        manifest = bundle.manifest
        self.bundle, self.stream = bundle, stream
        self.model = model_of(manifest.model, bundle.files)
        site = site_of(settings, manifest) if settings else Site()
        self._pipeline = Pipeline("baseline", manifest, self.model, site)
        self._rules = self._pipeline.rules(site)
        self.alarm = self._rules.alarm
        front_end = self._pipeline.front_end
        self.scorer = Scorer(
            manifest.scaler, manifest.normal_error, front_end.channel_of, manifest.score
        )
        self.labels, self.channel_of = front_end.labels, front_end.channel_of
        self.hearing = Hearing(gauge_kind(manifest.sensor.rate_hz, stream.unit, stream.range))
        self._columns: list[list[object]] = [[] for _ in Taken._fields]
        self.scores: list[float] = []
        self.keeps_scaled = manifest.model.memory is not None
        size = manifest.model.features * (2 + manifest.model.steps * self.keeps_scaled)
        self.most = min(MOST_WINDOWS, MOST_NUMBERS // (size + manifest.model.steps))
        self._state: int | None = None
        self.bins = tuple(one.high for one in manifest.threshold.bins)

    @property
    def full(self) -> bool:
        """Whether no more windows are kept."""
        return len(self.scores) >= self.most

    def begin(self, state: int | None) -> None:
        """From the next batch on the machine is in this state; None: nothing counts."""
        self._state = state
        self._pipeline.windows.clear()
        self._pipeline.front_end.reset()
        self._rules.quiet.restart()
        if state is not None:
            self.hearing.begin(state)

    def take(self, samples: Samples) -> None:
        """A batch of the stream."""
        if self._state is None:
            return
        self.hearing.take(samples)
        if not samples.contiguous:
            self._rules.quiet.restart()
        for window, features in self._pipeline.features(samples):
            if not self.full and not self._rules.quiet.holds(window):
                self._keep(self._state, window, features)

    def taken(self) -> Taken:
        """Everything so far."""
        manifest = self.bundle.manifest.model
        steps, features = manifest.steps, manifest.features
        state, stretch, speed, ratio, *rest = self._columns
        shapes = ((features,), (steps,), (features,), (steps, features))
        arrays = [
            np.array(column, np.float32).reshape(len(column), *shape)
            for column, shape in zip(rest, shapes, strict=True)
        ]
        return Taken(
            np.array(state, np.int64), np.array(stretch, np.int64), np.array(speed, np.float64),
            np.array(ratio, np.float64), *arrays,
        )  # fmt: skip

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The state and the stretch of each window, int64[n]."""
        return np.array(self._columns[0], np.int64), np.array(self._columns[1], np.int64)

    def restore(self, taken: Taken) -> None:
        """Goes on with these windows."""
        self._columns = [list(column) for column in taken]
        self.scores = [self.scorer.value(each) for each in taken.by_feature.astype(np.float64)]

    def _keep(self, state: int, window: Window, features: Features) -> None:
        scaled = self.scorer.scale(features)
        residuals = self.scorer.score(window.t_end, scaled, self.model(scaled)).residuals
        by_feature = mean_squares(residuals)
        over = self._rules.limits.nearest(window.values, features)
        speed = self._pipeline.speed(window)
        if self.bins:
            state = min(bisect_left(self.bins, speed), len(self.bins) - 1)
        row = (
            state, self.hearing.number, speed, over.ratio if over else 0.0,
            by_feature.astype(np.float32), np.square(residuals).mean(axis=1).astype(np.float32),
            scaled.mean(axis=0), np.array(scaled),
        )  # fmt: skip
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        if not self.keeps_scaled:
            self._columns[-1].clear()
        self.scores.append(self.scorer.value(by_feature))
