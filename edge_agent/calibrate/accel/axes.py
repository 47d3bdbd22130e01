"""Axes: whether each of the three axes says something of its own.

In: rows in g, poses. Out: what is wrong, in words, or None. Never: calls an axis dead that the
board was never turned about.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from edge_agent.calibrate.accel.poses import AXES, Pose
from edge_agent.calibrate.accel.seconds import STILL_G, Second
from edge_agent.calibrate.sphere import Floats

LEVELS_KEPT = 6000
ENOUGH_ROWS = 20
PATIENT_TENTHS = 100
LEAST_POSES, SURE_POSES = 3, 9
# Turned by more than that, an axis that works moves by more than this.
TURNED_G, DEAD_G = 1.0, 0.1
MOVED_G = 0.3
ALIKE = 0.999
# Less than this is no noise of a sensor whose axes have noise elsewhere.
NO_SPREAD_G, SPREAD_G = 1e-9, 0.0005
AT_RANGE = 0.999


class AxesWatch:
    """The extremes of each axis, and how long gravity seems to be."""

    def __init__(self, range_g: float | None) -> None:
        self.low, self.high = np.full(3, np.inf), np.full(3, -np.inf)
        self.rows = self.not_numbers = self.cut_batches = 0
        self._range_g = range_g
        self._levels: deque[float] = deque(maxlen=LEVELS_KEPT)
        self.quietest_g = np.inf

    def take(self, rows: Floats) -> None:
        """Rows that are numbers."""
        self.rows += len(rows)
        self.low = np.minimum(self.low, rows.min(axis=0))
        self.high = np.maximum(self.high, rows.max(axis=0))

    def second(self, second: Second) -> None:
        """A second, still or not."""
        self._levels.append(float(np.linalg.norm(second.mean)))
        self.quietest_g = min(self.quietest_g, float(second.spread.max()))

    @property
    def level_g(self) -> float | None:
        """The usual length of a reading; motion makes it longer and shorter about as often."""
        return float(np.median(self._levels)) if self._levels else None

    def silent(self, final: bool = True) -> str | None:
        """Why these readings can't be an accelerometer's, whatever the poses; not `final`: so far,
        and a board that lies still for some seconds may say the same all the time."""
        if self.rows < ENOUGH_ROWS:
            return None
        if not self.low.any() and not self.high.any():
            return "every reading is zero: the sensor was not read; check its wiring and address"
        stuck = self.high - self.low <= NO_SPREAD_G
        if stuck.all() and (final or len(self._levels) >= PATIENT_TENTHS):
            return "every reading is the same: the sensor hangs, or has no noise at all"
        if stuck.any() and (self.high - self.low).max() > MOVED_G:
            axis = int(np.argmax(stuck))
            return (
                f"axis {AXES[axis]} says {self.low[axis]:.3g} g all the time, while the others "
                "move: it is broken, or not connected"
            )
        return None

    def broken(self, poses: list[Pose], final: bool = True) -> str | None:
        """Which axis says nothing of its own, in these poses; not `final`: so far, and the board
        may be turned about that axis next."""
        if len(poses) < LEAST_POSES:
            return None
        enough = final or len(poses) >= SURE_POSES
        means = np.stack([pose.second.mean for pose in poses])
        swing = means.max(axis=0) - means.min(axis=0)
        dead = [AXES[i] for i in range(3) if swing[i] < DEAD_G]
        if enough and dead and swing.max() > TURNED_G:
            return (
                f"axis {' and '.join(dead)} does not move while the others do: it is broken or not "
                "connected, or the board was turned about it only"
            )
        return self._cut_off(poses, means) or (_alike(means) if enough and not dead else None)

    def _cut_off(self, poses: list[Pose], means: Floats) -> str | None:
        spreads = np.stack([pose.second.spread for pose in poses])
        for axis in range(3):
            ends = (self.low[axis], self.high[axis])
            flat = [float(mean) for mean, spread in zip(means[:, axis], spreads[:, axis],
                    strict=True) if spread <= NO_SPREAD_G
                    and min(abs(mean - end) for end in ends) < 1e-6]  # fmt: skip
            ranged = [] if self._range_g is None else [
                float(mean) for mean in means[:, axis] if abs(mean) >= AT_RANGE * self._range_g
            ]  # fmt: skip
            if ranged or (flat and float(np.median(spreads)) > SPREAD_G):
                return (
                    f"axis {AXES[axis]} is cut off at {(ranged or flat)[0]:.3g} g, the end of its "
                    "range: choose a wider one"
                )
        return None

    def restless(self) -> str | None:
        """Why no second was still though some time has gone, or None."""
        if self.quietest_g < STILL_G or not self._levels:
            return None
        return (
            f"it never lay still: even in the quietest second an axis scatters by "
            f"{1e3 * self.quietest_g:.3g} mg, {1e3 * STILL_G:g} mg are allowed"
        )


def _alike(means: Floats) -> str | None:
    for one, other in ((0, 1), (0, 2), (1, 2)):
        correlation = float(np.corrcoef(means[:, one], means[:, other])[0, 1])
        if abs(correlation) > ALIKE:
            return (
                f"axis {AXES[other]} says what {AXES[one]} says: one of them is read twice; check "
                "the order of the channels"
            )
    return None
