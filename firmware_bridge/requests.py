"""Requests: what the host has asked, and whether a reply answers it.

In: a request when it is sent, replies as they come. Out: yes or no.
Never: sends, waits, looks at what an answer says.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias, TypeGuard

from firmware_bridge.frames import (
    Frame,
    Identify,
    IdentifyRequest,
    Request,
    Started,
    StartRequest,
    Stats,
    StatsRequest,
    Stopped,
    StopRequest,
    Time,
    TimeRequest,
)

Answer: TypeAlias = Identify | Time | Started | Stopped | Stats

_ANSWER: dict[type, type] = {
    IdentifyRequest: Identify,
    TimeRequest: Time,
    StartRequest: Started,
    StopRequest: Stopped,
    StatsRequest: Stats,
}


class Pending(NamedTuple):
    """A request that waits for its answer; `tries` counts from 1."""

    request: Request
    sent_s: float
    tries: int

    @property
    def name(self) -> str:
        """As PROTOCOL.md calls it."""
        return type(self.request).__name__.removesuffix("Request").upper()

    def is_answered_by(self, reply: Frame) -> TypeGuard[Answer]:
        """Whether this is the reply to the last try."""
        if type(reply) is not _ANSWER[type(self.request)] or reply.seq != self.request.seq:
            return False
        if isinstance(reply, Time) and isinstance(self.request, TimeRequest):
            # The late reply to an earlier try would make the round trip a lie.
            return reply.token == self.request.token
        return True
