"""Compass: readings to a calibration and its verdict. The whole method in one file.

In: `Readings` and a `Site`. Out: a `Calibration`. Never: reads a file or a clock, gives a good
verdict for a small residual: only the heading error that the covariance predicts counts.

screen -> rough sphere -> thin -> robust ellipsoid -> gravity -> heading error -> grade.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.compass.accuracy import (
    USUAL_DIP_DEG,
    HeadingError,
    heading_error,
    with_change,
    with_structure,
)
from edge_agent.calibrate.compass.calibration import Calibration
from edge_agent.calibrate.compass.grading import MOVE_MACHINE, graded, graded_fixed, swap_words
from edge_agent.calibrate.compass.gravity import (
    LEAST_READINGS,
    Accelerometer,
    Frame,
    accelerometer,
    agrees,
    align,
    dip_deg,
    down_directions,
    still,
    swapped_axes,
    without_offset,
)
from edge_agent.calibrate.compass.hard_iron import hard_iron
from edge_agent.calibrate.compass.screening import implausible, is_flat, swayed, unusable
from edge_agent.calibrate.compass.site import Site
from edge_agent.calibrate.compass.thinning import thinned
from edge_agent.calibrate.ellipsoid import Ellipsoid, fit_ellipsoid
from edge_agent.calibrate.reading.readings import Readings
from edge_agent.calibrate.sphere import MAD_TO_SIGMA, TRIM_SIGMAS, Floats, coverage, trimmed_sphere

# Beyond this the shape is the prior's, not the readings': only the hard iron is told.
SHAPELESS_DEG = 5.0
# Gravity is asked only where the fit of the field is sound by itself.
GRAVITY_DEG, GRAVITY_COVERAGE = 0.6, 35
# Without a rotation to find, gravity makes the ellipsoid itself surer, if the tilts tell its
# constant angle from an offset of the accelerometer, and if it is worth it.
FUSED_COVERAGE, SURER = 45, 0.85
# Steeper than this a heading does not exist.
STEEPEST_DIP_DEG = 85.0
# A ball of readings instead of its surface: what rests and only has noise looks like this.
SHAPELESS_NOISE = 0.2
NOWHERE = Site()
AGAIN = "record again while the board is turned slowly through all attitudes"


def calibrate(readings: Readings, site: Site = NOWHERE) -> Calibration:
    """Everything that the readings say; a failure is an answer, too."""
    problem = unusable(readings.field)
    if problem:
        return Calibration("fail", problem, AGAIN)
    kept = thinned(readings.field, trimmed_sphere(readings.field))
    field = readings.field[kept]
    ellipsoid = _fit(field)
    if ellipsoid is None or is_flat(field, ellipsoid):
        return _of_hard_iron(readings, field, site)
    rows = None if readings.acceleration is None else readings.acceleration[kept]
    found = _with_gravity(ellipsoid, field, rows, site)
    seconds = None if readings.seconds is None else readings.seconds[kept]
    changed = swayed(field, ellipsoid, seconds)
    # A field that changed is no reason to call a board shapeless that was turned enough.
    turned = heading_error(ellipsoid, ellipsoid.steady, USUAL_DIP_DEG)
    if found.error is None or (min(found.error, turned).sigma_deg > SHAPELESS_DEG and not changed):
        return _of_hard_iron(readings, field, site)
    found = _measured(replace(found, kept=len(field)), readings.field)
    why = swap_words(found) or implausible(ellipsoid, seconds, changed)
    return graded(_scaled(found, site), ellipsoid, why, readings.unit, site)


def _fit(field: Floats) -> Ellipsoid | None:
    """The ellipsoid, or None where the readings show none."""
    try:
        found = fit_ellipsoid(field, trimmed_sphere(field))
    except (ValueError, np.linalg.LinAlgError):
        return None
    if not np.isfinite(found.covariance).all() or np.linalg.eigvalsh(found.matrix)[0] <= 0.0:
        return None
    found = with_structure(found, field, USUAL_DIP_DEG)
    return with_change(found, field, USUAL_DIP_DEG)


def _with_gravity(
    ellipsoid: Ellipsoid, field: Floats, rows: Floats | None, site: Site
) -> Calibration:
    """The fit, turned into the accelerometer's frame where that is known to be better."""
    corrected = ellipsoid.correct(field)
    seen = coverage(corrected)
    dip, z_up = _attitude(ellipsoid, corrected, rows, site)
    error = heading_error(ellipsoid, ellipsoid.believed, dip, z_up)
    found = Calibration(
        "fail", "", "", "ellipsoid", ellipsoid.offset, ellipsoid.matrix, ellipsoid.radius, None,
        error, seen, ellipsoid.noise, dip_deg=dip, z_up=z_up,
    )  # fmt: skip
    still_rows = _still_rows(ellipsoid, corrected, rows, site)
    if still_rows is None or error.sigma_deg > GRAVITY_DEG or seen.sum() < GRAVITY_COVERAGE:
        return found
    use, down, sensor = still_rows
    swapped = swapped_axes(corrected[use], down)
    if swapped or not agrees(corrected[use], down):
        return replace(found, swapped=swapped, method="ellipsoid (the accelerometer disagrees)")
    return _in_frame(found, ellipsoid, align(ellipsoid, field[use], down, sensor))


