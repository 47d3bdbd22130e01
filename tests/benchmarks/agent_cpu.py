"""Agent CPU: the whole service on four live 3-axis boards at 3.2 kHz, beside the bare work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.benchmarks import rig
from tests.benchmarks.row import Row

BOARDS = 4
SECONDS = 30.0
START_SECONDS = 8.0


def measure() -> list[Row]:
    """The rows `agent_cpu` and `ports_cpu`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with rig.boards(folder, BOARDS, processes=BOARDS) as links:
            seconds = f"--seconds={SECONDS:g}"
            bare_read = rig.floor("read", *links, seconds)
            bare_invoke = rig.floor("invoke", *links, seconds, f"--bundle={rig.BUNDLE}")
            ports = rig.floor("ports", *links, seconds)
            with rig.broker(folder) as broker:
                settings = rig.config(folder, broker.port, links)
                with rig.agent(settings) as process:
                    whole = rig.cpu_share(process, START_SECONDS, SECONDS)
    unit = "CPU s a second, 4 boards x 3 axes x 3.2 kHz"
    return [
        Row("agent_cpu", unit, whole, "read + frombuffer + invoke", bare_invoke, 1.5, "low"),
        Row("ports_cpu", unit, ports, "read + frombuffer", bare_read, 2.0, "low"),
    ]
