"""Salvage: what can still be read of a damaged store.

In: the path of a file that SQLite does not trust. Out: the file, out of the way under a name of its
own; its rows and notes whose CRC is right. Never: more than three damaged files, longer than
`SALVAGE_SECONDS`, a row that is not what was stored.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from edge_agent.broker.layout import COLUMNS, NOTES, Note, Row, connect, notes_of, row_of

KEPT_FILES = 3
SALVAGE_SECONDS = 10.0
ROWS_AT_ONCE = 500
# Where a stretch of the file is gone, the ids behind it are tried in so many steps.
PROBES = 256
SUFFIXES = ("", "-wal")
FORWARD = f"SELECT {COLUMNS} FROM outbox WHERE id > ? AND id < ? ORDER BY id LIMIT {ROWS_AT_ONCE}"
BACKWARD = FORWARD.replace("ORDER BY id", "ORDER BY id DESC")
# No id is larger; where the end can't be read either, so many ids are tried.
END_ID, UNKNOWN_IDS = (1 << 63) - 1, 1 << 18


def set_aside(path: Path) -> Path:
    """Moves the file and its log away; gives the new name. Raises `OSError`."""
    aside, number = path.with_name(f"{path.name}.damaged-{int(time.time())}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}-{number}")
    for suffix in SUFFIXES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    _forget_old(path, aside)
    return aside


def salvaged_rows(aside: Path, skip: Iterable[int] = ()) -> Iterator[list[Row]]:
    """The rows, some at a time and each once: from the start as far as that goes, from the end
    back, and what lies between."""
    seen, deadline_s = set(skip), time.monotonic() + SALVAGE_SECONDS
    with suppress(sqlite3.Error), closing(connect(aside)) as database:
        for found in _stretches(database, deadline_s):
            rows = [row for row in found if row.id not in seen]
            seen.update(row.id for row in rows)
            if rows:
                yield rows


def salvaged_notes(aside: Path) -> list[Note]:
    """The notes that can be read."""
    notes: list[Note] = []
    with suppress(sqlite3.Error), closing(connect(aside)) as database:
        for note in notes_of(database.execute(NOTES)):
            notes.append(note)
    return notes


def _stretches(database: sqlite3.Connection, deadline_s: float) -> Iterator[list[Row]]:
    low, high = 0, END_ID
    while time.monotonic() < deadline_s:
        rows, last, whole = _read(database, FORWARD, low, high)
        yield rows
        if whole and last is None:
            return
        low = last or low
        if not whole:
            break
    while time.monotonic() < deadline_s:
        rows, last, whole = _read(database, BACKWARD, low, high)
        yield rows
        high = last or high
        if not whole or last is None:
            break
    high = min(high, low + UNKNOWN_IDS)
    step = max(1, (high - low) // PROBES)
    for start in range(low, high, step):
        if time.monotonic() >= deadline_s:
            return
        yield _read(database, FORWARD, start, min(high, start + step + 1))[0]


def _read(
    database: sqlite3.Connection, query: str, low: int, high: int
) -> tuple[list[Row], int | None, bool]:
    """Good rows, the last id that was read at all, and whether nothing was in the way."""
    rows: list[Row] = []
    last: int | None = None
    try:
        for values in database.execute(query, (low, high)):
            last = values[0]
            row = row_of(values)
            if row:
                rows.append(row)
    except sqlite3.Error:
        return rows, last, False
    return rows, last, True


def _forget_old(path: Path, newest: Path) -> None:
    old = [
        file
        for file in path.parent.glob(f"{path.name}.damaged-*")
        if file != newest and not file.name.endswith(SUFFIXES[1:])
    ]
    old.sort(key=lambda file: file.stat().st_ctime_ns)
    for file in old[: max(0, len(old) - KEPT_FILES + 1)]:
        for suffix in ("", "-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