def _still_rows(
    ellipsoid: Ellipsoid, corrected: Floats, rows: Floats | None, site: Site
) -> tuple[NDArray[np.bool_], Floats, Accelerometer] | None:
    """Which readings have gravity with them, where down is in these, and from what."""
    if rows is None:
        return None
    use = ellipsoid.inliers & still(rows)
    if use.sum() < LEAST_READINGS:
        return None
    sensor = accelerometer(rows[use])
    levelled = without_offset(rows[use], sensor)
    return use, down_directions(levelled, corrected[use], site.latitude), sensor


def _in_frame(found: Calibration, ellipsoid: Ellipsoid, frame: Frame | None) -> Calibration:
    if frame is None:
        return found
    error = heading_error(ellipsoid, frame.covariance, frame.dip_deg, found.z_up)
    assert found.error is not None
    if frame.rotation_deg == 0.0:
        surer = error.sigma_deg < SURER * found.error.sigma_deg
        # What the assumption of no rotation gains is not claimed, what it may cost is.
        error = _without_rotation(found, ellipsoid, frame)
        if not surer or found.coverage < FUSED_COVERAGE:
            return replace(found, error=error)
    return replace(
        found, method="ellipsoid and gravity", matrix=frame.matrix, bias=frame.offset, error=error,
        rotation_deg=frame.rotation_deg or None, dip_deg=frame.dip_deg,
    )  # fmt: skip


def _without_rotation(found: Calibration, ellipsoid: Ellipsoid, frame: Frame) -> HeadingError:
    covariance = np.zeros_like(frame.covariance)
    covariance[:9, :9], covariance[9:, 9:] = ellipsoid.believed, frame.unseen
    return heading_error(ellipsoid, covariance, frame.dip_deg, found.z_up)


def _attitude(
    ellipsoid: Ellipsoid, corrected: Floats, rows: Floats | None, site: Site
) -> tuple[float, bool]:
    """Dip of the field, and whether z points up in the middle of the readings."""
    southern = site.latitude is not None and site.latitude < 0.0
    z_up = bool(corrected[:, 2].mean() < 0.0) != southern
    dip = site.field.dip_deg if site.field else -USUAL_DIP_DEG if southern else USUAL_DIP_DEG
    still_rows = _still_rows(ellipsoid, corrected, rows, site)
    if still_rows is not None and agrees(corrected[still_rows[0]], still_rows[1]):
        use, down, _ = still_rows
        dip, z_up = dip_deg(corrected[use], down), bool(down[:, 2].mean() < 0.0)
    return float(np.clip(dip, -STEEPEST_DIP_DEG, STEEPEST_DIP_DEG)), z_up


def _measured(found: Calibration, field: Floats) -> Calibration:
    """Spread of the field's length, and how many readings of the whole file do not belong."""
    lengths = np.linalg.norm(found.correct(field), axis=1)
    off = np.abs(lengths - np.median(lengths))
    good = off <= TRIM_SIGMAS * max(MAD_TO_SIGMA * float(np.median(off)), 1e-9 * lengths.max())
    lengths = lengths[good]
    mean = float(lengths.mean())
    return replace(
        found, radius=mean, radius_cv=float(lengths.std()) / mean,
        rejected=int(len(good) - good.sum()),
    )  # fmt: skip


def calibrate_fixed(readings: Readings, site: Site = NOWHERE) -> Calibration:
    """For a board that cannot be turned: the hard iron that its machine's own motion shows."""
    problem = unusable(readings.field)
    if problem:
        return Calibration("fail", problem, MOVE_MACHINE)
    kept = thinned(readings.field, trimmed_sphere(readings.field))
    found, ellipsoid = _hard_iron(readings, readings.field[kept], site)
    if found.verdict == "fail" and found.reason:
        return replace(found, next_move=MOVE_MACHINE)
    return graded_fixed(found, ellipsoid, readings.unit, site)


def _of_hard_iron(readings: Readings, field: Floats, site: Site) -> Calibration:
    """What can be told for a board that was not turned enough for a shape."""
    found, ellipsoid = _hard_iron(readings, field, site)
    if found.reason:
        return found
    assert found.error is not None
    why = (
        f"the board was turned too little to see the soft iron ({found.coverage} of 100 sections): "
        f"only the hard iron was found, and headings may be {found.error.sigma_deg:.0f}° wrong"
    )
    return graded(found, ellipsoid, why, readings.unit, site)


def _hard_iron(readings: Readings, field: Floats, site: Site) -> tuple[Calibration, Ellipsoid]:
    """Not graded yet, but refused with a reason where there is no shape at all."""
    ellipsoid = hard_iron(field)
    corrected = ellipsoid.correct(field)
    dip, z_up = _attitude(ellipsoid, corrected, None, site)
    error = heading_error(ellipsoid, ellipsoid.believed, dip, z_up)
    found = Calibration(
        "fail", "", "", "hard iron only", ellipsoid.offset, ellipsoid.matrix, ellipsoid.radius,
        None, error, coverage(corrected), ellipsoid.noise, len(field), z_up=z_up,
    )  # fmt: skip
    found = _measured(found, readings.field)
    if ellipsoid.noise > SHAPELESS_NOISE:
        why = "the readings are a cloud without a shape: the board was not turned, or is no compass"
        return replace(found, reason=why, next_move=AGAIN, seen=None), ellipsoid
    return found, ellipsoid


def _scaled(found: Calibration, site: Site) -> Calibration:
    """In microtesla where the strength of the field is known; headings stay what they are."""
    if site.field is None or found.matrix is None or not found.radius:
        return found
    strength = site.field.strength_ut
    return replace(found, matrix=found.matrix * (strength / found.radius), radius=strength)
