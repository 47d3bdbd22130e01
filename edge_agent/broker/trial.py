"""MQTT trial: does the broker let us in? For `edge-agent doctor`.

In: the settings. Out: why not, in words. Never: uses the gateway's own client id, or a running
service would be thrown out; stays connected; publishes anything.
"""

from __future__ import annotations

import select
import time

from edge_agent.broker.session import FOREIGN_SECONDS, Identity, Protocol, Session
from edge_agent.config import MqttSettings

TRY_SECONDS = 5.0


def try_broker(settings: MqttSettings, client_id: str) -> str | None:
    """Connects once and leaves; why the broker does not accept us, None if it does."""
    protocols: tuple[Protocol, ...] = ("5", "3.1.1")
    if settings.protocol != "auto":
        protocols = (settings.protocol,)
    session = _try(settings, client_id, protocols[0], len(protocols) > 1)
    if session.foreign and len(protocols) > 1:
        session = _try(settings, client_id, protocols[1], False)
    return None if session.accepted else f"{settings.host}:{settings.port}: {session.lost}"


def _try(settings: MqttSettings, client_id: str, protocol: Protocol, another: bool) -> Session:
    """A session that is over; soon if there is another protocol to try."""
    session = Session(settings, Identity(client_id), protocol, lambda _fd: None)
    session.connect(settings.keepalive_seconds)
    end_s = time.monotonic() + (FOREIGN_SECONDS if another else TRY_SECONDS)
    while not session.answered and not session.lost and session.fileno() >= 0:
        if time.monotonic() >= end_s:
            session.foreign, session.lost = True, "something listens but does not answer"
        elif select.select([session.fileno()], [], [], 0.1)[0]:
            session.read()
    session.close()
    return session
