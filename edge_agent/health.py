"""Health: how the gateway is, as flat numbers.

In: the counters of boards, assets, outbox and publisher, and what the kernel says.
Out: `Health`, `Info`, and the line that `systemctl status` shows. Never: fails for what is not
there (a machine without a thermometer has no temperature), keeps history.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edge_agent.alarms.remote import Remote
from edge_agent.assets import Asset
from edge_agent.boards.board_health import BoardHealth, board_health
from edge_agent.boards.evidence import Evidence
from edge_agent.boards.session import BoardSession
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.publisher import Publisher

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MACHINE_ID = Path("/etc/machine-id")
TEMPERATURE = Path("/sys/class/thermal/thermal_zone0/temp")
CLOCK_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")


class Health(BaseModel):
    """One message on `<b>/health`. Counters count from the start of the agent, those that begin
    with `boards_` from each board's last reset: they are the boards' own."""

    version: str
    uptime_s: float
    boards: int
    boards_streaming: int
    assets: int
    assets_online: int
    windows: int
    windows_per_s: float
    samples: int
    samples_lost: int
    samples_lost_on_board: int
    samples_lost_on_wire: int
    samples_overwritten: int
    gaps: int
    episodes: int
    speeds_unseen: int
    bytes: int
    frames: int
    frames_damaged: int
    frames_bad_crc: int
    frames_bad_cobs: int
    frames_bad_frame: int
    frames_oversize: int
    frames_unexpected: int
    board_sessions: int
    board_restarts: int
    boards_rx_errors: int
    boards_rx_overrun: int
    boards_fifo_overrun: int
    boards_tx_dropped: int
    clock_round_trip_max_ms: float | None = None
    clock_drift_max_ppm: float | None = None
    queue_depth: int
    queue_oldest_s: float
    dropped_alerts: int
    dropped_telemetry: int
    broker_connections: int
    broker_too_large: int
    broker_refused: int
    commands_taken: int
    commands_refused: int
    commands_ignored: int
    outbox_ok: int
    recorder_ok: int
    evidence_ok: int
    loop_late_max_ms: float
    cpu_s: float
    rss_bytes: int | None = None
    disk_free_bytes: int | None = None
    temp_c: float | None = None
    clock_synced: int


class AssetInfo(BaseModel):
    """What judges an asset, or why nothing does."""

    name: str
    board: str
    stream: str
    status: str
    refusal: str | None = None
    bundle: str | None = None
    bundle_serial: int | None = None
    bundle_sha256: str | None = None


class Info(BaseModel):
    """`<b>/info`: what runs here."""

    gateway: str
    version: str
    python: str
    machine: str
    boot_id: str
    run_id: str
    started: float
    assets: list[AssetInfo]


class HealthMeter:
    """Reads all the counters; `late` is told how late the loop came around."""

    def __init__(
        self, sessions: Iterable[BoardSession], assets: Iterable[Asset], outbox: Outbox,
        publisher: Publisher, remote: Remote, evidence: Evidence, state_dir: Path,
    ) -> None:  # fmt: skip
        self._sessions, self._assets = tuple(sessions), tuple(assets)
        self._outbox, self._publisher, self._state_dir = outbox, publisher, state_dir
        self._remote, self._evidence = remote, evidence
        self._started_s = self._then_s = time.monotonic()
        self._windows = 0
        self._late_max_s = 0.0

    def late(self, seconds: float) -> None:
        """The loop came around so much later than it wanted to."""
        if seconds > self._late_max_s:
            self._late_max_s = seconds

    def line(self) -> str:
        """One line for people."""
        streaming = sum(session.streaming for session in self._sessions)
        broker = "connected" if self._publisher.connected else "away"
        problem = f", {self._outbox.problem}" if self._outbox.problem else ""
        return (
            f"{streaming}/{len(self._sessions)} boards streaming, broker {broker}, "
            f"{self._outbox.depth()} waiting{problem}"
        )

    def boards(self) -> list[BoardHealth]:
        """The numbers of each board, now."""
        return [board_health(session) for session in self._sessions]

    def measure(self, now_s: float, boards: list[BoardHealth]) -> Health:
        """The numbers now, with what `boards` said; rates and `loop_late_max_ms` since the last
        call."""
        pipelines = [asset.pipeline for asset in self._assets if asset.pipeline]
        counters = [pipeline.counters for pipeline in pipelines]
        recorders = [session.recorder for session in self._sessions if session.recorder]
        windows = sum(c.windows for c in counters)
        rate = (windows - self._windows) / max(now_s - self._then_s, 1e-3)
        late_ms, self._late_max_s = self._late_max_s * 1e3, 0.0
        self._windows, self._then_s = windows, now_s
        return Health(
            version=software_version(),
            uptime_s=round(now_s - self._started_s, 1),
            boards=len(self._sessions),
            boards_streaming=sum(session.streaming for session in self._sessions),
            assets=len(self._assets),
            assets_online=sum(asset.status == "online" for asset in self._assets),
            windows=windows,
            windows_per_s=round(rate, 3),
            samples=sum(c.samples for c in counters),
            samples_lost=sum(c.samples_lost for c in counters),
            samples_lost_on_board=sum(b.samples_lost_on_board for b in boards),
            samples_lost_on_wire=sum(b.samples_lost_on_wire for b in boards),
            samples_overwritten=sum(p.windows.overwritten for p in pipelines),
            gaps=sum(c.gaps for c in counters),
            episodes=sum(c.episodes for c in counters),
            speeds_unseen=sum(c.speeds_unseen for c in counters),
            **_sums(boards),
            queue_depth=self._outbox.depth(),
            queue_oldest_s=round(self._outbox.oldest_seconds(), 1),
            dropped_alerts=self._outbox.dropped_alerts,
            dropped_telemetry=self._outbox.dropped_telemetry,
            **self._broker(),
            outbox_ok=int(self._outbox.problem is None),
            evidence_ok=int(self._evidence.problem is None),
            recorder_ok=int(all(recorder.problem is None for recorder in recorders)),
            loop_late_max_ms=round(late_ms, 1),
            cpu_s=round(time.process_time(), 2),
            rss_bytes=_rss_bytes(),
            disk_free_bytes=_free_bytes(self._state_dir),
            temp_c=_temperature(),
            clock_synced=int(CLOCK_SYNCHRONISED.exists()),
        )

    def _broker(self) -> dict[str, int]:
        publisher, remote = self._publisher, self._remote
        return {
            "broker_connections": publisher.connections,
            "broker_too_large": publisher.too_large,
            "broker_refused": publisher.refused,
            "commands_taken": remote.taken,
            "commands_refused": remote.refused,
            "commands_ignored": remote.ignored + remote.retained + publisher.incoming_dropped,
        }


def info(gateway: str, run_id: str, assets: Iterable[Asset]) -> Info:
    """What runs here, now."""
    return Info(
        gateway=gateway,
        version=software_version(),
        python=platform.python_version(),
        machine=platform.machine(),
        boot_id=boot_id(),
        run_id=run_id,
        started=round(time.time(), 3),
        assets=[_asset_info(asset) for asset in assets],
    )


def _sums(boards: list[BoardHealth]) -> dict[str, Any]:
    """What the boards have together: sums, and the worst clock."""
    bad = ("frames_bad_crc", "frames_bad_cobs", "frames_bad_frame", "frames_oversize")
    counts = ("bytes", "frames", *bad, "frames_unexpected")
    sums = {name: sum(getattr(board, name) for board in boards) for name in counts}
    own = ("rx_errors", "rx_overrun", "fifo_overrun", "tx_dropped")
    for name in own:
        sums[f"boards_{name}"] = sum(getattr(board, f"board_{name}") or 0 for board in boards)
    drifts = [abs(board.clock_drift_ppm) for board in boards if board.clock_drift_ppm is not None]
    trips = [b.clock_round_trip_ms for b in boards if b.clock_round_trip_ms is not None]
    return {
        **sums,
        "frames_damaged": sum(sums[name] for name in bad),
        "board_sessions": sum(board.sessions for board in boards),
        "board_restarts": sum(board.restarts for board in boards),
        "clock_round_trip_max_ms": max(trips, default=None),
        "clock_drift_max_ppm": max(drifts, default=None),
    }


def software_version() -> str:
    """The version of this package, `unknown` when it runs from a plain folder."""
    try:
        return version("otolith")
    except PackageNotFoundError:
        return "unknown"


def boot_id() -> str:
    """Names this boot of the machine: which monotonic clock `mono_ms` belongs to."""
    return _text(BOOT_ID)


def machine_id8() -> str:
    """Eight digits that tell two machines with one configuration apart."""
    return _text(MACHINE_ID)[:8] or platform.node()[:8]


def _asset_info(asset: Asset) -> AssetInfo:
    bundle = asset.bundle
    return AssetInfo(
        name=asset.name,
        board=asset.settings.board,
        stream=asset.settings.stream,
        status=asset.status,
        refusal=asset.refusal,
        bundle=bundle.name if bundle else None,
        bundle_serial=bundle.serial if bundle else None,
        bundle_sha256=bundle.sha256 if bundle else None,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _rss_bytes() -> int | None:
    pages = _text(Path("/proc/self/statm")).split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else None


def _free_bytes(folder: Path) -> int | None:
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def _temperature() -> float | None:
    text = _text(TEMPERATURE)
    return int(text) / 1000 if text.lstrip("-").isdigit() else None
