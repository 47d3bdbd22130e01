"""Partial: the poses of a sitting that was interrupted, as bytes.

In: poses, or bytes that claim to be some. Out: the other. Never: believes a number that is not
finite, one of another board, or more poses than there may be. Only means are kept, not the rows.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_agent.calibrate.accel.poses import MOST_POSES, Pose
from edge_agent.calibrate.accel.seconds import STILL_G, Second
from edge_agent.calibrate.heading import unit

MOST_G = 100.0
Reading = Annotated[float, Field(ge=-MOST_G, le=MOST_G, allow_inf_nan=False)]
Deviation = Annotated[float, Field(ge=0.0, le=STILL_G, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Pose(_Part):
    t_s: Annotated[float, Field(allow_inf_nan=False)]
    mean: tuple[Reading, Reading, Reading]
    spread: tuple[Deviation, Deviation, Deviation]
    noise: tuple[Deviation, Deviation, Deviation]


class _Partial(_Part):
    version: Literal[1] = 1
    uid: str
    poses: Annotated[tuple[_Pose, ...], Field(max_length=MOST_POSES)]


def write_partial(uid: str, poses: list[Pose]) -> bytes:
    """Poses as bytes."""
    kept = [
        {"t_s": pose.second.t_s, **{name: getattr(pose.second, name).tolist()
                                    for name in ("mean", "spread", "noise")}}
        for pose in poses
    ]  # fmt: skip
    return _Partial.model_validate({"uid": uid, "poses": kept}).model_dump_json().encode()


def read_partial(content: bytes, uid: str) -> list[Pose]:
    """The poses, none if they are of another board or damaged."""
    try:
        found = _Partial.model_validate_json(content)
    except (ValidationError, RecursionError):
        return []
    if found.uid != uid:
        return []
    poses = []
    for number, each in enumerate(found.poses, 1):
        mean, spread, noise = (np.array(part) for part in (each.mean, each.spread, each.noise))
        if float(np.linalg.norm(mean)) < 1e-3:
            return []
        second = Second(each.t_s, mean, spread, noise, np.empty((0, 3)))
        poses.append(Pose(number, second, unit(mean)))
    return poses
