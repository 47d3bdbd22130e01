"""Commissioning: windows of a machine that is well to what is normal for it.

In: a model, a scorer, windows that the model was not fitted on. Out: their errors, and the levels
that a `NormalError` holds. Never: picks the windows. The converter and a gateway that calibrates on
site both come through here, and through `threshold.commission` with the scores.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.manifest import NormalError
from edge_agent.judging.pipeline import Model
from edge_agent.judging.scoring import Features, Scorer, mean_squares

# The mean of so many of the largest errors: a single quantile of few windows is mostly chance, and
# float and int8 would then blame different channels.
LARGEST_SHARE = 0.05
ERROR_FLOOR = 1e-6

Floats = NDArray[np.float64]


class WindowErrors(NamedTuple):
    """Mean squared errors in scaled units: float64[n, features] over the steps of each window, and
    float64[n, steps] over its features."""

    by_feature: Floats
    by_step: Floats


def errors_of(model: Model, scorer: Scorer, windows: Iterable[Features]) -> WindowErrors:
    """Of scaled windows, each float32[steps, features], one at a time as the gateway would."""
    by_feature, by_step = [], []
    for scaled in windows:
        residuals = scorer.score(0.0, scaled, model(scaled)).residuals
        by_feature.append(mean_squares(residuals))
        by_step.append(np.square(residuals).mean(axis=1))
    return WindowErrors(np.array(by_feature), np.array(by_step))


def normal_error(errors: WindowErrors) -> NormalError:
    """What is normal for each feature and step. There must be a window."""
    return NormalError(by_feature=_level(errors.by_feature), by_step=_level(errors.by_step))


def scores_of(scorer: Scorer, by_feature: Floats) -> Floats:
    """float64[n]: what the errors of each window come to."""
    return np.array([scorer.value(errors) for errors in by_feature], np.float64)


def _level(errors: Floats) -> tuple[float, ...]:
    largest = np.sort(errors, axis=0)[-max(1, round(LARGEST_SHARE * len(errors))) :]
    return tuple(np.maximum(largest.mean(axis=0), ERROR_FLOOR).tolist())
