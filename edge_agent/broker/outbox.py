"""Outbox: messages that must arrive, on disk until the broker has acknowledged them.

In: messages, and which of them were acknowledged. Out: what is still to be sent, in order.
Never: lets its caller wait for the disk (one writer thread commits), grows beyond its limits
(telemetry goes first, alerts last, and both are counted).

Beside the messages it keeps notes, one value a key: what an alarm must know after a restart is in
the same transaction as the message that it belongs to, so neither is ever there without the other.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import KeysView, Sequence
from pathlib import Path

from edge_agent.broker.messages import Message
from edge_agent.broker.store import Limits, Note, Row, Store, open_store

FILE_NAME = "outbox.sqlite"
RETRY_SECONDS = 1.0
# Deletions may wait for company: after a crash they cost a duplicate, never a loss.
DELETE_SECONDS = 1.0
# What can't be written waits in memory, and no more of it than this.
MAX_UNSAVED = 5_000
CLOSE_SECONDS = 10.0


class Outbox:
    """The store behind a writer thread. All methods belong to one thread, that of the service.

    `set_aside` is where a damaged file of an earlier run went; `problem` is what is wrong now;
    `notes` is what earlier runs remembered.
    Raises what `open_store` raises.
    """

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        path = folder / FILE_NAME
        self._store, self.set_aside = open_store(path, limits or Limits())
        # WAL lets this second connection read while the writer commits.
        self._reader = Store(path, limits or Limits(), check=False)
        self._next_id = self._store.last_id + 1
        self.notes = self._store.notes()
        self._changed = threading.Condition()
        self._unsaved: dict[int, Message] = {}
        self._unnoted: dict[str, Note] = {}
        self._done: set[int] = set()
        self._writing: KeysView[int] = {}.keys()
        self._rows_on_disk = self._store.rows
        self._aged_id = 0
        self._delete_due_s = 0.0
        self._ordered = self._closing = False
        self.problem: str | None = None
        self.dropped_alerts = 0
        self.dropped_telemetry = 0
        self._thread = threading.Thread(target=self._write_forever, name="outbox", daemon=True)
        self._thread.start()

    def put(self, message: Message, sent: bool = False, note: Note | None = None) -> int:
        """Takes a message; it is on disk a moment later (`flush` waits for that), and the note
        with it.

        Telemetry that is already on its way (`sent`) may be acknowledged before anything is
        written, and then it never is: that spares the card. Otherwise `tick` has it written.
        """
        row_id = self._next_id
        self._next_id += 1
        with self._changed:
            if len(self._unsaved) >= MAX_UNSAVED:
                self._forget_one()
            self._unsaved[row_id] = message
            if note:
                self._unnoted[note.key] = note
            if message.alert or not sent:
                self._order()
        return row_id

    def note(self, note: Note) -> None:
        """Remembers something; it is on disk a moment later."""
        with self._changed:
            self._unnoted[note.key] = note
            self._order()

    def limit(self, limits: Limits) -> None:
        """Other limits from the next write on."""
        self._store.limits = limits

    @property
    def last_id(self) -> int:
        """The id of the newest row."""
        return self._next_id - 1

    def acknowledge(self, row_id: int) -> None:
        """The broker has it: the row goes, and is never given by `pending` again."""
        with self._changed:
            if row_id in self._unsaved and row_id not in self._writing:
                del self._unsaved[row_id]
            else:
                self._done.add(row_id)

    def tick(self, now_s: float) -> None:
        """Ten times a second or so: has written what nobody has acknowledged since the last."""
        with self._changed:
            oldest = next(iter(self._unsaved), None)
            if oldest is not None and oldest <= self._aged_id:
                self._order()
            self._aged_id = self.last_id
            if self._done and now_s >= self._delete_due_s:
                self._delete_due_s = now_s + DELETE_SECONDS
                self._order()

    def pending(self, after: int, limit: int) -> list[Row]:
        """The oldest unacknowledged rows behind the id `after`, written or not."""
        with self._changed:
            unsaved = [Row(i, m) for i, m in self._unsaved.items() if i > after][:limit]
            done = self._done.copy()
        saved = self._saved(after, limit, done)
        # A row may have been written between the two looks: it is one row all the same.
        rows = {row.id: row for row in (*saved, *unsaved) if row.id not in done}
        return [rows[row_id] for row_id in sorted(rows)][:limit]

    def depth(self) -> int:
        """Rows that wait, on disk or not yet."""
        with self._changed:
            return max(0, self._rows_on_disk + len(self._unsaved) - len(self._done))

    def oldest_seconds(self) -> float:
        """Age of the oldest row on disk."""
        try:
            return self._reader.oldest_seconds() if self._store.rows else 0.0
        except sqlite3.Error:
            return 0.0

    def is_alive(self) -> bool:
        """False if the writer has died, which it never should."""
        return self._thread.is_alive()

    def flush(self, timeout_seconds: float = CLOSE_SECONDS) -> bool:
        """Waits until all that was put or acknowledged is on disk; False if that took too long."""
        with self._changed:
            self._order()
            return self._changed.wait_for(
                lambda: not (self._unsaved or self._done or self._unnoted), timeout_seconds
            )

    def close(self) -> None:
        """Writes what is left and closes; gives up on a disk that does not answer."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._reader.close()
            self._store.close()

    def _saved(self, after: int, limit: int, done: set[int]) -> list[Row]:
        """Rows on disk that are not done; reads on while a whole page of them is."""
        rows: list[Row] = []
        try:
            while len(rows) < limit:
                page = self._reader.pending(after, limit)
                rows += [row for row in page if row.id not in done]
                if len(page) < limit:
                    break
                after = page[-1].id
        except sqlite3.Error as error:
            self.problem = f"outbox can't be read: {error}"
        return rows

    def _write_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ordered or self._closing)
                self._ordered = False
                done, unsaved = self._done.copy(), dict(self._unsaved)
                notes = tuple(self._unnoted.values())
                self._writing = unsaved.keys()
                if self._closing and not done and not unsaved and not notes:
                    return
            if not self._write(unsaved, done, notes):
                with self._changed:
                    if self._closing:
                        return
                    self._ordered = True
                    self._changed.wait_for(lambda: self._closing, RETRY_SECONDS)

    def _write(self, unsaved: dict[int, Message], done: set[int], notes: Sequence[Note]) -> bool:
        # What was acknowledged before it was written needs no disk at all.
        rows = [Row(i, message) for i, message in unsaved.items() if i not in done]
        try:
            dropped = self._store.write(rows, sorted(done - unsaved.keys()), notes)
        except sqlite3.Error as error:
            self.problem = f"outbox can't be written: {error}"
            return False
        with self._changed:
            self.problem = None
            self._rows_on_disk = self._store.rows
            for row_id in unsaved:
                self._unsaved.pop(row_id, None)
            self._done -= done
            for note in notes:
                if self._unnoted.get(note.key) is note:
                    del self._unnoted[note.key]
            self._writing = {}.keys()
            for row in dropped:
                self._count_dropped(row.message)
            self._changed.notify_all()
        return True

    def _order(self) -> None:
        """Wakes the writer; the lock is held."""
        self._ordered = True
        self._changed.notify_all()

    def _forget_one(self) -> None:
        telemetry = (i for i, message in self._unsaved.items() if not message.alert)
        victim = next(telemetry, next(iter(self._unsaved)))
        self._count_dropped(self._unsaved.pop(victim))

    def _count_dropped(self, message: Message) -> None:
        if message.alert:
            self.dropped_alerts += 1
        else:
            self.dropped_telemetry += 1
