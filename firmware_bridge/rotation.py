"""Rotation: axes turned about one of them.

In: angles. Out: matrices. Never: says which attitude they make together: whoever multiplies does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def about(axis: int, angles: Floats) -> Floats:
    """The axes turned about the axis 0, 1 or 2 by radians[n]: float64[n, 3, 3]."""
    after, last = (axis + 1) % 3, (axis + 2) % 3
    turned = np.zeros((len(angles), 3, 3))
    turned[:, axis, axis] = 1.0
    turned[:, after, after] = turned[:, last, last] = np.cos(angles)
    turned[:, after, last] = np.sin(angles)
    turned[:, last, after] = -np.sin(angles)
    return turned
