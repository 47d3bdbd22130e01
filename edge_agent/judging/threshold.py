"""Threshold: scores of held-out normal windows to the limit above which a score counts, and how
that limit follows the machine.

In: scores of normal windows that the model was not fitted on, and at which speed each was taken;
later, one score and one speed a window.
Out: `ThresholdSpec` for the bundle; a ratio of score to limit.
Never: sees a window that the model was fitted on (the caller answers for that), learns from a
window in an alarm (the caller doesn't tell it), needs more than a few numbers of memory.

A machine that is louder when it runs faster has a limit for each bin of its speed. What is tracked
is one factor for all of them, not one a bin: what wears in does so at every speed, and a bin that
is seldom visited would stand where it was, alarm at its next visit, and then, being in an alarm,
never learn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from math import exp, inf, log, nan
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edge_agent.bundles.frozen import Positive
from edge_agent.judging.threshold_spec import Adaptation, Quantile, SpeedBin, Tail, ThresholdSpec

Floats = NDArray[np.float64]
Method = Literal["quantile", "mean_3sigma", "pot"]

HONEST_WINDOWS = 1000
SKETCH_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
TINY = float(np.finfo(np.float32).tiny)
# Peaks over threshold: what counts as the tail, and how often a normal window may lie over the
# limit. A shape beyond 0.4 is more than so few excesses can tell.
TAIL_QUANTILE, TAIL_RISK, MAX_SHAPE = 0.9, 1e-4, 0.4
# Of the spread of the log scores: fast enough to follow a day, slow enough not to follow a fault.
STEP_SHARE, LEAST_STEP = 0.02, 0.001
# Of fewer windows the 99.5 % quantile is hardly more than the largest one.
LEAST_BIN_WINDOWS = 100


class SpeedEdges(NamedTuple):
    """Bins of the speed: the lowest speed, and the highest one of each bin, rising."""

    lowest: float
    highs: tuple[float, ...]


class Speeds(NamedTuple):
    """The mean speed of each held-out window, float64[n], and the bins that it may fall into."""

    of_windows: Floats
    edges: SpeedEdges


def speed_edges(speeds: Floats, bins: int) -> SpeedEdges:
    """At most so many bins, with as many of these windows in each as can be: a speed that the
    machine keeps fills one by itself."""
    highs = np.quantile(speeds, np.arange(1, bins + 1) / bins, method="inverted_cdf")
    return SpeedEdges(float(speeds.min()), tuple(np.unique(highs).tolist()))


def commission(
    scores: Floats,
    method: Method = "quantile",
    q: float = 0.995,
    factor: float = 1.2,
    adaptation: Literal["conformal", "spot"] | None = None,
    speeds: Speeds | None = None,
) -> ThresholdSpec:
    """The commissioning threshold.

    `quantile`: factor x the q-quantile. `mean_3sigma`: mean + 3 standard deviations. `pot`: what a
    normal window exceeds once in 10,000, by the tail's generalised Pareto distribution. With
    `speeds`, the same once more for each bin.
    Raises `ValueError` for no scores or scores that are not finite.
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError(f"{len(scores)} scores to calibrate on, and all must be finite")

    level = partial(_level, method, q, factor)
    value, bins = level(scores), tuple[SpeedBin, ...]()
    if speeds is not None:
        bins, which = _by_speed(scores, speeds, value, level)
        scores = scores * (value / np.array([one.value for one in bins]))[which]
    step = STEP_SHARE * float(np.log(np.maximum(scores, TINY)).std()) + LEAST_STEP
    return ThresholdSpec(
        method=method,
        value=value,
        factor=factor,
        q=q,
        windows=len(scores),
        provisional=len(scores) < HONEST_WINDOWS,
        sketch=tuple(
            Quantile(q=at, score=float(np.quantile(scores, at))) for at in SKETCH_QUANTILES
        ),
        tail=_tail(scores),
        adaptation=adaptation and Adaptation(method=adaptation, alpha=1.0 - q, step=step),
        bins=bins,
    )


def _level(method: Method, q: float, factor: float, scores: Floats) -> float:
    if method == "quantile":
        found = factor * float(np.quantile(scores, q))
    elif method == "pot":
        found = peak(_tail(scores))
    else:
        found = float(scores.mean() + 3.0 * scores.std())
    return max(found, TINY)


def _by_speed(
    scores: Floats, speeds: Speeds, pooled: float, level: Callable[[Floats], float]
) -> tuple[tuple[SpeedBin, ...], NDArray[np.intp]]:
    """The bins, and which of them each score belongs to."""
    lowest, highs = speeds.edges
    which = np.array([_bin_of(highs, speed) for speed in speeds.of_windows.tolist()], np.intp)
    bins = []
    for number, (low, high) in enumerate(zip((lowest, *highs), highs, strict=False)):
        mine = scores[which == number]
        value = level(mine) if len(mine) >= LEAST_BIN_WINDOWS else pooled
        bins.append(SpeedBin(low=low, high=high, value=value, windows=len(mine)))
    return tuple(bins), which


def _bin_of(highs: tuple[float, ...], speed: float) -> int:
    """The bin of a speed; the nearest one for a speed beyond all, the first for not-a-number."""
    return min(bisect_left(highs, speed), len(highs) - 1)


