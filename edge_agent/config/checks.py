"""Cross-checks: what no single key of a configuration can tell.

In: the raw document, so that these errors join those of single keys. Out: keys and words.
Never: raises, whatever the document looks like.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from edge_agent.config.problems import did_you_mean
from edge_agent.config.settings import HOST, RESERVED_ASSETS, RecorderSettings, is_loopback
from edge_agent.config.toml_lines import KeyPath

Found: TypeAlias = list[tuple[KeyPath, str]]


def cross_checks(document: dict[str, Any]) -> Found:
    """What no single key can tell; on the raw document, so that it joins the other errors."""
    boards = _tables(document, "boards")
    found = _asset_checks(_table(document, "assets"), list(boards))
    found += _once(boards, "port") + _once(boards, "uid")
    if isinstance(document.get("recorder"), dict):
        found += _recorder_checks(document["recorder"], list(boards))
    return found + _mqtt_checks(_table(document, "mqtt"))


def _asset_checks(assets: dict[str, Any], boards: list[str]) -> Found:
    found: Found = []
    for name, asset in assets.items():
        if name in RESERVED_ASSETS:
            told = f"the name {name} is a topic of the gateway itself: choose another"
            found.append((("assets", name), told))
        board = asset.get("board") if isinstance(asset, dict) else None
        if isinstance(board, str) and boards and board not in boards:
            found.append((("assets", name, "board"), _no_board(board, boards)))
    return found


def _once(boards: dict[str, Any], key: str) -> Found:
    """No two boards may have the same."""
    first: dict[str, str] = {}
    found: Found = []
    for name, board in boards.items():
        value = board.get(key) if isinstance(board, dict) else None
        if isinstance(value, str) and first.setdefault(value, name) != name:
            told = f"saw {value!r}, which is the {key} of board {first[value]} already"
            found.append((("boards", name, key), told))
    return found


def _recorder_checks(recorder: dict[str, Any], boards: list[str]) -> Found:
    wanted = recorder.get("boards")
    recorded = (
        [name for name in wanted if isinstance(name, str)] if isinstance(wanted, list) else []
    )
    found: Found = [
        (("recorder", "boards"), _no_board(name, boards))
        for name in recorded if boards and name not in boards
    ]  # fmt: skip
    fields = RecorderSettings.model_fields
    limit, segment = (
        recorder.get(key, fields[key].default) for key in ("limit_bytes", "segment_bytes")
    )
    if type(limit) is int and type(segment) is int:
        least = 2 * len(recorded or boards) * segment
        if limit < least:
            told = f"saw {limit}; must hold two segments a board, at least {least}"
            found.append((("recorder", "limit_bytes"), told))
    return found


def _mqtt_checks(mqtt: dict[str, Any]) -> Found:
    found: Found = []
    host = mqtt.get("host", "127.0.0.1")
    encrypted = mqtt.get("tls") or "ca_file" in mqtt or "certificate_file" in mqtt
    if (
        isinstance(host, str)
        and re.match(HOST, host)
        and not (encrypted or mqtt.get("insecure") or is_loopback(host))
    ):
        told = (
            f"saw {host!r} without TLS; name a ca_file or set tls = true, "
            "or insecure = true if everybody on that network may read and forge alerts"
        )
        found.append((("mqtt", "host"), told))
    for one, other in (("certificate_file", "key_file"), ("key_file", "certificate_file")):
        if one in mqtt and other not in mqtt:
            found.append((("mqtt", one), f"needs {other} beside it"))
    if "password_file" in mqtt and "username" not in mqtt:
        found.append((("mqtt", "password_file"), "needs username beside it"))
    return found


def _no_board(name: str, boards: list[str]) -> str:
    return f"saw {name!r}, no such board; {did_you_mean(name, boards)}"


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _tables(document: dict[str, Any], key: str) -> dict[str, Any]:
    """Those below that are tables, or were meant as tables: [[boards.x]] is an error of its own."""
    return {n: v for n, v in _table(document, key).items() if isinstance(v, dict | list)}
