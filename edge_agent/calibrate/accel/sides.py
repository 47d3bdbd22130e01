"""Sides: whether the axes lie where the arrows on the housing point.

In: the sides that the person says were down in the first poses. Out: a `Finding`. Never: guesses:
no length of gravity sees swapped or turned axes, only somebody who says which side was down.
"""

from __future__ import annotations

import numpy as np

from edge_agent.calibrate.accel.poses import SIDES, Pose, directions, side_words
from edge_agent.checkup.findings import Finding

FACES = 6
# A face that was laid down by hand, by eye.
WITHIN_DEG = 30.0
ABOUT = "order of axes"


def parse_sides(text: str) -> tuple[int, ...]:
    """`+z,-x` as places in `SIDES`. Raises `ValueError`."""
    known = {side_words(side).removesuffix(" down"): side for side in range(FACES)}
    found = tuple(known.get(part.strip(), -1) for part in text.split(","))
    if -1 in found:
        raise ValueError(f"{text!r}: expected sides like +z or +z,-x; there are {', '.join(known)}")
    return found


def sides_finding(poses: list[Pose], said: tuple[int, ...]) -> Finding | None:
    """What the first poses show against what was said of them; None while there are too few."""
    if not said or len(poses) < len(said):
        return None
    wrong = []
    for pose, side in zip(poses, said, strict=False):
        cosines = directions()[:FACES] @ -pose.up
        seen = int(np.argmax(cosines))
        if cosines[side] < np.cos(np.radians(WITHIN_DEG)):
            opposite = tuple(-sign for sign in SIDES[side]) == SIDES[seen]
            more = " (the opposite: its sign is turned)" if opposite else ""
            wrong.append(f"pose {pose.number} shows {side_words(seen)}{more}")
    expected = ", then ".join(side_words(side) for side in said)
    if wrong:
        return Finding("wrong", ABOUT, "; ".join(wrong), expected,
                       "correct the mounting, or the order of the channels")  # fmt: skip
    return Finding("well", ABOUT, f"{expected}, as was said", expected)
