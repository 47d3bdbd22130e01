"""Disk: what an error of SQLite means: a disk in trouble, or a file that is damaged.

In: errors of SQLite. Out: which of the two, and one line that says what to do.
Never: touches a file.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

# The disk, the rights or somebody else is in the way; the file itself may be well.
TROUBLE = frozenset(
    (
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_AUTH,
    )
)  # fmt: skip
# What to do, by the primary code; the folder is filled in.
CURES = {
    sqlite3.SQLITE_FULL: "the disk is full: make room on the disk of {}",
    sqlite3.SQLITE_READONLY: "the disk is read-only: mount the disk of {} for writing",
    sqlite3.SQLITE_IOERR: "the disk does not take it: check the disk or card of {}",
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened: check the disk and the rights of {}",
    sqlite3.SQLITE_PERM: "no right to write: chown {} to the service's user",
    sqlite3.SQLITE_BUSY: "another process holds it: end the second agent that uses {}",
}
MEANWHILE = "alerts go on, but what waits is lost if the agent ends"


class DamagedError(Exception):
    """The file is no store of ours, or not all of one."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is to blame, as against the disk under it."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python's own: a text that is none, a type that SQLite doesn't have
        return isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.ProgrammingError | sqlite3.InterfaceError
        )
    return code & 0xFF not in TROUBLE


def trouble(doing: str, error: sqlite3.Error, folder: Path) -> str:
    """What is wrong and what to do: `doing` is `written` or `read`."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    cure = CURES.get(code, "check the disk of {}").format(folder)
    return f"outbox can't be {doing} ({error}): {cure}; {MEANWHILE}"
