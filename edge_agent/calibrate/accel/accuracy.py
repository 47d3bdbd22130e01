"""Accuracy: how wrong a calibrated reading will be in the worst direction, before it is.

In: a `Fit`. Out: milli-g. Never: looks at anything but the covariance: that of twelve poses on one
side is large though their residuals are small.
"""

from __future__ import annotations

import numpy as np

from edge_agent.calibrate.accel.fit import PARAMETERS, Fit, slopes
from edge_agent.calibrate.ellipsoid import COLUMNS, ROWS
from edge_agent.calibrate.sphere import Floats

DIRECTIONS, DRAWS = 200, 256
GOLDEN_TURN = np.pi * (3.0 - np.sqrt(5.0))


def worst_error_mg(fit: Fit, gravity_g: float = 1.0) -> float:
    """The largest error of the length of gravity over 200 directions, as it is on the average of
    many such calibrations: what noise of these parameters makes of it, drawn 256 times."""
    toward = spread_directions(DIRECTIONS)
    readings = gravity_g * toward @ np.linalg.inv(fit.matrix).T + fit.bias
    parameters = np.concatenate((fit.matrix[ROWS, COLUMNS], fit.bias))
    values, vectors = np.linalg.eigh(fit.believed)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    draws = np.random.default_rng(0).standard_normal((DRAWS, PARAMETERS)) @ root.T
    errors = np.abs(draws @ slopes(parameters, readings).T)
    return float(1e3 * errors.max(axis=1).mean())


def uncalibrated_error_mg(fit: Fit, gravity_g: float = 1.0) -> float:
    """The same without the calibration, as far as it knows."""
    toward = spread_directions(DIRECTIONS)
    readings = gravity_g * toward @ np.linalg.inv(fit.matrix).T + fit.bias
    return float(1e3 * np.abs(np.linalg.norm(readings, axis=1) - gravity_g).max())


def spread_directions(count: int) -> Floats:
    """Unit vectors on a spiral from +z to -z, all about equally far apart, [count, 3]."""
    height = 1.0 - (2.0 * np.arange(count) + 1.0) / count
    turn = GOLDEN_TURN * np.arange(count)
    wide = np.sqrt(1.0 - height**2)
    return np.column_stack((wide * np.cos(turn), wide * np.sin(turn), height))
