"""Refusals: topics that the broker does not take for now, and when they are tried again.

In: what the broker has refused, new messages, time. Out: which topics have to wait; when all that
is left goes again. Never: lets a message pass an older one of its topic that was refused for the
topic's sake, makes a topic wait for a message that is itself at fault.
"""

from __future__ import annotations

from math import inf

# A right may be missing: what was refused is sent again after this, or soon for a new message.
REFUSED_SECONDS = 300.0
SOON_SECONDS = 10.0


class Refusals:
    """Of one connection."""

    def __init__(self) -> None:
        self._topics: set[str] = set()
        self._due_s = inf
        self._tried_s = -inf

    def add(self, topic: str, for_now: bool, now_s: float) -> None:
        """One was refused; `for_now` says that it was for the topic's sake."""
        if for_now:
            self._topics.add(topic)
        self._due_s = min(self._due_s, now_s + REFUSED_SECONDS)

    def holds(self, topic: str) -> bool:
        """Whether something older of it waits."""
        return topic in self._topics

    def waits(self, topic: str) -> None:
        """A new message is not to go before those: they are tried again soon."""
        if self.holds(topic):
            self._due_s = min(self._due_s, self._tried_s + SOON_SECONDS)

    def due(self, now_s: float) -> bool:
        """Whether it is time to try all again."""
        return now_s >= self._due_s

    def begin(self, now_s: float) -> None:
        """All that is left goes again, from the oldest on."""
        self._topics.clear()
        self._due_s, self._tried_s = inf, now_s
