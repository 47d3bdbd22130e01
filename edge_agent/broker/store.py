"""Store: the file behind the outbox: messages in order, and notes beside them.

In: rows and notes to write, ids to delete. Out: what is on the disk; what went for want of room.
Never: more than one thread at a time, a commit that is not on the disk when it returns.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge_agent.broker.messages import Message

# Bytes that a row costs on disk beyond its payload.
ROW_BYTES = 400
# The index holds telemetry only, so an alert costs no second page.
SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
    qos INTEGER NOT NULL, retain INTEGER NOT NULL, alert INTEGER NOT NULL, stored REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS telemetry ON outbox (id) WHERE alert = 0;
CREATE TABLE IF NOT EXISTS note (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
UPSERT = "INSERT INTO note VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
VICTIMS = "SELECT id, key, alert FROM outbox {} ORDER BY id LIMIT 1"


class Note(NamedTuple):
    """Something to be remembered; an empty value forgets it."""

    key: str
    value: bytes


class Row(NamedTuple):
    """A message on its way."""

    id: int
    message: Message


class Limits(NamedTuple):
    """What the file may hold."""

    bytes: int = 64_000_000
    rows: int = 200_000


class Store:
    """The file. One thread at a time; every call commits. Raises `sqlite3.Error`."""

    def __init__(self, path: Path, limits: Limits, check: bool = True) -> None:
        self.limits = limits
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # WAL and FULL: a commit is on the disk when it returns, and readers never wait for it.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        if check and self._database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check found damage")
        self._database.executescript(SCHEMA)
        counts = "SELECT COUNT(*), COALESCE(SUM(LENGTH(payload)), 0), COALESCE(MAX(id), 0)"
        rows, payload_bytes, last_id = self._database.execute(f"{counts} FROM outbox").fetchone()
        self.rows, self.last_id = int(rows), int(last_id)
        self.bytes = int(payload_bytes) + self.rows * ROW_BYTES

    def write(
        self, rows: Sequence[Row], done: Sequence[int], notes: Sequence[Note] = ()
    ) -> list[Row]:
        """Adds, deletes and notes in one transaction; gives the rows that were dropped for room."""
        database, stored = self._database, time.time()
        counts = self.rows, self.bytes
        database.execute("BEGIN IMMEDIATE")
        try:
            for row_id in done:
                self._delete(row_id)
            for row_id, m in rows:
                values = (row_id, m.key, m.topic, m.payload, m.qos, m.retain, m.alert, stored)
                database.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
                self.rows += 1
                self.bytes += len(m.payload) + ROW_BYTES
            for note in notes:
                self._note(note)
            dropped = self._make_room()
            database.execute("COMMIT")
        except sqlite3.Error:
            self.rows, self.bytes = counts
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        return dropped

    def notes(self) -> dict[str, bytes]:
        """All that is remembered."""
        return {key: bytes(value) for key, value in self._database.execute("SELECT * FROM note")}

    def pending(self, after: int, limit: int) -> list[Row]:
        """The oldest rows behind the id `after`."""
        found = self._database.execute(
            "SELECT id, topic, payload, qos, retain, key, alert FROM outbox"
            " WHERE id > ? ORDER BY id LIMIT ?",
            (after, limit),
        )
        return [
            Row(r[0], Message(r[1], bytes(r[2]), r[3], bool(r[4]), r[5], bool(r[6]))) for r in found
        ]

    def oldest_seconds(self) -> float:
        """Age of the oldest row by the wall clock, 0 if there is none."""
        first = self._database.execute("SELECT stored FROM outbox ORDER BY id LIMIT 1").fetchone()
        return max(0.0, time.time() - first[0]) if first else 0.0

    def close(self) -> None:
        """Folds the log into the file and closes it."""
        self._database.close()

    def _note(self, note: Note) -> None:
        if note.value:
            self._database.execute(UPSERT, note)
        else:
            self._database.execute("DELETE FROM note WHERE key = ?", (note.key,))

    def _delete(self, row_id: int) -> None:
        found = self._database.execute(
            "DELETE FROM outbox WHERE id = ? RETURNING LENGTH(payload)", (row_id,)
        ).fetchone()
        if found:
            self.rows -= 1
            self.bytes -= found[0] + ROW_BYTES

    def _make_room(self) -> list[Row]:
        dropped: list[Row] = []
        while self.rows > self.limits.rows or self.bytes > self.limits.bytes:
            row_id, key, alert = (
                self._database.execute(VICTIMS.format("WHERE alert = 0")).fetchone()
                or self._database.execute(VICTIMS.format("")).fetchone()
            )
            dropped.append(Row(row_id, Message("", b"", key=key, alert=bool(alert))))
            self._delete(row_id)
        return dropped


def open_store(path: Path, limits: Limits) -> tuple[Store, Path | None]:
    """Opens; a damaged file is set aside (its new name is given) and an empty one begun.

    Raises `OSError` if the folder can't be written or even a new file fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = None
    try:
        try:
            return Store(path, limits), None
        except sqlite3.OperationalError:
            raise  # a full or forbidden disk, not a damaged file
        except sqlite3.DatabaseError:
            aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        path.replace(aside)
        for leftover in ("-wal", "-shm"):
            path.with_name(path.name + leftover).unlink(missing_ok=True)
        return Store(path, limits), aside
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from None
