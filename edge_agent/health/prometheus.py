"""Prometheus: a status as text that Prometheus reads.

In: a `Status`. Out: the text exposition format, version 0.0.4: HELP, TYPE, samples. Never: a
number that nobody has measured (what is None is left out), the same loss twice: what boards and
assets count, the gateway does not say again; PromQL adds it up.

Names begin with `otolith_`, units are seconds and bytes, counters end in `_total`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.health.status import STREAMING, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# The file is read by another user, the node exporter.
READABLE_BY_ALL = 0o644


class Metric(NamedTuple):
    """Where a number comes from and what it is called there. `factor` makes it a base unit;
    `labels` tells it from others of that name."""

    field: str
    name: str
    what: str
    factor: float = 1.0
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> str:
        """As the name says."""
        return "counter" if self.name.endswith("_total") else "gauge"


MILLI = 1e-3
LATE = "From the end of a window's last sample to its verdict, over the last interval."
INVOKE = "One call of a model, over the last interval."
BAD_FRAMES = "Frames that came damaged."
LOST = "Samples lost, by where."
DROPPED = "Messages given up: for the queue's bounds, or the disk has changed them."
COMMANDS = "Commands, by what came of them."
OWN = "Counted by the board itself since its reset."

OF_GATEWAY = (
    Metric("uptime_s", "uptime_seconds", "Since the agent was started."),
    Metric("windows_per_s", "windows_per_second", "Windows judged, over the last interval."),
    Metric("window_late_p50_ms", "window_lateness_median_seconds", LATE, MILLI),
    Metric("window_late_p99_ms", "window_lateness_p99_seconds", LATE, MILLI),
    Metric("invoke_p50_ms", "invoke_median_seconds", INVOKE, MILLI),
    Metric("invoke_p99_ms", "invoke_p99_seconds", INVOKE, MILLI),
    Metric("loop_late_max_ms", "loop_lateness_max_seconds", "The loop's worst delay.", MILLI),
    Metric("queue_depth", "queue_messages", "Messages that the broker has not acknowledged."),
    Metric("queue_oldest_s", "queue_oldest_seconds", "Age of the oldest of them."),
    Metric("queue_hours_left", "queue_left_seconds", "Until the queue is full.", 3600.0),
    Metric("queue_full", "queue_full", "1 while a bound of the queue is reached."),
    Metric("dropped_alerts", "messages_dropped_total", DROPPED, 1.0,
           (("what", "alert"),)),
    Metric("dropped_telemetry", "messages_dropped_total", DROPPED, 1.0,
           (("what", "telemetry"),)),
    Metric("dropped_damaged", "messages_dropped_total", DROPPED, 1.0,
           (("what", "damaged"),)),
    Metric("broker_connections", "broker_connections_total", "Connections that were accepted."),
    Metric("broker_refused", "broker_refused_total", "Messages that the broker did not take."),
    Metric("broker_too_large", "broker_too_large_total", "Messages too large for the broker."),
    Metric("commands_taken", "commands_total", COMMANDS, 1.0,
           (("outcome", "taken"),)),
    Metric("commands_refused", "commands_total", COMMANDS, 1.0,
           (("outcome", "refused"),)),
    Metric("commands_ignored", "commands_total", COMMANDS, 1.0,
           (("outcome", "ignored"),)),
    Metric("speeds_unseen", "speeds_unseen_total", "Windows at a speed that was never trained."),
    Metric("config_ok", "config_ok", "0 if the configuration was last read and not taken."),
    Metric("reloads", "reloads_total", "Times the configuration was read anew."),
    Metric("outbox_ok", "outbox_ok", "0 while the queue can't be written."),
    Metric("recorder_ok", "recorder_ok", "0 while recordings can't be written."),
    Metric("evidence_ok", "evidence_ok", "0 while evidence can't be written."),
    Metric("cpu_s", "cpu_seconds_total", "Processor time of the agent."),
    Metric("rss_bytes", "resident_memory_bytes", "Memory of the agent."),
    Metric("open_descriptors", "open_fds", "Open file descriptors of the agent."),
    Metric("threads", "threads", "Threads of the agent."),
    Metric("disk_free_bytes", "disk_free_bytes", "Free where the state lies."),
    Metric("disk_written_bytes", "disk_written_bytes_total", "Written to disk by the agent."),
    Metric("temp_c", "temperature_celsius", "Of the processor."),
    Metric("undervoltage", "undervoltage", "1 while the supply's voltage is too low."),
    Metric("throttled", "throttled", "1 while the processor is slowed down."),
    Metric("clock_synced", "clock_synchronised", "1 if the wall clock is kept right."),
    Metric("clock_steps", "clock_steps_total", "Jumps of the wall clock by more than a second."),
)  # fmt: skip

OF_BOARD = (
    Metric("bytes", "board_received_bytes_total", "From the wire."),
    Metric("frames", "board_frames_total", "Whole frames from the wire."),
    Metric("frames_bad_crc", "board_frames_damaged_total", BAD_FRAMES, 1.0, (("why", "crc"),)),
    Metric("frames_bad_cobs", "board_frames_damaged_total", BAD_FRAMES, 1.0, (("why", "cobs"),)),
    Metric("frames_bad_frame", "board_frames_damaged_total", BAD_FRAMES, 1.0, (("why", "frame"),)),
    Metric("frames_oversize", "board_frames_damaged_total", BAD_FRAMES, 1.0, (("why", "size"),)),
    Metric("frames_unexpected", "board_frames_unexpected_total", "Whole, but nobody asked."),
    Metric("sessions", "board_sessions_total", "Times the board began to stream."),
    Metric("restarts", "board_restarts_total", "Times it began anew within a session."),
    Metric("samples", "board_samples_total", "Samples that arrived."),
    Metric("samples_not_finite", "board_samples_not_finite_total", "Arrived, but no number."),
    Metric("samples_lost_on_board", "board_samples_lost_total", LOST, 1.0, (("where", "board"),)),
    Metric("samples_lost_on_wire", "board_samples_lost_total", LOST, 1.0, (("where", "wire"),)),
    Metric("samples_overwritten", "board_samples_lost_total", LOST, 1.0, (("where", "gateway"),)),
    Metric("batches_refused", "board_batches_refused_total", "Batches that make no sense."),
    Metric("batches_with_sensor_error", "board_sensor_errors_total", "Batches with such a flag."),
    Metric("gaps", "board_gaps_total", "Times that samples were missing."),
    Metric("clock_round_trip_ms", "board_clock_round_trip_seconds", "The best one.", MILLI),
    Metric("clock_drift_ppm", "board_clock_drift_ratio", "Of the board's clock.", 1e-6),
    Metric("board_uptime_s", "board_uptime_seconds", "Since the board's reset."),
    Metric("board_rx_errors", "board_own_errors_total", OWN, 1.0, (("what", "rx"),)),
    Metric("board_rx_overrun", "board_own_errors_total", OWN, 1.0, (("what", "rx_overrun"),)),
    Metric("board_fifo_overrun", "board_own_errors_total", OWN, 1.0, (("what", "fifo_overrun"),)),
    Metric("board_tx_dropped", "board_own_errors_total", OWN, 1.0, (("what", "tx_dropped"),)),
)  # fmt: skip

OF_ASSET = (
    Metric("ratio", "asset_ratio", "Score by threshold of the newest window: 1 is on the line."),
    Metric("score", "asset_score", "Of the newest window; high is anomalous."),
    Metric("threshold", "asset_threshold", "What the score is held against."),
    Metric("judged_s", "asset_judged_age_seconds", "Age of the newest window."),
    Metric("severity", "asset_severity", "Of the alarm that people were told of; 0 without one."),
    Metric("windows", "asset_windows_total", "Windows judged."),
    Metric("gaps", "asset_gaps_total", "Times that its window was emptied."),
    Metric("samples_lost", "asset_samples_lost_total", "Samples that its windows went without."),
    Metric("episodes", "asset_episodes_total", "Episodes that began."),
)


def exposition(status: Status) -> str:
    """The whole text."""
    who = {"gateway": status.gateway}
    of_boards = [({**who, "board": b.board}, b.model_dump()) for b in status.boards]
    of_assets = [({**who, "asset": a.name}, a.model_dump()) for a in status.assets]
    lines = [
        *_family("info", "What runs here.", [({**who, "version": status.health.version}, 1)]),
        *_family("problems", "What does not work now.", [(who, len(status.wrong))]),
        *_family("broker_connected", "1 while the broker has us.", [(who, status.connected)]),
        *_families(OF_GATEWAY, [(who, status.health.model_dump())]),
        *_family(
            "board_streaming", "1 while samples come.",
            [(labels, board["state"] == STREAMING) for labels, board in of_boards],
        ),
        *_families(OF_BOARD, of_boards),
        *_family(
            "asset_online", "1 while it is judged.",
            [(labels, asset["status"] == "online") for labels, asset in of_assets],
        ),
        *_family(
            "asset_alarm", "1 while there is an alarm that nobody has seen.",
            [(labels, asset["state"] == "alarm") for labels, asset in of_assets],
        ),
        *_families(OF_ASSET, of_assets),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def write_file(file: Path, text: str) -> None:
    """The old text or the new one, whenever it is read. Not synced: after a power cut it is out of
    date anyway. Raises `OSError`."""
    draft = file.with_name(f".{file.name}.new")
    draft.write_text(text, encoding="utf-8")
    os.chmod(draft, READABLE_BY_ALL)
    draft.replace(file)


def _families(
    metrics: Iterable[Metric], rows: list[tuple[dict[str, str], dict[str, Any]]]
) -> Iterator[str]:
    """Samples of one name stand together, whatever board they are of."""
    by_name: dict[str, list[Metric]] = {}
    for metric in metrics:
        by_name.setdefault(metric.name, []).append(metric)
    for name, same in by_name.items():
        samples = [
            ({**labels, **dict(metric.labels)}, values[metric.field] * metric.factor)
            for labels, values in rows
            for metric in same
            if values[metric.field] is not None
        ]
        yield from _family(name, same[0].what, samples, same[0].kind)


def _family(
    name: str, what: str, samples: list[tuple[dict[str, str], Any]], kind: str = "gauge"
) -> Iterator[str]:
    if not samples:
        return
    yield f"# HELP otolith_{name} {what}"
    yield f"# TYPE otolith_{name} {kind}"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"otolith_{name}{{{inside}}} {_number(float(value))}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return f"{value:.15g}"  # NaN is nan, which is understood
