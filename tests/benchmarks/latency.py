"""Latency: from the last byte of a window on the port to the subscriber's callback.

Every window changes the verdict (quiet, loud, quiet ...) and the alarm has no delay, so every
window ends in an alert that goes the whole way: port, pipeline, store, broker, subscriber, all over
TLS. The floor of the same minute: one bare invoke and one QoS 1 message there and back, over TLS.
"""

from __future__ import annotations

import json
import os
import select
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt

from edge_agent.bundles.bundle import MANIFEST_NAME, MODEL_NAME, read_bundle
from edge_agent.bundles.interpreter import Interpreter
from edge_agent.judging.pipeline import Judgement, Pipeline
from firmware_bridge.board import SimulatedBoard
from firmware_bridge.samples import Samples
from firmware_bridge.schema import StreamSchema, write_schema
from firmware_bridge.simulator import PseudoTerminal
from firmware_bridge.sources import Batch
from tests.benchmarks import rig
from tests.benchmarks.row import Row

WINDOWS = 400
WARM_UP_WINDOWS = 20
QUIET_WINDOWS = 40
BATCH = 96
WAIT_SECONDS = 5.0
STREAM = StreamSchema(1, "accel", "bench", "<i2", ("x", "y", "z"), "g", 0.0039, 3200.0, BATCH)
LOUD = 8


class SteppedSource:
    """A sensor whose next batch is complete when the benchmark says so."""

    stream = STREAM

    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)
        self.due, self.loud, self.taken = 0, False, 0

    def restart(self, machine_us: int) -> None:
        """START."""
        self.due = self.taken = 0

    def ready_us(self) -> int | None:
        """At once, when a batch was released."""
        return 0 if self.taken < self.due else None

    def take(self) -> Batch:
        """Noise, eight times louder in every other window."""
        noise = self.rng.integers(-20, 20, (BATCH, 3)) * (LOUD if self.loud else 1)
        first = self.taken * BATCH
        self.taken += 1
        t_us = first * 1_000_000 // 3200
        return Batch(self.taken & 0xFFFF, first, t_us, BATCH, 0, noise.astype("<i2").tobytes())

    def skip(self, until_us: int) -> int:
        """Never."""
        return 0

    def at_rate(self, stream: StreamSchema) -> None:
        """Never."""


class BenchBoard(threading.Thread):
    """The board's end of the pty. `release` makes batches due and gives when they were sent."""

    def __init__(self, link: Path) -> None:
        super().__init__(daemon=True)
        self.source = SteppedSource()
        document = write_schema("bench", "00", "0", (STREAM,))
        self.board = SimulatedBoard(document, [self.source], time.monotonic())
        self.terminal = PseudoTerminal(link)
        self.ended = False
        self._wake_read, self._wake_write = os.pipe()
        self._sent = threading.Event()
        self._sent_s = 0.0
        self.start()

    def release(self, batches: int, loud: bool) -> float:
        """Lets that many batches go; the time just before their last byte was written."""
        self._sent.clear()
        self.source.loud = loud
        self.source.due += batches
        os.write(self._wake_write, b"\0")
        if not self._sent.wait(WAIT_SECONDS):
            raise RuntimeError("the agent does not read from the port")
        return self._sent_s

    def run(self) -> None:
        """Answers the agent and sends what was released."""
        while not self.ended:
            ready, _, _ = select.select([self.terminal.fd, self._wake_read], [], [], 0.05)
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
            now = time.monotonic()
            self.board.feed(self.terminal.read(), now)
            out = self.board.poll(now)
            while out:  # a pty takes 4 KiB or so at a time
                select.select([], [self.terminal.fd], [])
                self._sent_s = time.perf_counter()
                out = out[os.write(self.terminal.fd, out) :]
            if self.source.due and self.source.taken == self.source.due:
                self._sent.set()


class Subscriber:
    """An MQTT client that notes when a topic's message came."""

    def __init__(self, port: int, ca: Path, topics: tuple[str, ...]) -> None:
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.tls_set(str(ca))
        self.came = threading.Event()
        self.at_s = 0.0
        self.client.on_message = self._take
        self.client.connect("127.0.0.1", port)
        for topic in topics:
            self.client.subscribe(topic, 1)
        self.client.loop_start()

    def wait(self, what: str) -> float:
        """When the message came."""
        if not self.came.wait(WAIT_SECONDS):
            raise RuntimeError(f"no {what} within {WAIT_SECONDS} s")
        self.came.clear()
        return self.at_s

    def _take(self, _client: mqtt.Client, _data: object, _message: mqtt.MQTTMessage) -> None:
        self.at_s = time.perf_counter()
        self.came.set()


