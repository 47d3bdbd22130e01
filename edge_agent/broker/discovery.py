"""Discovery: Home Assistant told of each asset, in one retained message an asset.

In: which assets there are and where they speak. Out: messages for `<prefix>/device/<id>/config`.
Never: names an entity by anything that may change (a renamed device leaves an empty one behind).

The fields are those of Home Assistant's MQTT integration (device discovery since 2024.11).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from edge_agent.broker.messages import Message

SNOOZE_MINUTES = 60
# One word in three means that somebody is there.
ONLINE = "{{ 'online' if value == 'online' else 'offline' }}"
PROBLEM = "{{ 'ON' if value_json.severity > 0 else 'OFF' }}"


class Origin(NamedTuple):
    """What all assets of a gateway share."""

    gateway: str
    base_topic: str
    prefix: str
    version: str
    score_interval_seconds: float
    health_interval_seconds: float


def discovery_topic(origin: Origin, asset: str) -> str:
    """Where an asset is announced; an empty retained message there takes it back."""
    return f"{origin.prefix}/device/otolith_{origin.gateway}_{asset}/config"


def discovery(origin: Origin, asset: str, model: str) -> Message:
    """The announcement of one asset; `model` is the name of the bundle that judges it."""
    identity, base = f"otolith_{origin.gateway}_{asset}", origin.base_topic
    payload = {
        "device": {
            "identifiers": [identity],
            "name": asset,
            "manufacturer": "Otolith",
            "model": model,
            "sw_version": origin.version,
        },
        "origin": {"name": "Otolith", "sw_version": origin.version},
        "availability": [
            {"topic": f"{base}/status", "value_template": ONLINE},
            {"topic": f"{base}/{asset}/status", "value_template": ONLINE},
        ],
        "availability_mode": "all",
        "qos": 1,
        "components": {
            key: {**entity, "unique_id": f"{identity}_{key}"}
            for key, entity in _entities(origin, asset).items()
        },
    }
    return Message(discovery_topic(origin, asset), json.dumps(payload).encode(), retain=True)


def _entities(origin: Origin, asset: str) -> dict[str, dict[str, Any]]:
    base = f"{origin.base_topic}/{asset}"
    return {**_alarm(base), **_trends(origin, base), **_buttons(origin, asset)}


def _alarm(base: str) -> dict[str, dict[str, Any]]:
    """What the asset's retained state says, and its picture."""
    return {
        "problem": {
            "platform": "binary_sensor",
            "name": "Problem",
            "device_class": "problem",
            "state_topic": f"{base}/state",
            "value_template": PROBLEM,
            "json_attributes_topic": f"{base}/state",
        },
        "severity": {
            "platform": "sensor",
            "name": "Severity",
            "icon": "mdi:alert-octagram",
            "state_topic": f"{base}/state",
            "value_template": "{{ value_json.severity }}",
        },
        "top_channel": {
            "platform": "sensor",
            "name": "Top channel",
            "icon": "mdi:axis-arrow",
            "state_topic": f"{base}/state",
            "value_template": "{{ value_json.top1_ch | default('None') }}",
        },
        "picture": {
            "platform": "image",
            "name": "Last alarm",
            "image_topic": f"{base}/picture",
            "content_type": "image/png",
        },
    }


def _trends(origin: Origin, base: str) -> dict[str, dict[str, Any]]:
    """What is unknown when it has not been heard for a while."""
    return {
        "ratio": {
            "platform": "sensor",
            "name": "Score ratio",
            "icon": "mdi:chart-bell-curve",
            "state_topic": f"{base}/score",
            "value_template": "{{ value_json.ratio }}",
            "state_class": "measurement",
            "suggested_display_precision": 2,
            "expire_after": _expiry_seconds(origin.score_interval_seconds),
        },
        "gateway_temperature": {
            "platform": "sensor",
            "name": "Gateway temperature",
            "device_class": "temperature",
            "unit_of_measurement": "°C",
            "state_class": "measurement",
            "entity_category": "diagnostic",
            "state_topic": f"{origin.base_topic}/health",
            "value_template": "{{ value_json.temp_c | default('None') }}",
            "expire_after": _expiry_seconds(origin.health_interval_seconds),
        },
    }


def _buttons(origin: Origin, asset: str) -> dict[str, dict[str, Any]]:
    return {
        "acknowledge": {
            "platform": "button",
            "name": "Acknowledge",
            "icon": "mdi:check",
            "command_topic": f"{origin.base_topic}/cmd/ack",
            "payload_press": json.dumps({"asset": asset}),
        },
        "snooze": {
            "platform": "button",
            "name": f"Snooze {SNOOZE_MINUTES} min",
            "icon": "mdi:alarm-snooze",
            "command_topic": f"{origin.base_topic}/cmd/snooze",
            "payload_press": json.dumps({"asset": asset, "minutes": SNOOZE_MINUTES}),
        },
    }


def _expiry_seconds(interval_seconds: float) -> int:
    """After three intervals of silence a value is unknown."""
    return max(60, round(3 * interval_seconds))