def peak(tail: Tail, risk: float = TAIL_RISK) -> float:
    """The score that a normal window exceeds with probability `risk` (Siffer et al., KDD 2017,
    equation 1), shape and scale by the method of moments."""
    ratio = tail.mean**2 / max(tail.variance, TINY)
    shape = min(max(0.5 * (1.0 - ratio), -MAX_SHAPE), MAX_SHAPE)
    scale = tail.mean * (1.0 - shape)
    rarer = risk * tail.windows / tail.excesses
    if abs(shape) < 1e-6:
        return tail.level - scale * log(rarer)
    return tail.level + scale / shape * (exp(-shape * log(rarer)) - 1.0)


class ThresholdState(BaseModel):
    """What of a threshold outlives the process. `bundle_value` is that of the bundle that it
    belongs to: with another bundle it means nothing."""

    model_config = ConfigDict(extra="ignore")

    bundle_value: Positive
    commissioned: Positive
    value: Positive
    tail: Tail | None = None


class Threshold:
    """The limit of one asset as it is now: `value` before the speed counts."""

    def __init__(self, spec: ThresholdSpec) -> None:
        self.spec = spec
        self.value = spec.value
        self._absolute = spec.absolute or inf
        self._adaptation = spec.adaptation
        self._commissioned = spec.value
        # What is tracked is the quantile, the limit is a factor over it.
        self._factor = spec.factor if spec.method == "quantile" else 1.0
        self._tracked = log(spec.value / self._factor)
        self._tail = spec.tail
        self._bins = spec.bins
        self._highs = tuple(one.high for one in spec.bins)

    def limit(self, speed: float = nan) -> float:
        """What an alarm compares a window at this speed with. The absolute limit counts if it is
        nearer."""
        return min(self.value * self._share(speed), self._absolute)

    def ratio(self, score: float, speed: float = nan) -> float:
        """How far over the limit; 1 is at it."""
        return score / self.limit(speed)

    def unseen(self, speed: float) -> tuple[float, float] | None:
        """The range of speeds that is known, if this one lies outside of it."""
        if not self._bins or self._bins[0].low <= speed <= self._highs[-1]:
            return None
        return self._bins[0].low, self._highs[-1]

    def learn(self, score: float, speed: float = nan) -> None:
        """A window that is normal for all we know."""
        spec = self._adaptation
        if spec is None:
            return
        score /= self._share(speed)
        if spec.method == "conformal":
            over = score > exp(self._tracked)
            self._tracked += spec.step * (over - spec.alpha)
            value = self._factor * exp(self._tracked)
        elif score <= self.value:
            value = self._grow_tail(score)
        else:  # an anomaly by itself, and one of them would bend the tail for good
            return
        low, high = self._commissioned, spec.clip_ratio * self._commissioned
        self.value = min(max(value, low), high)
        self._tracked = log(self.value / self._factor)

    def pooled(self, score: float, speed: float = nan) -> float:
        """The score as it would be if the speed did not matter."""
        return score / self._share(speed)

    def accept(self, scores: Floats) -> None:
        """Commissions anew on (pooled) scores of a machine that somebody calls normal, but never
        under the bundle's own value. Raises `ValueError` if they are too few to tell."""
        if len(scores) < LEAST_BIN_WINDOWS:
            raise ValueError(
                f"{len(scores)} windows since the start, at least {LEAST_BIN_WINDOWS} are needed"
            )
        spec = self.spec
        level = _level(spec.method, spec.q, spec.factor, scores)
        self.value = self._commissioned = max(level, spec.value)
        self._tracked = log(self.value / self._factor)
        self._tail = _tail(scores) if spec.tail else None

    def state(self) -> ThresholdState:
        """What a later process needs to go on."""
        return ThresholdState(
            bundle_value=self.spec.value, commissioned=self._commissioned, value=self.value,
            tail=self._tail,
        )  # fmt: skip

    def restore(self, state: ThresholdState) -> None:
        """Goes on where an earlier process was, if that had the same bundle."""
        if state.bundle_value != self.spec.value:
            return
        self.value, self._commissioned, self._tail = state.value, state.commissioned, state.tail
        self._tracked = log(self.value / self._factor)

    def _share(self, speed: float) -> float:
        """How much louder than all of its speeds together the machine is at this one."""
        if not self._bins:
            return 1.0
        return self._bins[_bin_of(self._highs, speed)].value / self.spec.value

    def _grow_tail(self, score: float) -> float:
        tail = self._tail
        assert tail is not None  # the manifest sees to it
        excess, count, mean = score - tail.level, tail.excesses, tail.mean
        if excess > 0.0:
            mean += (excess - mean) / (count + 1)
            spread = tail.variance * count + (excess - tail.mean) * (excess - mean)
            changes = {"excesses": count + 1, "mean": mean, "variance": spread / (count + 1)}
        else:
            changes = {}
        self._tail = tail.model_copy(update={"windows": tail.windows + 1, **changes})
        return peak(self._tail)


def _tail(scores: Floats) -> Tail:
    """The excess over the 90 % quantile; at least one score is over it, if only by nothing."""
    level = max(float(np.quantile(scores, TAIL_QUANTILE)), TINY)
    excess = scores[scores > level] - level
    if not len(excess):
        excess = np.array([TINY])
    return Tail(
        level=level,
        windows=len(scores),
        excesses=len(excess),
        mean=max(float(excess.mean()), TINY),
        variance=float(excess.var()),
    )
