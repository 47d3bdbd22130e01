"""Hard iron only: what is left for a board that cannot be turned.

In: readings of an arc or a few attitudes, and a rough sphere. Out: an `Ellipsoid` that is a sphere,
with a covariance that says what the soft iron nobody could see may cost. Never: looks better than
it is.
"""

from __future__ import annotations

import numpy as np

from edge_agent.calibrate.ellipsoid import (
    LEAST_NOISE,
    PARAMETERS,
    PRIOR_MEAN,
    PRIOR_SIGMA,
    Ellipsoid,
    jacobian,
)
from edge_agent.calibrate.sphere import MAD_TO_SIGMA, TRIM_SIGMAS, Floats

# Directions along which the readings spread less than this share of the most are not seen: the
# offset along them is left where the readings are.
SEEN_SHARE = 0.05


def hard_iron(readings: Floats) -> Ellipsoid:
    """A sphere through the readings, in the directions in which they spread."""
    mean = readings.mean(axis=0)
    centred = readings - mean
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[spread > SEEN_SHARE * spread[0]]
    seen = centred @ axes.T
    rows = np.column_stack((2.0 * seen, np.ones(len(seen))))
    found, *_ = np.linalg.lstsq(rows, np.einsum("ij,ij->i", seen, seen), rcond=None)
    offset = mean + found[:-1] @ axes
    distances = np.linalg.norm((readings - offset) @ axes.T, axis=1)
    radius = float(np.median(distances))
    off = np.abs(distances - radius)
    sigma = MAD_TO_SIGMA * float(np.median(off))
    inliers = off <= TRIM_SIGMAS * max(sigma, LEAST_NOISE * radius)
    noise = max(sigma / radius, LEAST_NOISE)
    parameters = np.concatenate((PRIOR_MEAN, np.zeros(3)))
    covariance = _covariance((readings[inliers] - offset) / radius, noise)
    return Ellipsoid(parameters, np.eye(3), offset, radius, covariance, noise, inliers)


def _covariance(scaled: Floats, noise: float) -> Floats:
    """Soft iron as the prior has it, the offset that it would have led the fit to, and noise.

    An offset in a direction that was not seen may be as large as the radius.
    """
    slopes, _ = jacobian(np.concatenate((PRIOR_MEAN, np.zeros(3))), scaled, noise)
    by_matrix, by_offset = slopes[:, :6], slopes[:, 6:]
    of_offset = np.linalg.inv(by_offset.T @ by_offset + np.eye(3))
    reaction = -of_offset @ by_offset.T @ by_matrix
    spread = np.vstack((np.eye(6), reaction)) * PRIOR_SIGMA
    covariance = spread @ spread.T
    covariance[6:, 6:] += of_offset
    assert covariance.shape == (PARAMETERS, PARAMETERS)
    return np.asarray(covariance)
