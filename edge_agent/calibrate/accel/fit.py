"""Fit: nine numbers that make every pose read gravity.

In: means of poses float64[n, 3] in g, how strong gravity is. Out: a `Fit`. Never: sees a turn of
the axes as a whole (no length does: that needs a reference face), decides whether it is good.

|M (a - b)| = G, with M symmetric: three scales, three cross axes, three biases. Plain least
squares: twelve poses are too few to be robust with, `moved.py` finds the one that is wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.calibrate.ellipsoid import by_entry, symmetric
from edge_agent.calibrate.heading import unit
from edge_agent.calibrate.sphere import Floats

PARAMETERS = 9
START = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
# Temperature and creep: no mean of a second is surer than this, however quiet the sensor.
LEAST_NOISE_G = 2e-5
# What was measured of the noise counts like so many residuals, of which twelve poses have three.
WORTH_OF_NOISE = 4.0
NO_CHANCE = 6.0
MOST_STEPS = 200


class Fit(NamedTuple):
    """`matrix` @ (reading - `bias`) is the acceleration in g. `covariance` [9, 9] is of the six
    entries of the matrix and the bias, by the noise of the means alone; `residuals` [n] in g and
    `redundancy` [n], the share of an error of that pose that its residual shows."""

    matrix: Floats
    bias: Floats
    covariance: Floats
    residuals: Floats
    redundancy: Floats
    noise_g: float

    @property
    def freedom(self) -> int:
        """Poses more than parameters."""
        return len(self.residuals) - PARAMETERS

    @property
    def chi_square(self) -> float:
        """How much larger the residuals are than the noise: `freedom` or so if all is well."""
        return float(np.sum((self.residuals / self.noise_g) ** 2))

    @property
    def believed(self) -> Floats:
        """The covariance, larger where the residuals are larger than the noise."""
        seen = (WORTH_OF_NOISE + self.chi_square) / (WORTH_OF_NOISE + self.freedom)
        if self.chi_square > NO_CHANCE * max(self.freedom, 1):
            # It is not noise: what was measured of that says nothing about it.
            seen = self.chi_square / max(self.freedom, 1)
        return np.asarray(self.covariance * max(1.0, seen))

    def correct(self, readings: Floats) -> Floats:
        """Accelerations float64[n, 3] in g."""
        return np.asarray((readings - self.bias) @ self.matrix.T)


def fit_poses(means: Floats, noise_g: float, gravity_g: float = 1.0) -> Fit:
    """The nine parameters. Raises `ValueError` for fewer than nine poses, `LinAlgError` if they
    don't tell them apart."""
    if len(means) < PARAMETERS:
        raise ValueError(f"{len(means)} poses; nine parameters need {PARAMETERS} at least")
    # A second to load: only who calibrates has it.
    from scipy.optimize import least_squares  # type: ignore[import-untyped,unused-ignore]

    noise_g = max(noise_g, LEAST_NOISE_G)
    found = least_squares(
        lambda p: _lengths(p, means) - gravity_g, START, jac=lambda p: slopes(p, means),
        method="lm", x_scale=1.0, max_nfev=MOST_STEPS,
    )  # fmt: skip
    parameters = np.asarray(found.x)
    rows = slopes(parameters, means)
    inverse = np.asarray(np.linalg.inv(rows.T @ rows), np.float64)
    leverage = np.einsum("ij,jk,ik->i", rows, inverse, rows)
    return Fit(
        symmetric(parameters), parameters[6:], inverse * noise_g**2,
        _lengths(parameters, means) - gravity_g, np.clip(1.0 - leverage, 0.0, 1.0), noise_g,
    )  # fmt: skip


def slopes(parameters: Floats, readings: Floats) -> Floats:
    """How the length of a corrected reading grows with each parameter, exact, [n, 9]."""
    matrix, shifted = symmetric(parameters), readings - parameters[6:]
    along = unit(shifted @ matrix)
    return np.hstack((by_entry(along, shifted), -along @ matrix))


def _lengths(parameters: Floats, readings: Floats) -> Floats:
    return np.asarray(np.linalg.norm((readings - parameters[6:]) @ symmetric(parameters), axis=1))
