"""Summary: what was concluded, as flat JSON.

In: what was concluded of a capture. Out: fields of a line. Never: a number that is not finite.
"""

from __future__ import annotations

from typing import Any

from edge_agent.calibrate.baseline.checks import Check
from edge_agent.calibrate.baseline.document import StateTold
from edge_agent.calibrate.baseline.drafting import Subject
from edge_agent.calibrate.baseline.verdict import Concluded


def state_step(state: StateTold, minutes: float) -> dict[str, Any]:
    """One state of the machine."""
    return {"step": "state", "state": state.name, "minutes": round(state.minutes, 2),
            "needed": minutes, "windows": state.windows}  # fmt: skip


def check_step(check: Check) -> dict[str, Any]:
    """One limit."""
    return {"step": "check", "check": check.name, "about": check.family, "ok": check.ok,
            "observed": _short(check.observed), "limit": check.limit,
            "sentence": check.sentence}  # fmt: skip


def summary(subject: Subject, found: Concluded) -> dict[str, Any]:
    """The last line."""
    manifest, result = subject.bundle.manifest, found.result
    fields: dict[str, Any] = {
        "verdict": found.verdict, "reason": found.reason, "next_move": found.next_move,
        "asset": subject.asset, "bundle": manifest.name, "bundle_serial": manifest.serial,
        "bundle_sha256": subject.bundle.sha256, "provisional": found.provisional,
        "refused_by": [check.name for check in found.checks if not check.ok],
        "shipped_threshold": manifest.threshold.value,
    }  # fmt: skip
    if result is None:
        return fields
    estimate = result.estimate
    return fields | {
        "threshold": result.threshold.value, "windows": result.threshold.windows,
        "held_out_hours": _short(estimate.hours), "shipped": _false(estimate.shipped.model_dump()),
        "now": _false(estimate.now.model_dump()),
    }  # fmt: skip


def _false(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _short(value) for name, value in fields.items()}


def _short(value: float) -> float:
    """Four digits; what is beyond all numbers is the largest one."""
    return float(f"{min(value, 1e30):.4g}")