def jumpy_bundle(folder: Path) -> Path:
    """The default bundle, one window after the other, a threshold between quiet and loud."""
    bundle = read_bundle(rig.BUNDLE)
    manifest, model = bundle.manifest, bundle.model
    window = manifest.window.model_copy(update={"hop": manifest.window.length})
    eager = {"on_delay_windows": 1, "off_delay_windows": 1, "clear_ratio": 1.0}
    alarm = manifest.alarm.model_copy(update=eager)
    manifest = manifest.model_copy(update={"window": window, "alarm": alarm})
    scores = []
    for loud in (False, True):
        source = SteppedSource()
        source.loud, pipeline = loud, Pipeline("bench", manifest, Interpreter(model))
        raw = [np.frombuffer(source.take().payload, "<i2") for _ in range(window.length // BATCH)]
        values = np.concatenate(raw).reshape(-1, 3) * np.float32(STREAM.scale)
        fact = pipeline.feed(Samples(1, 0, 0.0, 3200.0, values, 0, False, 0))[0]
        assert isinstance(fact, Judgement)
        scores.append(fact.score.value)
    limit = float(np.sqrt(scores[0] * scores[1]))
    threshold = manifest.threshold.model_copy(update={"value": limit})
    document = manifest.model_copy(update={"threshold": threshold}).model_dump_json()
    path = folder / "jumpy.otolith"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST_NAME, document)
        archive.writestr(MODEL_NAME, model)
    return path


def floor_seconds(port: int, ca: Path) -> Iterator[float]:
    """Bare invoke plus one QoS 1 message there and back, again and again."""
    from ai_edge_litert.interpreter import Interpreter as Bare

    bare = Bare(model_content=read_bundle(rig.BUNDLE).model, num_threads=1)
    bare.allocate_tensors()
    subscriber = Subscriber(port, ca, ("floor",))
    publisher = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    publisher.tls_set(str(ca))
    publisher.connect("127.0.0.1", port)
    publisher.loop_start()
    time.sleep(0.5)
    payload = json.dumps({"x": "y" * 500})
    while True:
        begin = time.perf_counter()
        bare.invoke()
        publisher.publish("floor", payload, qos=1)
        yield subscriber.wait("echo") - begin


@contextmanager
def live(folder: Path, port: int) -> Iterator[tuple[BenchBoard, Subscriber, int]]:
    """The agent behind a board that we hold; batches a window."""
    bundle = jumpy_bundle(folder)
    board = BenchBoard(folder / "board.tty")
    subscriber = Subscriber(port, rig.ca_of(folder), ("otolith/+/+/event",))
    settings = rig.config(folder, port, [str(folder / "board.tty")], bundle)
    with rig.agent(settings):
        deadline = time.monotonic() + rig.START_SECONDS
        while not board.board.streaming and time.monotonic() < deadline:
            time.sleep(0.05)
        batches = read_bundle(bundle).manifest.window.length // BATCH
        # A board that says nothing for a second is taken for dead, so it hums meanwhile.
        for _ in range(QUIET_WINDOWS):
            board.release(batches, loud=False)
            time.sleep(0.05)
        yield board, subscriber, batches
        board.ended = True


def measure() -> list[Row]:
    """The rows `latency_p50` and `latency_p99`."""
    ours, floors = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with rig.broker(folder) as broker:
            floor = floor_seconds(broker.port, rig.ca_of(folder))
            with live(folder, broker.port) as (board, subscriber, batches):
                for k in range(WARM_UP_WINDOWS + WINDOWS):
                    board.release(batches - 1, loud=k % 2 == 0)
                    time.sleep(0.02)
                    sent = board.release(1, loud=k % 2 == 0)
                    ours.append(subscriber.wait("event") - sent)
                    floors.append(next(floor))
    rows = []
    for name, q, goal in (("latency_p50", 0.5, 1.5), ("latency_p99", 0.99, 3.0)):
        value, bare = (1e3 * float(np.quantile(v[WARM_UP_WINDOWS:], q)) for v in (ours, floors))
        rows.append(Row(name, "ms", value, "invoke + QoS 1 round trip", bare, goal, "low"))
    return rows
