"""Shaker: one point of the frequency response, by a handheld calibrator.

In: rows in g while the board sat on a calibrator. Out: a `Shaken`. Never: corrects a sensitivity by
it: one point tells that gravity's scale holds at speed, not what to make of it.

Handheld calibrators (ISO 16063-21 traceable) shake with 10 m/s2 RMS, some with 1 g = 9.81 m/s2 RMS,
at 1000 rad/s = 159.2 Hz, within 3 %. RMS, not peak: that would be 41 % more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.calibrate.accel.poses import AXES
from edge_agent.calibrate.accel.units import STANDARD_M_S2
from edge_agent.calibrate.sphere import Floats
from edge_agent.checkup.findings import Finding

TONE_HZ, TONE_RMS_M_S2 = 1000.0 / (2.0 * np.pi), 10.0
WITHIN = 0.05
TONE_WITHIN, SEARCHED = 0.01, 0.1
LEAST_RATE_HZ, LEAST_SECONDS = 2.6 * TONE_HZ, 1.0
# Power of the tone over everything else on its axis.
CLEAR = 4.0
ABOUT = "shaker"


class Shaken(NamedTuple):
    """The tone: where it was found, its RMS over all axes in m/s2, the axis that it is along and
    how much of it goes across."""

    hz: float
    rms_m_s2: float
    axis: str
    across: float


def shaken(rows: Floats, rate_hz: float) -> Shaken | None:
    """The tone of a calibrator in rows [n, 3] in g, None if there is none."""
    from scipy.signal import welch  # type: ignore[import-untyped,unused-ignore]

    segment = round(rate_hz * LEAST_SECONDS)
    if len(rows) < segment or rate_hz < LEAST_RATE_HZ:
        return None
    hz, power = welch(rows, rate_hz, nperseg=segment, axis=0)
    total = power.sum(axis=1)
    near = np.abs(hz / TONE_HZ - 1.0) <= SEARCHED
    place = int(np.flatnonzero(near)[np.argmax(total[near])])
    tone = slice(place - 4, place + 5)
    width = float(hz[1] - hz[0])
    shares = power[tone].sum(axis=0) * width
    axis = int(np.argmax(shares))
    rest = float(np.sum(power[3:, axis]) * width - shares[axis])
    if shares[axis] < CLEAR * rest or place == len(hz) - 1:
        return None
    left, middle, right = np.log(total[place - 1 : place + 2])
    bend = left - 2.0 * middle + right
    shift = 0.5 * (left - right) / bend if bend else 0.0
    rms_g = float(np.sqrt(shares.sum()))
    across = float(np.sqrt(1.0 - shares[axis] / shares.sum()))
    return Shaken(float(hz[place] + shift * width), rms_g * STANDARD_M_S2, AXES[axis], across)


def shaker_finding(found: Shaken | None, rate_hz: float, rms_m_s2: float) -> Finding:
    """Whether it is what the calibrator gives."""
    expected = f"{rms_m_s2:g} m/s2 RMS within {WITHIN:.0%} at {TONE_HZ:.1f} Hz"
    if rate_hz < LEAST_RATE_HZ:
        return Finding("wrong", ABOUT, f"{rate_hz:g} samples a second", expected,
                       f"set a rate of {LEAST_RATE_HZ:.0f} Hz or more")  # fmt: skip
    if found is None:
        return Finding("wrong", ABOUT, "no tone that stands out", expected,
                       "put it firmly on the calibrator, switch that on, and repeat")  # fmt: skip
    off = found.rms_m_s2 / rms_m_s2 - 1.0
    seen = f"{found.rms_m_s2:.3f} m/s2 RMS ({off:+.1%}) at {found.hz:.2f} Hz along {found.axis}"
    if abs(off) > WITHIN:
        return Finding("wrong", ABOUT, seen, expected, _why(off, found))
    if abs(found.hz / TONE_HZ - 1.0) > TONE_WITHIN:
        return Finding("note", ABOUT, seen, expected,
                       "the tone is elsewhere: look at the sampling rate")  # fmt: skip
    return Finding("well", ABOUT, seen, expected)


def _why(off: float, found: Shaken) -> str:
    if 0.36 < off < 0.47 or -0.34 < off < -0.25:
        return "that is the factor of peak to RMS: say with --shaker-rms what the calibrator gives"
    if found.across > 0.2:
        return f"{found.across:.0%} goes across: mount it straight, and repeat"
    return "tighten the mounting and repeat; if it stays, the sensor's filter or scale is wrong"
