"""Meter: reads all the counters of a gateway that runs.

In: boards, assets, outbox, publisher; what the loop says of itself. Out: `Health`, `Info`, the
line that `systemctl status` shows, and what does not work just now. Never: keeps history beyond
one interval, fails for what is not there.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edge_agent.alarms.remote import Remote
from edge_agent.assets import Asset
from edge_agent.boards.board_health import BoardHealth, board_health
from edge_agent.boards.evidence import Evidence
from edge_agent.boards.session import BoardSession
from edge_agent.broker.clock import this_boot
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.publisher import Publisher
from edge_agent.health import machine
from edge_agent.health.clock_state import ClockSteps, synchronised
from edge_agent.health.payloads import AssetInfo, Health, Info
from edge_agent.judging.pipeline import Judgement
from edge_agent.spans import Percentiles, Spans, percentiles

# Whoever looks right after an interval has begun sees the rates of the one before.
YOUNG_SECONDS = 5.0


class HealthMeter:
    """Told by the loop how late it came around (`late`), what was judged (`judged`), and how the
    configuration fares (`config_ok`, `reloads`)."""

    def __init__(
        self, sessions: Iterable[BoardSession], assets: Iterable[Asset], outbox: Outbox,
        publisher: Publisher, remote: Remote, evidence: Evidence, state_dir: Path,
    ) -> None:  # fmt: skip
        self._sessions, self.assets = tuple(sessions), tuple(assets)
        self._outbox, self._publisher, self._state_dir = outbox, publisher, state_dir
        self._remote, self._evidence = remote, evidence
        self._started_s = self._then_s = time.monotonic()
        self._clock = ClockSteps(time.time(), self._started_s)
        self._lateness = Spans()
        self._last: dict[str, Judgement] = {}
        self._before: Health | None = None
        self._windows = 0
        self._late_max_s = 0.0
        self.config_ok = self.state_ok = True
        self.reloads = 0

    def reloaded(self) -> None:
        """The configuration was read anew, and taken."""
        self.config_ok = True
        self.reloads += 1

    def late(self, seconds: float) -> None:
        """The loop came around so much later than it wanted to; ten times a second or so."""
        if seconds > self._late_max_s:
            self._late_max_s = seconds
        self._clock.look(time.time(), time.monotonic())

    def judged(self, fact: Judgement) -> None:
        """A window has been judged, just now."""
        self._lateness.take(time.monotonic() - fact.score.t)
        self._last[fact.asset] = fact

    def forget(self, asset: str) -> None:
        """What judges it now has judged nothing yet."""
        self._last.pop(asset, None)

    @property
    def last(self) -> Mapping[str, Judgement]:
        """The newest window of each asset that had one."""
        return self._last

    @property
    def connected(self) -> bool:
        """Whether the broker has us."""
        return self._publisher.connected

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

    def troubles(self) -> list[str]:
        """What can't be written or kept just now, a sentence each."""
        outbox = self._outbox
        kept = [outbox.problem, outbox.full, self._evidence.problem]
        kept += [session.recorder.problem for session in self._sessions if session.recorder]
        return list(dict.fromkeys(problem for problem in kept if problem))

    def measure(self, now_s: float, boards: list[BoardHealth]) -> Health:
        """The numbers now, with what `boards` said; rates, lateness and invoke times since the
        last call, and with it another interval begins."""
        health = self._health(now_s, boards)
        self._windows, self._then_s, self._late_max_s = health.windows, now_s, 0.0
        for spans in self._timed():
            spans.begin()
        self._before = health
        return health

    def peek(self, now_s: float, boards: list[BoardHealth]) -> Health:
        """The same, and the interval goes on: for whoever asks in between."""
        health, before = self._health(now_s, boards), self._before
        if before is None or now_s - self._then_s >= YOUNG_SECONDS:
            return health
        rates = ("windows_per_s", "window_late_p50_ms", "window_late_p99_ms", "invoke_p50_ms",
                 "invoke_p99_ms")  # fmt: skip
        worst_ms = max(health.loop_late_max_ms, before.loop_late_max_ms)
        earlier = {name: getattr(before, name) for name in rates}
        return health.model_copy(update={**earlier, "loop_late_max_ms": worst_ms})

    def _timed(self) -> list[Spans]:
        return [self._lateness, *(asset.invoke for asset in self.assets)]

    def _health(self, now_s: float, boards: list[BoardHealth]) -> Health:
        uptime_s = round(now_s - self._started_s, 1)
        return Health(
            version=machine.software_version(),
            uptime_s=uptime_s,
            boards=len(self._sessions),
            boards_streaming=sum(session.streaming for session in self._sessions),
            assets=len(self.assets),
            assets_online=sum(asset.status == "online" for asset in self.assets),
            samples_lost_on_board=sum(b.samples_lost_on_board for b in boards),
            samples_lost_on_wire=sum(b.samples_lost_on_wire for b in boards),
            loop_late_max_ms=round(self._late_max_s * 1e3, 1),
            config_ok=int(self.config_ok),
            reloads=self.reloads,
            **self._judging(now_s),
            **_sums(boards),
            **self._broker(),
            **self._stores(),
            **_process(uptime_s),
            **self._wall_clock(),
        )

    def _judging(self, now_s: float) -> dict[str, Any]:
        pipelines = [asset.pipeline for asset in self.assets if asset.pipeline]
        counters = [pipeline.counters for pipeline in pipelines]
        windows = sum(c.windows for c in counters)
        rate = (windows - self._windows) / max(now_s - self._then_s, 1e-3)
        return {
            "windows": windows,
            "windows_per_s": round(rate, 3),
            **_named("window_late", percentiles([self._lateness])),
            **_named("invoke", percentiles(asset.invoke for asset in self.assets)),
            "samples": sum(c.samples for c in counters),
            "samples_lost": sum(c.samples_lost for c in counters),
            "samples_overwritten": sum(p.windows.overwritten for p in pipelines),
            "gaps": sum(c.gaps for c in counters),
            "episodes": sum(c.episodes for c in counters),
            "speeds_unseen": sum(c.speeds_unseen for c in counters),
        }

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

    def _stores(self) -> dict[str, Any]:
        outbox, free_bytes = self._outbox, machine.free_bytes(self._state_dir)
        hours_left = outbox.hours_left(math.inf if free_bytes is None else free_bytes)
        recorders = [session.recorder for session in self._sessions if session.recorder]
        return {
            "queue_depth": outbox.depth(),
            "queue_oldest_s": round(outbox.oldest_seconds(), 1),
            "queue_hours_left": None if hours_left is None else round(hours_left, 1),
            "queue_full": int(outbox.full is not None),
            "dropped_alerts": outbox.dropped_alerts,
            "dropped_telemetry": outbox.dropped_telemetry,
            "dropped_damaged": outbox.damaged_rows,
            "outbox_ok": int(self.state_ok and outbox.problem is None),
            "evidence_ok": int(self._evidence.problem is None),
            "recorder_ok": int(all(recorder.problem is None for recorder in recorders)),
            "disk_free_bytes": free_bytes,
        }

    def _wall_clock(self) -> dict[str, Any]:
        synced = synchronised()
        return {
            "clock_synced": None if synced is None else int(synced),
            "clock_steps": self._clock.steps,
            "clock_last_step_s": self._clock.last_step_s,
        }


def info(gateway: str, run_id: str, assets: Iterable[Asset]) -> Info:
    """What runs here, now."""
    return Info(
        gateway=gateway,
        version=machine.software_version(),
        python=platform.python_version(),
        machine=platform.machine(),
        boot_id=this_boot(),
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


def _process(uptime_s: float) -> dict[str, Any]:
    written = machine.written_bytes()
    return {
        "cpu_s": round(time.process_time(), 2),
        "rss_bytes": machine.rss_bytes(),
        "open_descriptors": machine.open_descriptors(),
        "threads": machine.threads(),
        "disk_written_bytes": written,
        "disk_written_bytes_per_day": machine.written_bytes_per_day(written, uptime_s),
        "temp_c": machine.temperature_c(),
        **machine.power(),
    }


def _named(what: str, found: Percentiles) -> dict[str, float | None]:
    return {f"{what}_{name}": value for name, value in found._asdict().items()}


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
        calibration=asset.pipeline.stamp if asset.pipeline else None,
    )
