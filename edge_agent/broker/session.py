"""MQTT session: one connection to the broker, from its first packet to its last.

In: messages, room and bytes on the socket, ticks. Out: what the broker has said, noted down.
Never: acts on any of it (`mqtt` does, outside of paho's callbacks), lives on after its connection,
waits for its caller to read: what is noted is bounded. The only file that knows paho.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as UntypedProperties

from edge_agent.broker.incoming import Incoming
from edge_agent.broker.messages import Message
from edge_agent.broker.trouble import (
    closed_early,
    not_let_in,
    tls_alert,
    tls_context,
    unreachable,
)  # fmt: skip
from edge_agent.config import MqttSettings, read_password, uses_tls

Protocol: TypeAlias = Literal["5", "3.1.1"]

# paho gives types to all but this.
Properties: Any = UntypedProperties
VERSIONS = {"5": paho.MQTTv5, "3.1.1": paho.MQTTv311}
MAX_RECEIVED = 100
# Commands are 4 kB; a broker of MQTT 5 keeps from us what is far larger.
MAX_RECEIVED_BYTES = 16_384
MAX_IN_FLIGHT = 65_535
MAX_REASON_CHARACTERS = 200
# A broker that takes the connection but says nothing is as good as none.
GREETING_SECONDS = 10.0
# One that only knows 3.1.1 may wait for the rest of a packet that it misreads.
FOREIGN_SECONDS = 2.0
UNSUPPORTED_PROTOCOL, SESSION_TAKEN_OVER = 0x84, 0x8E
BAD_PASSWORD, NOT_AUTHORISED, QUOTA_EXCEEDED = 0x86, 0x87, 0x97
# What people read, as against bytes.
TEXT_TYPES = ("application/json", "text/")


class Identity(NamedTuple):
    """Who connects, and what the broker says in our name when we are gone."""

    client_id: str
    last_will: Message | None = None


class Acknowledged(NamedTuple):
    """The broker has answered for a message; `refusal` says why it does not take it, `for_now`
    that it takes none of its topic: a right is missing, or it was too much."""

    mid: int
    refusal: str
    for_now: bool


class Session:
    """One paho client. The notes are for the caller to read, and to clear.

    `answered` is set by the first answer, `accepted` if that was yes, `lost` when all is over;
    `foreign` says that the broker was reached but does not seem to speak this protocol. `closing`
    is called with the descriptor before it closes, if the caller has set `watched`.
    """

    def __init__(
        self,
        settings: MqttSettings,
        identity: Identity,
        protocol: Protocol,
        closing: Callable[[int], None],
    ) -> None:
        self._settings, self._closing = settings, closing
        self.protocol = protocol
        self.since_s = 0.0
        self.ready = threading.Event()  # set by the connecting thread, last of all it does
        self.reached = self.answered = self.accepted = self.taken_over = False
        self.foreign = self.watched = False
        self.lost: str | None = None
        self.acknowledged: list[Acknowledged] = []
        self.received: deque[Incoming] = deque()
        self.received_dropped = 0
        self.unsubscribed: list[tuple[str, str]] = []
        self.max_in_flight, self.max_packet_bytes = MAX_IN_FLIGHT, 0
        self._topics: tuple[str, ...] = ()
        self._client = self._made(identity)

    def connect(self, keepalive_seconds: int) -> None:
        """Blocks; runs on a thread of its own, which owns the session until `ready` is set."""
        settings, client = self._settings, self._client
        try:
            _identify(settings, client)
            properties = None
            if self.protocol == "5":
                properties = Properties(PacketTypes.CONNECT)
                properties.SessionExpiryInterval = 0
                properties.ReceiveMaximum = MAX_RECEIVED
                properties.MaximumPacketSize = MAX_RECEIVED_BYTES
            client.connect(
                settings.host, settings.port, keepalive_seconds,
                clean_start=self.protocol == "5" or paho.MQTT_CLEAN_START_FIRST_ONLY,
                properties=properties,
            )  # fmt: skip
            sock = client.socket()
            # Without this an alert waits for the acknowledgement of the score before it (Nagle).
            if isinstance(sock, socket.socket):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.reached = sock is not None
        except (OSError, ValueError) as error:
            self.lost = unreachable(error, settings, time.time())
        finally:
            self.ready.set()

    def fileno(self) -> int:
        """The socket for a selector, -1 if there is none."""
        sock = self._client.socket()
        return -1 if sock is None else sock.fileno()

    def want_write(self) -> bool:
        """Whether something waits for room on the socket."""
        return self._client.want_write()

    def read(self) -> None:
        """The socket has bytes."""
        self._client.loop_read()
        # What TLS has already taken from the socket wakes no selector.
        while isinstance(sock := self._client.socket(), ssl.SSLSocket) and sock.pending():
            self._client.loop_read()

    def write(self) -> None:
        """The socket has room."""
        self._client.loop_write()

    def tick(self) -> None:
        """Says that we are alive, and notices that the broker is not."""
        self._client.loop_misc()

    def publish(self, message: Message, correlation: bytes = b"") -> int | None:
        """The message's id on the wire, None if the connection is gone."""
        if self.lost:
            return None
        topic, payload, qos, retain = message[:4]
        properties = self._properties(message, correlation)
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.lost = self.lost or f"connection lost: {paho.error_string(info.rc)}"
        return None if self.lost else info.mid

    def fits(self, message: Message, correlation: bytes = b"") -> bool:
        """Whether the broker takes packets of that size."""
        if not self.max_packet_bytes:
            return True
        properties = self._properties(message, correlation)
        rest = 2 + len(message.topic.encode()) + (2 if message.qos else 0) + len(message.payload)
        rest += len(properties.pack()) if properties else 0
        length_bytes = 1 + (rest > 127) + (rest > 16_383) + (rest > 2_097_151)
        return 1 + length_bytes + rest <= self.max_packet_bytes

    def subscribe(self, topics: tuple[str, ...]) -> None:
        """Asks for topics at QoS 1; refused ones are noted in `unsubscribed`."""
        self._topics = topics
        if topics:
            self._client.subscribe([(topic, 1) for topic in topics])

    def close(self) -> None:
        """Ends the connection, whatever waits; the last will is not published."""
        self._client.disconnect()
        sock = self._client.socket()
        if sock is not None:  # it takes no bytes, or paho would have closed it
            self._on_socket_close(None, None, sock)
            sock.close()

    def _made(self, identity: Identity) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, identity.client_id, protocol=VERSIONS[self.protocol],
            reconnect_on_failure=False,  # paho would do it at once, and on this thread
        )  # fmt: skip
        will = identity.last_will
        if will:
            properties = None
            if self.protocol == "5":
                properties = _labels(PacketTypes.WILLMESSAGE, will.content_type)
            client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
        client.max_inflight_messages_set(0)  # the limit is ours
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_message = self._on_publish, self._on_message
        client.on_subscribe, client.on_socket_close = self._on_subscribe, self._on_socket_close
        client.on_log = self._on_log
        return client

    def _properties(self, message: Message, correlation: bytes) -> Any:
        if self.protocol != "5":
            return None
        content_type, expiry_seconds = message.content_type, message.expiry_seconds
        return _labels(PacketTypes.PUBLISH, content_type, expiry_seconds, correlation)

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: Any, properties: Any) -> None:
        self.answered, self.accepted = True, not reason.is_failure
        self._client.on_log = None  # it would cost time with every packet
        if reason.is_failure:
            self.foreign = reason.value == UNSUPPORTED_PROTOCOL
            self.lost = f"the broker refuses the connection: {_words(reason, properties)}"
            if reason.value in (BAD_PASSWORD, NOT_AUTHORISED):
                self.lost += f"; {not_let_in(self._settings)}"
            return
        self.max_in_flight = getattr(properties, "ReceiveMaximum", MAX_IN_FLIGHT)
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", 0)

    def _on_disconnect(self, _c: Any, _u: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if self.lost:
            return
        self.taken_over = reason.value == SESSION_TAKEN_OVER
        self.foreign = self.reached and not self.answered
        if self.answered:
            self.lost = f"connection lost: {_words(reason, properties)}"
        else:
            self.lost = f"the broker closed before it answered; {closed_early(self._settings)}"

    def _on_log(self, _c: Any, _u: Any, _level: int, text: str) -> None:
        """Until the broker has answered: over TLS 1.3 it judges our certificate only after the
        handshake, and paho tells what it has said here and nowhere else."""
        told = tls_alert(text, self._settings)
        if told and not self.lost:
            self.lost = told

    def _on_publish(self, _c: Any, _u: Any, mid: int, reason: Any, properties: Any) -> None:
        refusal = _words(reason, properties) if reason.is_failure else ""
        for_now = reason.value in (NOT_AUTHORISED, QUOTA_EXCEEDED)
        self.acknowledged.append(Acknowledged(mid, refusal, for_now))

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = None
        if topic is None or len(self.received) >= MAX_RECEIVED:
            self.received_dropped += 1
            return
        found = message.properties
        self.received.append(
            Incoming(
                topic, bytes(message.payload), message.retain,
                getattr(found, "ResponseTopic", ""), getattr(found, "CorrelationData", b""),
            )
        )  # fmt: skip

    def _on_subscribe(self, _c: Any, _u: Any, _mid: int, reasons: Any, properties: Any) -> None:
        for topic, reason in zip(self._topics, reasons, strict=False):
            if reason.is_failure:
                self.unsubscribed.append((topic, _words(reason, properties)))

    def _on_socket_close(self, _c: Any, _u: Any, sock: Any) -> None:
        if self.watched:
            self.watched = False
            self._closing(sock.fileno())


@lru_cache(maxsize=64)
def _labels(kind: int, content_type: str, expiry_seconds: int = 0, correlation: bytes = b"") -> Any:
    """What MQTT 5 tells of a message."""
    properties = Properties(kind)
    properties.ContentType = content_type
    if content_type.startswith(TEXT_TYPES):
        properties.PayloadFormatIndicator = 1
    if expiry_seconds:
        properties.MessageExpiryInterval = expiry_seconds
    if correlation:
        properties.CorrelationData = correlation
    return properties


def _words(reason: Any, properties: Any) -> str:
    """A reason code as text, and what the broker adds to it."""
    more = getattr(properties, "ReasonString", "")
    return f"{reason} ({more[:MAX_REASON_CHARACTERS]})" if more else str(reason)


def _identify(settings: MqttSettings, client: paho.Client) -> None:
    """Password and certificates are read anew each time: they may have been replaced."""
    if settings.username:
        client.username_pw_set(settings.username, read_password(settings))
    if uses_tls(settings):
        client.tls_set_context(tls_context(settings))
