"""Boards with known errors, laid down by hand: what `calibrate accel` is measured with.

The experiment that the method was chosen by: biases of 80 mg, scales of 4 %, cross axes of 2 % (a
full matrix), noise of 4 mg a sample, means of 3 s of 3200 samples each; the largest error of
gravity's length over 200 random directions. `python -m tests.posed_boards 40` prints the table,
with the three usual six-position methods beside it, on the same boards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from edge_agent.calibrate.accel.accuracy import worst_error_mg
from edge_agent.calibrate.accel.fit import Fit, fit_poses
from firmware_bridge.recording import identify_frames, record
from firmware_bridge.schema import StreamSchema
from firmware_bridge.signals import ACCEL, at_rate, board_document, digitise

Floats = NDArray[np.float64]
NOISE_G, ROWS = 0.004, 3 * 3200
FACES = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float64)
FIRST_SEED = 2000
UID = "otolith-accel-test"


@dataclass(frozen=True)
class Posed:
    """An accelerometer and what it gets wrong: it says `shape` @ acceleration + `bias`, in g."""

    shape: Floats
    bias: Floats

    def feels(self, up: Floats, gravity_g: float = 1.0) -> Floats:
        """Without noise, lying with these unit vectors up, [n, 3]."""
        return np.asarray(gravity_g * up @ self.shape.T + self.bias)

    def means(self, up: Floats, random: np.random.Generator, rows: int = ROWS) -> Floats:
        """Means of so many rows, of three seconds, in each attitude."""
        noise = random.normal(0.0, NOISE_G / np.sqrt(rows), up.shape)
        return self.feels(up) + noise

    def worst_mg(self, corrected: Callable[[Floats], Floats], random: np.random.Generator) -> float:
        """The largest error of the length of 1 g over 200 random directions."""
        lengths = np.linalg.norm(corrected(self.feels(anywhere(random, 200))), axis=1)
        return float(1e3 * np.abs(lengths - 1.0).max())


def posed_board(seed: int) -> Posed:
    """One board."""
    random = np.random.default_rng([seed, 0])
    shape = random.uniform(-0.02, 0.02, (3, 3))
    shape[np.diag_indices(3)] = 1.0 + random.uniform(-0.04, 0.04, 3)
    return Posed(shape, random.uniform(-0.08, 0.08, 3))


def anywhere(random: np.random.Generator, count: int) -> Floats:
    """Random unit vectors."""
    found = random.normal(size=(count, 3))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def random_poses(
    random: np.random.Generator, count: int = 12, apart_deg: float = 27.0, half: bool = False
) -> Floats:
    """Random attitudes, none near another; `half`: the board is never turned over."""
    found: list[Floats] = []
    while len(found) < count:
        one = anywhere(random, 1)[0]
        one = np.abs(one) * [np.sign(one[0]), np.sign(one[1]), 1.0] if half else one
        if all(one @ other < np.cos(np.radians(apart_deg)) for other in found):
            found.append(one)
    return np.array(found)


def misplaced(random: np.random.Generator, wrong_deg: float) -> Floats:
    """The six faces, each wrong by so many degrees in a random direction."""
    aside = np.cross(FACES, anywhere(random, 6))
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    angle = np.radians(wrong_deg)
    return np.asarray(np.cos(angle) * FACES + np.sin(angle) * aside)


# --- recordings of a board in somebody's hands ---


def laid_down(
    board: Posed,
    poses: Floats,
    rate_hz: float,
    still_s: float = 2.0,
    moving_s: float = 0.7,
    seed: int = 0,
    noise_g: float = NOISE_G,
) -> Floats:
    """Rows in g: each attitude for a while, turned and shaken by hands between them."""
    random = np.random.default_rng([seed, 1])
    still, moving = round(still_s * rate_hz), round(moving_s * rate_hz)
    parts = []
    for before, up in zip(np.vstack((poses[:1], poses[:-1])), poses, strict=True):
        share = np.linspace(0.0, 1.0, moving)[:, None]
        path = (1.0 - share) * before + share * up + 0.01 * random.normal(size=3)
        path /= np.maximum(np.linalg.norm(path, axis=1, keepdims=True), 0.2)
        shaking = 0.15 * random.normal(size=(moving, 3)) * np.sin(np.pi * share)
        parts += [board.feels(path + shaking), board.feels(np.tile(up, (still, 1)))]
    rows = np.concatenate(parts)
    return np.asarray(rows + random.normal(0.0, noise_g, rows.shape))


def stream_in(rate_hz: float, unit: str = "g") -> StreamSchema:
    """An ADXL345 at another rate or in another unit."""
    times = {"g": 1.0, "mg": 1e3, "m/s2": 9.80665}[unit]
    stream = at_rate(ACCEL, rate_hz)
    return replace(stream, unit=unit, scale=ACCEL.scale * times, range=16.0 * times)


def wire(
    rows_g: Floats,
    rate_hz: float,
    unit: str = "g",
    declared: str | None = None,
    uid: str = UID,
    true_hz: float | None = None,
) -> bytes:
    """A recording of these rows; `declared` is what the board calls its unit, `true_hz` how fast
    its sensor really is."""
    stream = stream_in(rate_hz, unit)
    raw: NDArray[Any] = digitise(rows_g, stream_in(rate_hz))
    stream = replace(stream, unit=declared or unit)
    document = board_document(uid, (stream,))
    timed = replace(stream, rate_hz=true_hz or rate_hz)
    return identify_frames(document) + b"".join(record(document, timed, raw))


def write_wire(path: Path, rows_g: Floats, rate_hz: float, **more: Any) -> Path:
    """The same in a file."""
    path.write_bytes(wire(rows_g, rate_hz, **more))
    return path


# --- methods ---


def twelve_poses(means: Floats) -> Fit:
    """Ours."""
    return fit_poses(means, NOISE_G / np.sqrt(ROWS))


def per_axis(means: Floats) -> Callable[[Floats], Floats]:
    """Six positions, lowest and highest of each axis."""
    low, high = means.min(axis=0), means.max(axis=0)
    return lambda rows: (rows - (low + high) / 2) / ((high - low) / 2)


def six_parameters(means: Floats) -> Callable[[Floats], Floats]:
    """Six positions, |g| = 1, scales and biases."""
    found = least_squares(
        lambda p: np.linalg.norm((means - p[3:]) * p[:3], axis=1) - 1.0,
        [1.0, 1.0, 1.0, 0.0, 0.0, 0.0], method="lm",
    ).x  # fmt: skip
    return lambda rows: (rows - found[3:]) * found[:3]


def nominal_axes(means: Floats) -> Callable[[Floats], Floats]:
    """Six positions, twelve parameters by least squares to where the faces should be."""
    rows = np.column_stack((means, np.ones(len(means))))
    found, *_ = np.linalg.lstsq(rows, FACES, rcond=None)
    return lambda readings: readings @ found[:3] + found[3]


SIX = {"6 positions, per axis": per_axis, "6 positions, |g| = 1, 6 parameters": six_parameters,
       "6 positions, 12 parameters to the axes": nominal_axes}  # fmt: skip


def trial(seed: int, count: int = 12) -> tuple[float, float]:
    """The true and the predicted worst error of our fit, in mg."""
    board, random = posed_board(seed), np.random.default_rng([seed, 2])
    fit = twelve_poses(board.means(random_poses(random, count), random))
    return board.worst_mg(fit.correct, random), worst_error_mg(fit)


def six_trial(seed: int, name: str, wrong_deg: float) -> float:
    """The true worst error of a six-position method, in mg."""
    board, random = posed_board(seed), np.random.default_rng([seed, 3])
    return board.worst_mg(SIX[name](board.means(misplaced(random, wrong_deg), random)), random)


def main(trials: int) -> None:
    """The table: median and 90th percentile of the worst error."""
    seeds = range(FIRST_SEED, FIRST_SEED + trials)
    for name in SIX:
        told = []
        for wrong_deg in (1.0, 3.0):
            errors = [six_trial(seed, name, wrong_deg) for seed in seeds]
            told.append(f"{np.median(errors):5.1f} ({np.quantile(errors, 0.9):5.1f}) mg placed "
                        f"{wrong_deg:g} deg wrong")  # fmt: skip
        sys.stdout.write(f"{name:40} {', '.join(told)}\n")
    for count in (12, 18):
        errors, predicted = zip(*(trial(seed, count) for seed in seeds), strict=True)
        sys.stdout.write(
            f"{f'{count} random poses, |g| = 1, 9 parameters':40} {np.median(errors):5.2f} "
            f"({np.quantile(errors, 0.9):.2f}) mg placed anyhow, "
            f"predicted {np.median(predicted):.2f}\n"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]))
