"""Scoring: features and their reconstruction to one number and who is to blame for it.

In: features, and what the model made of them. Out: `Score`; high = anomalous.
Never: decides (that is threshold.py and alarm.py), sees int8.

The error is taken against the float features, never against the quantised ones: an anomaly
saturates the int8 input, and an error that is measured behind that clip vanishes where it matters.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.manifest import NormalError, Scaler, ScoreMethod

Features = NDArray[np.float32]

WORST_SCORE = 1e30
# Of the mean level of all features: where a feature hardly erred while the levels were taken (its
# channel stood still), next to nothing would otherwise outweigh all the others.
LEAST_LEVEL = 0.1


class Levels(NamedTuple):
    """What is normal for each feature and step, which channel each feature belongs to, and how to
    get from scaled units back. No feature's level is under a tenth of their mean."""

    by_feature: NDArray[np.float64]
    by_step: NDArray[np.float64]
    membership: NDArray[np.float64]
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]


class Score(NamedTuple):
    """One window's verdict. `value` is the mean squared error in scaled units, or with `weighted`
    the mean over features of squared error / normal level; `scaled` is what the model was fed,
    `residuals` float64[steps, features] are signed: positive = more than it expects.

    The shares sum to 1 and compare each error with its own normal level. They are worked out
    when they are asked for: most windows are normal, and nobody asks.
    """

    t: float
    value: float
    scaled: Features
    residuals: NDArray[np.float64]
    levels: Levels

    @property
    def by_feature(self) -> NDArray[np.float64]:
        """Each feature's share."""
        return _shares(mean_squares(self.residuals) / self.levels.by_feature)

    @property
    def by_channel(self) -> NDArray[np.float64]:
        """Each channel's share: the sum of its features'."""
        return self.by_feature @ self.levels.membership

    @property
    def by_step(self) -> NDArray[np.float64]:
        """Each time step's share."""
        return _shares(np.square(self.residuals).mean(axis=1) / self.levels.by_step)

    @property
    def residual(self) -> NDArray[np.float64]:
        """Each feature's mean residual, signed."""
        return np.asarray(self.residuals.mean(axis=0))

    def observed(self, step: int, feature: int) -> float:
        """What was there, in the feature's own unit."""
        levels = self.levels
        return float(self.scaled[step, feature] * levels.scale[feature] + levels.centre[feature])

    def expected(self, step: int, feature: int) -> float:
        """What the model expected there."""
        surplus = self.residuals[step, feature] * self.levels.scale[feature]
        return self.observed(step, feature) - float(surplus)


class Scorer:
    """Scaling and error of one bundle; `channel_of` maps features to channels."""

    def __init__(
        self,
        scaler: Scaler,
        normal: NormalError,
        channel_of: NDArray[np.intp],
        method: ScoreMethod = "mse",
    ) -> None:
        self._parts = scaler, channel_of, method
        self._centre = np.asarray(scaler.centre, np.float32)
        scale = np.asarray(scaler.scale, np.float32)
        self._inverse = np.float32(1.0) / scale
        membership = np.equal.outer(channel_of, np.arange(channel_of.max() + 1)).astype(float)
        by_feature, by_step = np.asarray(normal.by_feature), np.asarray(normal.by_step)
        by_feature = np.maximum(by_feature, LEAST_LEVEL * by_feature.mean())
        counts = 1.0 / by_feature if method == "weighted" else np.ones_like(by_feature)
        self._weights = counts / len(counts)
        self._levels = Levels(by_feature, by_step, membership, self._centre, scale)

    def knowing(self, normal: NormalError) -> Self:
        """The same with other levels."""
        scaler, channel_of, method = self._parts
        return type(self)(scaler, normal, channel_of, method)

    def scale(self, features: Features) -> Features:
        """What the model is fed: float32[steps, features] in scaled units."""
        return (features - self._centre) * self._inverse

    def score(self, t: float, scaled: Features, reconstruction: Features) -> Score:
        """The verdict on one window; `t` is its end."""
        residuals = np.subtract(scaled, reconstruction, dtype=np.float64)
        return Score(t, self.value(mean_squares(residuals)), scaled, residuals, self._levels)

    def value(self, by_feature: NDArray[np.float64]) -> float:
        """What the mean squared errors of the features, float64[features], come to."""
        value = float(by_feature @ self._weights)
        # Also for infinity and for infinity minus infinity: a score is always a number.
        return value if value < WORST_SCORE else WORST_SCORE


def mean_squares(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[features]: each feature's mean squared error over the steps."""
    squares: NDArray[np.float64] = np.einsum("sf,sf->f", residuals, residuals)
    return squares / len(residuals)


def _shares(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Parts of a whole of 1; equal parts when there is nothing to share."""
    total = parts.sum()
    if not 0.0 < total < np.inf:
        return np.full(len(parts), 1.0 / len(parts))
    shares: NDArray[np.float64] = parts / total
    return shares
