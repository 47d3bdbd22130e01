"""Guide: how to hold the board next, so that it sees what it has not seen.

In: which of the 100 sections were seen, the dip of the field. Out: a move in words. Never: changes
its mind while the move it asked for still brings something, asks for the one that nobody follows
for ever.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.compass.accuracy import fields
from edge_agent.calibrate.sphere import sections

# Nose down and right side down, in degrees, the easy ones first: they win where others are equal.
HOLDS = {
    "hold it level": (0.0, 0.0),
    "tip the nose 30° down": (30.0, 0.0), "tip the nose 30° up": (-30.0, 0.0),
    "tip the right side 30° down": (0.0, 30.0), "tip the left side 30° down": (0.0, -30.0),
    "tip the nose 60° down": (60.0, 0.0), "tip the nose 60° up": (-60.0, 0.0),
    "tip the right side 60° down": (0.0, 60.0), "tip the left side 60° down": (0.0, -60.0),
    "stand it on its nose": (90.0, 0.0), "stand it on its tail": (-90.0, 0.0),
    "lay it on its right side": (0.0, 90.0), "lay it on its left side": (0.0, -90.0),
    "turn it upside down": (0.0, 180.0),
}  # fmt: skip
# An easy hold is asked for before a hard one that brings a little more.
EASY_SHARE = 0.6
# A turn is done when so few sections of it are missing; it is given up when none came for so many
# looks (two a second).
DONE_SECTIONS, PATIENCE_LOOKS = 2, 12


class Guide:
    """One sitting's advice."""

    def __init__(self) -> None:
        self._words: str | None = None
        self._missing = self._looks = 0
        self._given_up: set[str] = set()

    def advice(self, seen: NDArray[np.bool_], dip_deg: float, z_up: bool) -> str:
        """What to do now; the same as before as long as it helps."""
        missing = {words: _missing(seen, dip_deg, tilt, z_up) for words, tilt in HOLDS.items()}
        if self._words is not None:
            left = missing[self._words]
            self._looks = 0 if left < self._missing else self._looks + 1
            self._missing = min(left, self._missing)
            if left > DONE_SECTIONS and self._looks < PATIENCE_LOOKS:
                return self._told()
            if left > DONE_SECTIONS:
                self._given_up.add(self._words)
        possible = [w for w in HOLDS if w not in self._given_up] or list(HOLDS)
        if len(possible) == len(HOLDS):
            self._given_up.clear()
        most = max(missing[words] for words in possible)
        self._words = next(w for w in possible if missing[w] >= EASY_SHARE * most)
        self._missing, self._looks = missing[self._words], 0
        return self._told()

    def _told(self) -> str:
        return f"{self._words} and turn it slowly all round"


def _missing(seen: NDArray[np.bool_], dip_deg: float, tilt: tuple[float, float], z_up: bool) -> int:
    """Sections that a turn all round, held so, would see for the first time."""
    field, _ = fields(dip_deg, tilt, z_up)
    return int((~seen[np.unique(sections(field))]).sum())
