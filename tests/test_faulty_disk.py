"""A disk that is full, broken, read-only or silent: real SQLite in a child, below `faulty_disk.c`.

Alerts still go to a real broker; what could not be written is written when the disk is back.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.broker.outbox import Outbox
from tests import faulty_disk
from tests.conftest import ROOT, Mosquitto
from tests.faulty_disk import FaultyDisk
from tests.subscriber import Subscriber

pytestmark = pytest.mark.skipif(bool(faulty_disk.MISSING), reason=faulty_disk.MISSING)

# An agent's outbox and publisher, told line by line what to offer.
CHILD = """
import json, sys, threading, queue, time
from pathlib import Path
from edge_agent.config import MqttSettings
from tests.publishers import Agent
agent = Agent(Path(sys.argv[1]), MqttSettings(port=int(sys.argv[2])))
lines = queue.Queue()
def read():
    for line in sys.stdin:
        lines.put(line)
    lines.put("")
threading.Thread(target=read, daemon=True).start()
while True:
    agent.step()
    agent.outbox.tick(time.monotonic())
    if lines.empty():
        continue
    line = lines.get()
    if not line:
        break
    agent.offer(*json.loads(line))
    until_s = time.monotonic() + 0.3
    while time.monotonic() < until_s:
        agent.step()
        agent.outbox.tick(time.monotonic())
    outbox = agent.outbox
    print(json.dumps({
        "problem": outbox.problem, "depth": outbox.depth(), "connected": agent.publisher.connected,
        "stuck_s": outbox.stuck_seconds(time.monotonic()), "alive": outbox.is_alive(),
        "aside": outbox.set_aside and str(outbox.set_aside),
    }), flush=True)
agent.close()
"""


AT_ONCE = 40


class Gateway:
    """The child."""

    def __init__(self, disk: FaultyDisk, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, disk.folder, str(port)], cwd=ROOT, text=True,
            env=disk.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def offer(self, *numbers: int) -> dict[str, Any]:
        """Has alerts offered; how the outbox is a moment later."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(numbers) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        told: dict[str, Any] = json.loads(line)
        return told

    def until(self, wanted: str, value: object) -> dict[str, Any]:
        """Waits for a word about the outbox."""
        for _ in range(100):
            told = self.offer()
            if told[wanted] == value:
                return told
        raise AssertionError(told)

    def offer_until(self, wanted: Callable[[dict[str, Any]], object], first: int) -> dict[str, Any]:
        """Offers alerts, many at once: one that is acknowledged at once needs no disk."""
        for number in range(first, first + 100 * AT_ONCE, AT_ONCE):
            told = self.offer(*range(number, number + AT_ONCE))
            if wanted(told):
                return told
        raise AssertionError(told)

    def close(self) -> int:
        """A clean end."""
        assert self._process.stdin
        self._process.stdin.close()
        code = self._process.wait(60)
        assert self._process.stdout
        self._process.stdout.close()
        return code


@pytest.fixture
def disk(tmp_path: Path) -> FaultyDisk:
    folder = tmp_path / "disk"
    folder.mkdir()
    return FaultyDisk(folder, tmp_path / "control")


@pytest.fixture
def gateway(disk: FaultyDisk, mosquitto: Mosquitto) -> Iterator[Gateway]:
    made = Gateway(disk, mosquitto.port)
    yield made
    disk.heals()
    made.close()


@pytest.mark.parametrize(
    ("trouble", "cure"),
    [("ENOSPC", "make room"), ("EIO", "check the disk or card"), ("EROFS", "check the disk")],
)
def test_alerts_go_on_without_a_disk_and_are_kept_again_when_it_is_back(
    trouble: faulty_disk.Trouble, cure: str, disk: FaultyDisk, gateway: Gateway,
    mosquitto: Mosquitto,
) -> None:  # fmt: skip
    subscriber = Subscriber(mosquitto.port)
    gateway.until("connected", True)
    assert gateway.offer(1)["problem"] is None
    disk.fails(trouble)
    told = gateway.offer_until(lambda told: told["problem"], 2)
    assert cure in told["problem"]
    assert str(disk.folder) in told["problem"]
    subscriber.until(lambda: subscriber.numbers()[:2] == [1, 2])
    # Without a broker as well they wait in memory.
    mosquitto.kill()
    subscriber.expect_restart()
    gateway.until("connected", False)
    told = gateway.offer(9001, 9002, 9003)
    assert (told["depth"] >= 3, told["alive"], told["aside"]) == (True, True, None)
    assert told["stuck_s"] < 5.0, "a disk that says no has answered"
    disk.heals()
    gateway.until("problem", None)
    assert gateway.close() == 0
    subscriber.close()
    outbox = Outbox(disk.folder)
    waiting = [json.loads(row.message.payload)["n"] for row in outbox.pending(0, 100)]
    assert waiting[-3:] == [9001, 9002, 9003]
    assert outbox.set_aside is None
    outbox.close()


def test_a_disk_that_does_not_answer_is_stuck_and_holds_nobody_up(
    disk: FaultyDisk, gateway: Gateway, mosquitto: Mosquitto
) -> None:
    subscriber = Subscriber(mosquitto.port)
    gateway.until("connected", True)
    disk.fails("HANG")
    first = gateway.offer_until(lambda told: told["stuck_s"], 1)
    second = gateway.offer(9000)
    subscriber.until(lambda: subscriber.numbers()[-1:] == [9000])
    assert 0.0 < first["stuck_s"] < second["stuck_s"]
    disk.heals()
    told = gateway.until("stuck_s", 0.0)
    assert told["problem"] is None
    subscriber.close()


def test_other_folders_are_left_alone(disk: FaultyDisk, tmp_path: Path) -> None:
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('x')"
    disk.fails("EIO")
    outcomes = [
        subprocess.run(
            [sys.executable, "-c", code, folder / "file"], env=disk.environment(),
            stderr=subprocess.PIPE, text=True,
        )
        for folder in (tmp_path, disk.folder)
    ]  # fmt: skip
    assert [done.returncode for done in outcomes] == [0, 1]
    assert "Input/output error" in outcomes[1].stderr
