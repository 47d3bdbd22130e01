"""Flaky: a line to the broker that is cut, slow, or swallows everything, and then is well again.

In: `BadNetwork` between a publisher and Mosquitto. Out: a row a trouble; all at the same time, as
most of it is waiting. Never: takes the publisher's own word for being back: an alert must arrive.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge_agent.config import MqttSettings
from edge_agent.demo.bad_network import BadNetwork, Trouble
from tests.chaos import rig
from tests.chaos.ledger import Ledger
from tests.chaos.publishing import PADDING, alert
from tests.chaos.rig import Listener, Setting
from tests.chaos.row import Row
from tests.publishers import Agent

# By the end of it the waits between tries are as long as they get.
LONG_SECONDS = 75.0
# Nobody is told of a connection that died in a moment like this: only silence tells.
MOMENT_SECONDS = 3.0
LONG: dict[Trouble, tuple[float, ...]] = {
    "cut": (LONG_SECONDS,), "swallow": (LONG_SECONDS, MOMENT_SECONDS), "trickle": (LONG_SECONDS,),
    "delay": (LONG_SECONDS,), "refuse": (LONG_SECONDS,),
}  # fmt: skip
SHORT: dict[Trouble, tuple[float, ...]] = {
    "swallow": (MOMENT_SECONDS,),
    "trickle": (MOMENT_SECONDS,),
}
SHORT_KEEPALIVE_SECONDS = 5
WELL_SECONDS = 2.0
BACK_SECONDS = 60.0
ALERT_SECONDS = 0.2


class Life:
    """A publisher with something to say five times a second."""

    def __init__(self, folder: Path, port: int, keepalive_seconds: int) -> None:
        self.agent = Agent(folder, MqttSettings(port=port, keepalive_seconds=keepalive_seconds))
        self.ledger = Ledger()
        self._due_s = 0.0

    def live(self, seconds: float, heard: Listener | None = None) -> float:
        """Goes on for so long, or until `heard` has got an alert of this time; how long it took."""
        began_s = now_s = time.monotonic()
        before = len(self.ledger.expected)
        while now_s < began_s + seconds and not (heard and self._newer_than(before, heard)):
            if now_s >= self._due_s:
                self._due_s = now_s + ALERT_SECONDS
                self._offer()
            self.agent.step()
            now_s = time.monotonic()
        return now_s - began_s

    def drain(self, heard: Listener) -> None:
        """Says nothing new until all has arrived, or a minute has passed."""
        deadline_s = time.monotonic() + rig.WAIT_SECONDS
        while self.ledger.judge(heard.events()).lost and time.monotonic() < deadline_s:
            self.agent.step()

    def _offer(self) -> None:
        message = alert(len(self.ledger.expected) + 1, padding=PADDING)
        self.agent.publisher.offer(message)
        self.ledger.expect([json.loads(message.payload)])

    def _newer_than(self, number: int, heard: Listener) -> bool:
        last = heard.heard[-1] if heard.heard else None
        return bool(last and last.payload[:1] == b"{" and json.loads(last.payload)["n"] > number)


def trouble(setting: Setting) -> list[Row]:
    """All five with the defaults, or two with a short keepalive."""
    lines = LONG if setting.long else SHORT
    plans = [(name, seconds) for name, several in lines.items() for seconds in several]
    with ThreadPoolExecutor(len(plans)) as pool:
        return list(pool.map(lambda plan: _suffer(plan[0], plan[1], setting), plans))


def _suffer(name: Trouble, bad_seconds: float, setting: Setting) -> Row:
    began_s, folder = time.monotonic(), setting.folder / f"{name}-{bad_seconds:.0f}"
    folder.mkdir()
    default = MqttSettings().keepalive_seconds
    with (
        rig.broker(folder) as broker,
        rig.listener(broker.port, "gw/#") as heard,
        BadNetwork(broker.port) as network,
    ):
        life = Life(
            folder / "state", network.port, setting.either(default, SHORT_KEEPALIVE_SECONDS)
        )
        life.live(WELL_SECONDS)
        network.trouble = name
        life.live(bad_seconds)
        setting.say(f"{name}: the line is well again")
        network.trouble = "good"
        back_seconds = life.live(2 * BACK_SECONDS, heard)
        life.drain(heard)
        verdict = life.ledger.judge(heard.events())
        connections = life.agent.publisher.connections
        life.agent.close()
    late = (f"back after {back_seconds:.0f} s",) if back_seconds > BACK_SECONDS else ()
    return Row(
        f"line: {name} for {bad_seconds:.0f} s", 1, len(life.ledger.expected), len(verdict.lost),
        verdict.doubled, late, {"back after s": back_seconds, "connections": connections},
        f"goal: at most {BACK_SECONDS:.0f} s after the line", time.monotonic() - began_s,
    )  # fmt: skip
