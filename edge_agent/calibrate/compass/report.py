"""Report: one HTML page that opens anywhere, and the parameters as JSON.

In: readings and what was found. Out: two files in a folder, stamped with time, board and versions.
Never: needs a network, writes half a file under a whole name, replaces another day's report.
"""

from __future__ import annotations

import json
from datetime import datetime
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.calibrate.compass.calibration import Calibration
from edge_agent.calibrate.compass.site import Site
from edge_agent.calibrate.compass.summary import summary
from edge_agent.calibrate.compass.turning import Check
from edge_agent.calibrate.reading.readings import Readings
from edge_agent.calibrate.sphere import Floats
from edge_agent.calibrate.svg import BLUE, GREY, SIZE, Cloud, scatter, section_map
from edge_agent.files import write_atomically
from edge_agent.versions import version_of

AXES = ("x", "y", "z")
STYLE = (
    "body{font-family:sans-serif;margin:2em;color:#222}table{border-collapse:collapse}"
    "td{padding:2px 12px 2px 0;vertical-align:top}.pass{color:#1e8449}.marginal{color:#b9770e}"
    ".fail{color:#c0392b}svg{margin:4px}"
)


def write_report(
    folder: Path,
    readings: Readings,
    found: Calibration,
    site: Site,
    turned: Check | None,
    now: datetime,
    stamp: dict[str, Any] | None = None,
) -> tuple[Path, Path]:
    """Writes `compass-TIME.html` and `compass-TIME.json`; gives their paths. `stamp` is what only
    a live board tells. Raises `OSError`."""
    parameters = _parameters(readings, found, site, turned, now) | (stamp or {})
    name = f"compass-{now:%Y%m%dT%H%M%S.%fZ}"
    return write_pages(folder, name, _html(parameters, readings, found, turned), parameters)


def write_pages(
    folder: Path, name: str, page: str, parameters: dict[str, Any]
) -> tuple[Path, Path]:
    """Writes any calibration's page and its parameters beside it; gives their paths. Raises
    `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    html, data = folder / f"{name}.html", folder / f"{name}.json"
    write_atomically(data, (json.dumps(parameters, indent=2, allow_nan=False) + "\n").encode())
    write_atomically(html, page.encode())
    return html, data


def _parameters(
    readings: Readings, found: Calibration, site: Site, turned: Check | None, now: datetime
) -> dict[str, Any]:
    return {
        **summary(found, turned),
        "method": found.method,
        "worst_heading_sigma_deg": None if found.error is None else found.error.worst_deg,
        "noise_share": found.noise,
        "readings": len(readings.field), "kept": found.kept, "rejected": found.rejected,
        "dropped": readings.dropped, "notes": list(readings.notes),
        "rotation_deg": found.rotation_deg, "dip_deg": found.dip_deg,
        "unit": readings.unit, "board_uid": readings.uid, "file": readings.name,
        "site": None if site.field is None else {
            "latitude": site.latitude, "longitude": site.longitude, **site.field._asdict(),
        },
        "made": now.isoformat(timespec="seconds"), "temperature_c": None,
        "versions": {name: version_of(name) for name in ("otolith", "numpy", "scipy", "pygeomag")},
    }  # fmt: skip


def _html(
    parameters: dict[str, Any], readings: Readings, found: Calibration, turned: Check | None
) -> str:
    rows = "".join(
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{escape(_words(value))}</td></tr>"
        for name, value in parameters.items()
    )
    plots = "".join(_plots(readings.field, found, turned))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Compass calibration {escape(readings.name)}</title><style>{STYLE}</style></head>"
        f'<body><h1 class="{found.verdict}">Compass: {found.verdict.upper()}</h1>'
        f"<p>{escape(parameters['reason'])}</p><div>{plots}</div><table>{rows}</table>"
        "</body></html>\n"
    )


def _plots(field: Floats, found: Calibration, turned: Check | None) -> list[str]:
    """Raw and corrected clouds from three sides, residuals, coverage, and the heading check."""
    corrected = found.correct(field)
    pairs = list(pairwise((0, 1, 2, 0)))
    plots = [
        scatter(f"raw {AXES[a]}{AXES[b]}", AXES[a], AXES[b], [Cloud(field[:, (a, b)], GREY)], True)
        for a, b in pairs
    ]
    plots += [
        scatter(f"corrected {AXES[a]}{AXES[b]}", AXES[a], AXES[b],
                [Cloud(corrected[:, (a, b)])], True, found.radius)
        for a, b in pairs
    ]  # fmt: skip
    lengths = np.linalg.norm(corrected, axis=1)
    numbers = np.arange(len(lengths), dtype=np.float64)
    off = np.column_stack((numbers, 100.0 * (lengths / np.median(lengths) - 1.0)))
    plots.append(scatter("residuals", "reading", "% of the field", [Cloud(off)], width=2 * SIZE))
    if found.seen is not None:
        plots.append(section_map(f"coverage: {found.coverage} of 100 sections", found.seen))
    if turned is not None:
        line = np.column_stack(
            (np.arange(len(turned.turns_deg), dtype=np.float64), turned.turns_deg)
        )
        title = f"heading check: {turned.net_turn_deg:.1f}°"
        plots.append(scatter(title, "reading", "degrees", [Cloud(line, BLUE)], width=2 * SIZE))
    return plots


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
