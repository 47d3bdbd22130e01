"""Outbox: messages that must arrive, on disk until the broker has acknowledged them.

In: messages, and which of them were acknowledged. Out: what is still to be sent, in order.
Never: lets its caller wait for the disk (one writer thread commits), grows beyond its limits
(telemetry goes first, alerts last, and both are counted), gives a row that the disk has changed.

Beside the messages it keeps notes, one value a key: what an alarm must know after a restart is in
the same transaction as the message that it belongs to, so neither is ever there without the other.
A file that turns out to be damaged is set aside while all goes on; what can be read goes along.
"""

from __future__ import annotations

import threading
import time
from math import inf
from pathlib import Path

from edge_agent.broker.clock import Clock
from edge_agent.broker.deletions import Deletions
from edge_agent.broker.fullness import Fullness
from edge_agent.broker.lanes import Lanes
from edge_agent.broker.messages import Message, lane_of
from edge_agent.broker.rate import Rate
from edge_agent.broker.reading import Reading
from edge_agent.broker.restamp import age_seconds
from edge_agent.broker.store import ROW_BYTES, Limits, Note, Row
from edge_agent.broker.unsaved import Unsaved
from edge_agent.broker.writing import Outcome, Work, Writing
from edge_agent.progress import Progress, known_as

FILE_NAME = "outbox.sqlite"
# The note that counts the runs that were killed: each counts as one until it has ended.
KILLED = "killed"
RETRY_SECONDS = 1.0
# Who has sent an alert goes on first, and what comes in the same moment is one commit.
GATHER_SECONDS = 0.002
# How often the age of what waits is looked at.
EXPIRE_SECONDS = 600.0
MAX_NOTICES = 50
CLOSE_SECONDS = 10.0


