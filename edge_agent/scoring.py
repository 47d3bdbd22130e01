"""Scoring: features and their reconstruction to one number and who is to blame for it.

In: features, and what the model made of them. Out: `Score`; high = anomalous.
Never: decides (that is threshold.py and alarm.py), sees int8.

The error is taken against the float features, never against the quantised ones: an anomaly
saturates the int8 input, and an error that is measured behind that clip vanishes where it matters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.manifest import NormalError, Scaler

Features = NDArray[np.float32]

WORST_SCORE = 1e30


class Score(NamedTuple):
    """One window's verdict. `value` is the mean squared error in scaled units. The shares sum to 1
    and compare each error with its own normal 99 % level; `residual` is signed, in scaled units:
    positive = more than the model expects."""

    t: float
    value: float
    by_channel: NDArray[np.float64]
    by_step: NDArray[np.float64]
    by_feature: NDArray[np.float64]
    residual: NDArray[np.float64]


class Scorer:
    """Scaling, error and shares of one bundle; `channel_of` maps features to channels."""

    def __init__(self, scaler: Scaler, normal: NormalError, channel_of: NDArray[np.intp]) -> None:
        self._centre = np.asarray(scaler.centre, np.float32)
        self._inverse = np.float32(1.0) / np.asarray(scaler.scale, np.float32)
        self._normal_by_feature = np.asarray(normal.by_feature)
        self._normal_by_step = np.asarray(normal.by_step)
        self._membership = np.equal.outer(channel_of, np.arange(channel_of.max() + 1)).astype(float)

    def scale(self, features: Features) -> Features:
        """What the model is fed: float32[steps, features] in scaled units."""
        return (features - self._centre) * self._inverse

    def score(self, t: float, scaled: Features, reconstruction: Features) -> Score:
        """The verdict on one window; `t` is its end."""
        residual = scaled.astype(np.float64) - reconstruction
        squared = np.square(residual)
        error_by_feature = squared.mean(axis=0)
        by_feature = _shares(error_by_feature / self._normal_by_feature)
        value = float(error_by_feature.mean())
        return Score(
            t,
            # Also for infinity and for infinity minus infinity: a score is always a number.
            value if value < WORST_SCORE else WORST_SCORE,
            by_feature @ self._membership,
            _shares(squared.mean(axis=1) / self._normal_by_step),
            by_feature,
            residual.mean(axis=0),
        )


def _shares(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Parts of a whole of 1; equal parts when there is nothing to share."""
    total = parts.sum()
    if not 0.0 < total < np.inf:
        return np.full(len(parts), 1.0 / len(parts))
    shares: NDArray[np.float64] = parts / total
    return shares
