"""View: how far the poses are, for a screen of 80 by 24 and for a script.

In: a task and its result now. Out: `Progress`. Never: says more than 12 lines of picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_agent.calibrate.accel.grading import Result
from edge_agent.calibrate.accel.moves import sides_down
from edge_agent.calibrate.accel.poses import APART_DEG, SIDES, WANTED, nearest_side
from edge_agent.calibrate.accel.seconds import STILL_G
from edge_agent.calibrate.sitting.task import Progress

if TYPE_CHECKING:
    from edge_agent.calibrate.accel.task import AccelTask

BAR_CELLS, POSE_CELLS = 60, 4
LABEL = 9
# The bar ends at three times what is allowed.
BAR_TIMES = 3.0
A_LINE = 6
SIGNS = {-1: "-", 0: " ", 1: "+"}


def seen_now(task: AccelTask, found: Result) -> Progress:
    """What the screen shows."""
    kept, problem = len(task.poses.kept), task.problem()
    # Up to then there is no verdict, only a way to go.
    verdict = found.verdict if kept >= WANTED or problem else None
    headline = found.reason if verdict else f"{kept} of {WANTED} poses"
    return Progress(
        title="Lay it down twelve times, each time otherwise; let go; wait for the bell.",
        headline=headline, next_move=_next(task, found), verdict=verdict, picture=_picture(task),
        rows=_rows(task, found), enough=found.verdict == "pass", over=bool(problem) or task.full,
        acceptable=found.verdict != "fail", bells=len(task.taken), fields=_fields(task, found),
    )  # fmt: skip


def _next(task: AccelTask, found: Result) -> str:
    if task.poses.state == "settling":
        return "hold on: it lies still"
    if task.poses.state == "again" and task.poses.near is not None:
        return f"as in pose {task.poses.near.number}: {found.next_move}"
    return task.impatient or found.next_move or "nothing: it is good"


def _rows(task: AccelTask, found: Result) -> tuple[tuple[str, str], ...]:
    words = {
        "moving": "it moves", "settling": "it lies still", "taken": "taken: on to the next one",
        "again": f"it lies within {APART_DEG:g}° of an earlier pose",
    }  # fmt: skip
    now = (
        f"{words[task.poses.state]} ({1e3 * task.poses.spread_g:.1f} mg, {1e3 * STILL_G:g} allowed)"
    )
    rows = [("now", now)]
    if task.poses.kept:
        last = task.poses.kept[-1]
        rows.append(("last", f"pose {last.number}: {last.words}"))
    if task.dropped:
        dropped = task.dropped[-1]
        rows.append(("refused", f"pose {dropped.pose.number} ({dropped.pose.words}) moved: "
                     f"{dropped.off_mg:+.1f} mg"))  # fmt: skip
    if found.error_mg is not None:
        rows.append(("error", f"{found.error_mg:.2f} mg predicted in the worst direction, "
                     f"{found.before_mg:.0f} mg without"))  # fmt: skip
    return tuple(rows)


def _fields(task: AccelTask, found: Result) -> dict[str, object]:
    last = task.poses.kept[-1] if task.poses.kept else None
    return {
        "state": task.poses.state, "poses": len(task.poses.kept), "wanted": WANTED,
        "taken": len(task.taken), "again": task.poses.again, "dropped": len(task.dropped),
        "spread_mg": round(1e3 * task.poses.spread_g, 3), "gap_deg": round(found.gap_deg, 1),
        "last_pose": last.words if last else None,
        "worst_error_mg": None if found.error_mg is None else round(found.error_mg, 4),
        "before_mg": None if found.before_mg is None else round(found.before_mg, 2),
    }  # fmt: skip


def _picture(task: AccelTask) -> tuple[str, ...]:
    """Bars of poses and stillness, then the sides that were down."""
    kept = len(task.poses.kept)
    slots = " ".join(("#" if i < kept else ".") * POSE_CELLS for i in range(max(WANTED, kept)))
    return (
        f"{'poses':<{LABEL}}{slots}"[:76], "",
        f"{'still':<{LABEL}}{_stillness(task.poses.spread_g)}",
        f"{'':<{LABEL}}{'^':>{round(BAR_CELLS / BAR_TIMES)}} still enough", "",
        *_sides(task),
    )  # fmt: skip


def _stillness(spread_g: float) -> str:
    """Green up to what is allowed, magenta beyond."""
    filled = round(min(spread_g / (BAR_TIMES * STILL_G), 1.0) * BAR_CELLS)
    allowed = round(BAR_CELLS / BAR_TIMES)
    return ("#" * min(filled, allowed) + "@" * max(filled - allowed, 0)).ljust(BAR_CELLS, ".")


def _sides(task: AccelTask) -> list[str]:
    """Faces, edges and corners: `#` was down, `@` is down now."""
    down = sides_down(task.poses.kept)
    now = None if task.poses.up is None else nearest_side(-task.poses.up)
    drawn = []
    for side, signs in enumerate(SIDES):
        sign = "@" if side == now else "#" if down[side] else "."
        name = "".join(SIGNS[s] + axis for s, axis in zip(signs, "xyz", strict=True) if s)
        drawn.append((sum(map(abs, signs)), f"{name:<7}{sign * 3}"))
    lines = []
    for count, label in ((1, "sides"), (2, "edges"), (3, "corners")):
        cells = [text for kind, text in drawn if kind == count]
        for first in range(0, len(cells), A_LINE):
            name = label if first == 0 else ""
            lines.append(f"{name:<{LABEL}}{' '.join(cells[first : first + A_LINE])}")
    assert np.all([len(line) <= 76 for line in lines])
    return lines
