"""Scaling: what the second to the sixteenth board cost, beside sixteen times the first."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.benchmarks import rig
from tests.benchmarks.row import Row

BOARDS = 16
SECONDS = 20.0
START_SECONDS = 10.0


def _cost(folder: Path, links: list[str]) -> float:
    with rig.broker(folder) as broker:
        settings = rig.config(folder, broker.port, links)
        with rig.agent(settings) as process:
            return rig.cpu_share(process, START_SECONDS, SECONDS)


def measure() -> list[Row]:
    """The row `scaling_16_boards`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with rig.boards(folder, BOARDS) as links:
            one, sixteen = _cost(folder, links[:1]), _cost(folder, links)
    return [
        Row("scaling_16_boards", "CPU s a second, 16 boards", sixteen, "16 x one board",
            BOARDS * one, 1.0, "low")
    ]  # fmt: skip
