"""A simulated board with its link and its evidence, on a clock of the test's own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.boards.evidence import Evidence
from edge_agent.boards.evidence.case import DOCUMENT
from firmware_bridge.board import SimulatedBoard
from firmware_bridge.link import Identified, Link
from firmware_bridge.samples import Samples
from firmware_bridge.signals import ACCEL, MAG, board_document, make_machine
from firmware_bridge.sources import MachineSource

STEP_SECONDS = 0.01
LIMIT = 20_000_000
WALL_S = 1.8e9
STREAMS = {"accel": ("vibration", ACCEL), "mag": ("compass", MAG)}


class Bench:
    """A simulated board, its link and its evidence, on a clock of the test's own."""

    def __init__(self, folder: Path, stream: str = "accel", piece: int = 0) -> None:
        machine, schema = STREAMS[stream]
        source = MachineSource(*make_machine(machine))
        self.board = SimulatedBoard(board_document("ab" * 12, (schema,)), [source])
        self.link = Link()
        self.link.opened(0.0)
        self.evidence = Evidence(folder, LIMIT, ["b"], wall=lambda: WALL_S + self.now_s)
        self.tail = self.evidence.tails["b"]
        self.rows: list[NDArray[np.float32]] = []
        self.now_s, self._piece = 0.0, piece

    def run(self, until_s: float) -> None:
        """The service's part: tail first, then link, then ticks."""
        while self.now_s < until_s:
            self.now_s += STEP_SECONDS
            self.link.tick(self.now_s)
            self.board.feed(self.link.outgoing(self.now_s), self.now_s)
            sent = self.board.poll(self.now_s)
            size = self._piece or max(len(sent), 1)
            for at in range(0, len(sent), size):
                self._received(sent[at : at + size])
            self.evidence.tick(self.now_s)

    def _received(self, chunk: bytes) -> None:
        self.tail.take(chunk, self.now_s)
        for event in self.link.feed(chunk, self.now_s):
            if isinstance(event, Identified):
                self.tail.begin(event.document)
            elif isinstance(event, Samples):
                self.rows.append(event.values)


def at(seconds: float) -> str:
    """Host seconds as the agent's messages tell them."""
    return datetime.fromtimestamp(WALL_S + seconds, UTC).isoformat(timespec="milliseconds")


def document(folder: Path, name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / f"{name}{DOCUMENT}").read_text())
    return read
