"""Memory: the agent beside interpreter, NumPy and paho alone; and replay's growth over an hour."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil

from tests.benchmarks import rig
from tests.benchmarks.row import Row

SETTLE_SECONDS = 15.0
MEGABYTE = 1e6


def _peak_of_replay(path: Path) -> float:
    """The largest resident size of `edge-agent replay` on one file."""
    command = ["-m", "edge_agent", "replay", str(path), "--bundle", str(rig.BUNDLE), "--json"]
    child = rig.python(*command)
    process, peak = psutil.Process(child.pid), 0
    while child.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.02)
    child.communicate()
    if child.returncode:
        raise RuntimeError(f"edge-agent replay ended with {child.returncode}")
    return peak / MEGABYTE


def measure() -> list[Row]:
    """The rows `memory` and `memory_hour`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with rig.boards(folder, 4, processes=4) as links, rig.broker(folder) as broker:
            settings = rig.config(folder, broker.port, links)
            with rig.agent(settings) as process:
                time.sleep(SETTLE_SECONDS)
                whole = process.memory_info().rss / MEGABYTE
        bare = rig.floor("memory", f"--bundle={rig.BUNDLE}") / MEGABYTE
        hour = _peak_of_replay(rig.recording(folder, 3600.0))
        minutes = _peak_of_replay(rig.recording(folder, 360.0))
    return [
        Row("memory", "MB, 4 boards", whole, "interpreter + numpy + paho", bare, 25.0, "low",
            as_difference=True),
        Row("memory_hour", "MB, replay of 1 h", hour, "replay of 6 min", minutes, 1.0, "low",
            as_difference=True),
    ]  # fmt: skip
