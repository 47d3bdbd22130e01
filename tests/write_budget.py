"""Write budget: what a day of alarms writes to the disk, as the kernel counts it.

`python -m tests.write_budget FOLDER OUTAGE_HOURS`: a day with an alarm a minute through a real
outbox and a real folder of evidence, its clock driven. Prints one JSON object. The kernel counts a
page of 4,096 bytes each time that it becomes dirty (`write_bytes` of /proc/self/io); the journal of
the file system is not in it.
"""

from __future__ import annotations

import base64
import json
import os
import random
import sys
import time
from itertools import islice
from pathlib import Path

from edge_agent.boards.evidence import Evidence
from edge_agent.broker.clock import Clock
from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.store import Note
from firmware_bridge.codec import DELIMITER

MINUTES = 1440
ALARM_SECONDS = 20.0
# A begin, an explanation with its picture, an end and a note as they are in the field.
EVENT_BYTES, EXPLANATION_BYTES, NOTE_BYTES = 950, 11_000, 1500
PICTURE_BYTES = 6000
# Four assets; one note of each every ten minutes for the threshold that follows its machine.
ASSETS, NOTE_MINUTES = 4, 10
WIRE_BYTES_A_SECOND = 20_000
START_WALL_S, START_S = 1_790_000_000.0, 1000.0


class Day:
    """Everything at the moment `now_s`; `online` says whether the broker answers."""

    def __init__(self, folder: Path) -> None:
        self.now_s, self.online = START_S, True
        clock = Clock("boot", lambda: START_WALL_S + self.now_s, lambda: self.now_s)
        self.outbox = Outbox(folder, clock=clock)
        self.evidence = Evidence(folder / "evidence", 200_000_000, ["b"])
        self.evidence.tails["b"].begin(b"{}")
        self.dice = random.Random(1)
        self.wire = self.dice.randbytes(WIRE_BYTES_A_SECOND - 1).replace(DELIMITER, b"x")
        self.sent: list[tuple[int, str]] = []

    def offer(self, topic: str, size: int, alert: bool, note: Note | None = None) -> None:
        """As the publisher does."""
        message = Message(topic, self.text(size), alert=alert)
        row_id = self.outbox.put(message, sent=self.online, note=note)
        self.sent.append((row_id, topic))
        if self.online:
            self.settle()
            self.acknowledge()

    def text(self, size: int) -> bytes:
        """As JSON of that size compresses: numbers with names, or a picture in base64."""
        if size > PICTURE_BYTES:
            picture = base64.b64encode(self.dice.randbytes(PICTURE_BYTES * 3 // 4))
            return self.text(size - PICTURE_BYTES) + picture
        numbers = (f'"field_{n % 20}":{self.dice.random():.6g}' for n in range(size))
        return ",".join(islice(numbers, size // 17 + 1)).encode()[:size]

    def acknowledge(self) -> None:
        """The broker has all of it."""
        for row_id, topic in self.sent:
            self.outbox.acknowledge(row_id, topic)
        self.sent.clear()

    def note(self, asset: int) -> Note:
        """What is remembered of an asset."""
        return Note(f"asset/a{asset}", self.text(NOTE_BYTES))

    def settle(self) -> None:
        """Until the writers have done what was asked of them."""
        for progress in (self.outbox.progress, self.evidence.progress):
            while progress.owed_seconds(time.monotonic()):
                time.sleep(0.0005)

    def wait(self, seconds: float) -> None:
        """Time goes by; wire comes in around alarms."""
        for _ in range(round(seconds)):
            self.now_s += 1.0
            self.evidence.tails["b"].take(self.wire + DELIMITER, self.now_s)
            self.evidence.tick(self.now_s)
            self.outbox.tick(self.now_s)
            self.settle()

    def alarm(self, number: int) -> None:
        """One minute."""
        asset = number % ASSETS
        topic, event_id = f"gw/a{asset}", f"store-a{asset}-{number}"
        facts = {"event_id": event_id, "ts": "2026-01-01T00:00:00.000Z", "why": "w" * 300}
        self.offer(f"{topic}/event", EVENT_BYTES, True, self.note(asset))
        self.evidence.keep(event_id, f"a{asset}", "b", self.now_s, facts)
        self.offer(f"{topic}/explain", EXPLANATION_BYTES, False)
        self.wait(ALARM_SECONDS)
        self.offer(f"{topic}/event", EVENT_BYTES, True, self.note(asset))
        self.evidence.ended(event_id, "2026-01-01T00:00:20.000Z")
        if number % NOTE_MINUTES == 0:
            for each in range(ASSETS):
                self.outbox.note(self.note(each))
        self.wait(60.0 - ALARM_SECONDS)


def written_bytes() -> int:
    """By this process, as far as the disk is concerned."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def main(folder: Path, outage_hours: frozenset[int]) -> None:
    """A day."""
    day = Day(folder)
    day.wait(40.0)
    before = written_bytes()
    for number in range(MINUTES):
        day.online = number // 60 not in outage_hours
        if day.online:
            day.acknowledge()
        day.alarm(number)
    day.acknowledge()
    day.evidence.close()
    day.outbox.close()
    os.sync()
    recordings = [path.stat().st_size for path in (folder / "evidence").glob("*.rec")]
    told = {
        "written_bytes": written_bytes() - before,
        "recordings": len(recordings), "recorded_bytes": sum(recordings),
        "unrecorded": day.evidence.unrecorded, "notices": day.evidence.notices(),
        "dropped": day.outbox.dropped_alerts + day.outbox.dropped_telemetry,
    }  # fmt: skip
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    hours = frozenset(map(int, sys.argv[2].split(","))) if sys.argv[2] else frozenset()
    main(Path(sys.argv[1]), hours)
