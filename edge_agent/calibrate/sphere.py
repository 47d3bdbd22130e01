"""Sphere: where a calibration starts, and how much of the sphere it has seen.

In: magnetometer readings float64[n, 3] in any unit. Out: a rough centre and radius, or which of 100
equal sections of the sphere hold a direction. Never: lets a few wild readings move the start.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAD_TO_SIGMA = 1.4826  # of normal noise
TRIM_SIGMAS = 4.0
# Less than this share of the radius is noise of any magnetometer, not an outlier.
TRIM_FLOOR = 0.02
# Caps and rings of equal area (after MotionCal): lowest z of the ring, sectors in it.
RINGS = ((0.98, 1), (0.68, 15), (0.0, 34), (-0.68, 34), (-0.98, 15), (-1.0, 1))
SECTIONS = 100


class Sphere(NamedTuple):
    """A rough centre and radius, in the unit of the readings."""

    centre: Floats
    radius: float


def trimmed_sphere(readings: Floats) -> Sphere:
    """Linear least squares, three times, each time without what lies far off the last sphere."""
    kept = readings
    for _ in range(3):
        centre = _centre(kept)
        distances = np.linalg.norm(readings - centre, axis=1)
        median = float(np.median(distances))
        spread = MAD_TO_SIGMA * float(np.median(np.abs(distances - median)))
        near = np.abs(distances - median) <= max(TRIM_SIGMAS * spread, TRIM_FLOOR * median)
        kept = readings[near]
    return Sphere(centre, float(np.median(distances[near])))


def _centre(readings: Floats) -> Floats:
    """Of the sphere |v|² = 2 v · centre + s; the mean is taken out first, so that large offsets
    cost no digits."""
    mean = readings.mean(axis=0)
    centred = readings - mean
    rows = np.column_stack((2.0 * centred, np.ones(len(centred))))
    found, *_ = np.linalg.lstsq(rows, np.einsum("ij,ij->i", centred, centred), rcond=1e-9)
    return np.asarray(mean + found[:3])


def sections(directions: Floats) -> NDArray[np.intp]:
    """The section, 0 to 99, of each direction float64[n, 3] (any length but 0)."""
    x, y, z = directions.T
    height = z / np.linalg.norm(directions, axis=1)
    turn = (np.arctan2(y, x) + np.pi) / (2 * np.pi)
    section = np.full(len(directions), SECTIONS - 1, np.intp)
    first, above = 0, np.inf
    for low, sectors in RINGS:
        inside = (height > low) & (height <= above) if low > -1.0 else height <= above
        section[inside] = first + np.minimum((turn[inside] * sectors).astype(np.intp), sectors - 1)
        first, above = first + sectors, low
    return section


def coverage(directions: Floats) -> NDArray[np.bool_]:
    """Which of the 100 sections hold a direction."""
    seen = np.zeros(SECTIONS, np.bool_)
    seen[sections(directions)] = True
    return seen
