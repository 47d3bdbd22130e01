"""Sitting: one live calibration from the first sample to its end.

In: a task, a board, a screen, keys. Out: how it ended. Never: stores a calibration, goes on beyond
the task's limit, loses what it has when the connection drops: SIGHUP saves it and ends.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Literal, TypeAlias

from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.sitting.keys import ENTER, QUIT, Keys
from edge_agent.calibrate.sitting.live import LiveBoard
from edge_agent.calibrate.sitting.screen import Screen
from edge_agent.calibrate.sitting.task import Progress, Task, Waits

PROGRESS_SECONDS = 0.5
ENOUGH_SECONDS = 3.0
PARTIAL_SECONDS = 5.0
POLL_SECONDS = 0.05

Ended: TypeAlias = Literal["enough", "accepted", "over", "time", "aborted", "dropped"]


class Dropped(Exception):
    """The connection of the person has dropped, or the machine goes down."""


class Sitting:
    """Runs one task; `note` is shown until there is something else to say."""

    def __init__(self, task: Task, board: LiveBoard, shelf: Shelf, note: str = "") -> None:
        self._task, self._board, self._shelf = task, board, shelf
        self._enough_s: float | None = None
        self._saved_s = self._drawn_s = 0.0
        self._note = note
        self.progress: Progress | None = None

    def run(self, screen: Screen, keys: Keys) -> Ended:
        """Until it is good for 3 s, accepted, ended by the person or the clock.

        Raises `BoardLost`; what there is has been saved then, to go on from."""
        self._board.needs(self._task.streams)
        ended: Ended = "dropped"
        try:
            with _dropping():
                ended = self._loop(screen, keys)
        except KeyboardInterrupt:
            ended = "aborted"
        except Dropped:
            ended = "dropped"
        finally:
            # Also when the board is lost: plugged in again, it goes on where it was.
            if ended == "dropped":
                self._save()
            screen.close(bell=ended in ("enough", "over", "time"))
        return ended

    def _loop(self, screen: Screen, keys: Keys) -> Ended:
        began_s = self._saved_s = time.monotonic()
        while True:
            for samples in self._board.poll(POLL_SECONDS):
                self._task.take(samples)
            now_s = time.monotonic()
            left_s = began_s + self._task.limit_seconds - now_s
            if now_s - self._drawn_s >= PROGRESS_SECONDS:
                self._drawn_s = now_s
                self.progress = self._task.progress()
            if self.progress is None:
                continue
            screen.show(self.progress, left_s, self._note)
            ended = self._pressed(keys.pressed()) or self._over(self.progress, now_s, left_s)
            if ended:
                return ended
            if now_s - self._saved_s >= PARTIAL_SECONDS:
                self._saved_s = now_s
                self._save()

    def _pressed(self, key: str) -> Ended | None:
        assert self.progress is not None
        if key == QUIT:
            return "aborted"
        if key == ENTER:
            if isinstance(self._task, Waits) and self._task.enter():
                return None
            if self.progress.acceptable:
                return "accepted"
            self._note = "Enter: not yet, this would not be stored"
        return None

    def _over(self, progress: Progress, now_s: float, left_s: float) -> Ended | None:
        if not progress.enough:
            self._enough_s = None
        elif self._enough_s is None:
            self._enough_s = now_s
        if progress.over:
            return "over"
        if self._enough_s is not None and now_s - self._enough_s >= ENOUGH_SECONDS:
            return "enough"
        return "time" if left_s <= 0.0 else None

    def _save(self) -> None:
        """What there is so far; a full disk must not end the sitting."""
        content = self._task.partial()
        if content is None:
            return
        try:
            self._shelf.save_partial(self._task.kind, content)
        except OSError as error:
            self._note = f"progress is not saved: {error.strerror or error}"


@contextmanager
def _dropping() -> Iterator[None]:
    """SIGHUP and SIGTERM become `Dropped` inside it; Ctrl-C works, also under a script that has
    told its children to ignore it."""

    def dropped(number: int, frame: FrameType | None) -> None:
        raise Dropped

    before = {}
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        taken = signal.default_int_handler if number == signal.SIGINT else dropped
        with suppress(ValueError):  # not the main thread
            before[number] = signal.signal(number, taken)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
