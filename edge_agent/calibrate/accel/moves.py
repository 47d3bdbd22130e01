"""Moves: where to lay the board next.

In: the poses so far. Out: one of the 26 sides of a box, in words. Never: asks for a side that was
down already.
"""

from __future__ import annotations

import numpy as np

from edge_agent.calibrate.accel.accuracy import spread_directions
from edge_agent.calibrate.accel.fit import START, slopes
from edge_agent.calibrate.accel.poses import (
    APART_DEG,
    AXES,
    SIDES,
    Pose,
    degrees_between,
    directions,
    side_words,
)
from edge_agent.calibrate.sphere import Floats

# What a sensor is off by before anybody knows it, in g: scales, cross axes, biases.
USUAL = np.array([0.05, 0.05, 0.05, 0.03, 0.03, 0.03, 0.1, 0.1, 0.1])
NOISE_G = 1e-3
# A face is easier to lay it on than an edge, an edge easier than a corner.
EFFORT = {1: 1.0, 2: 1.2, 3: 1.4}


def next_side(poses: list[Pose]) -> int | None:
    """The side that would make the worst direction surest; None if each was down."""
    information = np.diag(1.0 / USUAL**2)
    if poses:
        rows = slopes(START, np.stack([pose.up for pose in poses])) / NOISE_G
        information += rows.T @ rows
    toward = slopes(START, spread_directions(60))
    best, found = np.inf, None
    for side, down in enumerate(directions()):
        if any(degrees_between(pose.up, -down) < APART_DEG for pose in poses):
            continue
        row = slopes(START, -down[None]) / NOISE_G
        covariance = np.linalg.inv(information + row.T @ row)
        worst = float(np.sqrt(np.einsum("ij,jk,ik->i", toward, covariance, toward).max()))
        worst *= EFFORT[sum(map(abs, SIDES[side]))]
        if worst < best:
            best, found = worst, side
    return found


def move_words(side: int | None) -> str:
    """What to do with the board."""
    if side is None:
        return "lay it in any attitude that is 25° from all earlier ones"
    signs = SIDES[side]
    down = [f"{'+' if sign > 0 else '-'}{axis}" for sign, axis in zip(signs, AXES, strict=True)
            if sign]  # fmt: skip
    if len(down) == 1:
        says = f"{down[0][1]} then reads {-SIDES[side][AXES.index(down[0][1])]:+d} g"
        return f"lay it on the side that hasn't been down yet: {side_words(side)} ({says})"
    if len(down) == 2:
        return f"lean it on an edge, half way between {down[0]} down and {down[1]} down"
    return f"stand it on a corner: {down[0]}, {down[1]} and {down[2]} half down"


def largest_gap_deg(poses: list[Pose]) -> float:
    """From the direction that is farthest from any pose, to that pose."""
    if not poses:
        return 180.0
    cosines = (spread_directions(400) @ np.stack([pose.up for pose in poses]).T).max(axis=1)
    return float(np.degrees(np.arccos(np.clip(cosines.min(), -1.0, 1.0))))


def sides_down(poses: list[Pose]) -> Floats:
    """Which of the 26 sides were down, 0 or 1 each."""
    found = np.zeros(len(SIDES))
    for pose in poses:
        found[int(np.argmax(directions() @ -pose.up))] = 1.0
    return found
