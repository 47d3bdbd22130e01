"""A publisher with its loop and nothing else of the service, and other clients of its broker."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.boards.ports import Ports
from edge_agent.broker.incoming import Incoming
from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.publisher import Identity, Publisher
from edge_agent.broker.store import Note
from edge_agent.config import MqttSettings
from edge_agent.journal import Journal

SECONDS = 20.0


def rights_of(folder: Path, lines: str) -> Path:
    """An `acl_file` of Mosquitto's for everybody."""
    rights = folder / "rights"
    rights.write_text(lines)
    rights.chmod(0o600)
    return rights


class Agent:
    """Greets with a state and then says that it is online; `incoming` is what came on `topics`."""

    def __init__(
        self, folder: Path, settings: MqttSettings, topics: tuple[str, ...] = (), base: str = "gw"
    ) -> None:
        self.outbox, self.ports, self.log = Outbox(folder), Ports({}), StringIO()
        self.incoming: list[Incoming] = []
        self.greeting = [
            Message(f"{base}/state", b"fine", retain=True),
            Message(f"{base}/status", b"online", retain=True),
        ]
        will = Message(f"{base}/status", b"offline", retain=True, content_type="text/plain")
        self.event_topic = f"{base}/event"
        self.publisher = Publisher(
            settings, Identity("agent", will), self.outbox, self.ports, Journal(self.log),
            lambda: self.greeting, topics=topics, received=self.incoming.append,
        )  # fmt: skip

    def step(self) -> None:
        """Once around the loop."""
        self.publisher.tick(time.monotonic())
        self.ports.poll(0.02)

    def until(self, wanted: Callable[[], object], seconds: float = SECONDS) -> None:
        """Runs the loop until something is so."""
        deadline = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < deadline, self.log.getvalue()
            self.step()

    def offer(self, *numbers: int, padding: int = 0, note: Note | None = None) -> None:
        """Alerts that carry a number, and bytes for nothing."""
        for n in numbers:
            content = {"n": n, "replayed": False, "padding": "x" * padding}
            payload = json.dumps(content, separators=(",", ":")).encode()
            message = Message(self.event_topic, payload, key=str(n), alert=True)
            self.publisher.offer(message, lambda: note)

    def close(self) -> None:
        """As at the end of the service."""
        self.publisher.close()
        self.ports.shut()
        self.outbox.close()


class Client:
    """Somebody else at the broker, over MQTT 5: user, what was heard, what publishing came to."""

    def __init__(self, port: int, user: str = "", topic: str = "") -> None:
        self.heard: list[Any] = []  # paho.MQTTMessage, whose properties have no types
        self._ready, self._answered = threading.Event(), threading.Event()
        self._refusal = ""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        if user:
            self._client.username_pw_set(user, user)
        self._client.on_message = lambda _c, _u, message: self.heard.append(message)
        self._client.on_connect = lambda *_: (
            self._client.subscribe(topic, 1) if topic else self._ready.set()
        )
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_publish = self._published
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(SECONDS)

    def publish(self, topic: str, payload: bytes = b"", retain: bool = False, **labels: Any) -> str:
        """Why the broker has refused it, empty if it has not."""
        properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        for name, value in labels.items():
            setattr(properties, name, value)
        self._answered.clear()
        self._client.publish(topic, payload, 1, retain, properties)
        assert self._answered.wait(SECONDS)
        return self._refusal

    def topics(self) -> list[str]:
        """Of all that was heard, in order."""
        return [message.topic for message in self.heard]

    def until(self, wanted: Callable[[], object], seconds: float = SECONDS) -> None:
        """Waits for something that messages bring about."""
        deadline = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < deadline, self.topics()
            time.sleep(0.01)

    def close(self) -> None:
        """Goodbye."""
        self._client.disconnect()
        self._client.loop_stop()

    def _published(self, _c: Any, _u: Any, _mid: int, reason: Any, _properties: Any) -> None:
        self._refusal = str(reason) if reason.is_failure else ""
        self._answered.set()


@contextmanager
def client(port: int, user: str = "", topic: str = "") -> Iterator[Client]:
    """A client for as long as the block takes."""
    made = Client(port, user, topic)
    try:
        yield made
    finally:
        made.close()
