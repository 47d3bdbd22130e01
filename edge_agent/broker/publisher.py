"""MQTT: what is on its way to the broker and from it, and the next try when there is none.

In: messages, room and bytes on the broker's socket (from the selector of `ports`), ticks.
Out: publications; acknowledged rows to the outbox; what came on our topics to `received`.
Never: blocks its caller, trusts paho's queue (it dies with the process), says connected before
the broker has accepted, makes what is new wait for another asset's backlog.

paho runs on the service's own thread and selector, so an alert goes from the score to the socket
without waking anybody; only connecting, which may hang on a name or a handshake, has a thread.
MQTT 5 is spoken where the broker does, and 3.1.1 elsewhere: that is found out without a wait.
"""

from __future__ import annotations

import selectors
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from edge_agent.boards.ports import Ports
from edge_agent.broker.drain import Drain
from edge_agent.broker.incoming import Incoming
from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.refusals import Refusals
from edge_agent.broker.retry import Retry
from edge_agent.broker.session import Acknowledged, Identity, Protocol, Session
from edge_agent.broker.store import Note
from edge_agent.config import MqttSettings
from edge_agent.journal import Journal

__all__ = ["Identity", "Incoming", "Publisher"]

WINDOW = 50
# So many places in the window are kept from the backlog.
RESERVED = 10
# What must not be lost waits in the outbox; what only waits for the window is told again anyway.
MAX_TOLD = 1000
# A broker that answers for nothing of what it was sent for so long may answer a new connection.
UNANSWERED_SECONDS = 60.0
STORED_NOWHERE = 0


class _Sent(NamedTuple):
    """A message that the broker has not acknowledged yet."""

    row_id: int
    topic: str
    drained_bytes: int = 0


