"""Baseline: the linear rival that every network has to beat. PCA reconstruction error.

In: scaled windows. Out: a reconstruction, as a model would give it. Never: ships.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]

VARIANCE_KEPT = 0.95


class LinearRival:
    """The principal components of the fit windows that keep 95 % of the variance."""

    def __init__(self, fit: Features) -> None:
        flat = fit.reshape(len(fit), -1).astype(np.float64)
        self._mean = flat.mean(axis=0)
        _, spread, axes = np.linalg.svd(flat - self._mean, full_matrices=False)
        kept = np.cumsum(spread**2) / max(float(np.sum(spread**2)), 1e-300)
        self.components = int(np.searchsorted(kept, VARIANCE_KEPT)) + 1
        self._axes = axes[: self.components]

    @property
    def parameters(self) -> int:
        """Numbers that it would have to ship."""
        return int(self._axes.size + self._mean.size)

    def __call__(self, scaled: Features) -> Features:
        """The reconstruction of one scaled window."""
        centred = scaled.reshape(-1) - self._mean
        flat = (centred @ self._axes.T) @ self._axes + self._mean
        return np.asarray(flat.reshape(scaled.shape), np.float32)
