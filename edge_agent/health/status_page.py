"""Status page: a status as people read it, 80 columns wide and, with four boards, 24 lines high.

In: a `Status`. Out: lines, and colour where there is a terminal. Never: computes anything that is
not in `--json`, lets a board's text upset a terminal. Only commands import this file, and rich.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from edge_agent.boards.board_health import BoardHealth
from edge_agent.health.status import STREAMING, AssetNow, Status

WIDTH = 80
BAR_CELLS = 10
PROBLEMS_SHOWN = 2
WELL = "all is well"
GOOD, BAD, DIM, PLAIN = "green", "bold red", "dim", ""
STYLES = {"online": GOOD, STREAMING: GOOD, "ok": GOOD, "offline": BAD, "refused": BAD,
          "faulty": BAD, "alarm": BAD, "acked": "yellow", "snoozed": "yellow"}  # fmt: skip


def print_page(status: Status) -> None:
    """On standard output."""
    console = Console(highlight=False)
    for text in lines(status):
        shown = Text(text, style=_style(text))
        if not shown.style:
            for word, style in STYLES.items():
                shown.highlight_words([f" {word} "], style)
        console.print(shown, soft_wrap=True)


def lines(status: Status) -> Iterator[str]:
    """The page; the last line says whether anything is wrong."""
    for text in _lines(status):
        plain = "".join(c if c.isascii() and c.isprintable() else "." for c in text)
        yield plain if len(plain) <= WIDTH else plain[: WIDTH - 1] + "~"


def _lines(status: Status) -> Iterator[str]:
    health = status.health
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.ts))
    title = f"{status.gateway}  otolith {health.version}, up {_span(health.uptime_s)}"
    yield f"{title}{when:>{max(1, WIDTH - len(title))}}"
    yield f"{'board':<16} {'state':<11} {'samples':>12} {'lost':>8} {'damaged':>8} {'clock':>9}"
    for board in status.boards:
        yield _board(board)
    yield f"{'asset':<16} {'status':<8} {'state':<8} {'ratio, | is 1':<19} bundle"
    for asset in status.assets:
        yield _asset(asset)
    yield from _gateway(status)
    for problem in status.problems[-PROBLEMS_SHOWN:]:
        yield f"lately   {problem}"
    more = f" (and {len(status.wrong) - 1} more: --json)" if len(status.wrong) > 1 else ""
    room = WIDTH - len("wrong: ") - len(more)
    yield f"wrong: {_cut(status.wrong[0], room)}{more}" if status.wrong else WELL


def _board(board: BoardHealth) -> str:
    lost = board.samples_lost_on_board + board.samples_lost_on_wire + board.samples_overwritten
    damaged = (board.frames_bad_crc + board.frames_bad_cobs + board.frames_bad_frame
               + board.frames_oversize)  # fmt: skip
    drift = "" if board.clock_drift_ppm is None else f"{board.clock_drift_ppm:+.1f} ppm"
    return (
        f"{_cut(board.board, 16):<16} {board.state:<11} {board.samples:>12} {lost:>8} "
        f"{damaged:>8} {drift:>9}"
    )


def _asset(asset: AssetNow) -> str:
    bundle = f"{asset.bundle} serial {asset.bundle_serial}" if asset.bundle else asset.refusal or ""
    if asset.calibration:
        bundle += f", {asset.calibration}"
    return (
        f"{_cut(asset.name, 16):<16} {asset.status:<8} {asset.state:<8} "
        f"{bar(asset.ratio):<19} {bundle}"
    )


def bar(ratio: float | None) -> str:
    """From 0 to 2 and more; the line in the middle is the threshold."""
    if ratio is None:
        return ""
    full = min(BAR_CELLS, max(0, round(ratio * BAR_CELLS / 2)))
    cells = "#" * full + "." * (BAR_CELLS - full)
    half = BAR_CELLS // 2
    return f"{cells[:half]}|{cells[half:]} {min(ratio, 9999):.2f}"


def _gateway(status: Status) -> Iterator[str]:
    health = status.health
    connected = "connected" if status.connected else "away"
    times = f", {health.broker_connections} connections" if health.broker_connections > 1 else ""
    yield f"broker   {status.broker} {connected} {times}".rstrip()
    yield f"queue    {_queue(status)}"
    yield (
        f"losses   {health.samples_lost_on_board} samples on boards, "
        f"{health.samples_lost_on_wire} on wires, {health.samples_overwritten} here; "
        f"{health.gaps} gaps"
    )
    yield (
        f"judging  {health.windows_per_s:.3g} windows/s, {_ms(health.window_late_p50_ms)} after "
        f"the last sample (p99 {_ms(health.window_late_p99_ms)})"
    )
    yield (
        f"model    {_ms(health.invoke_p50_ms)} (p99 {_ms(health.invoke_p99_ms)}); "
        f"loop late by {health.loop_late_max_ms:.0f} ms at most"
    )
    yield f"memory   {_process(status)}"
    yield f"disk     {_disk(status)}"
    yield f"clock    {_clock(status)}"


def _queue(status: Status) -> str:
    health = status.health
    left = "" if health.queue_hours_left is None else f", {health.queue_hours_left:.0f} hours left"
    dropped = health.dropped_alerts + health.dropped_telemetry
    given_up = f"; {health.dropped_alerts} alerts, {health.dropped_telemetry} others given up"
    return (
        f"{health.queue_depth} waiting, oldest {_span(health.queue_oldest_s)}{left}"
        f"{given_up if dropped else ''}"
    )


def _process(status: Status) -> str:
    health = status.health
    parts = [
        _bytes(health.rss_bytes), f"{_known(health.threads)} threads",
        f"{_known(health.open_descriptors)} open files", f"{health.cpu_s:.0f} s of processor",
    ]  # fmt: skip
    if health.temp_c is not None:
        parts.append(f"{health.temp_c:.0f} C")
    if health.undervoltage_seen or health.throttled_seen:
        parts.append("supply was too weak")
    return ", ".join(parts)


def _disk(status: Status) -> str:
    health = status.health
    day = health.disk_written_bytes_per_day
    pace = "" if day is None else f", {_bytes(day)} a day"
    return (
        f"{_bytes(health.disk_free_bytes)} free; {_bytes(health.disk_written_bytes)} written{pace}"
    )


def _clock(status: Status) -> str:
    health = status.health
    words = {None: "nobody says whether it is synchronised", 0: "not synchronised"}
    steps = "no steps"
    if health.clock_steps:
        steps = f"{health.clock_steps} steps, the last by {health.clock_last_step_s:+.1f} s"
    return f"{words.get(health.clock_synced, 'synchronised')}, {steps}"


def _style(text: str) -> str:
    first = text.partition(" ")[0]
    if first in ("board", "asset", "lately"):
        return DIM
    return GOOD if text == WELL else BAD if first == "wrong:" else PLAIN


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "~"


def _known(number: int | None) -> str:
    return "?" if number is None else str(number)


def _ms(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g} ms"


def _bytes(count: int | None) -> str:
    """As people say it."""
    if count is None:
        return "?"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.4g} TB"


def _span(seconds: float) -> str:
    """As people say it: its two largest parts."""
    whole = round(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
