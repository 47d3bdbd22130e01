"""Rig: a broker, a subscriber that outlives it, boards, and the agent as processes to be killed.

In: a folder, ports. Out: processes, and what was heard and stored. Never: looks into a database
itself (it takes a copy), lets a child outlive its block.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.broker.outbox import FILE_NAME, Outbox
from tests.chaos.ledger import Event
from tests.conftest import ROOT, Mosquitto

WAIT_SECONDS = 60.0
MANY_ROWS = 1_000_000
FORGETFUL = "allow_anonymous true\nmax_queued_messages 0\n"
# What Mosquitto has acknowledged outlives it; as root it would become a user who can't write there.
LASTING = """allow_anonymous true
user root
persistence true
persistence_location {folder}/
autosave_on_changes true
autosave_interval 1
max_queued_messages 0
"""


@dataclass(frozen=True)
class Setting:
    """Where and how long. `folder` is empty and the trouble's own; `say` shows how far it is."""

    folder: Path
    seed: int
    long: bool
    say: Callable[[str], None]

    def either(self, long: int, short: int) -> int:
        """How many, in this form."""
        return long if self.long else short


class Heard(NamedTuple):
    """A message as the subscriber got it; `at_s` is monotonic."""

    at_s: float
    topic: str
    payload: bytes


class Listener:
    """A subscriber with a session that outlives line and broker, and comes back at once."""

    def __init__(self, port: int, topic: str) -> None:
        self.heard: list[Heard] = []
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "listener", clean_session=False)
        self._client.reconnect_delay_set(0.05, 0.05)  # type: ignore[arg-type]
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_disconnect = lambda *_: self._subscribed.clear()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _c, _u, m: self.heard.append(
            Heard(time.monotonic(), m.topic, bytes(m.payload))
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.ready()

    def ready(self) -> None:
        """Waits for the subscription."""
        if not self._subscribed.wait(WAIT_SECONDS):
            raise RuntimeError("the subscriber can't subscribe")

    def events(self, after: int = 0) -> list[Event]:
        """Alarm events, in the order of arrival, of what came behind the first `after`."""
        told = [json.loads(h.payload) for h in self.heard[after:] if h.topic.endswith("/event")]
        return [event for event in told if event["kind"] in ("begin", "update", "end")]

    def close(self) -> None:
        """Goodbye."""
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def listener(port: int, topic: str) -> Iterator[Listener]:
    """A subscriber for as long as the block takes."""
    made = Listener(port, topic)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def broker(folder: Path, more: str = FORGETFUL) -> Iterator[Mosquitto]:
    """A Mosquitto of our own that keeps for a slow subscriber all there is."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        raise RuntimeError("mosquitto is not installed (apt-get install mosquitto)")
    running = Mosquitto(program, folder, more.format(folder=folder))
    try:
        yield running
    finally:
        running.kill()


def python(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A child of this interpreter in the repository."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, **options)


def end(child: subprocess.Popen[str]) -> None:
    """It is gone when this returns."""
    child.kill()
    child.communicate()


def within(
    wanted: Callable[[], object], seconds: float = WAIT_SECONDS, pause_seconds: float = 0.02
) -> bool:
    """Waits; whether it has come true."""
    deadline_s = time.monotonic() + seconds
    while not wanted():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(pause_seconds)
    return True


def until(
    wanted: Callable[[], object], what: str,
    seconds: float = WAIT_SECONDS, pause_seconds: float = 0.02,
) -> None:  # fmt: skip
    """Waits for what the trouble can't begin without; raises `RuntimeError` if it doesn't come."""
    if not within(wanted, seconds, pause_seconds):
        raise RuntimeError(f"not within {seconds:g} s: {what}")


def stored_alerts(state_dir: Path) -> list[Event]:
    """The alarm events that the next run of a killed agent would find in its outbox."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / FILE_NAME
        for suffix in ("", "-wal"):
            source = state_dir / (FILE_NAME + suffix)
            if source.exists():
                shutil.copyfile(source, copy.with_name(FILE_NAME + suffix))
        outbox = Outbox(Path(scratch))
        rows = outbox.pending(0, MANY_ROWS)
        outbox.close()
    return [json.loads(row.message.payload) for row in rows if row.message.alert]
