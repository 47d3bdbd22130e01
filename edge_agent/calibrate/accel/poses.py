"""Poses: the attitudes that a board lay still in, each once.

In: seconds as they come. Out: a `Pose` whenever it lies in a new attitude. Never: takes one within
25 degrees of an earlier one (it tells nothing new), takes a second with a movement in it if there
is a quieter one.
"""

from __future__ import annotations

from itertools import product
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from edge_agent.calibrate.accel.seconds import BLOCKS, Second
from edge_agent.calibrate.heading import unit
from edge_agent.calibrate.sphere import Floats

WANTED, MOST_POSES = 12, 24
APART_DEG = 25.0
# Three seconds of lying still are averaged, or what there was before it was moved again: they say
# twice as well as one where the board points. In tenths, after the first whole second.
SETTLING = 20
# Who has not quite let go yet is heard: a second that is so much noisier than the quietest.
NOISIER = 1.5
# Where it rests it may be as noisy as this, and turned so little.
MOVED_G, MOVED_DEG = 0.03, 5.0
# Less than this is no gravity, whatever it is.
LEAST_G = 0.3
AXES = ("x", "y", "z")
# Faces, edges and corners of a box: signs of the axes that point down.
SIDES = tuple(
    sorted((s for s in product((1, 0, -1), repeat=3) if any(s)), key=lambda s: (sum(map(abs, s)),
           [abs(sign) == 0 for sign in s]))
)  # fmt: skip

State: TypeAlias = Literal["moving", "settling", "taken", "again"]


class Pose(NamedTuple):
    """One attitude: its number from 1, what it read in a second (with the mean of all the seconds
    that it lay still), and `up`, the unit vector along that, which is up for a sensor that reads
    +1 g on the axis that points up."""

    number: int
    second: Second
    up: Floats

    @property
    def words(self) -> str:
        """Which side was down."""
        return side_words(nearest_side(-self.up))


class Poses:
    """The attitudes so far, and what the board does now."""

    def __init__(self) -> None:
        self.kept: list[Pose] = []
        self.state: State = "moving"
        self.spread_g = 0.0  # of the noisiest axis, now
        self.up: Floats | None = None  # where it points now, still or not
        self.near: Pose | None = None  # the earlier pose, if `state` is "again"
        self.again = 0
        self._rests: Floats = np.zeros(3)
        self._still: list[Second] = []  # one each tenth of a second
        self._numbered = 0

    def take(self, second: Second) -> Pose | None:
        """The pose, if this second completes a new one."""
        self.spread_g = float(second.spread.max())
        self.up = unit(second.mean)
        if self.state in ("taken", "again") and not self._moved(second):
            return None
        if not second.still or float(np.linalg.norm(second.mean)) < LEAST_G:
            found = self._settled() if self.state == "settling" else None
            if self.state not in ("taken", "again") or self._moved(second):
                self.state = "moving"
            return found
        self.state = "settling"
        self._still.append(second)
        return self._settled() if len(self._still) > SETTLING else None

    def restart(self) -> Pose | None:
        """Rows are missing: the board may have been moved meanwhile."""
        found = self._settled() if self.state == "settling" else None
        self.state, self._still = "moving", []
        return found

    def drop(self, number: int) -> None:
        """Forgets a pose that was not as still as it seemed; its attitude may be taken again."""
        self.kept = [pose for pose in self.kept if pose.number != number]
        self.state, self._still = "moving", []

    def restore(self, poses: list[Pose]) -> None:
        """Goes on with these."""
        self.kept, self._numbered = [*poses], len(poses)

    def _settled(self) -> Pose | None:
        second, self._still = _together(self._still), []
        up = unit(second.mean)
        self._rests = up
        self.near = next((pose for pose in self.kept if degrees_between(pose.up, up) < APART_DEG),
                         None)  # fmt: skip
        if self.near is not None or len(self.kept) >= MOST_POSES:
            self.state = "again"
            self.again += 1
            return None
        self.state = "taken"
        self._numbered += 1
        self.kept.append(Pose(self._numbered, second, up))
        return self.kept[-1]

    def _moved(self, second: Second) -> bool:
        """Whether it has left where it was seen to rest: noise about what is allowed is no
        movement, and in a recording the movements may have been cut out."""
        turned = degrees_between(self._rests, unit(second.mean)) >= MOVED_DEG
        return turned or self.spread_g > MOVED_G


def _together(tenths: list[Second]) -> Second:
    """The quietest second, with the mean of it and of others that were nearly as quiet, none of
    which shares a row with another."""
    best = min(range(len(tenths)), key=lambda number: float(tenths[number].spread.max()))
    quiet = NOISIER * float(tenths[best].spread.max())
    apart = [second for second in tenths[best % BLOCKS :: BLOCKS] if second.spread.max() <= quiet]
    noise = np.sqrt(np.sum([second.noise**2 for second in apart], axis=0)) / len(apart)
    mean = np.mean([second.mean for second in apart], axis=0)
    return tenths[best]._replace(mean=mean, noise=noise)


def degrees_between(one: Floats, other: Floats) -> float:
    """Between two unit vectors."""
    return float(np.degrees(np.arccos(np.clip(one @ other, -1.0, 1.0))))


def directions() -> Floats:
    """Unit vectors through the 6 faces, 12 edges and 8 corners, [26, 3]."""
    return unit(np.array(SIDES, np.float64))


def nearest_side(direction: Floats) -> int:
    """Which of `SIDES` lies nearest."""
    return int(np.argmax(directions() @ direction))


def side_words(side: int) -> str:
    """Which side that is, as a person who holds the board sees it: "+x down"."""
    signs = SIDES[side]
    named = [f"{'+' if sign > 0 else '-'}{axis}"
             for sign, axis in zip(signs, AXES, strict=True) if sign]  # fmt: skip
    if len(named) == 1:
        return f"{named[0]} down"
    return f"{' and '.join(filter(None, (', '.join(named[:-1]), named[-1])))} half down"
