"""Screening: what is wrong with readings before or after a fit, in words.

In: readings float64[n, 3], or what a fit made of them. Out: a sentence, or None. Never: refuses
what only looks unusual; each limit is far from what a working sensor does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.ellipsoid import Ellipsoid
from edge_agent.calibrate.sphere import MAD_TO_SIGMA, Floats

LEAST_READINGS = 30
STUCK_SHARE = 0.002
CLIPPED_SHARE, CLIPPED_TIMES, CLIPPED_LEAST = 0.02, 4.0, 8
MOST_REJECTED, MOST_NOISE = 0.2, 0.06
MATRIX_LOW, MATRIX_HIGH = 0.2, 5.0
# Earth's field is 22 to 67 uT; iron beside the sensor may add or take some.
EARTH_LOW_UT, EARTH_HIGH_UT = 15.0, 95.0
SITE_OFF, SITE_FAR_OFF = 0.1, 0.4
# A field that changes: off the fit by this share of it, all the time or for a twelfth of it, and by
# so many times the noise.
SWAYED_LEAST, SWAYED_PART, SWAYED_TIMES, SWAYED_PARTS = 0.015, 0.05, 3.0, 12
LINE_SHARE = 0.02
# Tilted by 5 degrees, a turn rises so far out of its plane.
PLANE_SIGMAS = 3.0
NAMES = ("x", "y", "z")


def unusable(readings: Floats) -> str | None:
    """Why no fit is worth trying."""
    if len(readings) < LEAST_READINGS:
        return (
            f"{len(readings)} readings; at least {LEAST_READINGS} are needed, some hundred are good"
        )
    if not np.any(readings):
        return "every reading is zero: the sensor was not read; check its wiring and its address"
    low, high = readings.min(axis=0), readings.max(axis=0)
    swing = high - low
    if swing.max() <= 1e-9 * np.abs(readings).max():
        return "every reading is the same: the board was not turned, or the sensor hangs"
    stuck = [NAMES[i] for i in range(3) if swing[i] <= STUCK_SHARE * swing.max()]
    if stuck:
        return (
            f"axis {' and '.join(stuck)} does not move while others do: the sensor is broken, or "
            "the board was turned about it only"
        )
    few = len(np.unique(readings, axis=0))
    if few < LEAST_READINGS // 2:
        return f"only {few} different readings"
    spread = np.linalg.svd(readings - readings.mean(axis=0), compute_uv=False)
    if spread[1] <= LINE_SHARE * spread[0]:
        return (
            "the readings lie on one line: the board was turned a few degrees only, or not at all"
        )
    return clipped(readings, low, high)


def is_flat(readings: Floats, ellipsoid: Ellipsoid) -> bool:
    """Whether the readings lie in one plane but for their noise, as after a level turn. A sphere
    through them has its centre in that plane, whatever the field across it is."""
    taken = readings[ellipsoid.inliers]
    spread = np.linalg.svd(taken - taken.mean(axis=0), compute_uv=False) / np.sqrt(len(taken))
    return bool(spread[2] < PLANE_SIGMAS * ellipsoid.noise * ellipsoid.radius)


def clipped(readings: Floats, low: Floats, high: Floats) -> str | None:
    """Readings that lie on the very end of an axis, far more than just beside it."""
    for axis, (bottom, top) in enumerate(zip(low, high, strict=True)):
        column, strip = readings[:, axis], (top - bottom) / 25
        for end, beside in ((bottom, column <= bottom + strip), (top, column >= top - strip)):
            at_end = int(np.sum(column == end))
            others = int(np.sum(beside)) - at_end
            enough = max(CLIPPED_LEAST, CLIPPED_SHARE * len(column))
            if at_end > enough and at_end > CLIPPED_TIMES * others:
                return (
                    f"axis {NAMES[axis]} is cut off at {end:g}, {at_end} times: the field "
                    "is stronger than the sensor's range; choose a wider one, or move the iron away"
                )
    return None


def implausible(
    ellipsoid: Ellipsoid, seconds: Floats | None, changed: str | None = None
) -> str | None:
    """Why the fit, though it was made, is of no field that a board was turned in; `changed` is what
    `swayed` said."""
    rejected = 1.0 - float(np.mean(ellipsoid.inliers))
    if rejected > MOST_REJECTED:
        when = _when(ellipsoid.inliers, seconds)
        return (
            f"{rejected:.0%} of the readings do not fit the others{when}: "
            "something magnetic moved near the board; keep tools and phones away and repeat"
        )
    if changed:
        return changed
    if ellipsoid.noise > MOST_NOISE:
        return (
            f"the readings lie {ellipsoid.noise:.0%} of the field off any ellipsoid: the iron "
            "moved against the board, or this is no magnetometer"
        )
    stretch = np.linalg.eigvalsh(ellipsoid.matrix)
    if stretch[0] < MATRIX_LOW or stretch[-1] > MATRIX_HIGH:
        return (
            "the readings are squeezed beyond what soft iron does: check that all three axes work "
            "and have the same unit"
        )
    return None


def swayed(readings: Floats, ellipsoid: Ellipsoid, seconds: Floats | None) -> str | None:
    """Why the field was not the same all the time: the readings lie much farther from the fit than
    from their own neighbours in time. A magnet that passes slowly bends the fit instead of standing
    out of it, and no covariance sees that."""
    lengths = np.linalg.norm(ellipsoid.correct(readings), axis=1) / ellipsoid.radius - 1.0
    taken, steps = lengths[ellipsoid.inliers], np.diff(lengths)
    noise = MAD_TO_SIGMA * float(np.median(np.abs(steps - np.median(steps)))) / np.sqrt(2.0)
    off = float(np.sqrt(np.mean(taken**2)))
    parts = np.array_split(np.arange(len(lengths)), SWAYED_PARTS)
    middles = np.abs([np.median(lengths[part]) for part in parts])
    most = float(middles.max())
    steady = off < max(SWAYED_LEAST, SWAYED_TIMES * noise)
    if steady and most < max(SWAYED_PART, SWAYED_TIMES * noise):
        return None
    when, off = "", max(off, most)
    if seconds is not None:
        bad = np.flatnonzero(middles > 0.25 * most)
        began = seconds[parts[bad[0]][0]] - seconds[0]
        ended = seconds[parts[bad[-1]][-1]] - seconds[0]
        when = f", most of it from {began:.0f} to {ended:.0f} s"
    return (
        f"the field was not the same all the time ({off:.1%} off, the sensor's noise is "
        f"{noise:.1%}{when}): something magnetic moved near the board; keep tools and phones away "
        "and repeat"
    )


def off_site(radius_ut: float | None, strength_ut: float | None) -> tuple[str | None, str | None]:
    """(why it fails, why it is marginal) by the strength of the field."""
    if radius_ut is None:
        return None, None
    if strength_ut is None:
        if EARTH_LOW_UT <= radius_ut <= EARTH_HIGH_UT:
            return None, None
        return (
            f"the field is {radius_ut:.1f} uT strong; Earth's is 22 to 67: check the unit of the "
            "readings", None,
        )  # fmt: skip
    off = radius_ut / strength_ut - 1.0
    words = f"the field is {radius_ut:.1f} uT strong, this place has {strength_ut:.1f} uT"
    if abs(off) > SITE_FAR_OFF:
        return f"{words}: check the unit and the position", None
    if abs(off) > SITE_OFF:
        return None, f"{words}: there is iron near the board that did not turn with it"
    return None, None


def _when(inliers: NDArray[np.bool_], seconds: Floats | None) -> str:
    """Where most of what was rejected lies, if it lies together."""
    where = np.flatnonzero(~inliers)
    first, last = np.quantile(where, (0.05, 0.95)).astype(int)
    if last - first > 0.5 * len(inliers):
        return ""
    if seconds is None:
        return f", most of them in rows {first + 1} to {last + 1}"
    began, ended = seconds[first] - seconds[0], seconds[last] - seconds[0]
    return f", most of them from {began:.1f} to {ended:.1f} s"
