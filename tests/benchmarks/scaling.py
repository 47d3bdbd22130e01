"""Scaling: what the second to the sixteenth board cost, beside sixteen times the first, and
whether a sample of theirs is lost."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from paho.mqtt import subscribe

from tests.benchmarks import rig
from tests.benchmarks.row import Row

BOARDS = 16
SECONDS = 20.0
START_SECONDS = 10.0


LOSSES = ("samples_lost_on_wire", "samples_lost_on_board", "samples_overwritten")


def _cost(folder: Path, links: list[str]) -> tuple[float, int]:
    """CPU seconds a second, and what the agent itself says it has lost since it began."""
    with rig.broker(folder) as broker:
        settings = rig.config(folder, broker.port, links)
        with rig.agent(settings) as process:
            cost = rig.cpu_share(process, START_SECONDS, SECONDS)
            tls = {"ca_certs": str(rig.ca_of(folder))}
            said = subscribe.simple("otolith/bench/health", port=broker.port, tls=tls)
            health = json.loads(said.payload)
            if health["boards_streaming"] != len(links):
                raise RuntimeError(f"{health['boards_streaming']} of {len(links)} boards stream")
            return cost, sum(health[name] for name in LOSSES)


def measure() -> list[Row]:
    """The rows `scaling_16_boards` and `boards_16_lost`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with rig.boards(folder, BOARDS, processes=1) as links:
            (one, _), (sixteen, lost) = _cost(folder, links[:1]), _cost(folder, links)
    return [
        Row("scaling_16_boards", "CPU s a second, 16 boards", sixteen, "16 x one board",
            BOARDS * one, 1.0, "low"),
        Row("boards_16_lost", "samples lost of 16 boards x 3 axes x 3.2 kHz in half a minute",
            lost, "none", 0.0, 0.0, "low", as_difference=True),
    ]  # fmt: skip
