"""Recorder: the wire of one board to files, as it came.

In: the board's own description, and raw chunks from its port. Out: segments that begin with
IDENTIFY and go on after a 0x00, so that each is a recording of its own (firmware_bridge/recording).
Never: interprets a frame, takes more disk than its limit (the oldest segments go first, across
boards), raises for a full disk: the service judges on, and `problem` says what is wrong.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from edge_agent.boards.evidence.case import STAMP, stamp
from edge_agent.config import RecorderSettings
from firmware_bridge.codec import DELIMITER
from firmware_bridge.recording import identify_frames

SUFFIX = ".otolith"
STAMPED = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
BUFFER_BYTES = 1 << 18
# A power cut costs at most this much; shorter wears out the card.
FLUSH_SECONDS = 5.0


class Recorder:
    """One board's segments. Call `begin` at each IDENTIFY, `take` for each chunk, `tick` often."""

    def __init__(self, board: str, settings: RecorderSettings, boards: int = 1) -> None:
        self._board, self._settings = board, settings
        # Each of the boards that share the limit may fill the segment it is writing now.
        self._kept_bytes = settings.limit_bytes - boards * settings.segment_bytes
        self._file: BinaryIO | None = None
        self._head = b""
        self._written = 0
        self._started_s = self._flushed_s = 0.0
        self._rolling = False
        self.problem: str | None = None
        self.bytes = 0

    def begin(self, document: bytes) -> None:
        """The board said who it is: the next whole frame begins a new segment."""
        self.end()
        self._head = identify_frames(document)
        self._rolling = True

    def take(self, chunk: bytes, now_s: float) -> None:
        """Writes a chunk; the end of a frame in it may begin a new segment."""
        if not self._head:
            return
        try:
            if self._rolling:
                before, delimiter, chunk = chunk.partition(DELIMITER)
                if self._file:
                    self._file.write(before + delimiter)
                if not delimiter:
                    return
                self._roll(now_s)
            if self._file:
                self._file.write(chunk)
                self._written += len(chunk)
                self.bytes += len(chunk)
        except OSError as error:
            self._give_up(error, now_s)

    def tick(self, now_s: float) -> None:
        """Flushes every few seconds, and ends a segment that is long enough."""
        settings = self._settings
        try:
            if self._file is None:
                self._rolling = bool(self._head)
                return
            if now_s - self._flushed_s >= FLUSH_SECONDS:
                self._file.flush()
                self._flushed_s = now_s
            long = now_s - self._started_s >= settings.segment_seconds
            self._rolling = self._rolling or long or self._written >= settings.segment_bytes
        except OSError as error:
            self._give_up(error, now_s)

    def end(self) -> None:
        """The board is gone: the segment is closed."""
        file, self._file, self._head, self._rolling = self._file, None, b"", False
        if file:
            try:
                file.close()
            except OSError as error:
                self.problem = f"recorder: {error}"

    def _roll(self, now_s: float) -> None:
        """Closes this segment and begins the next, after making room for it."""
        if self.problem and now_s - self._started_s < FLUSH_SECONDS:
            return
        if self._file:
            self._file.close()
            self._file = None
        settings = self._settings
        settings.directory.mkdir(parents=True, exist_ok=True)
        make_room(settings.directory, self._kept_bytes)
        path = settings.directory / f"{_name(settings.directory)}-{self._board}{SUFFIX}"
        self._file = path.open("xb", buffering=BUFFER_BYTES)
        self._file.write(self._head)
        self._written, self._rolling, self.problem = len(self._head), False, None
        self._started_s = self._flushed_s = now_s

    def _give_up(self, error: OSError, now_s: float) -> None:
        """The disk is full or gone; a new segment is tried later."""
        head = self._head
        self.end()
        self._head, self._started_s = head, now_s
        self.problem = f"recorder: {self._settings.directory}: {error.strerror or error}"


def _name(directory: Path) -> str:
    """The moment as a name that comes after those that are there. A gateway without a clock of its
    own starts in the past: its new segments would be taken for the oldest, and go first."""
    now = stamp(time.time())
    names = (path.name[: len(now)] for path in directory.glob(f"*{SUFFIX}"))
    newest = max(filter(STAMPED.fullmatch, names), default="")
    if newest < now:
        return now
    with suppress(ValueError):  # the 31st of February
        return (datetime.strptime(newest, STAMP) + timedelta(microseconds=1)).strftime(STAMP)
    return now


def make_room(directory: Path, limit_bytes: int) -> list[Path]:
    """Deletes the oldest segments until at most `limit_bytes` are left; gives what went.

    Names begin with the time, so the order of names is the order of age.
    """
    segments = sorted(directory.glob(f"*{SUFFIX}"))
    sizes = {path: os.stat(path).st_size for path in segments}
    total, gone = sum(sizes.values()), []
    for path in segments:
        if total <= limit_bytes:
            break
        path.unlink(missing_ok=True)
        total -= sizes[path]
        gone.append(path)
    return gone
