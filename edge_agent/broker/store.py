"""Store: the file behind the outbox: messages in order, and notes beside them.

In: rows and notes to write, ids to delete. Out: what is on the disk; what went for want of room
or for its age. Never: more than one thread at a time, a commit that is not on the disk when it
returns, a row that is not what was stored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.broker.disk import DamagedError, is_damage
from edge_agent.broker.lanes import Lane
from edge_agent.broker.layout import (
    COLUMNS,
    INSERT,
    MAX_ID,
    NOTES,
    PAGE_BYTES,
    UPSERT,
    Note,
    Row,
    check,
    connect,
    note_values,
    notes_of,
    prepare,
    row_of,
    row_values,
)
from edge_agent.broker.messages import Message, lane_of
from edge_agent.broker.restamp import Stamp, age_seconds
from edge_agent.broker.salvage import salvaged_notes, salvaged_rows, set_aside

__all__ = ["ROW_BYTES", "Limits", "Note", "Opened", "Page", "Reader", "Row", "Store", "open_store"]

# Bytes that a row costs on disk beyond its payload.
ROW_BYTES = 400
DAY_SECONDS = 86_400.0
# The log is folded into the file when about so much has been written to it.
LOG_BYTES = 4 << 20
# So many rows are looked at for their age at once.
AGED_ROWS = 1000
STAMP_COLUMNS = "id, key, topic, alert, boot, stored, ahead"
VICTIM = "SELECT id, key, topic, alert FROM outbox {} ORDER BY id LIMIT 1"
TELEMETRY, ALERTS = "alert = 0", "alert != 0"


class Limits(NamedTuple):
    """What the file may hold, and how long: 100,000 events of 1 kB fit."""

    bytes: int = 200_000_000
    rows: int = 200_000
    telemetry_seconds: float = 7 * DAY_SECONDS
    alert_seconds: float = 90 * DAY_SECONDS


class Page(NamedTuple):
    """Rows in order; `damaged` are the ids of those that are no longer what was stored, `last_id`
    is the last that was looked at (0: there was none)."""

    rows: list[Row]
    damaged: list[int]
    last_id: int


class Reader:
    """Looks into the file while another connection writes. Raises `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        self._database = connect(path)

    def page(self, after: int, limit: int) -> Page:
        """The oldest rows behind the id `after`."""
        found = self._database.execute(
            f"SELECT {COLUMNS} FROM outbox WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
        ).fetchall()
        rows, damaged = [], []
        for values in found:
            row = row_of(values)
            if row:
                rows.append(row)
            else:
                damaged.append(values[0])
        return Page(rows, damaged, found[-1][0] if found else 0)

    def pending(self, after: int, limit: int) -> list[Row]:
        """The same without what is damaged."""
        return self.page(after, limit).rows

    def close(self) -> None:
        """Closes; the last one to do so folds the log into the file."""
        self._database.close()


class Store(Reader):
    """The file. One thread at a time; every call commits. Raises `sqlite3.Error`; a file that is
    not a store, or a damaged one, `DamagedError`."""

    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(path)
        self.limits, self._path = limits, path
        self.carried = self._log_bytes = 0
        self.rows = self.bytes = self.last_id = 0
        self.lanes: dict[str, Lane] = {}
        self._oldest = {TELEMETRY: 0, ALERTS: 0}
        try:
            check(self._database)
            prepare(self._database)
            self._count()
        except (sqlite3.Error, DamagedError):
            self._database.close()
            raise

    def write(
        self,
        rows: Sequence[Row],
        done: Sequence[int],
        notes: Sequence[Note] = (),
        expired: Sequence[Row] = (),
    ) -> list[Row]:
        """Adds, deletes and notes in one transaction; gives the rows that were dropped for room,
        without their payload."""
        database = self._database
        counts = self.rows, self.bytes
        database.execute("BEGIN IMMEDIATE")
        try:
            for row_id in done:
                self._delete(row_id)
            for row in expired:
                self._delete(row.id)
            for row in rows:
                values = row_values(row)
                if database.execute(INSERT, values).rowcount == 1:
                    self.rows += 1
                    self.bytes += len(values[-1]) + ROW_BYTES
            for note in notes:
                self._note(note)
            dropped = self._make_room()
            database.execute("COMMIT")
        except sqlite3.Error:
            self.rows, self.bytes = counts
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self._fold(rows, len(done) + len(expired) + len(dropped) + len(notes))
        return dropped

    def notes(self) -> dict[str, bytes]:
        """All that is remembered."""
        return dict(notes_of(self._database.execute(NOTES)))

    def spare_bytes(self) -> int:
        """What the file has taken of the disk and needs no longer; 0 if it is not there."""
        try:
            return max(0, self._path.stat().st_size - self.bytes)
        except OSError:
            return 0

    def expired(self, now: Stamp) -> list[Row]:
        """Some of the rows that have waited too long, without their payload; telemetry first."""
        limits = self.limits
        return [
            *self._expired(TELEMETRY, limits.telemetry_seconds, now),
            *self._expired(ALERTS, limits.alert_seconds, now),
        ]

    def adopt(
        self, rows: Iterable[list[Row]], notes: Sequence[Note], moved: Callable[[], None]
    ) -> None:
        """Takes over what could still be read of a damaged file."""
        self.write((), (), notes)
        for some in rows:
            self.write(some, ())
            self.carried += len(some)
            moved()
        self._count()

    def _count(self) -> None:
        self.rows = self.bytes = self.last_id = 0
        self.lanes = {}
        counts = "SELECT topic, COUNT(*), SUM(LENGTH(payload)), MAX(id) FROM outbox GROUP BY topic"
        for topic, rows, payload_bytes, last_id in self._database.execute(counts):
            name = lane_of(str(topic))
            before = self.lanes.get(name, Lane(0, 0))
            self.lanes[name] = Lane(before.rows + rows, max(before.last_id, last_id))
            self.rows += rows
            self.bytes += (payload_bytes or 0) + rows * ROW_BYTES
            self.last_id = max(self.last_id, last_id)
        if self.last_id > MAX_ID:
            raise DamagedError("an id is out of range")

    def _note(self, note: Note) -> None:
        if note.value:
            self._database.execute(UPSERT, note_values(note))
        else:
            self._database.execute("DELETE FROM note WHERE key = ?", (note.key,))

    def _delete(self, row_id: int) -> None:
        found = self._database.execute(
            "DELETE FROM outbox WHERE id = ? RETURNING LENGTH(payload)", (row_id,)
        ).fetchone()
        if found:
            self.rows -= 1
            self.bytes -= (found[0] or 0) + ROW_BYTES

    def _make_room(self) -> list[Row]:
        dropped: list[Row] = []
        while self.rows > self.limits.rows or self.bytes > self.limits.bytes:
            found = (
                self._database.execute(VICTIM.format(f"WHERE {TELEMETRY}")).fetchone()
                or self._database.execute(VICTIM.format("")).fetchone()
            )
            if found is None:  # nothing is left, whatever the counts say
                self.rows = self.bytes = 0
                break
            dropped.append(_bare(found))
            self._delete(found[0])
        return dropped

    def _expired(self, kind: str, seconds: float, now: Stamp) -> list[Row]:
        """Rows are about as old as their ids say; one whose age nobody knows stops nothing."""
        found = self._database.execute(
            f"SELECT {STAMP_COLUMNS} FROM outbox WHERE {kind} AND id >= ? ORDER BY id LIMIT ?",
            (self._oldest[kind], AGED_ROWS),
        ).fetchall()
        if found:
            self._oldest[kind] = found[0][0]
        return [_bare(row) for row in found if age_seconds(_stamp(row[4:]), now) > seconds]

    def _fold(self, rows: Sequence[Row], others: int) -> None:
        """Folds the log into the file now and then; a disk that doesn't take that may later."""
        payload_bytes = sum(len(row.message.payload) for row in rows)
        self._log_bytes += 2 * payload_bytes + PAGE_BYTES * (3 + len(rows) + others)
        if self._log_bytes < LOG_BYTES:
            return
        self._log_bytes = 0
        try:
            self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            if is_damage(error):
                raise


class Opened(NamedTuple):
    """A store; where the damaged file before it went, if there was one."""

    store: Store
    set_aside: Path | None = None


def open_store(path: Path, limits: Limits) -> Opened:
    """Opens; a damaged file is set aside and a new one begun, with all that could be read.

    Raises `OSError` if the folder can't be written or even a new file fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            return Opened(Store(path, limits))
        except DamagedError:
            pass
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
        aside = set_aside(path)
        return Opened(filled(path, limits, aside), aside)
    except (sqlite3.Error, DamagedError) as error:
        raise OSError(f"{path}: {error}") from None


def filled(
    path: Path,
    limits: Limits,
    aside: Path,
    skip: Iterable[int] = (),
    notes: Sequence[Note] | None = None,
    moved: Callable[[], None] = lambda: None,
) -> Store:
    """A new store with the rows of the damaged one but those to `skip`, and its notes or better
    ones; may be tried again. `moved` is called now and then. Raises what `Store` raises."""
    store = Store(path, limits)
    try:
        store.adopt(
            salvaged_rows(aside, skip), salvaged_notes(aside) if notes is None else notes, moved
        )
    except sqlite3.Error:
        store.close()
        raise
    return store


def _stamp(values: Sequence[Any]) -> Stamp:
    boot, stored, ahead = values
    good = type(boot) is str and type(stored) is float and type(ahead) is float
    return Stamp(boot, stored, ahead) if good else Stamp()


def _bare(values: Sequence[Any]) -> Row:
    """Which row it was, and of what kind."""
    row_id, key, topic, alert, *_ = values
    return Row(row_id, Message(str(topic), b"", key=str(key), alert=bool(alert)))
