"""Announcements: which assets there are, to those who keep a list of them.

In: the configuration, the assets of earlier runs. Out: Home Assistant's discovery messages, and
empty ones for what is no more. Never: leaves behind what it has announced.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from edge_agent.assets import Asset
from edge_agent.broker.discovery import Origin, discovery, discovery_topic
from edge_agent.broker.incoming import Incoming
from edge_agent.broker.messages import Message, Messages
from edge_agent.broker.store import Note
from edge_agent.config import Config

KEY = "announced"
MAX_REMEMBERED = 1000


class Announcements:
    """Of one gateway. `topics`: where Home Assistant says that it has begun anew."""

    def __init__(
        self, config: Config, version: str, assets: Iterable[Asset], messages: Messages
    ) -> None:
        settings = config.home_assistant
        self._discovers, self._prefix = settings.discovery, settings.prefix
        self._assets, self._messages = tuple(assets), messages
        # A board's name has no slash, nor has an asset's.
        self._compasses = {f"board/{name}": messages.compass_topic(name) for name in config.boards}
        self._origin = Origin(
            config.gateway.id, config.base_topic, settings.prefix, version,
            config.mqtt.score_interval_seconds, config.health.interval_seconds,
        )  # fmt: skip
        self.topics = (f"{self._prefix}/status",) if self._discovers else ()

    def current(self) -> list[Message]:
        """One for each asset, if Home Assistant is to know of it."""
        if not self._discovers:
            return []
        return [
            discovery(self._origin, asset.name, asset.bundle.name if asset.bundle else "no bundle")
            for asset in self._assets
        ]

    def begun_anew(self, incoming: Incoming) -> bool:
        """Whether Home Assistant has just been started and knows nothing."""
        return incoming.topic in self.topics and incoming.payload == b"online"

    def gone(self, stored: bytes) -> tuple[list[Message], Note]:
        """What takes back the assets and boards of earlier runs that are no more, and what to
        remember: for each asset its discovery topic, empty if it had none, for each board that of
        its compass. `stored` is what was remembered."""
        before = _read(stored)
        now = {
            asset.name: discovery_topic(self._origin, asset.name) if self._discovers else ""
            for asset in self._assets
        } | self._compasses
        messages: list[Message] = []
        for name, topic in before.items():
            if topic and now.get(name) != topic:
                messages.append(Message(topic, b"", retain=True, key=f"gone/{topic}"))
            if name not in now and "/" not in name:
                messages += self._messages.forgotten(name)
        return messages, Note(KEY, json.dumps(now).encode())


def _read(stored: bytes) -> dict[str, str]:
    """What makes no sense was never announced."""
    try:
        document = json.loads(stored or b"{}")
    except ValueError:
        return {}
    items = document.items() if isinstance(document, dict) else ()
    return {k: v for k, v in list(items)[:MAX_REMEMBERED] if isinstance(v, str)}
