"""An embedded broker on loopback and an independent subscriber, for the demo only.

In: nothing but a free port. Out: every message that the subscriber got, with its time of arrival.
Never: listens anywhere but on 127.0.0.1, runs in the service. The only file that knows amqtt.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import socket
import threading
import time
from types import TracebackType
from typing import NamedTuple

from amqtt.broker import Broker
from amqtt.client import MQTTClient
from amqtt.mqtt.constants import QOS_1

START_SECONDS = 10.0
POLL_SECONDS = 0.1


class Received(NamedTuple):
    """A message as the subscriber got it; `unix_s` is when."""

    topic: str
    payload: bytes
    unix_s: float


class EmbeddedBroker:
    """`with EmbeddedBroker() as broker:` runs broker and subscriber in a thread of their own."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.received: queue.Queue[Received] = queue.Queue()
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="embedded-broker", daemon=True)

    def __enter__(self) -> EmbeddedBroker:
        # The library reports each connection; the demo's screen is not the place.
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.CRITICAL)
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise OSError(f"the embedded broker did not start on 127.0.0.1:{self.port}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(START_SECONDS)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        listener = {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}
        anonymous = {"allow_anonymous": True}
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": anonymous}
        broker = Broker({"listeners": {"default": listener}, "plugins": plugins})
        await broker.start()
        subscriber = MQTTClient(config={"auto_reconnect": False})
        await subscriber.connect(f"mqtt://127.0.0.1:{self.port}/")
        await subscriber.subscribe([("otolith/#", QOS_1)])
        self._ready.set()
        await self._collect(subscriber)
        await subscriber.disconnect()
        await broker.shutdown()

    async def _collect(self, subscriber: MQTTClient) -> None:
        while not self._stop.is_set():
            try:
                message = await subscriber.deliver_message(timeout_duration=POLL_SECONDS)
            except TimeoutError:
                continue
            if message is not None and message.data is not None:
                self.received.put(Received(message.topic, bytes(message.data), time.time()))
