"""MQTT: the connection to the broker, and what is on its way there. The only file that knows paho.

In: messages, room and bytes on the broker's socket (from the selector of `ports`), ticks.
Out: publications; acknowledged rows to the outbox. Never: blocks its caller, trusts paho's queue
(it dies with the process), says connected before the broker has accepted.

paho runs on the service's own thread and selector, so an alert goes from the score to the socket
without waking anybody; only connecting, which may hang on a name or a handshake, has a thread.
"""

from __future__ import annotations

import random
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from edge_agent.config import MqttSettings, read_password, uses_tls
from edge_agent.journal import Journal
from edge_agent.messages import Message
from edge_agent.outbox import Outbox
from edge_agent.ports import Ports

WINDOW = 50
FIRST_WAIT_SECONDS = 1.0
MAX_WAIT_SECONDS = 60.0
JITTER = 0.2
# A broker that takes the connection but says nothing is as good as none.
GREETING_SECONDS = 10.0
TRY_SECONDS = 5.0
# Two clients with one id throw each other out right after connecting.
FLAPPING_SECONDS = 3.0
STORED_NOWHERE = 0


class Identity(NamedTuple):
    """Who connects, and what the broker says in our name when we are gone."""

    client_id: str
    last_will: Message


class _Session:
    """One connection from its first packet to its last, and one paho client for it."""

    def __init__(self, client: paho.Client, now_s: float) -> None:
        self.client = client
        self.since_s = now_s
        self.ready = threading.Event()  # set by the connecting thread, last of all it does
        self.error: str | None = None
        self.watched = False
        self.accepted: bool | None = None
        self.lost: str | None = None
        self.in_flight: dict[int, int] = {}
        self.acknowledged: list[int] = []


