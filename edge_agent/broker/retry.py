"""MQTT retry: when the broker is tried again, and in which version of MQTT.

In: how sessions began and ended, and time. Out: the next try. Never: waits between the two
versions, hurries otherwise: a thousand gateways must not come back in the same second.
"""

from __future__ import annotations

import random

from edge_agent.broker.session import FOREIGN_SECONDS, GREETING_SECONDS, Protocol, Session
from edge_agent.config import MqttSettings

FIRST_WAIT_SECONDS = 1.0
# With its jitter under a minute: so long after the link is back, so are we.
MAX_WAIT_SECONDS = 48.0
# Two with one client id that come back at once throw each other out for ever.
TAKEN_OVER_WAIT_SECONDS = 30.0
# A connection that lasted so long was one: what ends it later is another trouble, and a short wait.
# Two clients with one id throw each other out sooner than that.
STEADY_SECONDS = 3.0
JITTER = 0.2


class Retry:
    """`protocol` is the version that is spoken, or tried next, not before `due_s`. `thrown_out`:
    another client with our id may be there.

    With `protocol = "auto"` 5 is tried first. A broker that refuses it, closes without a word or
    says nothing for `FOREIGN_SECONDS` is tried with 3.1.1 at once; if that is accepted, it stays
    so for this run.
    """

    def __init__(self, settings: MqttSettings) -> None:
        self.protocol: Protocol = "3.1.1" if settings.protocol == "3.1.1" else "5"
        self.due_s = 0.0
        self.thrown_out = False
        self._short = 0
        self._settled = settings.protocol != "auto"
        self._wait_seconds = FIRST_WAIT_SECONDS

    def patience_seconds(self) -> float:
        """How long the broker may take to answer."""
        undecided = not self._settled and self.protocol == "5"
        return FOREIGN_SECONDS if undecided else GREETING_SECONDS

    def succeeded(self, session: Session) -> None:
        """The broker has accepted."""
        self._settled = self._settled or session.protocol == "3.1.1"

    def failed(self, session: Session, now_s: float) -> bool:
        """The session is over; whether the other protocol is worth a try at once."""
        if not self._settled and not session.accepted:
            older = session.protocol == "5" and session.foreign
            self.protocol = "3.1.1" if older else "5"
            if older:
                return True
        short = session.accepted and now_s - session.since_s < STEADY_SECONDS
        self._short = self._short + 1 if short else 0
        # Once may be a broker that is being restarted.
        self.thrown_out = session.taken_over or self._short > 1
        if session.taken_over:
            self._wait_seconds = max(self._wait_seconds, TAKEN_OVER_WAIT_SECONDS)
        elif session.accepted and now_s - session.since_s >= STEADY_SECONDS:
            self._wait_seconds = FIRST_WAIT_SECONDS
        self.due_s = now_s + self._wait_seconds * random.uniform(1.0 - JITTER, 1.0 + JITTER)
        self._wait_seconds = min(2.0 * self._wait_seconds, MAX_WAIT_SECONDS)
        return False
