"""Simulated boards on ptys, each in a process of its own, as far away as a real one.

In: the machine, its seed and its faults. Out: a device path, and when each fault began.
Never: shares memory with the agent; the only way between them is the wire.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

START_SECONDS = 15.0


class SimulatedBoard:
    """`edge-board simulate` as a child; `faults` grows as they are switched on and off."""

    def __init__(self, machine: str, link: Path, seed: int, faults: tuple[str, ...] = ()) -> None:
        self.link = link
        self.faults: list[dict[str, Any]] = []
        command = [sys.executable, "-m", "firmware_bridge", "simulate", "--machine", machine]
        command += ["--seed", str(seed), "--link", str(link)]
        for fault in faults:
            command += ["--fault", fault]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> SimulatedBoard:
        self._listener.start()
        if not self._ready.wait(START_SECONDS):
            self.stop()
            raise OSError(f"the simulated board did not start: {self._process.args!r}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the child and waits for it."""
        self._process.terminate()
        self._process.wait(START_SECONDS)
        if self._process.stdout:
            self._process.stdout.close()

    def fault(self, state: str) -> dict[str, Any] | None:
        """The first report of a fault that went `on` or `off`, or None."""
        return next((fault for fault in self.faults if fault.get("state") == state), None)

    def _listen(self) -> None:
        if self._process.stdout is None:
            return
        for line in self._process.stdout:
            report = json.loads(line)
            if "port" in report:
                self._ready.set()
            elif "fault" in report:
                self.faults.append(report)
