"""Heading: calibrated field and gravity to degrees.

In: fields float64[n, 3] and directions of down float64[n, 3], in body axes x forward, y right, z
down. Out: degrees. Never: knows where the calibration came from.
"""

from __future__ import annotations

import numpy as np

from edge_agent.calibrate.sphere import Floats
from firmware_bridge.rotation import about

LEVEL = np.array([0.0, 0.0, 1.0])


def unit(vectors: Floats) -> Floats:
    """The same directions with length 1; a vector of length 0 stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(float).tiny))


def heading_deg(field: Floats, down: Floats = LEVEL, declination_deg: float = 0.0) -> Floats:
    """Clockwise from north seen from above, 0 to 360, whatever the tilt; magnetic, or true with
    the declination of the place. `down` of one row holds for every field."""
    east = np.cross(down, field)
    north = np.cross(east, down)
    east_x = east[..., 0] / np.maximum(np.linalg.norm(east, axis=-1), np.finfo(float).tiny)
    north_x = north[..., 0] / np.maximum(np.linalg.norm(north, axis=-1), np.finfo(float).tiny)
    return np.asarray((np.degrees(np.arctan2(east_x, north_x)) + declination_deg) % 360.0)


def level_turns_deg(field: Floats) -> Floats:
    """Turned about z since the first row, without a jump at 360: right-handed, so clockwise from
    above where z points down, and counter-clockwise where it points up. No tilt is allowed for."""
    turns = np.unwrap(np.arctan2(-field[:, 1], field[:, 0]))
    return np.asarray(np.degrees(turns - turns[0]))


def attitudes(
    headings_deg: Floats, nose_down_deg: Floats | float = 0.0, right_down_deg: Floats | float = 0.0
) -> Floats:
    """float64[n, 3, 3] that turn north-east-down into body axes: heading, then pitch, then roll."""
    yaw, pitch, roll = np.broadcast_arrays(
        np.radians(headings_deg), -np.radians(nose_down_deg), np.radians(right_down_deg)
    )
    return about(0, roll) @ about(1, pitch) @ about(2, yaw)
