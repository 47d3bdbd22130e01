"""Moved: the one pose that contradicts all others.

In: poses and their fit. Out: its place, or None. Never: names one where two are wrong or the sensor
is simply not linear: then no single pose explains the misfit, and the predicted error says it.

An error of one pose shows in all residuals, and most of it goes into the parameters. So each pose
is left out once: the wrong one is the one without which the others agree, and by how much it is off
is then known, too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.calibrate.accel.fit import Fit, fit_poses
from edge_agent.calibrate.sphere import Floats

# Below this nobody need lay it down again; a passing calibration is not better.
LEAST_OFF_MG = 1.0
LEAST_SIGMAS = 6.0
# With two poses more than parameters every misfit looks like one pose's.
LEAST_FREEDOM = 3
# Without the wrong pose the residuals must become a tenth of what they were: by chance, for a
# misfit that no single pose made, one of twelve does that once in 25 times. With more poses it is
# enough that only noise is left.
EXPLAINED = 0.1
MANY_FREEDOM, NOISE_LIKE, LEAST_BEFORE = 5, 2.0, 10.0


class Moved(NamedTuple):
    """Place of a pose in the list, and how far it reads from what the others say."""

    place: int
    off_mg: float


def moved(means: Floats, fit: Fit, gravity_g: float = 1.0) -> Moved | None:
    """The pose that moved while it was taken, if one did."""
    if fit.freedom < LEAST_FREEDOM or fit.chi_square < LEAST_SIGMAS**2:
        return None
    scaled = np.abs(fit.residuals) / np.sqrt(np.maximum(fit.redundancy, 1e-6))
    place = int(np.argmax(scaled))
    try:
        others = fit_poses(np.delete(means, place, axis=0), fit.noise_g, gravity_g)
    except np.linalg.LinAlgError:
        return None
    off_g = float(np.linalg.norm(others.correct(means[place])) - gravity_g)
    before = fit.chi_square / fit.freedom
    after = max(others.chi_square, others.freedom) / others.freedom
    many = fit.freedom >= MANY_FREEDOM and before >= LEAST_BEFORE
    left = max(EXPLAINED**2 * before, NOISE_LIKE if many else 0.0)
    if abs(off_g) * 1e3 < LEAST_OFF_MG or after > left:
        return None
    return Moved(place, 1e3 * off_g)
