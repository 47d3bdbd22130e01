"""Home Assistant's announcements, held against the fields that its MQTT integration takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent.broker.announcements import Announcements
from edge_agent.broker.discovery import Origin, discovery, discovery_topic
from edge_agent.broker.messages import Message, Messages, Run
from edge_agent.config import load_config
from tests.test_service import PUMP, configure

GATEWAY = Origin("hall-1", "otolith/hall-1", "homeassistant", "1.2.3", 1.0, 60.0)

# Read in home-assistant/core, components/mqtt: schemas.py (device, origin, availability, device
# discovery), entity.py (what every entity takes), and one file a platform.
DEVICE = {
    "identifiers", "connections", "manufacturer", "model", "model_id", "name", "hw_version",
    "serial_number", "sw_version", "via_device", "suggested_area", "configuration_url",
}  # fmt: skip
ORIGIN = {"name", "sw_version", "support_url"}
AVAILABILITY = {"topic", "payload_available", "payload_not_available", "value_template"}
TOP = {
    "device", "components", "origin", "state_topic", "command_topic", "qos", "encoding",
    "availability", "availability_mode", "availability_topic", "availability_template",
    "payload_available", "payload_not_available",
}  # fmt: skip
COMMON = {
    "platform", "unique_id", "name", "icon", "entity_category", "enabled_by_default", "encoding",
    "qos", "json_attributes_topic", "json_attributes_template", "entity_picture",
}  # fmt: skip
PLATFORMS = {
    "binary_sensor": {
        "state_topic", "value_template", "device_class", "expire_after", "force_update",
        "off_delay", "payload_on", "payload_off",
    },
    "sensor": {
        "state_topic", "value_template", "device_class", "expire_after", "force_update",
        "state_class", "unit_of_measurement", "suggested_display_precision", "options",
        "last_reset_value_template",
    },
    "button": {"command_topic", "command_template", "payload_press", "retain", "device_class"},
    "image": {"image_topic", "image_encoding", "content_type", "url_topic", "url_template"},
}  # fmt: skip
NEEDED = {
    "binary_sensor": "state_topic", "sensor": "state_topic", "button": "command_topic",
    "image": "image_topic",
}  # fmt: skip


@pytest.fixture
def payload() -> dict[str, Any]:
    message = discovery(GATEWAY, "pump", "pump-bundle")
    assert message.retain
    assert message.qos == 1
    document: dict[str, Any] = json.loads(message.payload)
    return document


def test_every_field_is_one_that_the_integration_takes(payload: dict[str, Any]) -> None:
    assert set(payload) <= TOP
    assert set(payload["device"]) <= DEVICE
    assert payload["device"]["identifiers"]
    assert set(payload["origin"]) <= ORIGIN
    assert payload["origin"]["name"]
    assert payload["availability_mode"] in {"all", "any", "latest"}
    assert all(set(one) <= AVAILABILITY and one["topic"] for one in payload["availability"])
    for entity in payload["components"].values():
        platform = entity["platform"]
        assert set(entity) <= COMMON | PLATFORMS[platform]
        assert NEEDED[platform] in entity
        assert entity["unique_id"]


def test_all_that_an_operator_needs_is_there(payload: dict[str, Any]) -> None:
    assert set(payload["components"]) == {
        "problem", "ratio", "severity", "top_channel", "gateway_temperature", "picture",
        "acknowledge", "snooze",
    }  # fmt: skip
    unique = [entity["unique_id"] for entity in payload["components"].values()]
    assert len(set(unique)) == len(unique)


def test_buttons_press_what_the_gateway_understands(payload: dict[str, Any]) -> None:
    parts = payload["components"]
    assert json.loads(parts["acknowledge"]["payload_press"]) == {"asset": "pump"}
    assert json.loads(parts["snooze"]["payload_press"]) == {"asset": "pump", "minutes": 60}
    assert parts["acknowledge"]["command_topic"] == "otolith/hall-1/cmd/ack"


def test_what_expires_is_never_retained(payload: dict[str, Any]) -> None:
    """A retained value would come back to life with each restart of Home Assistant."""
    expiring = [e["state_topic"] for e in payload["components"].values() if "expire_after" in e]
    assert expiring == ["otolith/hall-1/pump/score", "otolith/hall-1/health"]


def test_two_assets_never_share_a_topic() -> None:
    assert discovery_topic(GATEWAY, "a") != discovery_topic(GATEWAY, "b")
    assert discovery_topic(GATEWAY, "pump") == "homeassistant/device/otolith_hall-1_pump/config"


def test_the_compass_of_a_board_that_is_no_more_is_taken_back(tmp_path: Path) -> None:
    config = load_config(configure(tmp_path, 1883, PUMP))
    messages = Messages(config.base_topic, Run("test", "run", "boot", "store"))
    nothing, note = Announcements(config, "1", (), messages).gone(b"")
    assert nothing == []
    fewer = config.model_copy(update={"boards": {}})
    (taken,), _ = Announcements(fewer, "1", (), messages).gone(note.value)
    topic = "otolith/test/board/b/compass"
    assert taken == Message(topic, b"", retain=True, key=f"gone/{topic}")
