"""Evaluate: measures of scores. High score = anomalous.

In: scores and labels. Out: numbers. Never: a threshold, a model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


def ranks(values: Scores) -> Scores:
    """1 for the smallest; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Scores = (last - (counts - 1) / 2.0)[place]
    return shared


def auc(normal: Scores, anomalous: Scores) -> float | None:
    """Chance that an anomalous window scores above a normal one (ties count half); None without
    both kinds."""
    if not len(normal) or not len(anomalous):
        return None
    order = ranks(np.concatenate([normal, anomalous]))
    above = order[len(normal) :].sum() - len(anomalous) * (len(anomalous) + 1) / 2.0
    return float(above / (len(normal) * len(anomalous)))


def spearman(first: Scores, second: Scores) -> float:
    """Rank correlation; 1 for two scores that order the windows alike."""
    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt(np.sum(a**2) * np.sum(b**2)))
    return float(np.sum(a * b)) / norm if norm else float(np.array_equal(a, b))
