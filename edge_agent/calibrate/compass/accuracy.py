"""Accuracy: how wrong the heading will be, from the covariance of the fit, and what would help.

In: an `Ellipsoid` and the dip of the field. Out: degrees, or the next move. Never: looks at the
fit's residual. That is the same for a board that was tumbled and for one that was only turned.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from edge_agent.calibrate.ellipsoid import PARAMETERS, Ellipsoid, by_entry, jacobian
from edge_agent.calibrate.heading import LEVEL, attitudes, unit
from edge_agent.calibrate.sphere import Floats

HEADINGS_DEG = np.arange(-180.0, 180.0, 5.0)
# Every heading, level and tilted a little: how a mounted board is.
TILTS_DEG = ((0.0, 0.0), (7.0, 0.0), (-7.0, 0.0), (0.0, 7.0), (0.0, -7.0))
# Dip of the field where nobody knows better: northern and southern Europe lie about it.
USUAL_DIP_DEG = 65.0
# What a heading that is only guessed is wrong by.
GUESSED_DEG = 180.0 / np.sqrt(3.0)
UPSIDE_DOWN = np.diag([1.0, -1.0, -1.0])


class HeadingError(NamedTuple):
    """Predicted standard deviation in degrees: over all headings, and at the worst."""

    sigma_deg: float
    worst_deg: float


class Move(NamedTuple):
    """What to do with the board, in words, and the error that it should leave."""

    words: str
    sigma_deg: float


MOVES = {
    "tip the nose 45° down": (45.0, 0.0), "tip the nose 45° up": (-45.0, 0.0),
    "tip the right side 45° down": (0.0, 45.0), "tip the left side 45° down": (0.0, -45.0),
    "turn it upside down": (0.0, 180.0), "lay it flat": (0.0, 0.0),
    "stand it on its nose": (90.0, 0.0), "stand it on its tail": (-90.0, 0.0),
}  # fmt: skip
RUNS = 100
# By chance alone the two estimates differ by a tenth or so.
STRUCTURE = 1.25
# Three numbers for any of 35 spans of the time gain as much by chance once in two thousand times.
SPANS_OF, LEAST_CHANGE = 8, 25.0
SLIGHT = 1e-9  # keeps a matrix of rank one from being below zero by rounding


def heading_error(
    ellipsoid: Ellipsoid, covariance: Floats, dip_deg: float, z_up: bool = False
) -> HeadingError:
    """What `covariance` [9 or 12, square] makes of headings. The last three of 12 are radians
    between the axes of magnetometer and accelerometer."""
    slopes = np.concatenate([_slopes(ellipsoid, dip_deg, tilt, z_up) for tilt in TILTS_DEG])
    slopes = slopes[:, : len(covariance)]
    variances = np.einsum("ij,jk,ik->i", slopes, covariance, slopes)
    # Below zero is a matrix that rounding has spoilt: nothing is known.
    variances = np.where(variances > 0.0, variances, np.inf)
    sigmas = np.minimum(np.degrees(np.sqrt(variances)), GUESSED_DEG)
    return HeadingError(float(np.sqrt(np.mean(sigmas**2))), float(sigmas.max()))


def with_structure(ellipsoid: Ellipsoid, readings: Floats, dip_deg: float) -> Ellipsoid:
    """The same with `structure`: how far its residuals hang together.

    A field that is not uniform, or a sensor that lags, leaves residuals that keep their sign for
    many readings in a row; that many are worth no more than one. Sums over a hundred runs of
    readings show it (the sandwich estimate with blocks); noise alone leaves everything as it was.
    """
    scaled = (readings[ellipsoid.inliers] - ellipsoid.offset) / ellipsoid.radius
    at_offset = np.concatenate((ellipsoid.parameters[:6], np.zeros(3)))
    slopes, residuals = jacobian(at_offset, scaled, ellipsoid.noise)
    runs = np.array_split(slopes * residuals[:, None], min(RUNS, len(scaled)))
    sums = np.stack([run.sum(axis=0) for run in runs])
    seen = ellipsoid.covariance @ (sums.T @ sums) @ ellipsoid.covariance
    by_runs = heading_error(ellipsoid, seen, dip_deg).sigma_deg
    ratio = by_runs / heading_error(ellipsoid, ellipsoid.covariance, dip_deg).sigma_deg
    return ellipsoid if ratio < STRUCTURE else ellipsoid._replace(structure=ratio)


def with_change(ellipsoid: Ellipsoid, readings: Floats, dip_deg: float) -> Ellipsoid:
    """The same with `moved`: what a field that was another one for a part of the time did to it.

    A motor that is switched on, or a magnet that passes, bends the fit instead of standing out of
    it. So each span of eighths of the time is given an offset of its own; where that explains
    more than chance would, the worst of what these do to headings is an error of the fit.
    """
    taken = np.flatnonzero(ellipsoid.inliers)
    scaled = (readings[taken] - ellipsoid.offset) / ellipsoid.radius
    at_offset = np.concatenate((ellipsoid.parameters[:6], np.zeros(3)))
    slopes, residuals = jacobian(at_offset, scaled, ellipsoid.noise)
    cuts = np.searchsorted(taken, np.linspace(0, len(readings), SPANS_OF + 1))
    squares, pulls = np.zeros((SPANS_OF + 1, 9, 9)), np.zeros((SPANS_OF + 1, 9))
    for i, (first, last) in enumerate(pairwise(cuts)):
        squares[i + 1] = squares[i] + slopes[first:last].T @ slopes[first:last]
        pulls[i + 1] = pulls[i] + slopes[first:last].T @ residuals[first:last]
    worst, worst_deg = ellipsoid.moved, 0.0
    for i, j in combinations(range(SPANS_OF + 1), 2):
        change = _change(ellipsoid, squares[j] - squares[i], pulls[j] - pulls[i])
        if change is None or j - i == SPANS_OF:
            continue
        moved = np.outer(change, change)
        error = heading_error(ellipsoid, moved + SLIGHT * ellipsoid.covariance, dip_deg).sigma_deg
        if error > worst_deg:
            worst, worst_deg = moved, error
    return ellipsoid._replace(moved=worst)


def _change(ellipsoid: Ellipsoid, square: Floats, pull: Floats) -> Floats | None:
    """How far the nine parameters are off if a span had an offset of its own; None if it hadn't."""
    by_offset = square[:, 6:]
    information = square[6:, 6:] - by_offset.T @ ellipsoid.covariance @ by_offset
    information += np.eye(3)  # an offset as large as the field is none
    offset = -np.linalg.solve(information, pull[6:])
    gain = float(offset @ information @ offset)
    beyond_chance = 1.0 - LEAST_CHANGE * ellipsoid.structure**2 / max(gain, LEAST_CHANGE)
    if beyond_chance <= 0.0:
        return None
    return np.asarray(np.sqrt(beyond_chance) * ellipsoid.covariance @ by_offset @ offset)


