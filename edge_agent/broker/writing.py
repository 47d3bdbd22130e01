"""Writing: the outbox's file, from the thread that alone writes it.

In: what is due. Out: what became of it, or None and a `problem` while the disk refuses.
Never: raises for a disk, gives up a row that can be read: a damaged file is set aside, and what is
whole in it goes on in a new one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from edge_agent.broker.clock import Clock
from edge_agent.broker.disk import DamagedError, is_damage, trouble
from edge_agent.broker.salvage import set_aside
from edge_agent.broker.store import Limits, Note, Row, filled, open_store


class Work(NamedTuple):
    """What is due: rows to write, rows that are done, notes, and whether ages are looked at.
    `remembered` are all notes, for a new file."""

    rows: dict[int, Row]
    done: set[int]
    notes: tuple[Note, ...]
    expire: bool
    remembered: tuple[Note, ...]


class Outcome(NamedTuple):
    """All of the work is on the disk: what went for want of room, what for its age, and whether
    a new file was begun."""

    dropped: list[Row]
    expired: list[Row]
    recovered: bool


class Writing:
    """`store` is the file that is written now; `is_damaged` may be set by whoever finds out.
    `moved` is called now and then while a file is salvaged. Raises what `open_store` raises."""

    def __init__(self, path: Path, limits: Limits, clock: Clock, moved: Callable[[], None]) -> None:
        self._path, self._clock, self._moved = path, clock, moved
        self.limits = limits
        self.store, self.set_aside = open_store(path, limits)
        self.is_damaged = False
        self.problem: str | None = None
        self._unfinished: Path | None = None

    def do(self, work: Work) -> Outcome | None:
        """All of it in one transaction, or nothing."""
        try:
            recovered = self.is_damaged
            if recovered:
                self._recover(work)
            outcome = self._write(work, recovered)
        except DamagedError:
            self.is_damaged = True
            return None
        except sqlite3.Error as error:
            if is_damage(error):
                self.is_damaged = True
            else:
                self.problem = trouble("written", error, self._path.parent)
            return None
        except OSError as error:
            said = f"{error.strerror or error}: check the disk of {self._path.parent}"
            self.problem = f"outbox can't be written: {said}"
            return None
        if work.rows or work.done or work.notes:
            self.problem = None
        return outcome

    def close(self) -> None:
        """Folds the log into the file and closes it, if the disk takes that."""
        with suppress(sqlite3.Error):
            self.store.close()

    def _write(self, work: Work, recovered: bool) -> Outcome:
        # What was acknowledged before it was written needs no disk at all.
        rows = [row for row in work.rows.values() if row.id not in work.done]
        done = sorted(work.done - work.rows.keys())
        old = self.store.expired(self._clock.for_ages()) if work.expire else []
        expired = [row for row in old if row.id not in work.done]
        dropped: list[Row] = []
        if rows or done or work.notes or expired:
            dropped = self.store.write(rows, done, work.notes, expired)
        return Outcome(dropped, expired, recovered)

    def _recover(self, work: Work) -> None:
        """May be tried again: what was moved away stays there."""
        if self._unfinished is None:
            self.close()
            self._unfinished = set_aside(self._path)
        skip, notes = work.done, work.remembered
        self.store = filled(self._path, self.limits, self._unfinished, skip, notes, self._moved)
        self.set_aside, self._unfinished, self.is_damaged = self._unfinished, None, False
