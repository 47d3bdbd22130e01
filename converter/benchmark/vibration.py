"""Vibration: what the protocols of vibrating machines share before a window is cut.

In: samples at the rate of a laboratory, spectra. Out: samples as a cheap sensor would have given
them, at another speed, in noise; levels in bands; names of a folder's files. Never: looks at a
faulty recording to choose anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import signal  # type: ignore[import-untyped,unused-ignore]

from converter.benchmark.case import Rows
from converter.benchmark.slow import numbers, read_table
from converter.errors import UsageError

Floats = NDArray[np.float64]

# Kaiser 8: what would fold back is 80 dB down, the pass band ends at 90 % of half the rate.
ANTI_ALIAS = ("kaiser", 8.0)
LEVEL_FLOOR = 1e-12
# A resampling ratio of small whole numbers; 1 % steps of speed are exact.
LARGEST_DENOMINATOR = 1000


def data_files(data: Path, folder: str, pattern: str, what: str) -> list[Path]:
    """The files of one protocol, by name. Raises `UsageError` if there are none."""
    files = sorted((data / folder).glob(pattern))
    if not files:
        raise UsageError(
            f"{data / folder}: no {pattern} there, expected {what}: give --data the folder that "
            f"holds {folder}/"
        )
    return files


def columns(file: Path, names: Sequence[str]) -> dict[str, Floats]:
    """Columns by name, float64[n]. Raises `UsageError` if one is missing or holds no numbers."""
    header, rows = read_table(file)
    missing = [name for name in names if name not in header]
    if missing:
        raise UsageError(f"{file}: lacks {', '.join(missing)}")
    values = numbers(file, header, rows, list(names))
    return {name: values[:, place] for place, name in enumerate(names)}


def resampled(rows: Floats, from_hz: float, to_hz: float, speed: float = 1.0) -> Floats:
    """float64[n, channel] at another rate, through a linear-phase anti-alias filter.

    `speed` > 1: the machine turns that much faster (all of its frequencies go up by it).
    """
    ratio = Fraction(to_hz / from_hz / speed).limit_denominator(LARGEST_DENOMINATOR)
    if ratio == 1:
        return rows
    found = signal.resample_poly(
        rows, ratio.numerator, ratio.denominator, axis=0, window=ANTI_ALIAS
    )
    return np.asarray(found, np.float64)


def in_noise(rows: Floats, ratio_db: float, rng: np.random.Generator) -> Rows:
    """The same rows in white noise; the ratio of powers is that of each channel itself."""
    spread = rows.std(axis=0) * 10.0 ** (-ratio_db / 20.0)
    return np.asarray(rows + rng.normal(size=rows.shape) * spread, np.float32)


def band_edges(first: int, end: int, bands: int) -> list[int]:
    """First bin of each band of equal width (as near as whole bins get) and the end of the last."""
    edges = np.linspace(first, end, min(bands, end - first) + 1)
    return [round(edge) for edge in edges]


def pooled(spectra: Floats, edges: list[int]) -> Floats:
    """float64[n, bins] to the mean of each band, [n, bands]."""
    sums = np.add.reduceat(spectra[:, : edges[-1]], edges[:-1], axis=1)
    return np.asarray(sums / np.diff(edges), np.float64)


def decibels(levels: Floats) -> Rows:
    """20 log10 of levels > 0, float32; what is less than -240 dB counts as that."""
    return np.asarray(20.0 * np.log10(np.maximum(levels, LEVEL_FLOOR)), np.float32)


def against_each_other(rows: Rows) -> Rows:
    """Each row less its median over the channels: what all of them do alike is not seen. Fewer than
    three channels have nothing to be compared with and stay as they are."""
    if rows.shape[1] < 3:
        return rows
    return rows - np.median(rows, axis=1, keepdims=True)


def moved_levels(rows: Rows, spread_db: float, copies: int, seed: int) -> list[Rows]:
    """Rows in decibels, and copies of them whose levels are all a little off, each copy in a
    direction of its own: root mean square over the channels exactly `spread_db`.

    What is learnt from them is that a machine's levels may be so far from where they were when it
    was new; otherwise a very steady first hour makes a detector that nothing satisfies.
    """
    rng = np.random.default_rng(seed)
    moves = rng.normal(size=(copies, rows.shape[1]))
    moves *= spread_db / np.sqrt(np.mean(moves**2, axis=1, keepdims=True))
    return [rows, *(np.asarray(rows + move, np.float32) for move in moves)]
