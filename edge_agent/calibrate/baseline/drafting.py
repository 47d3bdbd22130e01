"""Drafting: what was concluded of a capture, as it goes to the shelf.

In: a capture, what was concluded of it, whose it is. Out: a `Draft`, and the slots' file if the
bundle has a memory. Never: writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from edge_agent.bundles.bundle import Bundle
from edge_agent.calibrate.baseline.applying import slots_told
from edge_agent.calibrate.baseline.capture import Capture
from edge_agent.calibrate.baseline.document import ASSETS, Baseline, SlotsFile
from edge_agent.calibrate.baseline.verdict import Concluded
from edge_agent.calibrate.shelf.stored import Draft
from edge_agent.config import AssetSettings


class Subject(NamedTuple):
    """What is calibrated: an asset, its settings (None: nobody's, only a bundle is known), its
    bundle; the name of the stream, if it is known."""

    asset: str
    settings: AssetSettings | None
    bundle: Bundle
    stream: str | None


class Drafted(NamedTuple):
    """`slots` belong into a file beside it, before it is stored."""

    draft: Draft
    slots: tuple[SlotsFile, bytes] | None


def drafted(
    subject: Subject, capture: Capture, found: Concluded, board: str, uid: str,
    temperature_c: float | None = None, beneath: tuple[str, ...] = (),
    others: Mapping[str, Baseline] | None = None,
) -> Drafted:  # fmt: skip
    """Of something that has passed, or is marginal."""
    result, manifest = found.result, capture.bundle.manifest
    assert result is not None
    assert found.verdict != "fail"
    slots = slots_told(result.members) if result.members else None
    baseline = Baseline(
        asset=subject.asset, stream=capture.stream.name, uid=uid, bundle=manifest.name,
        bundle_serial=manifest.serial, bundle_sha256=capture.bundle.sha256,
        shipped_threshold=manifest.threshold.value, threshold=result.threshold,
        normal_error=result.normal_error, states=found.states, provisional=found.provisional,
        estimate=result.estimate, median_ratio=round(float(np.median(result.before)), 6),
        beneath=beneath, slots=slots[0] if slots else None,
    )  # fmt: skip
    now = result.estimate.now
    details = {
        "asset": subject.asset, "bundle": manifest.name, "serial": manifest.serial,
        "shipped_threshold": manifest.threshold.value, "threshold": result.threshold.value,
        "windows": result.threshold.windows, "provisional": found.provisional,
        "states": [[one.name, one.minutes, one.windows] for one in found.states],
        "held_out_hours": result.estimate.hours, "false_episodes": now.episodes,
        ASSETS: {
            name: each.model_dump(mode="json")
            for name, each in {**(others or {}), subject.asset: baseline}.items()
        },
    }  # fmt: skip
    draft = Draft.model_validate({
        "kind": "baseline", "board": board, "uid": uid, "verdict": found.verdict,
        "reason": found.reason, "error": round(now.a_day, 4), "error_unit": "/day",
        "temperature_c": temperature_c, "details": details,
    })  # fmt: skip
    return Drafted(draft, slots)