class Publisher:
    """Keeps the connection up and the outbox empty. All methods belong to the service's thread.

    `greet` gives the retained messages that a broker without memory must be told again, and
    last of them that the gateway is online. Before that `topics` are subscribed to; what comes
    there goes to `received`, at most `MAX_RECEIVED` at once. Counted are messages that the broker
    has no room for (`too_large`, dropped), that it does not take (`refused`, alerts are kept), and
    that came too fast or with a topic that is no text (`incoming_dropped`).
    """

    def __init__(
        self,
        settings: MqttSettings,
        identity: Identity,
        outbox: Outbox,
        ports: Ports,
        journal: Journal,
        greet: Callable[[], list[Message]],
        *,
        topics: tuple[str, ...] = (),
        received: Callable[[Incoming], None] | None = None,
    ) -> None:
        self._settings, self._identity = settings, identity
        self._outbox, self._ports, self._journal, self._greet = outbox, ports, journal, greet
        self._topics, self._received = topics, received
        self._where = f"{settings.host}:{settings.port}"
        self._retry = Retry(settings)
        self._session: Session | None = None
        self._now_s = 0.0
        self._trouble = ""
        self._said: set[tuple[str, str]] = set()
        self._told: deque[tuple[Message, bytes]] = deque()
        self._in_flight: dict[int, _Sent] = {}
        self._drain = Drain(outbox, settings.drain_per_second)
        self._refusals = Refusals()
        self._greeted: set[str] = set()
        self._answered_s = 0.0
        self.connected = False
        self.connections = self.too_large = self.refused = self.incoming_dropped = 0

    @property
    def protocol(self) -> Protocol:
        """The version of MQTT that is spoken, or tried next."""
        return self._retry.protocol

    def offer(self, message: Message, remember: Callable[[], Note | None] = lambda: None) -> None:
        """A message that must arrive: sent at once if it can be and nothing older of its asset
        waits, on disk until acknowledged, and what there is to `remember` in the same transaction.
        That is asked for when the message is on its way."""
        session = self._session
        if not session or not self._ready(session, message):
            self._drain.add(message, self._outbox.put(message, note=remember()))
            self._refusals.waits(message.topic)
        elif self._fits(session, message):
            # The subscriber first, the disk after: it is the same thread, so no acknowledgement
            # can come in between.
            mid = self._publish(session, self._drain.as_new(message))
            row_id = self._outbox.put(message, sent=mid is not None, note=remember())
            if mid is None:
                self._drain.add(message, row_id)
            else:
                self._in_flight[mid] = _Sent(row_id, message.topic)
                self._drain.passed(row_id)
        elif note := remember():
            self._outbox.note(note)

    def tell(self, message: Message, correlation: bytes = b"") -> None:
        """A message about now: sent if connected, otherwise void; `greet` knows the latest.
        `correlation` is what MQTT 5 echoes to whoever asked."""
        session = self._session
        if not session or not self.connected:
            return
        if message.qos == 0:
            if not session.want_write():  # else the line is slow as it is
                self._tell(session, message, correlation)
        elif self._told or self._room(session) <= 0:
            self._told.append((message, correlation))
            if len(self._told) > MAX_TOLD:
                session.lost = session.lost or "the broker acknowledges nothing"
        else:
            self._tell(session, message, correlation)

    def tick(self, now_s: float) -> None:
        """Connects, notices silence, sends what waits; ten times a second or so."""
        self._now_s = now_s
        self._drain.tick(now_s)
        session = self._session
        if session is None:
            if now_s >= self._retry.due_s:
                self._session = self._connect()
            return
        if not session.ready.is_set():
            return
        if not session.lost and not session.watched:
            self._take_over(session)
        elif not session.lost:
            session.tick()
            if not session.answered and now_s - session.since_s > self._retry.patience_seconds():
                session.foreign, session.lost = True, "the broker does not answer"
            self._look_after(session)
            self._after(session)
        if session.lost:
            self._fail(session)

    def idle(self) -> bool:
        """Whether nothing waits for the broker (or there is none to wait for)."""
        return not self.connected or not (self._in_flight or self._drain.waits or self._told)

    def close(self) -> None:
        """Ends the connection; the last will is not published."""
        session, self._session, self.connected = self._session, None, False
        if session and session.ready.is_set():
            session.close()

    def _ready(self, session: Session, message: Message) -> bool:
        """Whether a message may go at once."""
        ready = self.connected and not self._told and self._room(session) > 0
        free = not self._refusals.holds(message.topic)
        return ready and free and self._drain.is_free(message.topic)

    def _room(self, session: Session) -> int:
        """How many messages the broker takes before it has acknowledged any."""
        return min(WINDOW, session.max_in_flight) - len(self._in_flight)

    def _drain_room(self, session: Session) -> int:
        """How many of them the backlog may have."""
        window = min(WINDOW, session.max_in_flight)
        reserved = min(RESERVED, max(1, window // 5)) if window > 1 else 0
        return self._room(session) - reserved

    def _connect(self) -> Session:
        session = Session(self._settings, self._identity, self.protocol, self._ports.unwatch)
        args = (self._settings.keepalive_seconds,)
        threading.Thread(
            target=session.connect, args=args, name="mqtt-connect", daemon=True
        ).start()
        return session

    def _take_over(self, session: Session) -> None:
        """The connecting thread is done: the socket goes to the selector."""
        if session.fileno() < 0:
            session.lost = "connection lost at once"
            return
        session.since_s, session.watched = self._now_s, True
        self._watch(session)

    def _socket_ready(self, mask: int) -> None:
        """The socket has bytes or room."""
        session = self._session
        if session is None:
            return
        if mask & selectors.EVENT_WRITE:
            session.write()
        if mask & selectors.EVENT_READ:
            session.read()
        self._after(session)

    def _after(self, session: Session) -> None:
        """What the session has noted down is acted on here, outside of paho's callbacks."""
        self.incoming_dropped += session.received_dropped
        session.received_dropped = 0
        while session.received:
            incoming = session.received.popleft()
            if self._received:
                self._received(incoming)
        acknowledged, session.acknowledged = session.acknowledged, []
        for answer in acknowledged:
            self._acknowledge(self._in_flight.pop(answer.mid, _Sent(STORED_NOWHERE, "")), answer)
        if session.lost:
            self.connected = False
            return
        if session.accepted and not self.connected:
            self._welcome(session)
        for topic, reason in session.unsubscribed:
            do = f"nothing from {topic} will arrive; allow the gateway to read it"
            self._say_once(topic, f"refuses the subscription to {topic}: {reason}; {do}")
        session.unsubscribed.clear()
        if self.connected:
            self._send_waiting(session)
        self._watch(session)

    def _acknowledge(self, sent: _Sent, answer: Acknowledged) -> None:
        self._answered_s = self._now_s
        self._drain.bytes_in_flight -= sent.drained_bytes
        if answer.refusal:
            self.refused += 1
            kept = sent.row_id != STORED_NOWHERE
            do = "it is kept and sent again later" if kept else "it is lost"
            self._say_once(sent.topic, f"refuses {sent.topic}: {answer.refusal}; {do}")
            self._refusals.add(sent.topic, kept and answer.for_now, self._now_s)
        elif sent.row_id != STORED_NOWHERE:
            self._outbox.acknowledge(sent.row_id, sent.topic)

    def _look_after(self, session: Session) -> None:
        """What was refused goes again once nothing else is left; who never answers is given up."""
        if self.connected and self.idle() and self._refusals.due(self._now_s):
            self._start_over()
        if not self.connected or not self._in_flight or session.want_write():
            self._answered_s = self._now_s
        elif self._now_s - self._answered_s > UNANSWERED_SECONDS:
            session.lost = session.lost or "the broker acknowledges nothing"

    def _start_over(self) -> None:
        """What is retained, and whatever is in the outbox, goes again from the oldest on."""
        self._refusals.begin(self._now_s)
        greeting = self._greet()
        self._greeted = {message.topic for message in greeting}
        for message in greeting:
            self.tell(message)
        self._drain.begin()

    def _welcome(self, session: Session) -> None:
        self._retry.succeeded(session)
        self.connected = True
        self.connections += 1
        self._trouble = ""
        self._said.clear()
        self._journal.info(f"connected to the broker {self._where}, MQTT {session.protocol}")
        self._told.clear()
        self._in_flight.clear()
        # The broker takes one packet after the other: who sees us online can send commands.
        session.subscribe(self._topics)
        self._answered_s = self._now_s
        self._start_over()

    def _send_waiting(self, session: Session) -> None:
        """Sends what waits, as much as the window has room for; the outbox comes last."""
        while self._told and self._room(session) > 0 and self.connected:
            self._tell(session, *self._told.popleft())
        drain = self._drain
        while drain.waits and not self._told and self._drain_room(session) > 0 and self.connected:
            row = drain.next()
            if row is None:
                return
            message, size_bytes = drain.as_sent(row), len(row.message.payload)
            outdated = message.retain and message.topic in self._greeted
            if self._refusals.holds(message.topic):
                drain.sent(row, 0)
            elif outdated or not self._fits(session, message):
                self._outbox.acknowledge(row.id, message.topic)
                drain.sent(row, 0)
            elif (mid := self._publish(session, message)) is not None:
                self._in_flight[mid] = _Sent(row.id, message.topic, size_bytes)
                drain.sent(row, size_bytes)

    def _tell(self, session: Session, message: Message, correlation: bytes) -> None:
        if not self._fits(session, message, correlation):
            return
        mid = self._publish(session, message, correlation)
        if mid is not None and message.qos:
            self._in_flight[mid] = _Sent(STORED_NOWHERE, message.topic)

    def _fits(self, session: Session, message: Message, correlation: bytes = b"") -> bool:
        """False for what the broker would cut the connection for."""
        if session.fits(message, correlation):
            return True
        self.too_large += 1
        told = f"takes {session.max_packet_bytes} bytes at most, {message.topic} has more"
        self._say_once(message.topic, f"{told}: it is dropped; raise the broker's limit")
        return False

    def _publish(self, session: Session, message: Message, correlation: bytes = b"") -> int | None:
        """The message's id on the wire, None if the connection is gone."""
        mid = session.publish(message, correlation)
        if mid is None:
            self.connected = False
        else:
            self._watch(session)
        return mid

    def _watch(self, session: Session) -> None:
        """Asks for room on the socket only while something waits for it."""
        fd = session.fileno()
        if session.watched and fd >= 0:
            self._ports.watch(fd, session.want_write(), self._socket_ready)

    def _say_once(self, topic: str, text: str) -> None:
        """At most one line of a kind, a topic and a connection."""
        kind = text.partition(" ")[0]
        if (kind, topic) not in self._said:
            self._said.add((kind, topic))
            self._journal.error(f"broker: {text}")

    def _fail(self, session: Session) -> None:
        """The connection is over; the next one is tried after a wait, with few exceptions."""
        self._session, self.connected, self._drain.waits = None, False, True
        session.close()
        if self._retry.failed(session, self._now_s):
            self._session = self._connect()
            return
        reason = session.lost or ""
        if not session.reached:
            reason = f"{self._where}: {reason}"
        if self._retry.thrown_out:
            reason += f": is {self._identity.client_id} the client id of another gateway, too?"
        if reason != self._trouble:
            self._journal.warning(f"broker: {reason}; alerts are kept until it is back")
            self._trouble = reason
