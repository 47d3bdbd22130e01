"""Layout: how messages and notes lie in the file of the store, and how to know them again.

In: a database that is open; messages, notes. Out: its tables in today's layout; values for them,
and back. Never: gives back a row or a note of which a single bit has changed.

Each row has a CRC-32 over all of it, and what is long lies there compressed. The layout has a
number (`PRAGMA user_version`); that of the first one was 0. The payload comes last, so that nobody
reads it who wants the rest.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.broker.disk import DamagedError
from edge_agent.broker.messages import Message
from edge_agent.broker.restamp import Stamp

VERSION = 2
# An alert and its note dirty a page each: small ones spare the card.
PAGE_BYTES = 1024
# What is shorter would not get shorter. The first level of zlib is most of what the others give.
PACK_BYTES, PACK_LEVEL = 200, 1
# No message is longer, whatever a damaged file says.
MAX_PAYLOAD_BYTES = 16 << 20
# The index holds telemetry only, so an alert costs no second page.
TABLES = {
    "outbox": (
        "CREATE TABLE outbox (id INTEGER PRIMARY KEY, key TEXT NOT NULL, topic TEXT NOT NULL,"
        " qos INTEGER NOT NULL, retain INTEGER NOT NULL, alert INTEGER NOT NULL,"
        " content_type TEXT NOT NULL, expiry_seconds INTEGER NOT NULL,"
        " boot TEXT NOT NULL, stored REAL NOT NULL, ahead REAL NOT NULL, packed INTEGER NOT NULL,"
        " crc INTEGER NOT NULL, payload BLOB NOT NULL)"
    ),
    "telemetry": "CREATE INDEX telemetry ON outbox (id) WHERE alert = 0",
    # With rows of its own a note of a page or less is one page; an index would cut it in two.
    "note": (
        "CREATE TABLE note (id INTEGER PRIMARY KEY, key TEXT NOT NULL, packed INTEGER NOT NULL,"
        " crc INTEGER NOT NULL, value BLOB NOT NULL)"
    ),
    "note_key": "CREATE UNIQUE INDEX note_key ON note (key)",
}
COLUMNS = (
    "id, key, topic, qos, retain, alert, content_type, expiry_seconds, boot, stored, ahead,"
    " packed, crc, payload"
)
INSERT = f"INSERT INTO outbox VALUES ({', '.join('?' * 14)}) ON CONFLICT (id) DO NOTHING"
UPSERT = (
    "INSERT INTO note (key, packed, crc, value) VALUES (?, ?, ?, ?) ON CONFLICT (key)"
    " DO UPDATE SET packed = excluded.packed, crc = excluded.crc, value = excluded.value"
)
NOTES = "SELECT key, packed, crc, value FROM note"
FIRST_COLUMNS = "id, key, topic, payload, qos, retain, alert, stored"
# Beyond this an id is no id: we count from 1.
MAX_ID = 1 << 62


class Note(NamedTuple):
    """Something to be remembered; an empty value forgets it."""

    key: str
    value: bytes


class Row(NamedTuple):
    """A message on its way, and when it was taken in."""

    id: int
    message: Message
    stamp: Stamp = Stamp()


def connect(path: Path) -> sqlite3.Connection:
    """Opens, or begins an empty file. The file is this process's alone (`unix-excl`): then what
    lies beside it is in memory, and the card is spared a third file. Raises `sqlite3.Error`."""
    database = sqlite3.connect(
        f"{path.absolute().as_uri()}?vfs=unix-excl", uri=True, timeout=5.0,
        isolation_level=None, check_same_thread=False,
    )  # fmt: skip
    # Damaged text is told by its CRC, not by an exception.
    database.text_factory = lambda raw: raw.decode(errors="replace")
    # WAL and FULL: a commit is on the disk when it returns, and readers never wait for it. The
    # log is folded in by `Store`, so that what goes wrong there is no failed commit.
    for setting in (
        f"page_size={PAGE_BYTES}", "journal_mode=WAL", "synchronous=FULL",
        "cell_size_check=ON", "trusted_schema=OFF", "wal_autocheckpoint=0",
    ):  # fmt: skip
        database.execute(f"PRAGMA {setting}").fetchall()
    return database


def check(database: sqlite3.Connection) -> None:
    """Looks at every page. Raises `DamagedError` or `sqlite3.Error`."""
    found = database.execute("PRAGMA quick_check(1)").fetchone()
    if found is None or found[0] != "ok":
        raise DamagedError("quick_check found damage")


def prepare(database: sqlite3.Connection) -> None:
    """Makes the tables, or brings those of an earlier version up to date; all or nothing.
    Raises `DamagedError` or `sqlite3.Error`."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    found = dict(database.execute("SELECT name, sql FROM sqlite_master").fetchall())
    if version == VERSION and found == TABLES:
        return
    if found and not (version == 0 and _is_first(database)):
        raise DamagedError("the tables are not those of a store")
    database.execute("BEGIN IMMEDIATE")
    try:
        if found:
            _move(database, "note" in found)
        else:
            _create(database)
        database.execute(f"PRAGMA user_version={VERSION}")
        database.execute("COMMIT")
    except sqlite3.Error:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def row_values(row: Row) -> tuple[Any, ...]:
    """For `INSERT`."""
    m, stamp = row.message, row.stamp
    packed, payload = _packed(m.payload)
    fields = (
        row.id, m.key, m.topic, m.qos, int(m.retain), int(m.alert), m.content_type,
        m.expiry_seconds, stamp.boot_id, float(stamp.wall_s), float(stamp.offset_s), packed,
    )  # fmt: skip
    return (*fields, _crc(fields, payload), payload)


