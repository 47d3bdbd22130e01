"""Reading: rows from the disk, beside the thread that writes them.

In: from which id on, and what is done already. Out: rows in order; what the disk has changed.
Never: waits for the writer (that is what WAL is for), takes what can't be read for nothing.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from edge_agent.broker.disk import is_damage, trouble
from edge_agent.broker.store import Reader, Row, Store


class Reading:
    """Belongs to one thread. `unread` says that the last look was not possible, `problem` why;
    `is_damaged` that it is the file's fault; `damaged` are the ids of rows that the disk has
    changed, for the caller to clear."""

    def __init__(self, path: Path, store: Store) -> None:
        self._path = path
        self._reader, self._store = Reader(path), store
        self.problem: str | None = None
        self.unread = self.is_damaged = False
        self.damaged: list[int] = []

    def rows(self, store: Store, after: int, limit: int, done: set[int]) -> list[Row]:
        """The first rows behind the id `after` that are not done; reads on while a whole page of
        them is. `store` is what the writer writes: it may have begun another file."""
        rows: list[Row] = []
        self.unread = True
        try:
            self._follow(store)
            while len(rows) < limit:
                page = self._reader.page(after, limit)
                rows += [row for row in page.rows if row.id not in done]
                self.damaged += [row_id for row_id in page.damaged if row_id not in done]
                if len(page.rows) + len(page.damaged) < limit:
                    break
                after = page.last_id
            self.unread, self.problem = False, None
        except sqlite3.Error as error:
            self.problem = trouble("read", error, self._path.parent)
            self.is_damaged = is_damage(error) and self._store is store
        return rows

    def close(self) -> None:
        """Reads no more."""
        with suppress(sqlite3.Error):
            self._reader.close()

    def _follow(self, store: Store) -> None:
        if self._store is not store:
            self.close()
            self._reader, self._store, self.is_damaged = Reader(self._path), store, False
