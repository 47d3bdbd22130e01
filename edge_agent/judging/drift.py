"""Drift: whether the machine's normal is still the one that the model was taught.

In: scores of windows outside of alarms. Out: a notice when their distribution has moved, and when
it is back. Never: alarms, changes a threshold, keeps a score.

The measure is the population stability index (PSI) of the scores over the bins that the bundle's
sketch of held-out normal scores makes: sum of (p - q) ln(p / q). Under 0.1 nothing has moved, over
0.25 a model is due for a look (Siddiqi, Credit Risk Scorecards, 2006).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.judging.threshold_spec import Quantile

MOVED_PSI, BACK_PSI = 0.25, 0.1
# Windows that count, roughly, and how many must have been seen before anything is said.
MEMORY_WINDOWS = 5_000
CUTS = (0.25, 0.5, 0.75, 0.9, 0.99)
LEAST_SHARE = 1e-4


class Drift(NamedTuple):
    """The distribution has moved (or is back). `over_median` is the share of scores over the
    median of those that the bundle was calibrated on; 0.5 is where it was."""

    asset: str
    t: float
    moved: bool
    psi: float
    over_median: float

    @property
    def sentence(self) -> str:
        """In words."""
        if not self.moved:
            return f"scores are again as they were when the bundle was built (PSI {self.psi:.2f})"
        return (
            f"normal scores have moved (PSI {self.psi:.2f}): {self.over_median:.0%} are over the "
            "median of the bundle's; if the machine is well, retrain or accept_new_normal"
        )


class DriftCheck:
    """One asset's. Says nothing for a bundle without a sketch."""

    def __init__(self, asset: str, sketch: tuple[Quantile, ...]) -> None:
        self.asset = asset
        levels = {point.q: point.score for point in sketch}
        cuts = [q for q in CUTS if q in levels]
        self._edges = np.array([levels[q] for q in cuts])
        self._expected = np.diff([0.0, *cuts, 1.0])
        self._shares: NDArray[np.float64] = self._expected.copy()
        self._over_median = 0.5
        self._median = levels.get(0.5, np.inf)
        self._windows = 0
        self.moved = False

    @property
    def psi(self) -> float:
        """How far the distribution has moved."""
        share = np.maximum(self._shares, LEAST_SHARE)
        return float(((share - self._expected) * np.log(share / self._expected)).sum())

    def take(self, t: float, score: float) -> Drift | None:
        """One window's score."""
        if not len(self._edges):
            return None
        self._windows += 1
        weight = 1.0 / min(self._windows, MEMORY_WINDOWS)
        self._shares *= 1.0 - weight
        self._shares[int(np.searchsorted(self._edges, score))] += weight
        self._over_median += weight * ((score > self._median) - self._over_median)
        if self._windows < MEMORY_WINDOWS:
            return None
        psi = self.psi
        moved = psi > (BACK_PSI if self.moved else MOVED_PSI)
        if moved == self.moved:
            return None
        self.moved = moved
        return Drift(self.asset, t, self.moved, round(psi, 4), round(self._over_median, 4))
