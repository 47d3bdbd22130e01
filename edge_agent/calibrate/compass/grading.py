"""Grading: a calibration's verdict and the words for it.

In: a `Calibration` with its predicted heading error, and what is known of the place. Out: the same
with verdict, reason and next move. Never: grades by the fit's residual.
"""

from __future__ import annotations

from dataclasses import replace

from edge_agent.calibrate.compass.accuracy import USUAL_DIP_DEG, best_move, heading_error
from edge_agent.calibrate.compass.calibration import Calibration, Verdict
from edge_agent.calibrate.compass.earth_field import in_microtesla
from edge_agent.calibrate.compass.screening import EARTH_HIGH_UT, off_site
from edge_agent.calibrate.compass.site import Site
from edge_agent.calibrate.ellipsoid import Ellipsoid

PASS_DEG, MARGINAL_DEG = 0.5, 2.0
# Of a board that cannot be turned: with more, east may as well be north-east.
FIXED_DEG = 20.0
CHANGED = (
    "the field changed meanwhile: keep tools away, leave motors on or off as they are, and repeat"
)
MOVE_MACHINE = "let the machine turn as far as it can, both ways"


def swap_words(found: Calibration) -> str | None:
    """What to say where the accelerometer's axes fit better in another order."""
    if found.swapped is None:
        return None
    return (
        f"along the magnetometer's x y z lie the accelerometer's {found.swapped}: the axes of one "
        "are swapped; correct its mounting or the order of its channels"
    )


def graded(
    found: Calibration, ellipsoid: Ellipsoid, why: str | None, unit: str | None, site: Site
) -> Calibration:
    """The same with verdict, reason and the next move; `why` is what is wrong already."""
    assert found.error is not None
    sigma = found.error.sigma_deg
    scale = in_microtesla(unit)
    radius_ut = None if scale is None else ellipsoid.radius * scale
    wrong, doubtful = off_site(radius_ut, site.field.strength_ut if site.field else None)
    wrong = why or wrong
    measured = f"predicted heading error {sigma:.2f}°, {found.coverage} of 100 sections seen"
    verdict: Verdict = (
        "pass" if sigma <= PASS_DEG else "marginal" if sigma <= MARGINAL_DEG else "fail"
    )
    move = "" if verdict == "pass" else _move(found, ellipsoid)
    if wrong:
        return replace(
            found, verdict="fail", reason=wrong, next_move=move or "repeat the recording"
        )
    if doubtful and verdict == "pass":
        return replace(found, verdict="marginal", reason=doubtful, next_move="repeat it elsewhere")
    if verdict == "fail":
        measured = f"{measured}: more than {MARGINAL_DEG:g}° is no compass"
    return replace(found, verdict=verdict, reason=measured, next_move=move)


def graded_fixed(
    found: Calibration, ellipsoid: Ellipsoid, unit: str | None, site: Site
) -> Calibration:
    """A calibration of the hard iron alone is never more than marginal."""
    assert found.error is not None
    sigma, scale = found.error.sigma_deg, in_microtesla(unit)
    told = f"hard iron only, as the board cannot be turned: headings may be {sigma:.1f}° wrong"
    if scale is not None and ellipsoid.radius * scale > EARTH_HIGH_UT:
        told = f"the field is {ellipsoid.radius * scale:.0f} uT strong: check the unit"
    elif sigma <= FIXED_DEG:
        return replace(found, verdict="marginal", reason=told, next_move="")
    else:
        told = f"{told}; more than {FIXED_DEG:g}° is of no use"
    return replace(found, verdict="fail", reason=told, next_move=MOVE_MACHINE)


def _move(found: Calibration, ellipsoid: Ellipsoid) -> str:
    dip = USUAL_DIP_DEG if found.dip_deg is None else found.dip_deg
    turned = heading_error(ellipsoid, ellipsoid.covariance, dip, found.z_up)
    # A board that lay flat can't tell a changed field from its own tilt.
    if ellipsoid.moved.any() and turned.sigma_deg <= MARGINAL_DEG:
        return CHANGED
    best = best_move(ellipsoid, dip, found.z_up)
    return f"{best.words} and turn it once all round: the error should become {best.sigma_deg:.1f}°"
