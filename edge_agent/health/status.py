"""Status: all that there is to say of a gateway at one moment.

In: the meter, the alarm panels, the configuration, the journal's last complaints. Out: `Status`,
which the door answers with, `prometheus.py` and `status_page.py` put into their words. Never: asks
a board or the broker anything, draws (the service imports this).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from edge_agent.alarms.panel import Panel
from edge_agent.assets import Asset
from edge_agent.boards.board_health import BoardHealth
from edge_agent.broker.payloads import known
from edge_agent.config import Config
from edge_agent.health.meter import HealthMeter
from edge_agent.health.payloads import Health
from edge_agent.judging.pipeline import Judgement, PipelineCounters

MAX_PROBLEMS = 10
STREAMING = "streaming"


class AssetNow(BaseModel):
    """One asset. `refusal`: why nothing judges it; `ratio`, `score` and `threshold` are of the
    newest window, `judged_s` seconds ago; counters count from the start of the agent."""

    name: str
    board: str
    stream: str
    status: str
    state: str
    severity: int = 0
    refusal: str | None = None
    ratio: float | None = None
    score: float | None = None
    threshold: float | None = None
    judged_s: float | None = None
    windows: int = 0
    gaps: int = 0
    samples_lost: int = 0
    episodes: int = 0
    bundle: str | None = None
    bundle_serial: int | None = None
    calibration: str | None = None


class Status(BaseModel):
    """The whole gateway. `wrong` is what does not work now, a sentence each, and empty when all is
    well; `problems` are the journal's last complaints, which may be over."""

    gateway: str
    ts: float
    broker: str
    connected: bool
    health: Health
    boards: list[BoardHealth]
    assets: list[AssetNow]
    wrong: list[str]
    problems: list[str]


def status(
    config: Config, meter: HealthMeter, panels: Mapping[str, Panel], problems: Iterable[str] = ()
) -> Status:
    """How everything is, now."""
    now_s, boards = time.monotonic(), meter.boards()
    health, broker = meter.peek(now_s, boards), f"{config.mqtt.host}:{config.mqtt.port}"
    assets = [
        _asset(asset, panels[asset.name], meter.last.get(asset.name), now_s)
        for asset in meter.assets
    ]
    away = [] if meter.connected else [f"broker {broker}: not connected"]
    return Status(
        gateway=config.gateway.id,
        ts=round(time.time(), 3),
        broker=broker,
        connected=meter.connected,
        health=health,
        boards=boards,
        assets=assets,
        wrong=[*_of_boards(boards), *_of_assets(assets), *away, *meter.troubles(), *_of(health)],
        problems=list(problems)[-MAX_PROBLEMS:],
    )


def of_answer(answer: Mapping[str, Any]) -> Status:
    """What the door has answered. Raises `ValueError` if it is not of this version."""
    try:
        return Status.model_validate(answer.get("status"))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "status"
        told = "the service that runs is of another version: systemctl restart edge-agent"
        raise ValueError(f"saw no good {place} in its answer; {told}") from None


def _asset(asset: Asset, panel: Panel, last: Judgement | None, now_s: float) -> AssetNow:
    bundle, state = asset.bundle, panel.state
    counters = asset.pipeline.counters if asset.pipeline else PipelineCounters()
    return AssetNow(
        name=asset.name,
        board=asset.settings.board,
        stream=asset.settings.stream,
        status=asset.status,
        state=state.state,
        severity=state.severity,
        refusal=asset.refusal or asset.fault,
        ratio=known(last.ratio) if last else None,
        score=known(last.score.value) if last else None,
        threshold=known(last.threshold) if last else None,
        judged_s=round(now_s - last.score.t, 1) if last else None,
        windows=counters.windows,
        gaps=counters.gaps,
        samples_lost=counters.samples_lost,
        episodes=counters.episodes,
        bundle=bundle.name if bundle else None,
        bundle_serial=bundle.serial if bundle else None,
        calibration=asset.pipeline.stamp if asset.pipeline else None,
    )


def _of_boards(boards: Iterable[BoardHealth]) -> list[str]:
    return [
        f"board {board.board}: {board.trouble or board.state}"
        for board in boards
        if board.state != STREAMING
    ]


def _of_assets(assets: Iterable[AssetNow]) -> list[str]:
    """An asset that is only offline has its reason among the boards."""
    return [f"asset {a.name}: {a.status}: {a.refusal}" for a in assets if a.refusal]


def _of(health: Health) -> list[str]:
    found = []
    if not health.config_ok:
        found.append("configuration: what was last read is wrong, an older one runs: check-config")
    if health.dropped_alerts:
        found.append(f"queue: {health.dropped_alerts} alerts were given up since the start")
    if health.undervoltage:
        found.append("power: the supply's voltage is too low")
    if health.throttled:
        found.append("power: the processor is slowed down: too hot, or too little voltage")
    return found
