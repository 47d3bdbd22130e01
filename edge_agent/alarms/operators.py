"""Operators: what people ask of the gateway, done.

In: checked commands. Out: what came of each, for its answer; the rest goes through the panels and
the evidence. Never: checks a payload (remote.py did), answers without having done it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge_agent.alarms.panel import Desk, Panel
from edge_agent.alarms.remote import Command, Remote, Reply
from edge_agent.alarms.remote_requests import (
    AcceptNewNormal,
    Ack,
    Capture,
    Feedback,
    Freeze,
    Reload,
    Snooze,
    Unsnooze,
)
from edge_agent.boards.evidence import Evidence
from edge_agent.broker.incoming import Incoming

SECONDS_A_MINUTE = 60.0


class Operators:
    """Does commands. `reload` reads the configuration anew and says what came of it; `line` is the
    gateway in one line. Both are the service's."""

    def __init__(
        self, remote: Remote, panels: Mapping[str, Panel], desk: Desk, evidence: Evidence,
        reload: Callable[[], str], line: Callable[[], str],
    ) -> None:  # fmt: skip
        self.remote = remote
        self._panels, self._desk, self._evidence = panels, desk, evidence
        self._reload, self._line = reload, line

    def received(self, incoming: Incoming, t: float) -> None:
        """What came on a command's topic: done, and answered."""
        taken = self.remote.take(incoming, t)
        if isinstance(taken, Command):
            taken = self._answered(taken, t)
        if taken is not None:
            self._desk.publisher.tell(taken.message, taken.correlation)

    def _answered(self, command: Command, t: float) -> Reply:
        try:
            return self.remote.answer(command, self._do(command, t))
        except (ValueError, OSError) as error:
            return self.remote.answer(command, error=str(error))

    def _do(self, command: Command, t: float) -> dict[str, Any]:
        """Raises `ValueError` in words for what can't be done."""
        request = command.request
        if isinstance(request, Reload):
            return {"told": self._reload()}
        if isinstance(request, Feedback):
            return self._feedback(request, t)
        if isinstance(request, Ack):
            panel = self._panel(request.asset or self._asset_of(request.episode or ""))
            if request.episode and request.episode != panel.state.event_id:
                raise ValueError(f"{request.episode} is over; the latest is {panel.state.event_id}")
            panel.acknowledge(t)
            return _shown(panel)
        if isinstance(request, Snooze | Unsnooze | Freeze | AcceptNewNormal):
            return self._on_panel(request, t)
        if isinstance(request, Capture):
            board = self._panel(request.asset).asset.settings.board
            when = self._desk.messages.time(t)
            name = self._evidence.capture(board, t, float(request.seconds), when)
            return {"recording": name}
        return {
            "gateway": self._line(),
            "assets": {name: _shown(panel) for name, panel in self._panels.items()},
        }

    def _on_panel(
        self, request: Snooze | Unsnooze | Freeze | AcceptNewNormal, t: float
    ) -> dict[str, Any]:
        panel, more = self._panel(request.asset), dict[str, Any]()
        if isinstance(request, Snooze):
            panel.snooze(t, request.minutes * SECONDS_A_MINUTE)
        elif isinstance(request, Unsnooze):
            panel.snooze(t, 0.0)
        elif isinstance(request, Freeze):
            panel.freeze(t, request.frozen)
        else:
            more["threshold"] = panel.accept_new_normal(t)
        return _shown(panel) | more

    def _feedback(self, request: Feedback, t: float) -> dict[str, Any]:
        when, note = self._desk.messages.time(t), request.note or ""
        if request.episode is None:
            asset = self._panel(request.asset or "").asset
            board = asset.settings.board
            facts = {"stream": asset.settings.stream}
            return {"recording": self._evidence.missed(asset.name, board, t, note, when, facts)}
        panel = self._panel(self._asset_of(request.episode))
        self._evidence.verdict(request.episode, request.verdict, note, when)
        # Whoever judges it has seen it.
        if request.episode == panel.state.event_id:
            panel.acknowledge(t)
        return {"recording": request.episode}

    def _panel(self, asset: str) -> Panel:
        panel = self._panels.get(asset)
        if panel is None:
            raise ValueError(f"saw asset {asset!r}; there are {', '.join(self._panels)}")
        return panel

    def _asset_of(self, episode: str) -> str:
        """Whose episode it is: only those that this gateway has counted."""
        for name, panel in self._panels.items():
            if panel.knows(episode):
                return name
        raise ValueError(f"saw episode {episode!r}, which this gateway has never told of")


def _shown(panel: Panel) -> dict[str, Any]:
    return panel.state.model_dump(exclude_none=True)
