"""Soak: a day of four boards through the live loop, faster than it comes.

`python -m tests.soak [--hours 24] [--speed inf] [--json]`: simulated boards on ptys, `edge-agent
run` as a process, a real broker. Every health message is a row: what the boards have said so far,
the agent's resident memory, its descriptors and threads, its losses. The last row is the verdict:
after the first hour of data memory may grow by `MAX_GROWTH_BYTES`, descriptors and threads by
nothing, and no sample may be lost.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.progress import Progress

from tests.benchmarks import rig
from tests.subscriber import Subscriber

BOARDS = 4
RATE_HZ = 3200.0
MAX_GROWTH_BYTES = 1_000_000
HOUR_SECONDS = 3600.0
LOSSES = ("samples_lost", "frames_damaged", "dropped_alerts", "boards_tx_dropped")


class Moment(NamedTuple):
    """The agent after so many hours of data a board."""

    hours: float
    windows: int
    rss_bytes: int
    descriptors: int
    threads: int
    lost: int
    times_real_time: float


def soak(hours: float, speed: float, every_hours: float = 0.1) -> Iterator[Moment]:
    """One run; a moment each tenth of an hour of data."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            rig.broker(folder) as broker,
            rig.boards(folder, BOARDS, 1, speed) as links,
            rig.agent(rig.config(folder, broker.port, links)) as process,
        ):
            subscriber = Subscriber(broker.port, "otolith/bench/health", rig.ca_of(folder))
            began_s, due_hours, seen = time.monotonic(), 0.0, 0
            while due_hours <= hours:
                subscriber.until(lambda: len(subscriber.messages) > seen, 60)  # noqa: B023 - at once
                seen = len(subscriber.messages)
                health = json.loads(subscriber.messages[-1].payload)
                moment = _moment(health, process, time.monotonic() - began_s)
                if moment.hours >= due_hours:
                    due_hours = moment.hours + every_hours
                    yield moment
            subscriber.close()


def _moment(health: dict[str, Any], process: psutil.Process, seconds: float) -> Moment:
    data_seconds = health["samples"] / RATE_HZ / BOARDS
    return Moment(
        data_seconds / HOUR_SECONDS,
        health["windows"],
        process.memory_info().rss,
        process.num_fds(),
        process.num_threads(),
        sum(health[name] for name in LOSSES),
        data_seconds / seconds,
    )


def verdict(moments: list[Moment]) -> dict[str, Any]:
    """What the moments after the first hour say of each other. Raises `ValueError` without two."""
    late = [moment for moment in moments if moment.hours >= 1.0]
    if len(late) < 2:
        raise ValueError("a soak takes more than an hour of data")
    first, last = late[0], late[-1]
    growth = max(moment.rss_bytes for moment in late) - first.rss_bytes
    more = max(moment.descriptors for moment in late) - first.descriptors
    threads = max(moment.threads for moment in late) - first.threads
    return {
        "hours": round(last.hours, 2), "windows": last.windows, "lost": last.lost,
        "rss_growth_bytes": growth, "descriptors_more": more, "threads_more": threads,
        "times_real_time": round(last.times_real_time, 1),
        "ok": growth < MAX_GROWTH_BYTES and more <= 0 and threads <= 0 and last.lost == 0,
    }  # fmt: skip


def main() -> int:
    """One soak, with a bar on a terminal; exit code 1 if it grows or loses."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--hours", type=float, default=24.0, help="of data of each board")
    parser.add_argument("--speed", type=float, default=math.inf, help="inf: as fast as it is read")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    moments: list[Moment] = []
    with Progress(disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("hours of data", total=options.hours)
        for moment in soak(options.hours, options.speed):
            moments.append(moment)
            bar.update(task, completed=moment.hours)
            if options.json:
                sys.stdout.write(json.dumps(moment._asdict()) + "\n")
                sys.stdout.flush()
    told = verdict(moments)
    if options.json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        for name, value in told.items():
            sys.stdout.write(f"{name:18} {value}\n")
    return 0 if told["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