def row_of(values: tuple[Any, ...]) -> Row | None:
    """From `COLUMNS`; None if it is not what was stored."""
    *fields, crc, stored = values
    payload = _unpacked(fields, crc, stored)
    if payload is None:
        return None
    row_id, key, topic, qos, retain, alert, content_type, expiry_seconds, *stamp, _ = fields
    message = Message(
        topic, payload, qos, bool(retain), key, bool(alert), content_type, expiry_seconds
    )
    return Row(row_id, message, Stamp(*stamp))


def note_values(note: Note) -> tuple[Any, ...]:
    """For `UPSERT`."""
    packed, value = _packed(note.value)
    fields = (note.key, packed)
    return (*fields, _crc(fields, value), value)


def notes_of(found: Iterator[tuple[Any, ...]]) -> Iterator[Note]:
    """From `NOTES`, without those that are not what was noted."""
    for *fields, crc, stored in found:
        value = _unpacked(fields, crc, stored)
        if value is not None:
            yield Note(fields[0], value)


def _packed(payload: bytes) -> tuple[int, bytes]:
    """Whether it is compressed, and how it lies there."""
    if len(payload) >= PACK_BYTES:
        packed = zlib.compress(payload, PACK_LEVEL)
        if len(packed) < len(payload):
            return 1, packed
    return 0, payload


def _unpacked(fields: Sequence[Any], crc: Any, stored: Any) -> bytes | None:
    """The payload, None if a bit of it or of the fields has changed; the last field says whether
    it is compressed."""
    if type(stored) is not bytes or crc != _crc(fields, stored):
        return None
    if not fields[-1]:
        return stored
    try:
        return zlib.decompressobj().decompress(stored, MAX_PAYLOAD_BYTES)
    except zlib.error:
        return None


def _crc(fields: Sequence[Any], payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32("\0".join(map(str, fields)).encode(errors="replace")))


def _is_first(database: sqlite3.Connection) -> bool:
    columns = [row[1] for row in database.execute("PRAGMA table_info(outbox)")]
    return columns == FIRST_COLUMNS.split(", ")


def _create(database: sqlite3.Connection) -> None:
    for statement in TABLES.values():
        database.execute(statement)


def _move(database: sqlite3.Connection, with_notes: bool) -> None:
    """From the first layout. Whatever has other types there is no row."""
    database.execute("DROP INDEX IF EXISTS telemetry")
    tables = ("outbox", "note") if with_notes else ("outbox",)
    for table in tables:
        database.execute(f"ALTER TABLE {table} RENAME TO first_{table}")
    _create(database)
    old = database.execute(f"SELECT {FIRST_COLUMNS} FROM first_outbox ORDER BY id")
    for row_id, key, topic, payload, qos, retain, alert, stored in old:
        if type(payload) is bytes and type(stored) is float:
            message = Message(topic, payload, qos, bool(retain), key, bool(alert))
            row = Row(row_id, message, Stamp("", stored, 0.0))
            database.execute(INSERT, row_values(row))
    if with_notes:
        for key, value in database.execute("SELECT key, value FROM first_note"):
            if type(value) is bytes:
                database.execute(UPSERT, note_values(Note(key, value)))
    for table in tables:
        database.execute(f"DROP TABLE first_{table}")
