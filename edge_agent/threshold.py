"""Threshold: scores of held-out normal windows to the limit above which a score counts, and how
that limit follows the machine.

In: scores of normal windows that the model was not fitted on; later, one score a window.
Out: `ThresholdSpec` for the bundle; a ratio of score to limit.
Never: sees a window that the model was fitted on (the caller answers for that), learns from a
window in an alarm (the caller doesn't tell it), needs more than a few numbers of memory.
"""

from __future__ import annotations

from math import exp, inf, log
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.manifest import Adaptation, Quantile, Tail, ThresholdSpec

Method = Literal["quantile", "mean_3sigma", "pot"]

HONEST_WINDOWS = 1000
SKETCH_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
TINY = float(np.finfo(np.float32).tiny)
# Peaks over threshold: what counts as the tail, and how often a normal window may lie over the
# limit. A shape beyond 0.4 is more than so few excesses can tell.
TAIL_QUANTILE, TAIL_RISK, MAX_SHAPE = 0.9, 1e-4, 0.4
# Of the spread of the log scores: fast enough to follow a day, slow enough not to follow a fault.
STEP_SHARE, LEAST_STEP = 0.02, 0.001


def commission(
    scores: NDArray[np.float64],
    method: Method = "quantile",
    q: float = 0.995,
    factor: float = 1.2,
    adaptation: Literal["conformal", "spot"] | None = None,
) -> ThresholdSpec:
    """The commissioning threshold.

    `quantile`: factor x the q-quantile. `mean_3sigma`: mean + 3 standard deviations. `pot`: what a
    normal window exceeds once in 10,000, by the tail's generalised Pareto distribution.
    Raises `ValueError` for no scores or scores that are not finite.
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError(f"{len(scores)} scores to calibrate on, and all must be finite")
    tail = _tail(scores)
    if method == "quantile":
        value = factor * float(np.quantile(scores, q))
    elif method == "pot":
        value = peak(tail)
    else:
        value = float(scores.mean() + 3.0 * scores.std())
    step = STEP_SHARE * float(np.log(np.maximum(scores, TINY)).std()) + LEAST_STEP
    return ThresholdSpec(
        method=method,
        value=max(value, TINY),
        factor=factor,
        q=q,
        windows=len(scores),
        provisional=len(scores) < HONEST_WINDOWS,
        sketch=tuple(
            Quantile(q=at, score=float(np.quantile(scores, at))) for at in SKETCH_QUANTILES
        ),
        tail=tail,
        adaptation=adaptation and Adaptation(method=adaptation, alpha=1.0 - q, step=step),
    )


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


class Threshold:
    """The limit of one asset as it is now. `value` is what an alarm compares with."""

    def __init__(self, spec: ThresholdSpec) -> None:
        self.value = spec.value
        self._absolute = spec.absolute or inf
        self._adaptation = spec.adaptation
        self._commissioned = spec.value
        # What is tracked is the quantile, the limit is a factor over it.
        self._factor = spec.factor if spec.method == "quantile" else 1.0
        self._tracked = log(spec.value / self._factor)
        self._tail = spec.tail

    def ratio(self, score: float) -> float:
        """How far over the limit; 1 is at it. The absolute limit counts if it is nearer."""
        return score / min(self.value, self._absolute)

    def learn(self, score: float) -> None:
        """A window that is normal for all we know."""
        spec = self._adaptation
        if spec is None:
            return
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


def _tail(scores: NDArray[np.float64]) -> Tail:
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
