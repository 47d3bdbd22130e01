"""Noise: what the sensor says when nothing moves, by frequency.

In: the still seconds of the poses, in g. Out: a `Floor` and what it means. Never: mistakes a
movement for noise: only seconds that were still are asked.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.calibrate.accel.poses import AXES
from edge_agent.calibrate.sphere import Floats
from edge_agent.checkup.findings import Finding

LONGEST_SEGMENT, LEAST_SEGMENT = 1024, 16
BANDS_HZ = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
# Above this share of the rate the sensor's own filter cuts.
USED_SHARE = 0.45
# In ug/sqrt(Hz), usual ones of the data sheets; a sensor may have three times as much.
USUAL_DENSITY = {
    "ADXL345": 420.0, "ADXL343": 420.0, "ADXL355": 25.0, "LIS3DH": 220.0, "MPU6050": 400.0,
    "LSM6DS3": 90.0, "IIS3DWB": 75.0,
}  # fmt: skip
MOST_TIMES, MOST_DENSITY = 3.0, 1500.0
# White noise has a line by chance in one bin of a million; one is worth a word from so much on.
CHANCE, LINE_MG, NEIGHBOURS = 1e-6, 0.1, 15
MAINS_HZ, MAINS_OFF_HZ, MOST_LINES = (50.0, 60.0, 100.0, 120.0), 2.0, 5
ABOUT = "noise floor"


class Line(NamedTuple):
    """A tone in the noise: where, how strong (RMS) and on which axis."""

    hz: float
    rms_mg: float
    axis: str

    @property
    def words(self) -> str:
        """For people."""
        near = [hz for hz in MAINS_HZ if abs(self.hz - hz) <= MAINS_OFF_HZ]
        what = f", mains {near[0]:g} Hz" if near else ""
        return f"{self.rms_mg:.2g} mg at {self.hz:.0f} Hz on {self.axis}{what}"


class Band(NamedTuple):
    """Mean density [3] in ug/sqrt(Hz) between two frequencies."""

    low_hz: float
    high_hz: float
    density: Floats


class Floor(NamedTuple):
    """`density` float64[frequency, 3] in ug/sqrt(Hz) at `hz`; bands and lines of it."""

    hz: Floats
    density: Floats
    bands: tuple[Band, ...]
    lines: tuple[Line, ...]


def noise_floor(seconds: list[Floats], rate_hz: float) -> Floor:
    """Welch's mean over still seconds [n, 3] in g of one rate; at least one of 16 rows."""
    from scipy.signal import welch  # type: ignore[import-untyped,unused-ignore]

    shortest = min(len(rows) for rows in seconds)
    segment = min(LONGEST_SEGMENT, max(LEAST_SEGMENT, shortest // 2))
    powers = [
        welch(rows, rate_hz, nperseg=segment, axis=0, detrend="linear")[1] for rows in seconds
    ]
    power = np.asarray(np.mean(powers, axis=0), np.float64)
    hz = np.arange(len(power)) * rate_hz / segment
    # Those that overlap are no news.
    spectra = sum(max(1, len(rows) // segment) for rows in seconds)
    return Floor(hz, 1e6 * np.sqrt(power), _bands(hz, power, rate_hz),
                 _lines(hz, power, spectra))  # fmt: skip


def _bands(hz: Floats, power: Floats, rate_hz: float) -> tuple[Band, ...]:
    found = []
    for low, high in zip(BANDS_HZ, BANDS_HZ[1:], strict=False):
        top = min(high, USED_SHARE * rate_hz)
        inside = (hz >= low) & (hz < top)
        if inside.any():
            found.append(Band(low, top, 1e6 * np.sqrt(power[inside].mean(axis=0))))
    return tuple(found)


def _lines(hz: Floats, power: Floats, spectra: int) -> tuple[Line, ...]:
    """The strongest tones in a mean of so many spectra; each is a few bins wide for the window."""
    from scipy.ndimage import median_filter  # type: ignore[import-untyped,unused-ignore]
    from scipy.special import gammainccinv  # type: ignore[import-untyped,unused-ignore]

    if len(hz) < 4 * NEIGHBOURS:
        return ()  # too coarse to tell a line from its neighbours
    found = []
    # Of a mean of so many spectra (chi-square) over its median (Wilson and Hilferty).
    times = gammainccinv(spectra, CHANCE) / spectra / (1.0 - 1.0 / (9.0 * spectra)) ** 3
    width = hz[1] - hz[0] if len(hz) > 1 else 1.0
    for axis, name in enumerate(AXES):
        column = power[:, axis]
        floor = np.maximum(median_filter(column, 2 * NEIGHBOURS + 1, mode="nearest"), 1e-20)
        for place in np.flatnonzero(column > times * floor):
            around = slice(max(place - 2, 0), place + 3)
            if place < 3 or column[place] < column[around].max():
                continue
            rms = 1e3 * float(np.sqrt(max(np.sum(column[around] - floor[around]), 0.0) * width))
            if rms >= LINE_MG:
                found.append(Line(float(hz[place]), rms, name))
    return tuple(sorted(found, key=lambda line: -line.rms_mg)[:MOST_LINES])


def noise_finding(floor: Floor, sensor: str) -> Finding:
    """Whether it is what this sensor has."""
    words = [f"{band.low_hz:g}-{band.high_hz:.0f} Hz {band.density.max():.0f}"
             for band in floor.bands]  # fmt: skip
    seen = f"{', '.join(words)} ug/sqrt(Hz)"
    usual = USUAL_DENSITY.get(sensor.upper())
    most = MOST_DENSITY if usual is None else MOST_TIMES * usual
    expected = f"up to {most:.0f}" + (f" for {sensor}" if usual else "")
    worst = max((float(np.median(band.density)) for band in floor.bands[-2:]), default=0.0)
    if worst > most:
        return Finding("note", ABOUT, seen, expected,
                       "look at the supply and at what shakes the table")  # fmt: skip
    if floor.lines:
        told = "; ".join(line.words for line in floor.lines)
        return Finding("note", ABOUT, f"{seen}; lines: {told}", f"{expected}, no lines",
                       "find what runs nearby; mains is a supply or a ground loop")  # fmt: skip
    return Finding("well", ABOUT, seen, expected)
