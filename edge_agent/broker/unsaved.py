"""Unsaved: what the disk has not taken yet.

In: rows and notes as they come. Out: those that the writer takes on, in order; what had to go.
Never: holds more than `MAX_ROWS` and `MAX_BYTES`, forgets what is being written. The lock is the
outbox's.
"""

from __future__ import annotations

from collections.abc import KeysView

from edge_agent.broker.store import ROW_BYTES, Note, Row

MAX_ROWS, MAX_BYTES = 5_000, 16 << 20


class Unsaved:
    """Rows by id, notes by key; `remembered` are the notes as they are by now, saved or not."""

    def __init__(self, remembered: dict[str, bytes]) -> None:
        self.rows: dict[int, Row] = {}
        self.notes: dict[str, Note] = {}
        self.remembered = {key: Note(key, value) for key, value in remembered.items()}
        self._bytes = 0
        self._aged_id = 0
        self._writing: KeysView[int] = {}.keys()

    def add(self, row: Row) -> list[Row]:
        """A row more; gives those that had to go for it, telemetry first."""
        self._bytes += _size_bytes(row)
        gone = self._forget() if len(self.rows) >= MAX_ROWS or self._bytes > MAX_BYTES else []
        self.rows[row.id] = row
        return gone

    def note(self, note: Note) -> None:
        """Something to be remembered."""
        self.notes[note.key] = note
        if note.value:
            self.remembered[note.key] = note
        else:
            self.remembered.pop(note.key, None)

    def aged(self, last_id: int) -> bool:
        """Whether something has been there since the last call; `last_id` is the newest row."""
        oldest = next(iter(self.rows), None)
        found = oldest is not None and oldest <= self._aged_id
        self._aged_id = last_id
        return found

    def take(self) -> dict[int, Row]:
        """All rows, to be written."""
        rows = self.rows.copy()
        self._writing = rows.keys()
        return rows

    def is_free(self, row_id: int) -> bool:
        """Whether the row is here and nobody is writing it."""
        return row_id in self.rows and row_id not in self._writing

    def drop(self, row_id: int) -> None:
        """The row is here no longer."""
        row = self.rows.pop(row_id, None)
        if row:
            self._bytes -= _size_bytes(row)

    def wrote(self, rows: dict[int, Row], notes: tuple[Note, ...]) -> None:
        """These are on the disk."""
        for row_id in rows:
            self.drop(row_id)
        for note in notes:
            if self.notes.get(note.key) is note:
                del self.notes[note.key]
        self.failed()

    def failed(self) -> None:
        """Nothing is being written any more."""
        self._writing = {}.keys()

    def _forget(self) -> list[Row]:
        """The disk has not taken anything for long."""
        gone = []
        free = [row for row in self.rows.values() if row.id not in self._writing]
        for row in sorted(free, key=lambda row: row.message.alert):
            if len(self.rows) < MAX_ROWS and self._bytes <= MAX_BYTES:
                break
            self.drop(row.id)
            gone.append(row)
        return gone


def _size_bytes(row: Row) -> int:
    return len(row.message.payload) + ROW_BYTES