class Publisher:
    """Keeps the connection up and the outbox empty. All methods belong to the service's thread.

    `greet` gives the retained messages that a broker without memory must be told again, and
    last of them that the gateway is online.
    """

    def __init__(
        self,
        settings: MqttSettings,
        identity: Identity,
        outbox: Outbox,
        ports: Ports,
        journal: Journal,
        greet: Callable[[], list[Message]],
    ) -> None:
        self._settings, self._identity = settings, identity
        self._outbox, self._ports, self._journal, self._greet = outbox, ports, journal, greet
        self._session: _Session | None = None
        self._retry_s = 0.0
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._trouble = ""
        self._backlog = True
        self._sent_id = self._old_id = 0
        self.connected = False
        self.connections = 0

    def offer(self, message: Message) -> None:
        """A message that must arrive: sent at once if it can be, on disk until acknowledged."""
        session = self._session
        if session and self.connected and not self._backlog and len(session.in_flight) < WINDOW:
            # The subscriber first, the disk after: it is the same thread, so no acknowledgement
            # can come in between.
            mid = self._publish(session, message)
            row_id = self._outbox.put(message, sent=mid is not None)
            if mid is not None:
                session.in_flight[mid] = row_id
                self._sent_id = row_id
                return
        else:
            self._outbox.put(message)
        self._backlog = True

    def tell(self, message: Message) -> None:
        """A message about now: sent if connected, otherwise void; `greet` knows the latest."""
        session = self._session
        if not session or not self.connected:
            return
        if message.qos == 0 and session.client.want_write():
            return  # the line is slow as it is
        mid = self._publish(session, message)
        if mid is not None and message.qos:
            session.in_flight[mid] = STORED_NOWHERE

    def tick(self, now_s: float) -> None:
        """Connects, notices silence, sends what waits; ten times a second or so."""
        session = self._session
        if session is None:
            if now_s >= self._retry_s:
                self._session = self._connect(now_s)
            return
        if not session.ready.is_set():
            return
        if session.error:
            self._fail(now_s, session.error)
        elif not session.watched:
            self._take_over(session)
        else:
            session.client.loop_misc()
            if session.accepted is None and now_s - session.since_s > GREETING_SECONDS:
                session.lost = session.lost or "the broker does not answer"
            self._after(session)
        if session.lost and self._session is session:
            self._fail(now_s, session.lost)

    def idle(self) -> bool:
        """Whether nothing waits for the broker (or there is none to wait for)."""
        session = self._session
        return not self.connected or not session or not (session.in_flight or self._backlog)

    def close(self) -> None:
        """Ends the connection; the last will is not published."""
        session, self._session, self.connected = self._session, None, False
        if session and session.ready.is_set():
            session.client.disconnect()

    def _connect(self, now_s: float) -> _Session:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, self._identity.client_id, protocol=paho.MQTTv311
        )
        session = _Session(client, now_s)
        will = self._identity.last_will
        client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.max_inflight_messages_set(0)  # `WINDOW` is the limit, and it is ours

        def on_connect(_c: Any, _u: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            session.accepted = not reason.is_failure
            if reason.is_failure:
                session.lost = f"the broker refuses the connection: {reason}"

        def on_disconnect(_c: Any, _u: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            session.lost = session.lost or f"connection lost: {reason}"

        def on_publish(_c: Any, _u: Any, mid: int, _reason: Any, _properties: Any) -> None:
            session.acknowledged.append(mid)

        def on_socket_close(_c: Any, _u: Any, sock: Any) -> None:
            if session.watched:
                self._ports.unwatch(sock.fileno())
                session.watched = False

        client.on_connect, client.on_disconnect = on_connect, on_disconnect
        client.on_publish, client.on_socket_close = on_publish, on_socket_close
        threading.Thread(
            target=self._connect_blocking, args=(session,), name="mqtt-connect", daemon=True
        ).start()
        return session

    def _connect_blocking(self, session: _Session) -> None:
        """Runs on its own thread, which owns the client until `ready` is set."""
        settings = self._settings
        try:
            _identify(settings, session.client)
            session.client.connect(settings.host, settings.port, settings.keepalive_seconds)
        except (OSError, ValueError) as error:
            session.error = f"{settings.host}:{settings.port}: {error}"
        finally:
            session.ready.set()

    def _take_over(self, session: _Session) -> None:
        """The connecting thread is done: the socket goes to the selector."""
        sock = session.client.socket()
        if sock is None:
            session.lost = session.lost or "connection lost at once"
            return
        # Without this an alert waits for the acknowledgement of the score before it (Nagle).
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session.watched = True
        self._ports.watch(sock.fileno(), session.client.want_write(), self._ready)

    def _ready(self, mask: int) -> None:
        """The socket has bytes or room."""
        session = self._session
        if session is None:
            return
        client = session.client
        if mask & selectors.EVENT_WRITE:
            client.loop_write()
        if mask & selectors.EVENT_READ:
            client.loop_read()
            # What TLS has already taken from the socket wakes no selector.
            while isinstance(sock := client.socket(), ssl.SSLSocket) and sock.pending():
                client.loop_read()
        self._after(session)

    def _after(self, session: _Session) -> None:
        """What paho's callbacks have noted down is acted on here, outside of them."""
        for mid in session.acknowledged:
            row_id = session.in_flight.pop(mid, STORED_NOWHERE)
            if row_id != STORED_NOWHERE:
                self._outbox.acknowledge(row_id)
        session.acknowledged.clear()
        if session.lost:
            self.connected = False
            return
        if session.accepted and not self.connected:
            self._welcome(session)
        if self._backlog and self.connected:
            self._drain(session)
        self._watch(session)

    def _welcome(self, session: _Session) -> None:
        settings = self._settings
        self.connected = True
        self.connections += 1
        self._trouble, self._wait_seconds = "", FIRST_WAIT_SECONDS
        self._journal.info(f"connected to the broker {settings.host}:{settings.port}")
        for message in self._greet():
            self.tell(message)
        # Whatever was in flight before goes again, from the oldest on.
        self._backlog, self._sent_id, self._old_id = True, 0, self._outbox.last_id

    def _drain(self, session: _Session) -> None:
        """Sends waiting rows in order, as many as the window has room for."""
        while len(session.in_flight) < WINDOW and not session.lost:
            rows = self._outbox.pending(self._sent_id, WINDOW - len(session.in_flight))
            if not rows:
                self._backlog = False
                return
            for row in rows:
                late = row.id <= self._old_id
                mid = self._publish(session, row.message.as_replayed() if late else row.message)
                if mid is None:
                    return
                session.in_flight[mid] = row.id
                self._sent_id = row.id

    def _publish(self, session: _Session, message: Message) -> int | None:
        """The message's id on the wire, None if the connection is gone."""
        info = session.client.publish(message.topic, message.payload, message.qos, message.retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            session.lost = session.lost or f"connection lost: {paho.error_string(info.rc)}"
        if session.lost:
            self.connected = False
            return None
        self._watch(session)
        return info.mid

    def _watch(self, session: _Session) -> None:
        """Asks for room on the socket only while something waits for it."""
        sock = session.client.socket()
        if session.watched and sock is not None:
            self._ports.watch(sock.fileno(), session.client.want_write(), self._ready)

    def _fail(self, now_s: float, reason: str) -> None:
        """The connection is over; the next one is tried after a wait."""
        session, self._session = self._session, None
        if session and session.accepted and now_s - session.since_s < FLAPPING_SECONDS:
            reason += f": is {self._identity.client_id} the client id of another gateway, too?"
        self.connected, self._backlog = False, True
        if session:
            session.client.disconnect()
        if reason != self._trouble:
            self._journal.warning(f"broker: {reason}; alerts are kept until it is back")
            self._trouble = reason
        self._retry_s = now_s + self._wait_seconds * random.uniform(1.0 - JITTER, 1.0 + JITTER)
        self._wait_seconds = min(2.0 * self._wait_seconds, MAX_WAIT_SECONDS)


def try_broker(settings: MqttSettings, client_id: str) -> str | None:
    """Connects once and leaves; why the broker does not accept us, None if it does. The id must
    not be the gateway's own, or a running service would be thrown out."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv311)
    client.connect_timeout = TRY_SECONDS
    answers: list[str] = []

    def on_connect(_c: Any, _u: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        answers.append(f"the broker refuses the connection: {reason}" if reason.is_failure else "")

    client.on_connect = on_connect
    where, end_s = f"{settings.host}:{settings.port}", time.monotonic() + TRY_SECONDS
    try:
        _identify(settings, client)
        client.connect(settings.host, settings.port)
    except (OSError, ValueError) as error:
        return f"{where}: {error}"
    while not answers and time.monotonic() < end_s:
        if client.loop(0.1) != MQTTErrorCode.MQTT_ERR_SUCCESS and not answers:
            return f"{where}: the connection is closed before the broker has answered"
    client.disconnect()
    return (answers[0] or None) if answers else f"{where}: something listens but does not answer"


def _identify(settings: MqttSettings, client: paho.Client) -> None:
    """Password and certificates are read anew each time: they may have been replaced."""
    if settings.username:
        client.username_pw_set(settings.username, read_password(settings))
    if uses_tls(settings):
        paths = (settings.ca_file, settings.certificate_file, settings.key_file)
        ca_file, certificate, key = (str(path) if path else None for path in paths)
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate:
            context.load_cert_chain(certificate, key)
        client.tls_set_context(context)
