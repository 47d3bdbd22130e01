"""Report: one HTML page that opens anywhere, and the numbers as JSON.

In: what was concluded of a capture. Out: two files in a folder, stamped with time, board and
version. Never: needs a network, writes half a file under a whole name.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.calibrate.baseline.drafting import Subject
from edge_agent.calibrate.baseline.recalibrate import Recalibrated
from edge_agent.calibrate.baseline.summary import check_step, state_step, summary
from edge_agent.calibrate.baseline.verdict import Concluded
from edge_agent.calibrate.compass.report import STYLE, write_pages
from edge_agent.calibrate.shelf.shelf import software
from edge_agent.calibrate.svg import BLUE, GREY, SIZE, Cloud, scatter

MOST_POINTS = 2000


def write_report(
    folder: Path, subject: Subject, found: Concluded, stamp: dict[str, Any]
) -> tuple[Path, Path]:
    """Writes `baseline-TIME.html` and `baseline-TIME.json`; gives their paths. Raises `OSError`."""
    now = datetime.now(UTC)
    told: dict[str, Any] = {
        **summary(subject, found), **stamp,
        "states": [state_step(state, state.minutes) for state in found.states],
        "checks": [check_step(check) for check in found.checks],
        "software": software(), "made": now.isoformat(timespec="seconds"),
    }  # fmt: skip
    name = f"baseline-{now:%Y%m%dT%H%M%S.%fZ}"
    return write_pages(folder, name, _html(subject, told, found), told)


def _html(subject: Subject, told: dict[str, Any], found: Concluded) -> str:
    rows = "".join(
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{escape(_words(value))}</td></tr>"
        for name, value in told.items()
        if name not in ("checks", "states")
    )
    checks = "".join(
        f'<tr><td class="{"pass" if check.ok else "fail"}">{escape(check.name)}</td>'
        f"<td>{check.observed:.4g}</td><td>{check.limit:g}</td><td>{escape(check.sentence)}</td>"
        "</tr>"
        for check in found.checks
    )
    plot = _plot(found.result) if found.result else ""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Baseline {escape(subject.asset)}</title><style>{STYLE}</style></head>"
        f'<body><h1 class="{found.verdict}">Baseline: {found.verdict.upper()}</h1>'
        f"<p>{escape(found.reason)}</p><div>{plot}</div><table>{checks}</table>"
        f"<table>{rows}</table></body></html>\n"
    )


def _plot(result: Recalibrated) -> str:
    """Score over threshold, window by window, before and after."""
    every = -(-len(result.before) // MOST_POINTS)
    numbers = np.arange(len(result.before), dtype=np.float64)[::every]
    clouds = [
        Cloud(np.column_stack((numbers, values[::every])), colour)
        for values, colour in ((result.before, GREY), (result.after, BLUE))
    ]
    title = "score / threshold: shipped grey, now blue; held out: the last third of each state"
    return scatter(title, "window", "1 is an alarm", clouds, width=2 * SIZE)


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
