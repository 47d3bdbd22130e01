"""Drain: what waits in the outbox, in the order in which it goes.

In: the outbox, time, what was sent past it. Out: the next row to send, or none for now.
Never: lets a message overtake an older one of its asset, makes an asset wait for another's backlog,
takes more of the line than `per_second` and `MAX_BYTES` leave to what is new.

The backlog goes from the oldest row on. An asset that has nothing in it goes past it (`is_free`).
"""

from __future__ import annotations

from collections import deque

from edge_agent.broker.messages import Message, lane_of
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.restamp import age_seconds, doubted, restamped
from edge_agent.broker.store import Row

PAGE_ROWS = 50
# What the bucket holds: the loop may come around late.
BURST_SECONDS = 0.25
# So much of the backlog is on its way at most, or an alert would wait behind it on a slow line.
MAX_BYTES = 64 << 10
# What waited so long is called replayed.
LATE_SECONDS = 5.0
# A disk that can't be read for so long is passed over: what is in memory goes on.
UNREAD_SECONDS = 10.0


class Drain:
    """Belongs to the thread of the service. `waits` says whether there is a backlog."""

    def __init__(self, outbox: Outbox, per_second: float) -> None:
        self._outbox, self._per_second = outbox, per_second
        self._tokens = per_second * BURST_SECONDS
        self._now_s = 0.0
        self._page: deque[Row] = deque()
        self._behind: dict[str, int] = {}
        self._ahead: set[int] = set()
        self._unread_since_s: float | None = None
        self._passed_over = self._paused = False
        self.bytes_in_flight = 0
        self.waits = True
        self._sent_id = self._read_id = self._old_id = 0

    def begin(self) -> None:
        """Whatever is in the outbox goes, from the oldest on."""
        self.waits, self._passed_over = True, False
        self._sent_id = self._read_id = self.bytes_in_flight = 0
        self._old_id = self._outbox.last_id
        self._behind = self._outbox.lanes()
        self._ahead.clear()
        self._page.clear()

    def is_free(self, topic: str) -> bool:
        """Whether nothing older of the same asset waits."""
        if not self.waits:
            return True
        lane = lane_of(topic)
        last_id = self._behind.get(lane)
        if last_id is not None and last_id <= self._sent_id:
            del self._behind[lane]
            return True
        return last_id is None

    def add(self, message: Message, row_id: int) -> None:
        """This row has to wait."""
        self.waits = True
        self._behind[message.lane] = row_id

    def passed(self, row_id: int) -> None:
        """This new row was sent at once."""
        if self.waits:
            self._ahead.add(row_id)
        else:
            self._sent_id = self._read_id = row_id

    def tick(self, now_s: float) -> None:
        """Ten times a second or so: time lets more of it go."""
        passed_seconds, self._now_s, self._paused = now_s - self._now_s, now_s, False
        more = max(0.0, passed_seconds) * self._per_second
        self._tokens = min(max(1.0, self._per_second * BURST_SECONDS), self._tokens + more)

    def next(self) -> Row | None:
        """The row that goes next; call `sent` when it went, or it is the next one again."""
        if self._tokens < 1.0 or self._paused:
            return None
        if not self._page:
            self._read()
        if not self._page:
            return None
        row = self._page[0]
        size_bytes = len(row.message.payload)
        crowded = self.bytes_in_flight and self.bytes_in_flight + size_bytes > MAX_BYTES
        return None if crowded else row

    def sent(self, row: Row, size_bytes: int) -> None:
        """It is on its way with so many bytes; 0: it was not worth sending."""
        self._page.popleft()
        self._sent_id = row.id
        self._tokens -= 1.0
        self.bytes_in_flight += size_bytes

    def as_new(self, message: Message) -> Message:
        """The message as it goes at once: with a clock that was never set it says so."""
        if self._outbox.clock.believable():
            return message
        return message._replace(payload=doubted(message.payload))

    def as_sent(self, row: Row) -> Message:
        """The message as it goes now: its times by the clock of now, and whether it comes late."""
        now = self._outbox.clock.now()
        payload = restamped(row.message.payload, row.stamp, now)
        message = row.message._replace(payload=payload)
        late = row.id <= self._old_id or age_seconds(row.stamp, now) > LATE_SECONDS
        return message.as_replayed() if late else message

    def _read(self) -> None:
        """Fills the page; an empty one is the end, unless the disk could not be read."""
        while not self._page:
            rows = self._outbox.pending(self._read_id, PAGE_ROWS)
            if not self._outbox.unread:
                self._unread_since_s = None
            elif not self._pass_over():
                self._paused = True
                return
            if not rows:
                self._end()
                return
            self._read_id = rows[-1].id
            self._page.extend(row for row in rows if row.id not in self._ahead)

    def _pass_over(self) -> bool:
        """Whether the disk has been unreadable for too long to wait for it any more."""
        if self._unread_since_s is None:
            self._unread_since_s = self._now_s
        self._passed_over = self._now_s - self._unread_since_s >= UNREAD_SECONDS
        return self._passed_over

    def _end(self) -> None:
        if self._outbox.unread:
            self._paused = True
            return
        if self._passed_over:
            self.begin()
            return
        self.waits = False
        self._behind.clear()
        self._ahead.clear()
        self._sent_id = self._read_id = self._outbox.last_id
