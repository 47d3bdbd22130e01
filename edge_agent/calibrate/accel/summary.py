"""Summary: what scripts read of a calibration: steps, and the last line of `--json`.

In: a task that has come to its end. Out: flat objects of plain numbers. Never: says that something
was stored: whoever stores it does.
"""

from __future__ import annotations

from typing import Any

from edge_agent.calibrate.accel.drafting import row
from edge_agent.calibrate.accel.grading import Result
from edge_agent.calibrate.accel.task import AccelTask
from edge_agent.checkup.findings import Finding


def summary(task: AccelTask, found: Result) -> dict[str, Any]:
    """`matrix` @ (reading in g - `bias_g`) is the acceleration in g."""
    fit, rate = found.fit, task.rate if task.stream else None
    off = rate.off_ppm if rate else None
    return {
        "verdict": found.verdict,
        "bias_g": None if fit is None else [*row(fit.bias)],
        "matrix": None if fit is None else [[*row(each)] for each in fit.matrix],
        "worst_error_mg": _rounded(found.error_mg, 4),
        "before_mg": _rounded(found.before_mg, 2),
        "poses": len(task.poses.kept),
        "dropped": [each.pose.number for each in task.dropped],
        "gap_deg": round(found.gap_deg, 1),
        "noise_mg": None if fit is None else round(1e3 * fit.noise_g, 5),
        "gravity_g": round(task.gravity_g, 7),
        "rate_hz": _rounded(rate.rate_hz if rate else None, 4),
        "rate_ppm": _rounded(off, 1),
        "saved": False,
        "reason": ": ".join(filter(None, (found.reason, found.next_move))),
    }


def pose_steps(task: AccelTask, found: Result) -> list[dict[str, Any]]:
    """One object a pose that was taken, also of one that was dropped again."""
    residuals = {} if found.fit is None else {
        pose.number: round(1e3 * float(each), 4)
        for pose, each in zip(task.poses.kept, found.fit.residuals, strict=True)
    }  # fmt: skip
    moved = {each.pose.number: round(each.off_mg, 3) for each in task.dropped}
    return [
        {
            "step": "pose", "number": pose.number, "t_s": round(pose.second.t_s, 3),
            "down": pose.words, "mean_g": [*row(pose.second.mean)],
            "spread_mg": round(1e3 * float(pose.second.spread.max()), 3),
            "residual_mg": residuals.get(pose.number), "moved_mg": moved.get(pose.number),
        }
        for pose in task.every_pose()
    ]  # fmt: skip


def check_step(finding: Finding) -> dict[str, Any]:
    """One check."""
    return {"step": "check", **finding._asdict()}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
