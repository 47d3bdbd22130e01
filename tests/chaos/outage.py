"""Outage: three days without a broker, 100,000 alerts, and then all of it at once.

In: a gateway in a process of its own, on a simulated clock. Out: a row. Never: starts the broker
before the outage is over, or lets a full queue of Mosquitto's drop what was acknowledged.
"""

from __future__ import annotations

import json
import subprocess
import time
from math import inf

from tests.chaos import rig
from tests.chaos.ledger import Event, Ledger
from tests.chaos.outage_gateway import ASSETS, LIVE, PADDING
from tests.chaos.publisher_kills import disorder
from tests.chaos.publishing import alert
from tests.chaos.rig import Heard, Listener, Setting
from tests.chaos.row import Row

EVENTS, HOURS = 100_000, 72
SHORT_EVENTS, SHORT_HOURS = 2_000, 1
RSS_MB = 5.0
DRAIN_PER_SECOND = 500.0
LIVE_SECONDS = 1.0


def trouble(setting: Setting) -> list[Row]:
    """100,000 events in 72 hours; or 2,000 in one."""
    events, began_s = setting.either(EVENTS, SHORT_EVENTS), time.monotonic()
    hours = setting.either(HOURS, SHORT_HOURS)
    with rig.broker(setting.folder) as broker, rig.listener(broker.port, "gw/+/event") as heard:
        broker.kill()
        child = rig.python(
            "-m", "tests.chaos.outage_gateway", setting.folder / "state", broker.port, events,
            hours, stdout=subprocess.PIPE, stdin=subprocess.PIPE,
        )  # fmt: skip
        try:
            setting.say(f"{events:,} alerts, no broker")
            after_outage = _part(child)
            broker.start()
            heard.ready()
            _go_on(child)
            setting.say("draining")
            after_drain = _part(child)
            rig.within(lambda: len(heard.heard) >= events + after_drain["live"])
        finally:
            rig.end(child)
    name = f"broker away for {hours} h"
    return [_judged(name, events, heard, {**after_outage, **after_drain}, began_s)]


def _judged(name: str, events: int, heard: Listener, told: dict[str, float], began_s: float) -> Row:
    ledger, arrived = Ledger(), heard.events()
    ledger.expect(
        json.loads(alert(n, ASSETS[n % len(ASSETS)], PADDING).payload)
        for n in range(1, events + 1)
    )  # fmt: skip
    ledger.expect(_live_ones(arrived, int(told["live"])))
    verdict, late_seconds, per_second = ledger.judge(arrived), _late(heard), _pace(heard)
    figures = {
        "RSS grew by MB": told["rss_growth_mb"], "and in the drain": told["drain_rss_growth_mb"],
        "RSS MB": told["rss_mb"],
        "drained a second": per_second, "live alerts": told["live"],
        "slowest live alert s": late_seconds,
    }  # fmt: skip
    goals = {
        f"RSS flat to {RSS_MB:g} MB": told["rss_growth_mb"] <= RSS_MB,
        f"RSS flat to {RSS_MB:g} MB in the drain": told["drain_rss_growth_mb"] <= RSS_MB,
        f"{DRAIN_PER_SECOND:g} a second": per_second >= DRAIN_PER_SECOND,
        f"live alerts within {LIVE_SECONDS:g} s": late_seconds <= LIVE_SECONDS,
        "no alert dropped": told["dropped_alerts"] == 0,
    }  # fmt: skip
    broken = [goal for goal, met in goals.items() if not met]
    return Row(
        name, 1,
        len(ledger.expected), len(verdict.lost), verdict.doubled, (*broken, *disorder(heard)),
        figures, "a simulated clock; the drain is in real time", time.monotonic() - began_s,
    )  # fmt: skip


def _live_ones(arrived: list[Event], count: int) -> list[Event]:
    """Of those that came during the drain, as they came, and bare ones for what did not."""
    came = {event["n"]: event for event in arrived if event["asset"] == LIVE}
    return [came.get(n) or json.loads(alert(n, LIVE).payload) for n in range(1, count + 1)]


def _late(heard: Listener) -> float:
    """The slowest of the live ones, from being offered to being heard."""
    waits = [h.at_s - json.loads(h.payload)["offered_s"] for h in heard.heard if _is_live(h)]
    return max(waits, default=inf)


def _pace(heard: Listener) -> float:
    """Stored alerts a second, from the first to the last that came."""
    times = [h.at_s for h in heard.heard if not _is_live(h)]
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0


def _is_live(message: Heard) -> bool:
    return message.topic == f"gw/{LIVE}/event"


def _part(child: subprocess.Popen[str]) -> dict[str, float]:
    """What the gateway says at the end of a part."""
    assert child.stdout
    line = child.stdout.readline()
    if not line:
        raise RuntimeError("the gateway has ended by itself")
    said: dict[str, float] = json.loads(line)
    return said


def _go_on(child: subprocess.Popen[str]) -> None:
    assert child.stdin
    child.stdin.write("\n")
    child.stdin.flush()
