"""Summary: what scripts read of a calibration; the last line of `--json` and the head of a report.

In: what was found. Out: a flat object of plain numbers. Never: says that something was stored.
"""

from __future__ import annotations

from typing import Any

from edge_agent.calibrate.compass.calibration import Calibration
from edge_agent.calibrate.compass.turning import Check

DIGITS = 9


def summary(found: Calibration, turned: Check | None) -> dict[str, Any]:
    """The last line: `matrix` @ (reading - `bias`) is the field, `coverage` is of 100 sections."""
    return {
        "verdict": found.verdict,
        "bias": None if found.bias is None else _round(found.bias.tolist()),
        "matrix": None if found.matrix is None else [_round(row) for row in found.matrix.tolist()],
        "radius": None if found.radius is None else _round([found.radius])[0],
        "radius_cv": None if found.radius_cv is None else round(found.radius_cv, 6),
        "heading_sigma_deg": None if found.error is None else round(found.error.sigma_deg, 4),
        "coverage": found.coverage,
        "saved": False,
        "reason": ": ".join(filter(None, (found.reason, found.next_move))),
        "check": None if turned is None else {
            "net_turn_deg": round(turned.net_turn_deg, 3), "norm_cv": round(turned.norm_cv, 6),
        },
    }  # fmt: skip


def _round(numbers: list[float]) -> list[float]:
    return [float(f"{number:.{DIGITS}g}") for number in numbers]
