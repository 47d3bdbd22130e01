"""Replay: seconds of 3-axis 3.2 kHz data a second, one process on one core."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.benchmarks import rig
from tests.benchmarks.row import Row

SECONDS_OF_DATA = 1800.0


def measure() -> list[Row]:
    """The row `replay_speed`."""
    with tempfile.TemporaryDirectory() as name:
        path = rig.recording(Path(name), SECONDS_OF_DATA)
        command = ["-m", "edge_agent", "replay", str(path), "--bundle", str(rig.BUNDLE), "--json"]
        with rig.python(*command) as child:
            out, _ = child.communicate()
        last = json.loads(out.splitlines()[-1])
    speed = float(last["times_real_time"])
    return [Row("replay_speed", "s of data a second", speed, "real time", 1.0, 500.0, "high")]
