"""Ellipsoid: the robust fit that finds hard and soft iron.

In: magnetometer readings float64[n, 3] in any unit and a rough sphere. Out: an `Ellipsoid`: offset,
symmetric matrix, covariance, which readings were taken. Never: trusts a reading because it is
there, claims a shape that the readings do not show (a weak prior stands for what they leave open).

The parameters are M11 M22 M33 M12 M13 M23 and the offset over the radius, so all are near one. The
corrected field is M (v - offset); its length is the radius of the rough sphere, whatever the unit.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.sphere import MAD_TO_SIGMA, TRIM_SIGMAS, Sphere

Floats: TypeAlias = NDArray[np.float64]

PARAMETERS = 9
# What soft iron is like where the readings do not say: 15 % on the diagonal, 8 % beside it.
PRIOR_SIGMA = np.array([0.15, 0.15, 0.15, 0.08, 0.08, 0.08])
PRIOR_MEAN = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
# Noise of a usual sensor, 3 mG in a field of 480 mG, as a share of the radius: where the fit
# starts. The readings themselves say how much it is.
USUAL_NOISE = 3.0 / 480.0
LEAST_NOISE, MOST_NOISE = 0.0005, 0.2
# The robust fit only has to tell what to reject; it need not see every reading of a long file.
ROBUST_READINGS = 600
MOST_STEPS = 200
TINY = 1e-9
PRIOR_ROWS = np.hstack((np.diag(1.0 / PRIOR_SIGMA), np.zeros((6, 3))))
START = np.concatenate((PRIOR_MEAN, np.zeros(3)))  # the sphere
ROWS, COLUMNS = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)


class Ellipsoid(NamedTuple):
    """What the readings say about the iron.

    `parameters` [9] as in the module's text, `covariance` [9, 9] theirs if the noise of `noise`
    (a share of the radius) is independent; `inliers` bool[n] is what the last fit took.
    `structure` is how many times larger the errors are because it is not, `moved` [9, 9] what a
    field that changed meanwhile adds to them (`accuracy.py` finds both).
    """

    parameters: Floats
    matrix: Floats
    offset: Floats
    radius: float
    covariance: Floats
    noise: float
    inliers: NDArray[np.bool_]
    structure: float = 1.0
    moved: Floats = np.zeros((PARAMETERS, PARAMETERS))

    @property
    def steady(self) -> Floats:
        """The covariance with the structure of the residuals in it."""
        return self.covariance * self.structure**2

    @property
    def believed(self) -> Floats:
        """The same with a change of the field in it."""
        return np.asarray(self.steady + self.moved)

    def correct(self, readings: Floats) -> Floats:
        """The field without the iron, float64[n, 3], in the unit of the readings."""
        return np.asarray((readings - self.offset) @ self.matrix.T)


def fit_ellipsoid(readings: Floats, start: Sphere) -> Ellipsoid:
    """Robust fit, rejection, refit; then both once more with the noise that was found.

    Raises `ValueError` if the readings are too few to fit, or no ellipsoid."""
    every = max(1, len(readings) // ROBUST_READINGS)
    problem = _Problem(readings[::every], start, USUAL_NOISE)
    parameters, noise = problem.solve(START, robust=True), USUAL_NOISE
    for _ in range(2):
        inliers = _Problem(readings, start, noise).near(parameters)
        problem = _Problem(readings[inliers], start, noise)
        noise = problem.noise_seen(parameters)
        problem = _Problem(readings[inliers], start, noise)
        parameters = problem.solve(parameters, robust=False)
    matrix, offset = symmetric(parameters), start.centre + parameters[6:] * start.radius
    slopes = problem.jacobian(parameters)
    covariance = np.asarray(np.linalg.inv(slopes.T @ slopes), np.float64)
    return Ellipsoid(parameters, matrix, offset, start.radius, covariance, noise, inliers)


class _Problem:
    """Readings about a sphere, and their noise as a share of its radius."""

    def __init__(self, readings: Floats, start: Sphere, noise: float) -> None:
        self._scaled = (readings - start.centre) / start.radius
        self.noise = noise

    def solve(self, parameters: Floats, robust: bool) -> Floats:
        """The least sum of squares, or of what grows like |r| for wild readings."""
        # A second to load and 30 MB: only who calibrates has it.
        from scipy.optimize import (  # type: ignore[import-untyped,unused-ignore]
            least_squares,
        )

        how = {"method": "trf", "loss": "soft_l1"} if robust else {"method": "lm"}
        found = least_squares(
            self.residuals, parameters, jac=self.jacobian, max_nfev=MOST_STEPS, **how
        )
        return np.asarray(found.x)

    def residuals(self, parameters: Floats) -> Floats:
        """Distance of each reading from the ellipsoid (to first order), then of the prior."""
        prior = (parameters[:6] - PRIOR_MEAN) / PRIOR_SIGMA
        return np.concatenate((_distances(parameters, self._scaled, self.noise).residuals, prior))

    def jacobian(self, parameters: Floats) -> Floats:
        """Of `residuals`: [n + 6, 9]."""
        return np.vstack((jacobian(parameters, self._scaled, self.noise)[0], PRIOR_ROWS))

    def near(self, parameters: Floats) -> NDArray[np.bool_]:
        """Readings that are no outliers."""
        off = _distances(parameters, self._scaled, self.noise).residuals
        off = np.abs(off - np.median(off))
        return np.asarray(off <= TRIM_SIGMAS * max(MAD_TO_SIGMA * float(np.median(off)), 1e-6))

    def noise_seen(self, parameters: Floats) -> float:
        """The noise that the residuals show, as a share of the radius."""
        residuals = _distances(parameters, self._scaled, self.noise).residuals
        rms = float(np.sqrt(np.sum(residuals**2) / max(1, len(residuals) - PARAMETERS)))
        return min(max(rms * self.noise, LEAST_NOISE), MOST_NOISE)


class _Distances(NamedTuple):
    """Residuals [n] and what they are made of: `length` of the corrected field, `unit` along it,
    `gradient` of the length by the reading and how `steep` that is."""

    residuals: Floats
    shifted: Floats
    length: Floats
    unit: Floats
    gradient: Floats
    steep: Floats


def _distances(parameters: Floats, scaled: Floats, noise: float) -> _Distances:
    """(|M u| - 1) over the length of its gradient: without that division a part of a sphere is
    fitted best by shrinking it."""
    matrix = symmetric(parameters)
    shifted = scaled - parameters[6:]
    corrected = shifted @ matrix
    length = np.maximum(np.linalg.norm(corrected, axis=1), TINY)
    unit = corrected / length[:, None]
    gradient = unit @ matrix
    steep = np.maximum(np.linalg.norm(gradient, axis=1), TINY)
    return _Distances((length - 1.0) / (steep * noise), shifted, length, unit, gradient, steep)


def jacobian(parameters: Floats, scaled: Floats, noise: float) -> tuple[Floats, Floats]:
    """Slopes of the distances, exact, [n, 9], and the distances [n] over the noise. `scaled` are
    readings from the centre over the radius."""
    residuals, shifted, length, unit, gradient, steep = _distances(parameters, scaled, noise)
    matrix = symmetric(parameters)
    ascent = gradient / steep[:, None]
    back = ascent @ matrix
    bend = (back - unit * np.einsum("ij,ij->i", unit, back)[:, None]) / length[:, None]
    share = (residuals * noise)[:, None]
    by_matrix = by_entry(unit - share * bend, shifted) - share * by_entry(ascent, unit)
    by_offset = -gradient + share * (bend @ matrix)
    return np.hstack((by_matrix, by_offset)) / (steep * noise)[:, None], residuals


def symmetric(parameters: Floats) -> Floats:
    """The matrix of the first six parameters."""
    matrix = np.empty((3, 3))
    matrix[ROWS, COLUMNS] = matrix[COLUMNS, ROWS] = parameters[:6]
    return matrix


def by_entry(left: Floats, right: Floats) -> Floats:
    """left · dM · right by each of the six entries of a symmetric matrix, [n, 6]."""
    both = left[:, ROWS] * right[:, COLUMNS]
    both[:, 3:] += left[:, COLUMNS[3:]] * right[:, ROWS[3:]]
    return np.asarray(both)
