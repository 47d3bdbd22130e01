"""Reload: what differs between two configurations, and what of it a running service can take.

In: the configuration that runs, and the new one. Out: the changes, the configuration that runs
once the live ones are applied, a sentence for the journal. Never: applies anything itself.

    old, new -> changes -> applied(old, new): runs from now on -> sentence
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from edge_agent.config import Config

ANY = "*"
# What a running service can change without closing a port, a connection or an episode. All else
# needs a restart: it is said, and goes on as it was.
LIVE = (
    ("assets", ANY, "alarm", ANY),
    ("mqtt", "score_interval_seconds"),
    ("health", "interval_seconds"),
    ("storage", "outbox_limit_bytes"),
    ("storage", "outbox_limit_rows"),
    ("storage", "outbox_telemetry_days"),
    ("storage", "outbox_alert_days"),
)
CHANGES_TOLD = 12

KeyPath = tuple[str, ...]


class Change(NamedTuple):
    """One key, with its values as JSON has them. A board, an asset or a section that is in one of
    the two only is one change; it is None in the other."""

    path: KeyPath
    old: Any
    new: Any
    live: bool

    @property
    def key(self) -> str:
        """The key as people write it."""
        return ".".join(self.path)


def changes(old: Config, new: Config) -> tuple[Change, ...]:
    """What differs, in the order of the settings."""
    return tuple(_differences(old, new, ()))


def applied(old: Config, new: Config) -> Config:
    """`old` with those changes of `new` that are live: what a service runs after a reload, and
    the `old` of the next one, so that what needs a restart is said until there was one."""
    result: Config = _merged(old, new, ())
    return result


def sentence(changed: Sequence[Change]) -> str:
    """One line: `reloaded: mqtt.score_interval_seconds 1.0 -> 2.0; needs a restart: mqtt.host`."""
    if not changed:
        return "reloaded: nothing has changed"
    live = [f"{c.key} {_said(c.old)} -> {_said(c.new)}" for c in changed if c.live]
    later = [_later(c) for c in changed if not c.live]
    told = f"reloaded: {_listed(live) or 'nothing'}"
    return f"{told}; needs a restart: {_listed(later)}" if later else told


def _differences(old: Any, new: Any, path: KeyPath) -> Iterator[Change]:
    if old == new:
        return
    before, after = _parts(old), _parts(new)
    if before is None or after is None:
        yield Change(path, _plain(old), _plain(new), _is_live(path))
        return
    for key in dict.fromkeys((*before, *after)):
        yield from _differences(before.get(key), after.get(key), (*path, key))


def _parts(value: Any) -> dict[str, Any] | None:
    """What is below a section or a table; None for a value."""
    if isinstance(value, BaseModel):
        return {key: getattr(value, key) for key in type(value).model_fields}
    return value if isinstance(value, dict) else None


def _merged(old: Any, new: Any, path: KeyPath) -> Any:
    if _is_live(path):
        return new
    before, after = _parts(old), _parts(new)
    if before is None or after is None:
        return old
    merged = {
        key: _merged(value, after[key], (*path, key)) if key in after else value
        for key, value in before.items()
    }
    return old.model_copy(update=merged) if isinstance(old, BaseModel) else merged


def _is_live(path: KeyPath) -> bool:
    return any(
        len(path) == len(known) and all(k in (ANY, key) for k, key in zip(known, path, strict=True))
        for known in LIVE
    )


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, bool | int | float | None) else str(value)


def _later(change: Change) -> str:
    """Which key; the values are in the file."""
    if change.old is None and isinstance(change.new, dict):
        return f"{change.key} (new)"
    if change.new is None and isinstance(change.old, dict):
        return f"{change.key} (gone)"
    return change.key


def _said(value: Any) -> str:
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)


def _listed(said: list[str]) -> str:
    more = len(said) - CHANGES_TOLD
    return ", ".join(said[:CHANGES_TOLD]) + (f" and {more} more" if more > 0 else "")
