"""A USB socket into which simulated boards are plugged, and out of which they are pulled.

The pty of each plugging-in has another number, behind a link that keeps its name, as udev's by-id
does. What the board has sent is counted, so that what is missing can be.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from firmware_bridge.board import SimulatedBoard
from firmware_bridge.codec import Decoder
from firmware_bridge.frames import Data
from firmware_bridge.hostile import HostileWire
from firmware_bridge.simulator import LiveBoard, Plan, Wires, machine_sources
from firmware_bridge.sources import Source

STEP_SECONDS = 0.002


class CountingWire(HostileWire):
    """A good wire that counts the batches that went over it since the last plugging-in."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0
        self._decoder = Decoder()

    def feed(self, chunk: bytes, now_s: float) -> None:
        """Counts and passes on."""
        self.batches += sum(isinstance(frame, Data) for frame in self._decoder.feed(chunk))
        super().feed(chunk, now_s)


class Socket(threading.Thread):
    """Serves whatever is plugged in, in a thread of its own. `frozen` holds the port open and is
    silent; `babble` is sent instead of what the board says; what the host has sent is in `heard`.
    """

    def __init__(self, link: Path) -> None:
        super().__init__(daemon=True)
        self.link = link
        self.frozen = False
        self.babble: bytes | None = None
        self.live: LiveBoard | None = None
        self.plugged_s = 0.0
        self._name = ""
        self._wire = CountingWire()
        self._lock = threading.Lock()
        self._ended = False
        self.start()

    def plug(
        self, seed: int = 7, boot_seconds: float = 0.0,
        made: tuple[bytes, Sequence[Source]] | None = None,
    ) -> str:  # fmt: skip
        """A board, freshly powered; gives its UID. It is deaf and dumb for `boot_seconds`. Its
        schema and sources are a vibration sensor's, or `made`."""
        document, sources = made or machine_sources(["vibration"], seed)
        spares = self._take_last_number()
        now_s = time.monotonic()
        self._wire = CountingWire()
        board = SimulatedBoard(document, sources, now_s + boot_seconds)
        with self._lock:
            self.live = LiveBoard(board, Wires(to_host=self._wire), Plan(self.link), now_s)
            self.plugged_s, self.frozen, self.babble = now_s, False, None
            self._ready_s = now_s + boot_seconds
            self._name = self.live.port.path
        for fd in spares:
            os.close(fd)
        return board.schema.uid

    def _take_last_number(self) -> list[int]:
        """Ptys up to the one that was ours: the next one has another number."""
        taken: list[int] = []
        while self._name and self._name not in [os.ttyname(fd) for fd in taken[1::2]]:
            taken += os.openpty()
        return taken

    def unplug(self) -> int:
        """Pulls it out; gives how many batches it had sent."""
        with self._lock:
            assert self.live
            self.live.port.close()
            self.live = None
        return self._wire.batches

    def reset(self) -> None:
        """The board loses power for a moment, its USB chip does not."""
        with self._lock:
            assert self.live
            self.live.board.reset(time.monotonic())

    def say(self, noise: bytes) -> None:
        """Bytes on the wire that the board did not mean."""
        with self._lock:
            assert self.live
            self.live.port.write(noise)

    def end(self) -> None:
        """No more boards."""
        if self.live:
            self.unplug()
        self._ended = True
        self.join()

    def run(self) -> None:
        """Steps, until it ends."""
        while not self._ended:
            with self._lock:
                if self.live:
                    self._step(self.live, time.monotonic())
            time.sleep(STEP_SECONDS)

    def _step(self, live: LiveBoard, now_s: float) -> None:
        if self.babble is not None:
            live.port.read()
            live.port.write(self.babble)
        elif now_s < self._ready_s:
            live.port.read()
        elif not self.frozen:
            live.step(now_s)