def best_move(ellipsoid: Ellipsoid, dip_deg: float, z_up: bool = False) -> Move:
    """The move that would make the heading surest, with a reading each five degrees of a turn."""
    information = np.linalg.inv(ellipsoid.believed)
    found = []
    for words, tilt in MOVES.items():
        rows = _readings(ellipsoid, dip_deg, tilt, z_up)
        after = np.asarray(np.linalg.inv(information + rows.T @ rows), np.float64)
        error = heading_error(ellipsoid, after, dip_deg, z_up)
        found.append(Move(words, error.sigma_deg))
    return min(found, key=lambda move: move.sigma_deg)


def fields(dip_deg: float, tilt: tuple[float, float], z_up: bool) -> tuple[Floats, Floats]:
    """Field of length 1 and down, in body axes, at every heading, for one (nose, right) down."""
    turned = attitudes(HEADINGS_DEG, *tilt)
    if z_up:
        turned = UPSIDE_DOWN @ turned
    dip = np.radians(dip_deg)
    return turned @ np.array([np.cos(dip), 0.0, np.sin(dip)]), turned @ LEVEL


def _slopes(ellipsoid: Ellipsoid, dip_deg: float, tilt: tuple[float, float], z_up: bool) -> Floats:
    """Radians of heading for each parameter, [n, 12]: what moves the field to the east."""
    field, down = fields(dip_deg, tilt, z_up)
    east = np.cross(down, field)
    horizontal = np.linalg.norm(east, axis=1)[:, None]
    east /= horizontal
    shifted = field @ np.linalg.inv(ellipsoid.matrix).T
    by_matrix, by_offset = by_entry(east, shifted), -east @ ellipsoid.matrix
    return np.asarray(np.hstack((by_matrix, by_offset, np.cross(field, east))) / horizontal)


def _readings(
    ellipsoid: Ellipsoid, dip_deg: float, tilt: tuple[float, float], z_up: bool
) -> Floats:
    """What readings in this attitude would tell the fit, [n, 9] rows of its Jacobian."""
    field, _ = fields(dip_deg, tilt, z_up)
    shifted = field @ np.linalg.inv(ellipsoid.matrix).T
    gradient = field @ ellipsoid.matrix
    steep = np.linalg.norm(gradient, axis=1)[:, None] * ellipsoid.noise
    rows = np.hstack((by_entry(unit(field), shifted), -gradient)) / steep
    assert rows.shape[1] == PARAMETERS
    return np.asarray(rows)
