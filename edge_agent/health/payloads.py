"""Payloads: how the gateway is, and what runs on it, as flat numbers and words.

In: numbers. Out: `Health` and `Info`, whose fields are the contract with subscribers. Never: an
object below an object in `Health` (Telegraf, Prometheus and spreadsheets read it), a field that is
removed or means something else: they are added.
"""

from __future__ import annotations

from pydantic import BaseModel


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
    window_late_p50_ms: float | None = None
    window_late_p99_ms: float | None = None
    invoke_p50_ms: float | None = None
    invoke_p99_ms: float | None = None
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
    queue_hours_left: float | None = None
    queue_full: int
    dropped_alerts: int
    dropped_telemetry: int
    dropped_damaged: int
    broker_connections: int
    broker_too_large: int
    broker_refused: int
    commands_taken: int
    commands_refused: int
    commands_ignored: int
    config_ok: int
    reloads: int
    outbox_ok: int
    recorder_ok: int
    evidence_ok: int
    loop_late_max_ms: float
    cpu_s: float
    rss_bytes: int | None = None
    open_descriptors: int | None = None
    threads: int | None = None
    disk_free_bytes: int | None = None
    disk_written_bytes: int | None = None
    disk_written_bytes_per_day: int | None = None
    temp_c: float | None = None
    undervoltage: int | None = None
    undervoltage_seen: int | None = None
    throttled: int | None = None
    throttled_seen: int | None = None
    clock_synced: int | None = None
    clock_steps: int
    clock_last_step_s: float | None = None


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
    calibration: str | None = None


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
