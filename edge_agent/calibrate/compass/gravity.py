"""Gravity: the rotation between magnetometer and accelerometer, which no fit of the field sees.

In: an `Ellipsoid`, its readings, the accelerometer's rows at the same moments. Out: a `Frame`.
Never: turns the frame because of noise: the rotation must explain far more than chance would.

The angle between field and down is the same in every attitude. A rotation w of the magnetometer's
axes breaks that by w · (field x down), which grows with the tilts that were seen.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.ellipsoid import TINY, Ellipsoid, by_entry, symmetric
from edge_agent.calibrate.heading import unit
from edge_agent.calibrate.sphere import MAD_TO_SIGMA, TRIM_SIGMAS, Floats

STILL_SHARE = 0.05  # |acceleration| within 5 % of 1 g: still enough to tell which way is down
ROTATION_SIGMA = np.radians(5.0)
# By how much two sensors on one board are turned against each other.
USUAL_ROTATION = np.radians(1.5)
LEAST_READINGS = 40
# What an accelerometer gets wrong is motion and offsets, not noise: thousands of rows are no surer
# than these, and must not pull at a fit of the field that is.
ROWS_THAT_COUNT = 1000
STEPS = 6
# Where the field stands upright no noise turns its dip to first order; some does to second.
STEEPEST = 0.01
# Offset of an accelerometer that nobody calibrated, in g.
ACCELEROMETER_OFFSET = 0.03
LEAST_ACCELEROMETER_NOISE = 0.002
# Nine of the ellipsoid, three of the rotation, the sine of the dip, three of the accelerometer.
EVERYTHING = np.arange(16)
NO_ROTATION = np.r_[0:9, 12:16]
# Every fifth reading is kept from the fit and must not contradict it by more than chance does.
HOLD_OUT, CONTRADICTION = 5, 3.0
# Swapped axes scatter like nothing that a rotation of a few degrees does.
SWAPPED_RATIO = 0.5
# The sine of the dip scatters by 0.01 with good sensors, by 0.4 with one that says nothing.
AGREEING_SCATTER = 0.2
NAMES = ("x", "y", "z")


class Frame(NamedTuple):
    """What gravity adds: `matrix` with the rotation in it (or the ellipsoid's own), `covariance`
    [12, 12] of the nine parameters and the rotation, `dip_deg` as measured; `unseen` [3, 3] is of
    a rotation that was not taken and may be there."""

    matrix: Floats
    offset: Floats
    covariance: Floats
    rotation_deg: float
    dip_deg: float
    unseen: Floats = np.zeros((3, 3))


def still(accelerations: Floats) -> NDArray[np.bool_]:
    """bool[n]: rows that show gravity and little else. Their unit does not matter."""
    lengths = np.linalg.norm(accelerations, axis=1)
    usual = float(np.median(lengths))
    return np.asarray((np.abs(lengths - usual) <= STILL_SHARE * usual) & (lengths > 0.0))


class Accelerometer(NamedTuple):
    """Its `offset` [3] in shares of 1 g, and how surely that is known (inverse covariance)."""

    offset: Floats
    information: Floats


def accelerometer(accelerations: Floats) -> Accelerometer:
    """The offset that makes every still row equally long, as far as the tilts show it: an offset
    looks much like a rotation against the magnetometer, and would be taken for degrees of it."""
    scaled = accelerations / np.median(np.linalg.norm(accelerations, axis=1))
    known = np.diag([*(3 * [1.0 / ACCELEROMETER_OFFSET**2]), 0.0])
    free = np.array([0.0, 0.0, 0.0, 1.0])
    share = min(1.0, ROWS_THAT_COUNT / len(scaled))
    for _ in range(STEPS):
        shifted = scaled - free[:3]
        residuals = np.linalg.norm(shifted, axis=1) - free[3]
        rows = np.column_stack((-unit(shifted), np.full(len(scaled), -1.0)))
        spread = MAD_TO_SIGMA * float(np.median(np.abs(residuals - np.median(residuals))))
        noise = max(spread, LEAST_ACCELEROMETER_NOISE)
        weight = share / noise**2 * (np.abs(residuals) <= TRIM_SIGMAS * noise)
        hessian = known + (rows * weight[:, None]).T @ rows
        free = free - np.linalg.solve(hessian, known @ free + rows.T @ (residuals * weight))
    # Of the offset alone, whatever the length of 1 g.
    covariance = np.linalg.inv(hessian)[:3, :3]
    return Accelerometer(free[:3], np.asarray(np.linalg.inv(covariance), np.float64))


def without_offset(accelerations: Floats, sensor: Accelerometer) -> Floats:
    """The same rows in shares of 1 g."""
    return np.asarray(
        accelerations / np.median(np.linalg.norm(accelerations, axis=1)) - sensor.offset
    )


def down_directions(accelerations: Floats, field: Floats, latitude: float | None) -> Floats:
    """Unit vectors that point down. Some sensors read gravity, most its opposite: the field tells,
    as it points down north of the magnetic equator (which is assumed if no latitude is given)."""
    down = unit(accelerations)
    along = float(np.median(np.einsum("ij,ij->i", unit(field), down)))
    southern = latitude is not None and latitude < 0.0
    return np.asarray(-down if (along > 0.0) == southern else down)


def dip_deg(field: Floats, down: Floats) -> float:
    """How steeply the field points into the ground, from the middle of all readings."""
    sines = np.einsum("ij,ij->i", unit(field), down)
    return float(np.degrees(np.arcsin(np.clip(np.median(sines), -1.0, 1.0))))


def agrees(field: Floats, down: Floats) -> bool:
    """Whether the angle between field and down is about the same everywhere, as it must be."""
    return _scatter(field, down) <= AGREEING_SCATTER


def swapped_axes(field: Floats, down: Floats) -> str | None:
    """Which accelerometer axis lies along each magnetometer axis, if not the one of its name."""
    best, words = _scatter(field, down) * SWAPPED_RATIO, None
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=2):
            # The opposite of all three scatters just as much.
            turned = down[:, order] * np.array([1.0, *signs])
            scatter = _scatter(field, turned)
            if scatter < best:
                named = [
                    ("" if s > 0 else "-") + NAMES[i]
                    for i, s in zip(order, (1, *signs), strict=True)
                ]
                best, words = scatter, " ".join(named)
    return words


def align(
    ellipsoid: Ellipsoid, readings: Floats, down: Floats, sensor: Accelerometer
) -> Frame | None:
    """The frame with a rotation where the readings ask for one, else without; None where the
    accelerometer says nothing of use."""
    every = np.arange(len(readings)) % HOLD_OUT == 0
    try:
        tried = _Joint(ellipsoid, readings[~every], down[~every], sensor)
        turned, straight = tried.minimum(EVERYTHING), tried.minimum(NO_ROTATION)
        kept = _Joint(ellipsoid, readings[every], down[every], sensor, tried.noise)
        lost = kept.misfit(turned) - kept.misfit(straight)
        joint = _Joint(ellipsoid, readings, down, sensor)
        turned, straight = joint.minimum(EVERYTHING), joint.minimum(NO_ROTATION)
        gain = joint.cost(straight) - joint.cost(turned)
        found = joint.frame(turned, EVERYTHING)
        share = _share(found.covariance[9:, 9:], gain)
        if share > 0.5 and lost < CONTRADICTION:
            return found
        # Each angle may be off by what is not known of it and by what was seen of it.
        unseen = share * (1.0 + gain / 3.0) * found.covariance[9:, 9:]
        if np.linalg.eigvalsh(found.covariance[9:, 9:])[-1] > USUAL_ROTATION**2:
            unseen = np.zeros((3, 3))  # shaken so, it tells no more than no accelerometer does
        return joint.frame(straight, NO_ROTATION)._replace(unseen=unseen)
    except np.linalg.LinAlgError:
        return None


def _share(covariance: Floats, gain: float) -> float:
    """How likely it is that there is a rotation, if of two boards one has any: what it gains,
    against how many times finer the readings tell it than boards differ (Bayes)."""
    finer = np.eye(3) + USUAL_ROTATION**2 * np.linalg.inv(covariance)
    odds = (gain - float(np.linalg.slogdet(finer)[1])) / 2.0
    return float(1.0 / (1.0 + np.exp(np.clip(-odds, -50.0, 50.0))))


class _Joint:
    """Ellipsoid (as the fit left it), rotation, dip, and what is not known of the accelerometer's
    offset, together, by Gauss-Newton."""

    def __init__(
        self, ellipsoid: Ellipsoid, readings: Floats, down: Floats, sensor: Accelerometer,
        noise: float | None = None,
    ) -> None:  # fmt: skip
        self._ellipsoid, self._down = ellipsoid, down
        # The offset that is searched is over the radius and counts from the one that was found.
        self._shifted = (readings - ellipsoid.offset) / ellipsoid.radius
        self._known = np.zeros((len(EVERYTHING), len(EVERYTHING)))
        self._known[:9, :9] = np.linalg.inv(ellipsoid.covariance)
        self._known[9:12, 9:12] = np.eye(3) / ROTATION_SIGMA**2
        self._known[13:, 13:] = sensor.information
        self._weight = min(1.0, ROWS_THAT_COUNT / len(readings))
        self.noise = ellipsoid.noise if noise is None else noise

    def minimum(self, use: NDArray[np.intp]) -> Floats:
        """The parameters [16] with these of them free; all of them first, that gives the noise."""
        free = np.zeros(len(EVERYTHING))
        free[12] = np.median(self._residuals(free)[0])
        for _ in range(STEPS):
            residuals, rows = self._residuals(free)
            if len(use) == len(EVERYTHING):
                spread = MAD_TO_SIGMA * float(np.median(np.abs(residuals - np.median(residuals))))
                self.noise = max(spread, self._ellipsoid.noise * self._flatness(free))
            hessian, weight = self._hessian(residuals, rows)
            slope = self._known @ free + rows.T @ (residuals * weight)
            free[use] -= np.linalg.solve(hessian[np.ix_(use, use)], slope[use])
        return free

    def frame(self, free: Floats, use: NDArray[np.intp]) -> Frame:
        """What these parameters mean if those were free."""
        hessian, _ = self._hessian(*self._residuals(free))
        covariance = np.zeros_like(hessian)
        covariance[np.ix_(use, use)] = np.linalg.inv(hessian[np.ix_(use, use)])
        covariance = covariance[:12, :12]
        covariance[:9, :9] += self._ellipsoid.believed - self._ellipsoid.covariance
        matrix = _rotation(free[9:12]) @ symmetric(self._ellipsoid.parameters + free[:9])
        offset = self._ellipsoid.offset + free[6:9] * self._ellipsoid.radius
        dip = float(np.degrees(np.arcsin(np.clip(free[12], -1.0, 1.0))))
        turned = float(np.degrees(np.linalg.norm(free[9:12])))
        return Frame(matrix, offset, covariance, turned, dip)

    def cost(self, free: Floats) -> float:
        """What `minimum` makes small."""
        return self.misfit(free) + float(free @ self._known @ free)

    def misfit(self, free: Floats) -> float:
        """Chi-square of the readings; a wild one counts as four sigmas."""
        scaled = np.minimum((self._residuals(free)[0] / self.noise) ** 2, TRIM_SIGMAS**2)
        return float(self._weight * np.sum(scaled))

    def _hessian(self, residuals: Floats, rows: Floats) -> tuple[Floats, Floats]:
        near = np.abs(residuals) <= TRIM_SIGMAS * self.noise
        weight = np.asarray(self._weight / self.noise**2 * near, np.float64)
        return self._known + (rows * weight[:, None]).T @ rows, weight

    def _residuals(self, free: Floats) -> tuple[Floats, Floats]:
        """The sine of each reading's own dip, less the common one, and its slopes [n, 16].

        Of the direction, not of the vector: where the field is steep, most of what noise does to
        the vector along down it does to its length, and the fit of the ellipsoid has counted that.
        """
        matrix = symmetric(self._ellipsoid.parameters + free[:9])
        turn = _rotation(free[9:12])
        down = unit(self._down - free[13:])
        shifted = self._shifted - free[6:9]
        field = shifted @ matrix.T @ turn.T
        lengths = np.maximum(np.linalg.norm(field, axis=1), TINY)[:, None]
        field /= lengths
        along = np.einsum("ij,ij->i", field, down)
        facing = (down - along[:, None] * field) / lengths @ turn
        rows = np.hstack((
            by_entry(facing, shifted), -facing @ matrix, np.cross(field, down),
            np.full((len(field), 1), -1.0), along[:, None] * down - field,
        ))  # fmt: skip
        return along - free[12], rows

    @staticmethod
    def _flatness(free: Floats) -> float:
        """How much of the noise of a vector turns its dip."""
        return float(np.sqrt(max(1.0 - free[12] ** 2, STEEPEST)))


def _rotation(vector: Floats) -> Floats:
    """Rotation about `vector` by its length (Rodrigues)."""
    x, y, z = vector
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = float(np.linalg.norm(vector))
    first, second = np.sinc(angle / np.pi), 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.asarray(np.eye(3) + first * cross + second * cross @ cross)


def _scatter(field: Floats, down: Floats) -> float:
    """Robust spread of the sine of the dip."""
    sines = np.einsum("ij,ij->i", unit(field), down)
    return MAD_TO_SIGMA * float(np.median(np.abs(sines - np.median(sines))))
