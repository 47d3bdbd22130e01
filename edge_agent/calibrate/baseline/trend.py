"""Trend: whether something moved while it should have stood still.

In: a number a window, in the order of time. Out: how far it moved in all, how sure that is, and the
largest jump. Never: calls noise a trend: windows overlap and machines sway, so the means of a few
blocks are compared, not the windows.

The trend is Mann and Kendall's rank test on the means of at most 20 blocks, its size the slope of
Theil and Sen over the whole capture. The jump is the largest difference between the medians of the
blocks before and after any cut that leaves two on either side, and at either end the last one.
"""

from __future__ import annotations

from math import erfc, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BLOCKS, LEAST_BLOCKS, LEAST_A_BLOCK = 20, 6, 8


class Trend(NamedTuple):
    """`moved` over the whole capture and `jump` are signed, in the unit of what was looked at; `p`
    is how often chance alone ranks the blocks so."""

    moved: float
    p: float
    jump: float


def block_means(values: Floats) -> Floats | None:
    """float64[blocks, ...] of values [n, ...]; None if there are too few for a trend."""
    blocks = min(BLOCKS, len(values) // LEAST_A_BLOCK)
    if blocks < LEAST_BLOCKS:
        return None
    return np.array([part.mean(axis=0) for part in np.array_split(values, blocks)])


def trend(means: Floats) -> Trend:
    """Of the means of blocks float64[blocks]."""
    count = len(means)
    first, second = np.triu_indices(count, 1)
    rises = means[second] - means[first]
    s = float(np.sign(rises).sum())
    spread = sqrt(count * (count - 1) * (2 * count + 5) / 18)
    p = erfc(max(abs(s) - 1.0, 0.0) / spread / sqrt(2.0))
    moved = float(np.median(rises / (second - first))) * (count - 1)
    return Trend(moved, p, _jump(means))


def _jump(means: Floats) -> float:
    cuts = range(2, len(means) - 1)
    jumps = [float(np.median(means[at:]) - np.median(means[:at])) for at in cuts]
    # One that comes with the last block, or is over with the first.
    jumps += [float(means[-1] - np.median(means[:-1])), float(np.median(means[1:]) - means[0])]
    return max(jumps, key=abs)
