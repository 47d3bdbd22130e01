"""A subscriber as people have one: a client of its own, with a session that outlives the line."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.broker.messages import Message

SECONDS = 30.0


class Subscriber:
    """A client of its own, with a session of its own, as a subscriber would have."""

    def __init__(self, port: int, topic: str = "gw/#", ca: Path | None = None) -> None:
        self.messages: list[Message] = []
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "subscriber", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _c, _u, m: self.messages.append(
            Message(m.topic, m.payload, m.qos, m.retain)
        )
        if ca:
            self._client.tls_set(str(ca))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(SECONDS)

    def again(self) -> None:
        """Waits until the subscription is there after a restart of the broker."""
        assert self._subscribed.wait(SECONDS)
        self._subscribed.clear()

    def expect_restart(self) -> None:
        self._subscribed.clear()

    def numbers(self) -> list[int]:
        """`n` of the events, in the order of arrival."""
        events = (m for m in self.messages if m.topic == "gw/event")
        return [json.loads(event.payload)["n"] for event in events]

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """The payloads of all `.../event` topics, or those of one kind."""
        found = [json.loads(m.payload) for m in self.messages if m.topic.endswith("/event")]
        return [event for event in found if kind in ("", event["kind"])]

    def latest(self, topic: str) -> str:
        """The newest payload of a topic, empty before the first."""
        texts = [m.payload.decode() for m in self.messages if m.topic == topic]
        return texts[-1] if texts else ""

    def until(self, wanted: Callable[[], object], seconds: float = SECONDS) -> None:
        """Waits for something that messages bring about."""
        deadline = time.monotonic() + seconds
        while not wanted():
            told = [m for m in self.messages if not m.topic.endswith("/score")]
            assert time.monotonic() < deadline, told
            time.sleep(0.02)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
