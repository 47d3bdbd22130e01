"""Capture: some seconds of one board's wire to an open file, for a person who waits for it.

In: the port's settings, how long, a file. Out: a recording in it, and what it holds.
Never: goes on after the board is lost; the recording so far stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from edge_agent.boards.ports import Closed, Ports
from edge_agent.config import BoardSettings
from firmware_bridge.link import Event, Identified, Link, State, StateChanged
from firmware_bridge.recording import identify_frames

BOARD = "board"
POLL_SECONDS = 0.1
PROGRESS_SECONDS = 1.0


class Captured(NamedTuple):
    """What the file holds; `samples` by stream."""

    bytes: int
    samples: dict[str, int]
    samples_lost: int
    frames_damaged: int


class _Capture:
    """The link, the file, and when the time is over."""

    def __init__(self, settings: BoardSettings, seconds: float, file: BinaryIO) -> None:
        self.link, self.ports = Link(settings.uid), Ports({BOARD: settings})
        self.until_s: float | None = None
        self.written = 0
        self._seconds, self._file = seconds, file

    def step(self) -> None:
        """Waits a little for the port. Raises `OSError` if the board is lost."""
        now_s = time.monotonic()
        self.ports.tick(now_s)
        self._refuse_stale(self.link.tick(now_s))
        for _, event in self.ports.poll(POLL_SECONDS):
            if isinstance(event, Closed):
                raise OSError(event.reason)
            if isinstance(event, bytes):
                self._take(event)
            else:
                self.link.opened(now_s)
        self.ports.write(BOARD, self.link.outgoing(time.monotonic()))

    def finish(self) -> Captured:
        """Asks the board to be silent; the sums."""
        self.link.stop(time.monotonic())
        self.ports.write(BOARD, self.link.outgoing(time.monotonic()))
        self.ports.poll(POLL_SECONDS)
        counters = {a.schema.name: a.counters for a in self.link.assemblers.values()}
        return Captured(
            self.written,
            {name: c.samples for name, c in counters.items()},
            sum(c.lost_on_wire + c.lost_on_board for c in counters.values()),
            self.link.decoder.counters.damaged,
        )

    def _take(self, chunk: bytes) -> None:
        # The board is silent until START, so what follows the last IDENTIFY begins with a frame.
        if self.until_s is not None:
            self.written += self._file.write(chunk)
        events = self.link.feed(chunk, time.monotonic())
        for event in events:
            if isinstance(event, Identified):
                self.written += self._file.write(identify_frames(event.document))
        if self.until_s is None and self.link.state is State.STREAMING:
            self.until_s = time.monotonic() + self._seconds
        self._refuse_stale(events)

    def _refuse_stale(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, StateChanged) and event.state is State.STALE:
                raise OSError(f"the board is lost: {event.reason}")


def capture(
    settings: BoardSettings,
    seconds: float,
    file: BinaryIO,
    progress: Callable[[float, int], None],
) -> Captured:
    """Writes `seconds` of the board's wire, counted from its first sample.

    `progress(seconds_left, bytes)` is called once a second. Raises `OSError` if the port can't be
    opened, nobody answers, or the board is lost.
    """
    running, told_s = _Capture(settings, seconds, file), 0.0
    try:
        while running.until_s is None or time.monotonic() < running.until_s:
            running.step()
            now_s = time.monotonic()
            if running.until_s is not None and now_s - told_s >= PROGRESS_SECONDS:
                told_s = now_s
                progress(max(0.0, running.until_s - now_s), running.written)
        return running.finish()
    finally:
        running.ports.shut()
