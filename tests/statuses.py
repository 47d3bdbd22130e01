"""Statuses of gateways that there could be: what a page or a metric is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from edge_agent.boards.board_health import BoardHealth
from edge_agent.health.payloads import Health
from edge_agent.health.status import AssetNow, Status


def status(count: int = 1, **changes: Any) -> Status:
    """A gateway that is well, with `count` boards and as many assets; `changes` are its fields."""
    made: dict[str, Any] = {
        "gateway": "hall-1", "ts": 1.8e9, "broker": "127.0.0.1:1883", "connected": True,
        "health": health(), "boards": [board(f"board-{n}") for n in range(count)],
        "assets": [asset(f"asset-{n}") for n in range(count)], "wrong": [], "problems": [],
    }  # fmt: skip
    return Status(**(made | changes))


def health(**changes: Any) -> Health:
    """A gateway's numbers; what must be there and is not named is 0."""
    said = {"version": "1.2.3", "config_ok": 1, "outbox_ok": 1, "recorder_ok": 1, "evidence_ok": 1}
    return Health(**(_zeros(Health) | said | changes))


def board(name: str, **changes: Any) -> BoardHealth:
    """A board's numbers."""
    return BoardHealth(**(_zeros(BoardHealth) | {"board": name, "state": "streaming"} | changes))


def asset(name: str, **changes: Any) -> AssetNow:
    """An asset that is judged."""
    said: dict[str, Any] = {
        "name": name, "board": "b", "stream": "accel", "status": "online", "state": "ok",
        "bundle": "pump", "bundle_serial": 7, "ratio": 0.42, "score": 0.1, "threshold": 0.25,
    }  # fmt: skip
    return AssetNow(**(said | changes))


def _zeros(model: type[BaseModel]) -> dict[str, Any]:
    return {name: 0 for name, field in model.model_fields.items() if field.is_required()}
