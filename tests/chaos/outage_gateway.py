"""A gateway in an outage: `python -m tests.chaos.outage_gateway STATE_FOLDER PORT EVENTS HOURS`.

Lives through so many hours without a broker in as little time as its disk allows, then waits for a
line on standard input, and drains while new alerts of another asset come in.

In: nothing else. Out: a JSON line after the outage, one when all is gone. Never: hurries the disk:
each hundredth event waits for it, as all of them would at their true pace.
"""

from __future__ import annotations

import json
import sys
import time
from io import StringIO
from pathlib import Path

import psutil

from edge_agent.boards.ports import Ports
from edge_agent.broker.clock import Clock
from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.publisher import Identity, Publisher
from edge_agent.broker.store import Limits
from edge_agent.config import MqttSettings, StorageSettings
from edge_agent.journal import Journal
from tests.chaos.publishing import alert

ASSETS = ("pump", "fan", "press", "mill")
LIVE = "live"
PADDING = 700  # 800 bytes in all
AT_ONCE = 100
WARM_SHARE = 0.1
LIVE_SECONDS = 0.5
HURRY, POLL_SECONDS = 20, 0.02
MEGABYTE = 1e6
BEGAN_UNIX_S = 1.8e9


class Gateway:
    """Outbox and publisher as the service opens them; `now_s` is the clock that they live by."""

    def __init__(self, folder: Path, port: int) -> None:
        storage = StorageSettings()
        limits = Limits(storage.outbox_limit_bytes, storage.outbox_limit_rows)
        self.ports, self.now_s = Ports({}), 0.0
        clock = Clock(wall=lambda: BEGAN_UNIX_S + self.now_s, monotonic=lambda: self.now_s)
        self.outbox = Outbox(folder, limits, clock)
        self.publisher = Publisher(
            MqttSettings(port=port), Identity("outage", Message("gw/status", b"offline")),
            self.outbox, self.ports, Journal(StringIO()), list,
        )  # fmt: skip

    def tick(self) -> None:
        """Ten times a second or so, by its own clock."""
        self.publisher.tick(self.now_s)
        self.outbox.tick(self.now_s)

    def outage(self, events: int, hours: float) -> dict[str, float]:
        """Nobody is there; all that comes is kept. How memory grew behind the first tenth."""
        step_seconds = hours * 3600.0 / events
        rss: list[float] = []
        for n in range(1, events + 1):
            self.now_s += step_seconds
            self.publisher.offer(alert(n, ASSETS[n % len(ASSETS)], PADDING))
            self.tick()
            if n % AT_ONCE == 0:
                self.outbox.flush()
                if n >= WARM_SHARE * events:
                    rss.append(psutil.Process().memory_info().rss / MEGABYTE)
        return {
            "rss_growth_mb": max(rss) - rss[0], "rss_mb": rss[-1],
            "dropped_alerts": self.outbox.dropped_alerts, "waiting": self.outbox.depth(),
        }  # fmt: skip

    def drain(self) -> dict[str, float]:
        """Until nothing waits. Twice a second the other asset has an alert."""
        while not self.publisher.connected:  # the wait for the next try need not be a true minute
            self.now_s += HURRY * POLL_SECONDS
            self.tick()
            self.ports.poll(POLL_SECONDS)
        number, due_s, offset_s = 0, 0.0, self.now_s - time.monotonic()
        rss: list[float] = [psutil.Process().memory_info().rss / MEGABYTE]
        while self.outbox.depth():
            real_s = time.monotonic()
            self.now_s = real_s + offset_s
            if real_s >= due_s:
                due_s, number = real_s + LIVE_SECONDS, number + 1
                self.publisher.offer(_live(number, real_s))
                rss.append(psutil.Process().memory_info().rss / MEGABYTE)
            self.tick()
            self.ports.poll(POLL_SECONDS)
        return {
            "live": number, "dropped_alerts": self.outbox.dropped_alerts,
            "drain_rss_growth_mb": max(rss) - rss[0],
        }  # fmt: skip


def _live(number: int, now_s: float) -> Message:
    """An alert that knows when it was offered."""
    event = json.loads(alert(number, LIVE).payload) | {"offered_s": now_s}
    payload = json.dumps(event, separators=(",", ":")).encode()
    return alert(number, LIVE)._replace(payload=payload)


def _say(told: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Both parts."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    gateway = Gateway(folder, port)
    _say(gateway.outage(int(sys.argv[3]), float(sys.argv[4])))
    sys.stdin.readline()
    _say(gateway.drain())
    gateway.publisher.close()
    gateway.ports.shut()
    gateway.outbox.close()


if __name__ == "__main__":
    main()
