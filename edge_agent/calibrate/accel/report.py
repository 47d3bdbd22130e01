"""Report: one HTML page that opens anywhere, and the parameters as JSON.

In: a task at its end, its checks. Out: two files in a folder, stamped with time, board and
versions. Never: needs a network, replaces another day's report.
"""

from __future__ import annotations

import json
from datetime import datetime
from html import escape
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.calibrate.accel.grading import Result
from edge_agent.calibrate.accel.summary import pose_steps, summary
from edge_agent.calibrate.accel.tap import Tapped
from edge_agent.calibrate.accel.task import AccelTask
from edge_agent.calibrate.compass.report import AXES, STYLE, write_pages
from edge_agent.calibrate.shelf.shelf import software
from edge_agent.calibrate.svg import BLUE, GREY, RED, SIZE, Cloud, scatter
from edge_agent.checkup.findings import Finding

COLOURS = (BLUE, GREY, RED)


def write_report(
    folder: Path, name: str, task: AccelTask, found: Result, findings: list[Finding],
    tap: Tapped | None, now: datetime, stamp: dict[str, Any],
) -> tuple[Path, Path]:  # fmt: skip
    """Writes `accel-TIME.html` and `accel-TIME.json`; gives their paths. Raises `OSError`."""
    schema = task.schema
    parameters = {
        **summary(task, found), "poses_taken": pose_steps(task, found), "source": name,
        "checks": [finding._asdict() for finding in findings],
        "board_uid": schema.uid if schema else None,
        "firmware": schema.firmware if schema else None,
        "made": now.isoformat(timespec="seconds"),
        "versions": {each: version(each) for each in ("numpy", "scipy")} | {"software": software()},
        **stamp,
    }  # fmt: skip
    stem = f"accel-{now:%Y%m%dT%H%M%S.%fZ}"
    return write_pages(folder, stem, _html(parameters, task, found, tap), parameters)


def _html(parameters: dict[str, Any], task: AccelTask, found: Result, tap: Tapped | None) -> str:
    plain = {name: value for name, value in parameters.items()
             if name not in ("poses_taken", "checks")}  # fmt: skip
    rows = "".join(_row(name.replace("_", " "), _words(value)) for name, value in plain.items())
    checks = "".join(
        _row(f"{check['level']}: {check['about']}",
             "; ".join(filter(None, (check["seen"], check["expected"], check["do"]))))
        for check in parameters["checks"]
    )  # fmt: skip
    poses = "".join(
        _row(f"pose {pose['number']}", f"{pose['down']} at {pose['t_s']} s, "
             f"{_words(pose['mean_g'])} g, residual {_words(pose['residual_mg'])} mg")
        for pose in parameters["poses_taken"]
    )  # fmt: skip
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Accelerometer calibration {escape(parameters['source'])}</title>"
        f'<style>{STYLE}</style></head><body><h1 class="{found.verdict}">Accelerometer: '
        f"{found.verdict.upper()}</h1><p>{escape(parameters['reason'])}</p>"
        f"<div>{''.join(_plots(task, found, tap))}</div><table>{checks}</table><hr>"
        f"<table>{poses}</table><hr><table>{rows}</table></body></html>\n"
    )


def _plots(task: AccelTask, found: Result, tap: Tapped | None) -> list[str]:
    """Poses on the sphere from three sides, residuals, the spectra of noise and taps."""
    plots = []
    up = np.array([pose.up for pose in task.poses.kept]).reshape(-1, 3)
    if len(up):
        plots += [scatter(f"poses {AXES[a]}{AXES[b]}", AXES[a], AXES[b], [Cloud(up[:, (a, b)])],
                          True, 1.0) for a, b in pairwise((0, 1, 2, 0))]  # fmt: skip
    if found.fit is not None:
        numbers = np.array([pose.number for pose in task.poses.kept], np.float64)
        rest = np.column_stack((numbers, 1e3 * found.fit.residuals))
        zero = np.column_stack((numbers, np.zeros(len(numbers))))
        plots.append(scatter("residuals", "pose", "mg", [Cloud(zero, GREY), Cloud(rest)]))
    floor = task.floor() if task.stream else None
    if floor is not None:
        heard = floor.hz > 0.0
        clouds = [Cloud(np.column_stack((floor.hz[heard], floor.density[heard, axis])), colour)
                  for axis, colour in enumerate(COLOURS)]  # fmt: skip
        plots.append(scatter("noise of x (blue), y (grey), z (red)", "Hz", "ug/sqrt(Hz)", clouds,
                             width=2 * SIZE))  # fmt: skip
    if tap is not None and tap.power.any():
        some = np.column_stack((tap.hz, 10.0 * np.log10(np.maximum(tap.power, 1e-6))))
        where = f": rings at {tap.resonance_hz:.0f} Hz" if tap.resonance_hz else ""
        plots.append(scatter(f"taps{where}", "Hz", "dB", [Cloud(some)], width=2 * SIZE))
    return plots


def _row(name: str, text: str) -> str:
    return f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>"


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
