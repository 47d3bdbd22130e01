"""Threshold: scores of held-out normal windows to the limit above which a score counts.

In: scores of normal windows that the model was not fitted on. Out: `ThresholdSpec` for the bundle.
Never: sees a window that the model was fitted on; the caller answers for that.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.manifest import Quantile, ThresholdSpec

Method = Literal["quantile", "mean_3sigma"]

HONEST_WINDOWS = 1000
SKETCH_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


def commission(
    scores: NDArray[np.float64], method: Method = "quantile", q: float = 0.995, factor: float = 1.2
) -> ThresholdSpec:
    """The commissioning threshold.

    `quantile`: factor x the q-quantile. `mean_3sigma`: mean + 3 standard deviations.
    Raises `ValueError` for no scores or scores that are not finite.
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError(f"{len(scores)} scores to calibrate on, and all must be finite")
    if method == "quantile":
        value = factor * float(np.quantile(scores, q))
    else:
        value = float(scores.mean() + 3.0 * scores.std())
    return ThresholdSpec(
        method=method,
        value=max(value, float(np.finfo(np.float32).tiny)),
        factor=factor,
        q=q,
        windows=len(scores),
        provisional=len(scores) < HONEST_WINDOWS,
        sketch=tuple(
            Quantile(q=at, score=float(np.quantile(scores, at))) for at in SKETCH_QUANTILES
        ),
    )
