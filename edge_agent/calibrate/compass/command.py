"""`edge-agent calibrate compass --replay`: files in, a verdict out.

In: parsed options. Out: an exit code (0 pass or marginal, 1 fail), JSON lines or a page. Never:
stores a calibration of a file: it is shown and reported, and nothing on the gateway changes.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from datetime import UTC, datetime
from typing import Any

from edge_agent.calibrate.compass.calibration import Calibration
from edge_agent.calibrate.compass.compass import AGAIN, calibrate
from edge_agent.calibrate.compass.site import Site, site_at
from edge_agent.calibrate.compass.summary import summary
from edge_agent.calibrate.compass.turning import Check, check
from edge_agent.calibrate.reading.files import read_readings
from edge_agent.calibrate.reading.readings import Readings, ReadingsError

EXIT_USAGE = 2


def compass(options: Namespace) -> int:
    """`edge-agent calibrate compass --replay FILE`, or `--config F` for a live board."""
    if options.longitude is not None and options.latitude is None:
        sys.stderr.write("edge-agent: --longitude needs --latitude\n")
        return EXIT_USAGE
    now = datetime.now(UTC)
    site = site_at(options.latitude, options.longitude, now.year + now.timetuple().tm_yday / 366)
    if options.replay is None:
        from edge_agent.calibrate.compass.on_site import compass_live

        return compass_live(options, site)
    began_s = time.perf_counter()
    try:
        readings = read_readings(options.replay, options.stream)
    except ReadingsError as error:
        return _answer(options, None, Calibration("fail", str(error), AGAIN), site, None)
    read_s = time.perf_counter()
    found = calibrate(readings, site)
    taken_s = time.perf_counter() - read_s
    if options.json:
        _say(_read_step(readings, read_s - began_s))
        _say(_fit_step(found, site, taken_s))
    turned = _checked(options, found)
    if options.report and found.matrix is not None:
        from edge_agent.calibrate.compass.report import write_report

        second = turned if isinstance(turned, Check) else None
        for path in write_report(options.report, readings, found, site, second, now):
            sys.stderr.write(f"{path}\n")
    return _answer(options, readings, found, site, turned)


def _checked(options: Namespace, found: Calibration) -> Check | str | None:
    """The second recording with this calibration, or why there is no answer."""
    if options.check is None:
        return None
    if found.matrix is None:
        return "there is no calibration to check"
    try:
        return check(found, read_readings(options.check, options.stream), options.latitude)
    except ReadingsError as error:
        return str(error)


def _answer(
    options: Namespace,
    readings: Readings | None,
    found: Calibration,
    site: Site,
    turned: Check | str | None,
) -> int:
    failed = found.verdict == "fail" or isinstance(turned, str)
    if options.json:
        if isinstance(turned, str):
            _say({"step": "check", "refused": turned})
        _say(summary(found, turned if isinstance(turned, Check) else None))
    else:
        from edge_agent.calibrate.compass.page import compass_page

        compass_page(str(options.replay), readings, found, site, turned)
    return int(failed)


def _read_step(readings: Readings, seconds: float) -> dict[str, Any]:
    return {
        "step": "read", "readings": len(readings.field), "dropped": readings.dropped,
        "accelerometer": readings.acceleration is not None, "unit": readings.unit,
        "uid": readings.uid, "notes": readings.notes, "seconds_taken": round(seconds, 4),
    }  # fmt: skip


def _fit_step(found: Calibration, site: Site, seconds: float) -> dict[str, Any]:
    worst = None if found.error is None else round(found.error.worst_deg, 4)
    declination = None if site.field is None else round(site.field.declination_deg, 3)
    return {
        "step": "fit", "method": found.method, "kept": found.kept, "rejected": found.rejected,
        "noise_share": found.noise, "worst_heading_sigma_deg": worst,
        "rotation_deg": found.rotation_deg, "dip_deg": found.dip_deg,
        "declination_deg": declination, "seconds_taken": round(seconds, 4),
    }  # fmt: skip


def _say(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields, allow_nan=False) + "\n")
    sys.stdout.flush()