class Outbox:
    """The store behind a writer thread. All methods belong to one thread, that of the service.

    `notes` is what earlier runs remembered; `killed` of them ended without having written all
    that they had sent. `damaged_rows` counts those that the disk has changed,
    and that are not sent. Raises what `open_store` raises.
    """

    def __init__(
        self, folder: Path, limits: Limits | None = None, clock: Clock | None = None
    ) -> None:
        path, limits = folder / FILE_NAME, limits or Limits()
        self.clock, self.progress = clock or Clock(), Progress()
        self._writing = Writing(path, limits, self.clock, self.progress.answered)
        store = self._writing.store
        # WAL lets this second connection read while the writer commits.
        self._reading = Reading(path, store)
        self._next_id = store.last_id + 1
        self.notes = store.notes()
        self.killed = _number(self.notes.pop(KILLED, b"1" if self.notes else b"0"))
        self._unsaved = Unsaved(self.notes)
        self._lanes = Lanes(store.lanes)
        self._rate = Rate(self.clock.now().monotonic_s)
        self._fullness = Fullness(limits)
        self._notices: list[str] = []
        self._changed = threading.Condition()
        self._done = Deletions(store.last_id)
        self._rows_on_disk = store.rows
        self._expire_due_s = 0.0
        self._ordered = self._woken = self._closing = self._expire = False
        self.dropped_alerts = self.dropped_telemetry = self.damaged_rows = 0
        if self.set_aside:
            self._say_damaged()
        self._thread = threading.Thread(target=self._write_forever, name="outbox", daemon=True)
        self._thread.start()
        self.note(Note(KILLED, b"%d" % (self.killed + 1)))
        self.flush()  # before anything is sent

    @property
    def problem(self) -> str | None:
        """What is wrong with the disk now, and what to do."""
        return self._writing.problem or self._reading.problem

    @property
    def set_aside(self) -> Path | None:
        """Where the last damaged file went."""
        return self._writing.set_aside

    @property
    def carried(self) -> int:
        """How many rows of a damaged file go on in this one."""
        return self._writing.store.carried

    @property
    def full(self) -> str | None:
        """Which bound is reached, and what goes for it; None while there is room."""
        return self._fullness.told

    @property
    def unread(self) -> bool:
        """Whether the last `pending` could not look at the disk."""
        return self._reading.unread

    def notices(self) -> list[str]:
        """What people should read in the journal, once: a bound reached or over, a damaged file."""
        with self._changed:
            said, self._notices = self._notices, []
        return said

    def put(self, message: Message, sent: bool = False, note: Note | None = None) -> int:
        """Takes a message; it is on disk a moment later (`flush` waits for that), and the note
        with it.

        Telemetry that is already on its way (`sent`) may be acknowledged before anything is
        written, and then it never is: that spares the card. Otherwise `tick` has it written.
        """
        stamp, size_bytes = self.clock.now(), len(message.payload) + ROW_BYTES
        self._rate.add(size_bytes, stamp.monotonic_s)
        with self._changed:
            row_id = self._next_id
            self._next_id += 1
            for gone in self._unsaved.add(Row(row_id, message, stamp)):
                self._count_dropped(gone.message)
            self._lanes.add(message.lane, row_id)
            if note:
                self._unsaved.note(note)
            if message.alert or not sent:
                self._order()
        return row_id

    def note(self, note: Note) -> None:
        """Remembers something; the next `tick` has it written, with all that there is by then."""
        with self._changed:
            self._unsaved.note(note)

    def limit(self, limits: Limits) -> None:
        """Other limits from the next write on."""
        self._writing.limits = self._writing.store.limits = self._fullness.limits = limits

    @property
    def last_id(self) -> int:
        """The id of the newest row."""
        return self._next_id - 1

    def acknowledge(self, row_id: int, topic: str = "") -> None:
        """The broker has it: the row goes, and is never given by `pending` again. Without its
        topic the row's lane is not known to be free before the next run."""
        with self._changed:
            row = self._unsaved.rows.get(row_id)
            if self._unsaved.is_free(row_id):
                self._unsaved.drop(row_id)
            else:
                self._done.add(row_id)
            if row or topic:
                self._lanes.remove(row.message.lane if row else lane_of(topic))

    def tick(self, now_s: float) -> None:
        """Ten times a second or so: has written what nobody has acknowledged since the last."""
        with self._changed:
            if now_s >= self._expire_due_s:
                self._expire_due_s, self._expire = now_s + EXPIRE_SECONDS, True
            if self._expire:
                self._wake()
            deletes, aged = self._done.due(now_s), self._unsaved.aged(self.last_id)
            if deletes or aged or self._unsaved.notes:
                self._order()

    def nudge(self) -> None:
        """Asks the writer for a sign of life."""
        with self._changed:
            self._wake()

    def stuck_seconds(self, now_s: float) -> float:
        """For how long the writer has owed an answer; a disk that says no has answered."""
        return self.progress.owed_seconds(now_s)

    def pending(self, after: int, limit: int) -> list[Row]:
        """The oldest unacknowledged rows behind the id `after`, written or not."""
        with self._changed:
            unsaved = [row for i, row in self._unsaved.rows.items() if i > after][:limit]
            done = self._done.ids.copy()
        saved = self._saved(after, limit, done)
        # A row may have been written between the two looks: it is one row all the same.
        rows = {row.id: row for row in (*saved, *unsaved) if row.id not in done}
        return [rows[row_id] for row_id in sorted(rows)][:limit]

    def lanes(self) -> dict[str, int]:
        """The assets of which something waits, as the topic without its last part, and the newest
        row of each."""
        with self._changed:
            return self._lanes.last_ids()

    def depth(self) -> int:
        """Rows that wait, on disk or not yet."""
        with self._changed:
            return max(0, self._rows_on_disk + len(self._unsaved.rows) - len(self._done.ids))

    def oldest_seconds(self) -> float:
        """Age of the oldest row that waits, at the least."""
        rows = self.pending(0, 1)
        return age_seconds(rows[0].stamp, self.clock.now()) if rows else 0.0

    def hours_left(self, disk_free_bytes: float = inf) -> float | None:
        """How many hours of outage still fit at the rate of the last day (or since the start), on a
        disk with so much room; None while nothing has come."""
        hourly = self._rate.hourly(self.clock.now().monotonic_s)
        if hourly is None:
            return None
        limits, store = self._writing.limits, self._writing.store
        free_bytes = max(0, min(limits.bytes - store.bytes, disk_free_bytes + store.spare_bytes()))
        free_rows = max(0, limits.rows - self.depth())
        return min(free_bytes / hourly.bytes, free_rows / hourly.rows)

    def is_alive(self) -> bool:
        """False if the writer has died, which it never should."""
        return self._thread.is_alive()

    def flush(self, timeout_seconds: float = CLOSE_SECONDS) -> bool:
        """Waits until all that was put or acknowledged is on disk; False if that took too long."""
        with self._changed:
            self._order()
            return self._changed.wait_for(
                lambda: not (self._unsaved.rows or self._done.ids or self._unsaved.notes),
                timeout_seconds,
            )

    def close(self) -> None:
        """Writes what is left and closes; gives up on a disk that does not answer."""
        with self._changed:
            self._unsaved.note(Note(KILLED, b"%d" % self.killed))
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._reading.close()
            self._writing.close()

    def _saved(self, after: int, limit: int, done: set[int]) -> list[Row]:
        """Rows on disk that are not done."""
        reading = self._reading
        rows = reading.rows(self._writing.store, after, limit, done)
        if reading.damaged or reading.is_damaged:
            with self._changed:
                self._give_up(reading.damaged)
                if reading.is_damaged and not self._writing.is_damaged:
                    self._writing.is_damaged = True
                    self._order()
        return rows

    def _give_up(self, damaged: list[int]) -> None:
        """Rows that the disk has changed are never sent, and go; the lock is held."""
        for row_id in damaged:
            if row_id not in self._done.ids:
                self._done.add(row_id, soon=True)
                self.damaged_rows += 1
                self._say(f"outbox: message {row_id} was damaged on the disk and is not sent")
        damaged.clear()

    def _write_forever(self) -> None:
        known_as(self._thread.name)
        while True:
            with self._changed:
                self.progress.answered()
                self._changed.wait_for(lambda: self._ordered or self._woken or self._closing)
            time.sleep(GATHER_SECONDS)
            with self._changed:
                self.progress.took()
                work = self._take()
                if self._closing and not (work.rows or work.done or work.notes):
                    return
            outcome = self._writing.do(work)
            with self._changed:
                if outcome:
                    self._written(work, outcome)
                else:
                    self._unsaved.failed()
                    if self._closing:
                        return
                    self._ordered = True
                    self.progress.answered()
                    self._changed.wait_for(lambda: self._closing, RETRY_SECONDS)

    def _take(self) -> Work:
        """What is due; a sign of life needs no disk. The lock is held."""
        unsaved, expire, due = self._unsaved, self._expire, self._ordered or self._closing
        remembered = tuple(unsaved.remembered.values())
        self._ordered = self._woken = self._expire = False
        if not due:
            return Work({}, set(), (), expire, remembered)
        notes = tuple(unsaved.notes.values())
        return Work(unsaved.take(), self._done.ids.copy(), notes, expire, remembered)

    def _written(self, work: Work, outcome: Outcome) -> None:
        """All of it is on the disk; the lock is held."""
        store, unsaved = self._writing.store, self._unsaved
        self._rows_on_disk = store.rows
        unsaved.wrote(work.rows, work.notes)
        self._done.done(work.done)
        if outcome.recovered:
            self._next_id = max(self._next_id, store.last_id + 1)
            rows = (*work.rows.values(), *unsaved.rows.values())
            self._lanes.begin_anew(store.lanes, ((row.message.lane, row.id) for row in rows))
            self._say_damaged()
        for row in (*outcome.dropped, *outcome.expired):
            self._count_dropped(row.message)
        told = self._fullness.take(
            store.bytes, store.rows, outcome.dropped, outcome.expired, work.expire
        )
        for line in told:
            self._say(line)
        # There may be more of what is too old.
        self._expire = self._expire or bool(outcome.expired)
        self._changed.notify_all()

    def _order(self) -> None:
        """Has all written; the lock is held."""
        self._ordered = True
        self._wake()

    def _wake(self) -> None:
        self.progress.asked()
        self._woken = True
        self._changed.notify_all()

    def _count_dropped(self, message: Message) -> None:
        # Its lane may go on counting it: it may be on its way, and then it is counted there.
        if message.alert:
            self.dropped_alerts += 1
        else:
            self.dropped_telemetry += 1

    def _say_damaged(self) -> None:
        aside, carried = self.set_aside, self.carried
        self._say(f"the outbox was damaged: set aside as {aside}, {carried} messages go on")

    def _say(self, told: str) -> None:
        if len(self._notices) < MAX_NOTICES:
            self._notices.append(told)


def _number(noted: bytes) -> int:
    return int(noted) if noted.isdigit() else 1
