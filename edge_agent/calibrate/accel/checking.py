"""Checking: taps and calibrators, of rows or of a live board.

In: rows in g, or a board of the configuration. Out: `Finding`s. Never: stores anything.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Literal

from edge_agent.bundles.bundle import BundleError, read_bundle
from edge_agent.calibrate.accel.listening import Listening
from edge_agent.calibrate.accel.shaker import shaken, shaker_finding
from edge_agent.calibrate.accel.tap import Tapped, tap_finding, tapped
from edge_agent.calibrate.sitting.command import Place, standard_input
from edge_agent.calibrate.sitting.keys import Keys
from edge_agent.calibrate.sitting.live import LiveBoard, open_wire
from edge_agent.calibrate.sitting.screen import screen_for
from edge_agent.calibrate.sitting.sitting import Sitting
from edge_agent.calibrate.sphere import Floats
from edge_agent.checkup.findings import Finding


def tap_check(rows: Floats, rate_hz: float, band_hz: float | None) -> tuple[Finding, Tapped]:
    """Where the mounting rings."""
    found = tapped(rows, rate_hz)
    return tap_finding(found, rate_hz, band_hz), found


def shaker_check(rows: Floats, rate_hz: float, rms_m_s2: float) -> Finding:
    """The tone of a calibrator."""
    return shaker_finding(shaken(rows, rate_hz), rate_hz, rms_m_s2)


def listened(options: Namespace, place: Place, what: Literal["tap", "shaker"]) -> Listening | None:
    """A live board while it is tapped or shaken; None if the person ended it. Raises `BoardLost`,
    `OSError`, `CannotCalibrate`."""
    wire, _ = open_wire(place.state_dir, place.board, place.settings)
    board = LiveBoard(place.board, place.settings.uid, wire)
    task = Listening(what, options.stream)
    try:
        task.begin(board.open())
        screen = screen_for(options.json, f"{what.capitalize()} check of board {place.board}")
        with Keys(standard_input()) as keys:
            ended = Sitting(task, board, place.shelf).run(screen, keys)
    finally:
        board.close()
    return None if ended in ("aborted", "dropped") else task


def band_hz(place: Place, stream: str) -> float | None:
    """The highest frequency that any bundle of this stream looks at; None if no asset tells."""
    found = []
    for asset in place.config.assets.values():
        if (asset.board, asset.stream) != (place.board, stream):
            continue
        try:
            manifest = read_bundle(asset.bundle, place.config.trusted_keys).manifest
        except (BundleError, OSError):
            continue
        front_end = manifest.front_end
        if front_end.kind == "spectral":
            found.append(front_end.high_hz)
        else:
            decimated = front_end.decimate if front_end.kind == "smooth" else 1
            found.append(manifest.sensor.rate_hz / 2.0 / decimated)
    return max(found, default=None)
