"""Contract: every topic, who speaks on it, and the JSON Schema of what is said.

In: the types that the code itself uses. Out: JSON Schemas and one AsyncAPI 3 document, as they lie
in `schemas/`. Never: a field that the code doesn't have; tests hold a live broker's messages and
the files against what this module makes.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from edge_agent.alarms.remote_requests import COMMANDS, Answer
from edge_agent.boards.board_health import BoardHealth
from edge_agent.broker.messages import PLAIN, PNG
from edge_agent.broker.payloads import (
    AssetStatus,
    Compass,
    DriftEvent,
    Event,
    GapEvent,
    GatewayStatus,
    ScorePoint,
    State,
)
from edge_agent.health import Health, Info
from edge_agent.picture.explanation import Explanation

JSON = "application/json"
BASE = "otolith/{gateway}"
DRAFT = "https://json-schema.org/draft/2020-12/schema"


class Channel(NamedTuple):
    """One topic below the base. `type` is None where the payload is no text."""

    name: str
    topic: str
    type: Any
    what: str
    qos: int = 1
    retained: bool = False
    content_type: str = JSON
    direction: Literal["send", "receive"] = "send"


SENT = (
    Channel("status", "status", GatewayStatus, "whether the gateway is there; its last will",
            retained=True, content_type=PLAIN),
    Channel("info", "info", Info, "what runs there", retained=True),
    Channel("health", "health", Health, "how the gateway is, as flat numbers", qos=0),
    Channel("board", "board/{board}", BoardHealth, "how a board is, as flat numbers", qos=0),
    Channel("compass", "board/{board}/compass", Compass, "whether its compass can be believed",
            retained=True),
    Channel("asset_status", "{asset}/status", AssetStatus, "whether an asset is being judged",
            retained=True, content_type=PLAIN),
    Channel("state", "{asset}/state", State, "how an asset is", retained=True),
    Channel("event", "{asset}/event", Event | GapEvent | DriftEvent,
            "what happened to it; arrives at least once, `replayed` when late"),
    Channel("score", "{asset}/score", ScorePoint, "a point of its trend", qos=0),
    Channel("explain", "{asset}/explain", Explanation, "where the model was surprised"),
    Channel("picture", "{asset}/picture", None, "the same to look at: the last alarm's heat map",
            retained=True, content_type=PNG),
    Channel("cmd_result", "cmd_result/{command}", Answer, "what came of a command"),
)  # fmt: skip


def channels() -> tuple[Channel, ...]:
    """All of them, commands last."""
    received = (
        Channel(f"cmd_{name}", f"cmd/{name}", model, (model.__doc__ or "").split("\n")[0],
                direction="receive")
        for name, model in COMMANDS.items()
    )  # fmt: skip
    return (*SENT, *received)


def json_schema(channel: Channel) -> dict[str, Any]:
    """The schema of one channel's payload."""
    schema = {"$schema": DRAFT, "title": channel.name, "description": channel.what}
    return schema | TypeAdapter(channel.type).json_schema()


def asyncapi() -> dict[str, Any]:
    """The whole as an AsyncAPI 3.0 document; payloads refer to the schema files beside it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Otolith gateway",
            "version": version("otolith"),
            "description": "Alerts, states and trends of machines, and commands to the gateway.",
        },
        "defaultContentType": JSON,
        "channels": {one.name: _channel(one) for one in channels()},
        "operations": {one.name: _operation(one) for one in channels()},
    }


def documents() -> dict[str, str]:
    """File name -> text of everything in `schemas/`."""
    found: dict[str, Any] = {
        f"{one.name}.json": json_schema(one) for one in channels() if one.type is not None
    }
    found["asyncapi.json"] = asyncapi()
    return {name: json.dumps(value, indent=1) + "\n" for name, value in found.items()}


def _channel(channel: Channel) -> dict[str, Any]:
    address = f"{BASE}/{channel.topic}"
    names = [part[1:-1] for part in address.split("/") if part.startswith("{")]
    message: dict[str, Any] = {"name": channel.name, "contentType": channel.content_type}
    if channel.type is not None:
        message["payload"] = {"$ref": f"./{channel.name}.json"}
    return {
        "address": address,
        "description": channel.what,
        "parameters": {name: {"description": f"the {name}'s name"} for name in names},
        "messages": {channel.name: message},
    }


def _operation(channel: Channel) -> dict[str, Any]:
    return {
        "action": channel.direction,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "bindings": {"mqtt": {"qos": channel.qos, "retain": channel.retained}},
    }
