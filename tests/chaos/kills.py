"""Kills: `kill -9` of the real agent, of the broker, or of both, at moments nobody has chosen.

In: two simulated boards whose faults begin and end all the time. Out: a row. Never: lets a moment
be a comfortable one: a part of the kills falls into starting, a part on the heels of an alert.

After each kill of the agent its outbox is read: what lies there has to arrive. So has the end of
each episode that was told, and word of each fault that lasted while the agent was judging.
"""

from __future__ import annotations

import random
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from edge_agent.demo.boards import SimulatedBoard
from tests.chaos import rig
from tests.chaos.ledger import Event, Ledger, key
from tests.chaos.plant import (
    ASSETS,
    BASE,
    boards,
    configure,
    faults,
    judging_since,
    untold,
)
from tests.chaos.rig import Listener, Setting
from tests.chaos.row import Row
from tests.conftest import Mosquitto

START_SECONDS = 1.2
JUDGING_SECONDS = 2.5
HEELS_SECONDS = 0.005
NOTE = (
    "the broker keeps what it has acknowledged (persistence, autosave_on_changes): what it forgets "
    "is no loss of the gateway"
)


class Victims:
    """Agent and broker. `up` are the times in which an agent was judging, `killed` who was."""

    def __init__(self, setting: Setting, config: Path, broker: Mosquitto, heard: Listener) -> None:
        self.ledger, self.up = Ledger(), list[tuple[float, float]]()
        self.killed = {"agent": 0, "broker": 0}
        self._folder, self._config, self._broker = setting.folder, config, broker
        self._heard, self._random = heard, random.Random(f"kills {setting.seed}")
        self._log = config.with_suffix(".log").open("w")
        self.start()

    def start(self) -> None:
        """Another agent."""
        self._heard_before = len(self._heard.heard)
        self._agent: subprocess.Popen[str] = rig.python(
            "-m", "edge_agent", "run", "--config", self._config, stderr=self._log
        )

    def kill(self) -> None:
        """At some moment, one of them or both; both are there again when it returns."""
        self._wait()
        whom = self._random.choices(("agent", "broker", "both"), (6, 2, 2))[0]
        if self._agent.poll() is not None:
            raise RuntimeError(f"the agent has ended by itself: {self._log.name}")
        if whom != "broker":
            self._agent.kill()
            self._agent.wait()
            self._look()
        if whom != "agent":
            self._broker.restart()
        if whom != "broker":
            time.sleep(self._random.choice((0.0, 0.0, 0.5)))
            self.start()
        for name in self.killed:
            self.killed[name] += whom in (name, "both")

    def settle(self) -> None:
        """Lives on until all has arrived, and what lasts now is over."""
        before = len(self._heard.heard)
        rig.within(lambda: self._settled(before), pause_seconds=0.2)

    def close(self) -> None:
        """The last one."""
        rig.end(self._agent)
        self._look(killed=False)
        self._log.close()

    def _settled(self, before: int) -> bool:
        ended = {event["asset"] for event in self._heard.events(before) if event["kind"] == "end"}
        if len(ended) < len(ASSETS):
            return False
        verdict = self.ledger.judge(self._heard.events())
        return not (verdict.lost or verdict.broken)

    def _wait(self) -> None:
        kind = self._random.choices(("starting", "judging", "heels"), (3, 4, 3))[0]
        if kind == "starting":
            time.sleep(self._random.uniform(0.0, START_SECONDS))
            return
        rig.until(self._first_score, "a score")
        if kind == "judging":
            time.sleep(self._random.uniform(0.0, JUDGING_SECONDS))
        else:
            before = len(self._heard.heard)
            rig.until(lambda: self._heard.events(before), "an alert", pause_seconds=0.001)
            time.sleep(self._random.uniform(0.0, HEELS_SECONDS))

    def _look(self, killed: bool = True) -> None:
        """What the dead one has left, and when it was judging."""
        first_s = self._first_score()
        if first_s:
            self.up.append((first_s, time.monotonic()))
        if killed:
            self.ledger.expect(rig.stored_alerts(self._folder / "state"))

    def _first_score(self) -> float:
        """When the agent of now was first heard to judge all assets, 0 before."""
        return judging_since(self._heard.heard[self._heard_before :])


def trouble(setting: Setting) -> list[Row]:
    """200 kills, or 4."""
    kills, began_s = setting.either(200, 4), time.monotonic()
    with ExitStack() as stack:
        plant = stack.enter_context(boards(setting.folder))
        broker = stack.enter_context(rig.broker(setting.folder, rig.LASTING))
        heard = stack.enter_context(rig.listener(broker.port, f"{BASE}/#"))
        victims = Victims(setting, configure(setting.folder, broker.port), broker, heard)
        stack.callback(victims.close)
        for number in range(kills):
            victims.kill()
            setting.say(f"{number + 1} of {kills} kills, {len(heard.events())} alerts")
        victims.settle()
    return [_judged(kills, victims, heard.events(), plant, began_s)]


def _judged(
    kills: int, victims: Victims, events: list[Event], plant: list[SimulatedBoard], began_s: float
) -> Row:
    verdict, expected = victims.ledger.judge(events), victims.ledger.expected
    hushed = untold(plant, victims.up, verdict.unique)  # as whoever throws copies away hears it
    return Row(
        "kill -9 of agent and broker", kills, len({key(event) for event in events} | {*expected}),
        len(verdict.lost), verdict.doubled,
        (*verdict.broken, *hushed),
        {
            "kills of the agent": victims.killed["agent"],
            "kills of the broker": victims.killed["broker"],
            "stored when killed": len(expected), "faults": len(faults(plant)),
            "told anew": verdict.told_anew,
        },
        NOTE, time.monotonic() - began_s,
    )  # fmt: skip
