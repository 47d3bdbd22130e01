"""Drafting: a result as what the shelf stores.

In: a task that has come to its end, its result. Out: a `Draft`. Never: stores it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from edge_agent.calibrate.accel.grading import Result
from edge_agent.calibrate.accel.units import in_g
from edge_agent.calibrate.shelf.stored import Correction, Draft, Row
from edge_agent.calibrate.sphere import Floats

if TYPE_CHECKING:
    from edge_agent.calibrate.accel.task import AccelTask

DIGITS = 9


def drafted(task: AccelTask, found: Result, board: str, temperature_c: float | None) -> Draft:
    """A result that is not `fail` for the shelf; bias in the unit of the stream."""
    assert task.schema is not None
    assert task.stream is not None
    assert found.fit is not None
    assert found.verdict != "fail"
    unit_g = in_g(task.stream.unit)
    assert unit_g is not None
    matrix = found.fit.matrix
    correction = Correction(
        stream=task.stream.name, unit=task.stream.unit, bias=row(found.fit.bias / unit_g),
        matrix=(row(matrix[0]), row(matrix[1]), row(matrix[2])),
    )  # fmt: skip
    return Draft(
        kind="accel", board=board, uid=task.schema.uid, verdict=found.verdict, reason=found.reason,
        correction=correction, error=found.error_mg, error_unit="mg", temperature_c=temperature_c,
        details=details(task, found),
    )  # fmt: skip


def details(task: AccelTask, found: Result) -> dict[str, JsonValue]:
    """What is kept beside the correction: poses, residuals, noise, checks."""
    assert found.fit is not None
    floor = task.floor()
    return {
        "gravity_g": task.gravity_g,
        "before_mg": found.before_mg,
        "gap_deg": round(found.gap_deg, 1),
        "noise_mg": round(1e3 * found.fit.noise_g, 5),
        "poses": [
            {
                "number": pose.number, "down": pose.words, "t_s": round(pose.second.t_s, 3),
                "mean_g": [*row(pose.second.mean)], "residual_mg": round(1e3 * float(residual), 4),
                "spread_mg": round(1e3 * float(pose.second.spread.max()), 3),
            }
            for pose, residual in zip(task.poses.kept, found.fit.residuals, strict=True)
        ],
        "bands": [] if floor is None else [
            {"low_hz": band.low_hz, "high_hz": round(band.high_hz, 1),
             "density_ug": [round(float(each), 1) for each in band.density]}
            for band in floor.bands
        ],
        "checks": [{**finding._asdict()} for finding in task.findings()],
    }  # fmt: skip


def row(values: Floats) -> Row:
    """Three numbers with as many digits as mean something."""
    x, y, z = (float(f"{value:.{DIGITS}g}") for value in np.asarray(values))
    return x, y, z
