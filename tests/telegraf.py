"""Telegraf as far as `systemd/examples/telegraf.conf` uses it: messages to InfluxDB's lines.

Debian has no Telegraf, so its rules for the options of that file are applied here, as its
documentation and source state them. An option that isn't known here is an error: nothing in the
file goes untested.
"""

from __future__ import annotations

import json
import time
import tomllib
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.client import MQTTMessage

from edge_agent.broker.messages import Message
from tests.subscriber import Subscriber

# Go spells a time layout with one moment of 2006; this is RFC 3339.
RFC_3339 = "2006-01-02T15:04:05Z07:00"
CONNECTION = {"servers", "topics", "qos", "persistent_session", "client_id"}
NAMING = {"topic_tag", "name_override", "topic_parsing", "tagdrop"}
PARSING = {
    "data_format", "data_type", "tag_keys", "json_string_fields", "json_time_key",
    "json_time_format",
}  # fmt: skip
OUTPUT = {"urls", "database", "namepass"}


class Metric(NamedTuple):
    """One point. `ns` is Unix time in nanoseconds."""

    name: str
    tags: dict[str, str]
    fields: dict[str, float | str | bool]
    ns: int

    def line(self) -> str:
        """In InfluxDB's line protocol."""
        tags = "".join(f",{_key(k)}={_key(v)}" for k, v in sorted(self.tags.items()) if v)
        fields = ",".join(f"{_key(k)}={_value(v)}" for k, v in sorted(self.fields.items()))
        return f"{_key(self.name)}{tags} {fields} {self.ns}"


class Heard(NamedTuple):
    """A message and when it came, Unix time in nanoseconds."""

    message: Message
    ns: int


class Listener(Subscriber):
    """A subscriber that looks at the clock: what bears no time of its own has that of arrival."""

    def __init__(self, port: int, topic: str) -> None:
        self.heard: list[Heard] = []
        super().__init__(port, topic)
        self._client.on_message = self._hear

    def _hear(self, _client: object, _data: object, m: MQTTMessage) -> None:
        message = Message(m.topic, bytes(m.payload), m.qos, m.retain)
        self.heard.append(Heard(message, time.time_ns()))
        self.messages.append(message)


class Telegraf:
    """The inputs and the output of one configuration file."""

    def __init__(self, file: Path) -> None:
        document = tomllib.loads(file.read_text())
        assert set(document) == {"inputs", "outputs"}
        assert (set(document["inputs"]), set(document["outputs"])) == (
            {"mqtt_consumer"}, {"influxdb"},
        )  # fmt: skip
        self.inputs: list[dict[str, Any]] = document["inputs"]["mqtt_consumer"]
        (self.output,) = document["outputs"]["influxdb"]
        assert set(self.output) == OUTPUT
        for one in self.inputs:
            assert set(one) <= CONNECTION | NAMING | PARSING, set(one)
            _check(one)

    def lines(self, heard: list[Heard]) -> list[str]:
        """What is written of these messages, in the order of their arrival."""
        metrics = [
            m for message, ns in heard for one in self.inputs for m in _take(one, message, ns)
        ]
        wanted = self.output["namepass"]
        return [m.line() for m in metrics if any(fnmatch(m.name, glob) for glob in wanted)]


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic is of a subscription without `#`."""
    wanted, found = pattern.split("/"), topic.split("/")
    return len(wanted) == len(found) and all(
        w in ("+", f) for w, f in zip(wanted, found, strict=True)
    )


def _check(one: dict[str, Any]) -> None:
    """What Telegraf itself refuses to start with, and what would lose alerts."""
    assert one["data_format"] in ("json", "value")
    assert one.get("json_time_format", RFC_3339) == RFC_3339
    assert ("json_time_key" in one) == ("json_time_format" in one)
    assert one.get("data_type", "string") == "string"
    assert one["topic_tag"] == ""
    assert one.get("persistent_session", False) == (one["qos"] > 0) == ("client_id" in one)
    for parsing in one["topic_parsing"]:
        assert set(parsing) == {"topic", "tags"}
        assert parsing["topic"] in one["topics"]
        assert parsing["topic"].count("/") == parsing["tags"].count("/")


def _take(one: dict[str, Any], message: Message, ns: int) -> list[Metric]:
    if not message.payload or not any(matches(topic, message.topic) for topic in one["topics"]):
        return []
    metric = _parsed(one, message.payload, ns)
    for parsing in one["topic_parsing"]:
        if matches(parsing["topic"], message.topic):
            found = zip(parsing["tags"].split("/"), message.topic.split("/"), strict=True)
            metric.tags.update({tag: value for tag, value in found if tag != "_"})
    dropped = one.get("tagdrop", {})
    if any(fnmatch(metric.tags.get(tag, ""), g) for tag, globs in dropped.items() for g in globs):
        return []
    return [metric] if metric.fields else []


def _parsed(one: dict[str, Any], payload: bytes, ns: int) -> Metric:
    if one["data_format"] == "value":
        return Metric(one["name_override"], {}, {"value": payload.decode().strip()}, ns)
    found: dict[str, Any] = json.loads(payload)
    if "json_time_key" in one:
        moment = datetime.fromisoformat(found.pop(one["json_time_key"]))
        ns = round(moment.timestamp() * 1e3) * 1_000_000
    tags = {key: str(found.pop(key)) for key in one.get("tag_keys", []) if key in found}
    texts = one.get("json_string_fields", [])
    fields: dict[str, float | str | bool] = {}
    for key, value in found.items():
        if isinstance(value, str | bool):
            if key in texts:
                fields[key] = value
        elif value is not None:
            fields[key] = float(value)  # A nested value would be flattened; here it is an error.
    return Metric(one["name_override"], tags, fields, ns)


def _key(text: str) -> str:
    for special in ("\\", ",", " ", "="):
        text = text.replace(special, "\\" + special)
    return text


def _value(value: float | str | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)
