"""Tap: where the mounting rings, and up to which frequency it can be believed.

In: rows in g while somebody tapped beside the sensor with something hard. Out: a `Tapped`. Never:
sees a resonance above half the sampling rate (it may show up folded down), claims a damping of what
has died within a few samples.

A sensor on a mounting that resonates at f reads 12 % too much at f/3 (1 / (1 - 1/9)), 4 % at f/5.
Up to f/3 is called usable, which is the usual rule.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.calibrate.sphere import MAD_TO_SIGMA, Floats
from edge_agent.checkup.findings import Finding

USABLE_SHARE = 1.0 / 3.0
LEAST_TAPS, MOST_TAPS = 3, 30
TAP_G, TAP_SIGMAS = 0.2, 12.0
APART_SECONDS, DECAY_SECONDS = 0.2, 0.25
BEFORE_SECONDS, RISE_SECONDS, RISES = 0.06, 0.005, 2.0
LEAST_ROWS = 32
LOWEST_HZ, SEEN_SHARE = 10.0, 0.45
POINTS = 8192
# Power over the median of the spectrum, and energy over the noise before the tap.
PEAK_TIMES, RINGING_TIMES = 6.0, 9.0
DECAYED = 0.05
ABOUT = "mounting"


class Tapped(NamedTuple):
    """What the taps show. `resonance_hz` is None if nothing rings below 0.45 of the rate,
    `damping` (a share of the critical one) None if it has died too soon to tell. `power` at `hz`
    is the mean spectrum of the decays, its peak 1."""

    taps: int
    resonance_hz: float | None
    damping: float | None
    hz: Floats
    power: Floats


def tapped(rows: Floats, rate_hz: float) -> Tapped:
    """What rings after the taps in rows [n, 3] in g."""
    swinging = rows - np.median(rows, axis=0)
    noise = MAD_TO_SIGMA * float(np.median(np.abs(swinging)))
    decays = _decays(swinging, rate_hz, noise)
    hz = np.asarray(np.fft.rfftfreq(POINTS, 1.0 / rate_hz), np.float64)
    if not decays:
        return Tapped(0, None, None, hz, np.zeros(len(hz)))
    spectra = [_spectrum(decay) for decay in decays]
    power = np.asarray(np.mean([each / max(each.sum(), 1e-30) for each in spectra], axis=0))
    inside = (hz >= LOWEST_HZ) & (hz <= SEEN_SHARE * rate_hz)
    place = int(np.flatnonzero(inside)[np.argmax(power[inside])])
    rings = float(np.median([np.mean(decay[:LEAST_ROWS] ** 2) for decay in decays]))
    clear = power[place] > PEAK_TIMES * np.median(power[inside])
    power = power / max(float(power[inside].max()), 1e-30)
    if not clear or rings < RINGING_TIMES * noise**2:
        return Tapped(len(decays), None, None, hz, power)
    found = [_damping(decay, float(hz[place]), rate_hz, noise) for decay in decays]
    told = [damping for damping in found if damping is not None]
    damping = float(np.median(told)) if told else None
    return Tapped(len(decays), float(hz[place]), damping, hz, power)


def _decays(swinging: Floats, rate_hz: float, noise: float) -> list[Floats]:
    """What followed each tap, from the row after its peak."""
    from scipy.signal import find_peaks  # type: ignore[import-untyped,unused-ignore]

    size = np.linalg.norm(swinging, axis=1)
    height = max(TAP_G, TAP_SIGMAS * noise)
    peaks, _ = find_peaks(size, height=height, distance=max(1, round(APART_SECONDS * rate_hz)))
    peaks = np.array([peak for peak in peaks if _is_blow(size, int(peak), rate_hz)], np.intp)
    length = round(DECAY_SECONDS * rate_hz)
    ends = np.append(peaks[1:] - 2, len(size))[: len(peaks)]
    found = [swinging[peak + 1 : min(peak + 1 + length, end)]
             for peak, end in zip(peaks, ends, strict=True)]  # fmt: skip
    return [decay for decay in found if len(decay) >= LEAST_ROWS][:MOST_TAPS]


def _is_blow(size: Floats, peak: int, rate_hz: float) -> bool:
    """Whether nothing like it came just before: what rings for long has peaks, too."""
    first, last = peak - round(BEFORE_SECONDS * rate_hz), peak - round(RISE_SECONDS * rate_hz) - 1
    before = size[max(first, 0) : max(last, 0)]
    return not len(before) or bool(size[peak] > RISES * before.max())


def _spectrum(decay: Floats) -> Floats:
    """Power over all axes."""
    fade = np.exp(-3.0 * np.arange(len(decay)) / len(decay))[:, None]
    return np.asarray((np.abs(np.fft.rfft(decay * fade, POINTS, axis=0)) ** 2).sum(axis=1))


def _damping(decay: Floats, hz: float, rate_hz: float, noise: float) -> float | None:
    """From the slope of the logarithm: the share of one frequency in a short window falls just as
    the ringing does while the window moves."""
    width = max(8, min(round(4.0 * rate_hz / hz), len(decay) // 2))
    window = np.hanning(width + 2)[1:-1]
    turn = np.exp(-2j * np.pi * hz / rate_hz * np.arange(width)) * window
    moves = np.lib.stride_tricks.sliding_window_view(decay, width, axis=0)
    share = np.linalg.norm(moves @ turn, axis=1)
    floor = max(4.0 * noise * float(np.linalg.norm(window)), DECAYED * float(share[0]))
    low = np.flatnonzero(share < floor)
    count = int(low[0]) if len(low) else len(share)
    if count < 5:
        return None
    slope = float(np.polyfit(np.arange(count) / rate_hz, np.log(share[:count]), 1)[0])
    return -slope / (2.0 * np.pi * hz) if slope < 0.0 else None


def tap_finding(found: Tapped, rate_hz: float, band_hz: float | None = None) -> Finding:
    """Whether the mounting can be believed up to `band_hz`, else up to half the rate."""
    band_hz = band_hz or rate_hz / 2.0
    expected = f"a resonance above {band_hz / USABLE_SHARE:.0f} Hz, three times the band in use"
    if found.taps < LEAST_TAPS:
        do = "tap beside the sensor with a screwdriver, five times, a second apart"
        return Finding("wrong", ABOUT, f"{found.taps} taps", f"{LEAST_TAPS} or more", do)
    if found.resonance_hz is None:
        highest = SEEN_SHARE * rate_hz
        return Finding("well", ABOUT, f"{found.taps} taps, nothing rings below {highest:.0f} Hz",
                       expected)  # fmt: skip
    usable = found.resonance_hz * USABLE_SHARE
    seen = f"{found.taps} taps, it rings at {found.resonance_hz:.0f} Hz"
    seen += f", damping {found.damping:.1%}" if found.damping is not None else ""
    seen += f": usable up to {usable:.0f} Hz"
    if usable >= band_hz:
        return Finding("well", ABOUT, seen, expected)
    inside = found.resonance_hz < band_hz
    where = "inside" if inside else "too near to"
    do = (f"it lies {where} the band in use (0 to {band_hz:.0f} Hz): mount it stiffer (screw, thin "
          "glue, no tape), or use less of the band")  # fmt: skip
    return Finding("wrong" if inside else "note", ABOUT, seen, expected, do)
