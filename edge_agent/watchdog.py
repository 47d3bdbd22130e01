"""Watchdog: tells systemd that all threads move, and people which one does not.

In: the progress of the threads, ticks of the loop. Out: pings, or none and the reason in the
journal. Never: pings from a timer of its own: a loop that hangs pings nobody.

A thread owes a sign of life every `NUDGE_SECONDS`. One that has given none for `STUCK_SECONDS`
ends the pings and is named; after `LOST_SECONDS` systemd is told not to wait any longer. A disk
that answers with an error is no stuck thread, and a new process would not mend it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edge_agent.journal import Journal
from edge_agent.notify import Notify
from edge_agent.progress import Progress

NUDGE_SECONDS = 2.0
STUCK_SECONDS = 5.0
LOST_SECONDS = 15.0


class Watched(Protocol):
    """What has a thread."""

    @property
    def progress(self) -> Progress:
        """Of that thread."""
        ...

    def nudge(self) -> None:
        """Asks it for a sign of life."""
        ...


class Watchdog:
    """Watches `threads` by name; `tick` is called by the loop, which so vouches for itself."""

    def __init__(self, notify: Notify, journal: Journal, threads: Mapping[str, Watched]) -> None:
        self._notify, self._journal, self._threads = notify, journal, threads
        self._nudge_due_s = 0.0
        self._stuck: set[str] = set()
        self._given_up = False

    def tick(self, now_s: float) -> None:
        """Ten times a second or so."""
        if now_s >= self._nudge_due_s:
            self._nudge_due_s = now_s + NUDGE_SECONDS
            for watched in self._threads.values():
                watched.nudge()
        owed = {name: each.progress.owed_seconds(now_s) for name, each in self._threads.items()}
        stuck = {name for name, seconds in owed.items() if seconds > STUCK_SECONDS}
        self._say(stuck)
        if not stuck:
            self._notify.alive(now_s)
        elif max(owed.values()) > LOST_SECONDS and not self._given_up:
            self._given_up = True
            self._notify.stuck()

    def _say(self, stuck: set[str]) -> None:
        for name in sorted(stuck - self._stuck):
            told = f"the thread {name} has not moved for {STUCK_SECONDS:g} s"
            restart = ": the watchdog will restart the agent" if self._notify.watched else ""
            self._journal.error(told + restart)
        for name in sorted(self._stuck - stuck):
            self._journal.warning(f"the thread {name} moves again")
        self._stuck = stuck
