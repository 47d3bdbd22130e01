"""Effective: every value of a configuration, defaults too, and where it comes from.

In: a loaded configuration. Out: rows, and TOML lines that are a configuration again which means
the same. Never: shows the password, nor a key that could be one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from edge_agent.bundles.manifest import AlarmSpec
from edge_agent.config.keys import node_at
from edge_agent.config.origins import Origin
from edge_agent.config.password import password_source
from edge_agent.config.reading import Loaded
from edge_agent.config.settings import MqttSettings
from edge_agent.config.toml_lines import KeyPath

SOURCE_COLUMN = 48
PASSWORD = ("mqtt", "password")


class Row(NamedTuple):
    """One key. `value` as JSON has it, None if it isn't set; then `meaning` may say more."""

    path: KeyPath
    value: Any
    origin: Origin
    meaning: str = ""


def rows(loaded: Loaded) -> list[Row]:
    """All keys, section by section; last of the broker's where its password comes from."""
    found: list[Row] = []
    for path, value in _values(loaded.config, ()):
        if path[:1] != ("mqtt",) and found and found[-1].path[:1] == ("mqtt",):
            found.append(_password(loaded.config.mqtt))
        found.append(Row(path, value, loaded.origins.of(path), _meaning(path, value, loaded)))
    return found


def toml_lines(shown: list[Row]) -> Iterator[str]:
    """The rows as TOML, each with its source behind it; what isn't set is a comment."""
    table: KeyPath = ()
    for path, value, origin, meaning in shown:
        node = node_at(path)
        if path[:-1] != table and not (node and node.section and value is None):
            table = path[:-1]
            yield ""
            yield f"[{'.'.join(table)}]"
        if value is not None:
            said = f"{path[-1]} = {toml_value(value)}"
        elif node and node.section:
            yield ""
            said = f"# [{'.'.join(path)}] is not set"
        else:
            said = f"# {path[-1]}: {meaning or 'not set'}"
        yield f"{said:<{SOURCE_COLUMN}}  # {origin.text}"


def toml_value(value: Any) -> str:
    """A JSON value on one line of TOML; what is None in a table is left out."""
    if isinstance(value, dict):
        inside = (f"{key} = {toml_value(each)}" for key, each in value.items() if each is not None)
        return f"{{{', '.join(inside)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def _values(section: BaseModel, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Values before the tables below them, as TOML needs it."""
    fields = [(key, getattr(section, key)) for key in type(section).model_fields]
    plain = section.model_dump(mode="json")
    for key, value in fields:
        if not isinstance(value, BaseModel | dict) and not _is_absent_table(path, key):
            yield (*path, key), plain[key]
    for key, value in fields:
        below = value.items() if isinstance(value, dict) else [("", value)]
        for name, each in below:
            if isinstance(each, BaseModel):
                yield from _values(each, (*path, key, name) if name else (*path, key))
            elif _is_absent_table(path, key):
                yield (*path, key), None


def _is_absent_table(path: KeyPath, key: str) -> bool:
    node = node_at((*path, key))
    return bool(node and node.is_table)


def _meaning(path: KeyPath, value: Any, loaded: Loaded) -> str:
    """What happens without a value, where that isn't plain."""
    if value is not None:
        return ""
    if path == ("mqtt", "base_topic"):
        return f"{loaded.config.base_topic}, made of gateway.id"
    if path == ("mqtt", "client_id"):
        return f"otolith-{loaded.config.gateway.id}-, and this machine's number"
    if path[0] == "boards" and path[-1] == "uid":
        return "any board"
    of_bundle = path[0] == "assets" and path[-2] == "alarm" and path[-1] in AlarmSpec.model_fields
    return "as the bundle says" if of_bundle else ""


def _password(mqtt: MqttSettings) -> Row:
    source = password_source(mqtt)
    if source:
        return Row(PASSWORD, None, Origin(source), "never shown")
    none_here = "none; the service may have systemd's credential"
    return Row(PASSWORD, None, Origin("default"), none_here)
