"""Turning: a calibration applied to a second recording: how far it turned, how steady the field is.

In: a `Calibration` with a matrix, `Readings` that it was not made from. Out: a `Check`. Never:
corrects the calibration.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.calibrate.compass.calibration import Calibration
from edge_agent.calibrate.compass.gravity import down_directions
from edge_agent.calibrate.heading import heading_deg, level_turns_deg
from edge_agent.calibrate.reading.readings import Readings
from edge_agent.calibrate.sphere import Floats

# Steeper than this a heading jumps while the board passes the vertical.
STEEPEST_TILT_DEG = 60.0


class Check(NamedTuple):
    """`net_turn_deg` is last minus first heading without a jump at 360, right-handed about z:
    clockwise from above where z points down. `tilt_compensated` tells how it was found. `norm_cv`
    is the spread of the field's length over its mean. `turns_deg` is for plots."""

    net_turn_deg: float
    norm_cv: float
    tilt_compensated: bool
    turns_deg: Floats


def check(calibration: Calibration, readings: Readings, latitude: float | None = None) -> Check:
    """What a recording looks like with the calibration."""
    field = calibration.correct(readings.field)
    lengths = np.linalg.norm(field, axis=1)
    norm_cv = float(lengths.std() / max(float(lengths.mean()), np.finfo(float).tiny))
    down = None
    if readings.acceleration is not None:
        down = down_directions(readings.acceleration, field, latitude)
    if down is not None and bool(
        np.all(np.abs(down[:, 2]) > np.cos(np.radians(STEEPEST_TILT_DEG)))
    ):
        turns = np.unwrap(heading_deg(field, down), period=360.0) * np.sign(down[0, 2])
        return Check(float(turns[-1] - turns[0]), norm_cv, True, turns - turns[0])
    turns = level_turns_deg(_own_axes(field, calibration))
    return Check(float(turns[-1]), norm_cv, False, turns)


def _own_axes(field: Floats, calibration: Calibration) -> Floats:
    """The field in the magnetometer's axes: without gravity the accelerometer's mean nothing."""
    assert calibration.matrix is not None
    left, _, right = np.linalg.svd(calibration.matrix)
    return np.asarray(field @ (left @ right))
