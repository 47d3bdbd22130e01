"""The floors: what the work costs when nothing but the work is done.

`read`: one selector, `os.read`, `np.frombuffer`. `invoke`: the same and the bare interpreter as
often as the agent judges, each read as soon as there is something. `ports`: our ports and links,
up to samples. `read` and `ports` rest as the service does: what comes within `REST_SECONDS` is read
together. `memory`: interpreter, NumPy and paho, imported and standing still. Each runs in a process
of its own, so that CPU seconds and memory are its alone, and ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import sys
import time
import tty
from pathlib import Path

import numpy as np

from edge_agent.boards.ports import Opened, Ports
from edge_agent.boards.session import FILL_BYTES
from edge_agent.bundles.bundle import read_bundle
from edge_agent.config import BoardSettings
from firmware_bridge.codec import DELIMITER, encode
from firmware_bridge.frames import HeartbeatRequest, StartRequest
from firmware_bridge.link import Link

WARM_UP_SECONDS = 3.0
BYTES_A_SAMPLE = 6.33
REST_SECONDS = FILL_BYTES / (3200 * 6)


def bare_invoke(bundle: Path) -> tuple[object, float]:
    """An interpreter that is only invoked, and the bytes of the wire between two windows."""
    from ai_edge_litert.interpreter import Interpreter

    manifest, model = (whole := read_bundle(bundle)).manifest, whole.model
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter, manifest.window.hop * BYTES_A_SAMPLE


def read_only(paths: list[str], seconds: float, bundle: Path | None) -> float:
    """CPU seconds a second of the bare loop."""
    interpreter, bytes_a_window = bare_invoke(bundle) if bundle else (None, float("inf"))
    selector = selectors.DefaultSelector()
    for path in paths:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        tty.setraw(fd)
        os.write(fd, DELIMITER + encode(StartRequest(0, 1, 0xFFFFFFFF)))
        selector.register(fd, selectors.EVENT_READ)
    begin = heartbeat = time.monotonic()
    cpu, pending = None, 0.0
    while (now := time.monotonic()) - begin < WARM_UP_SECONDS + seconds:
        if cpu is None and now - begin >= WARM_UP_SECONDS:
            cpu = time.process_time()
        if now - heartbeat >= 1.0:
            heartbeat = now
            for fd in list(selector.get_map()):
                os.write(fd, encode(HeartbeatRequest(0, 2)))
        for key, _ in selector.select(0.1):
            chunk = os.read(key.fd, 65536)
            np.frombuffer(chunk, "<i2", len(chunk) // 2)
            pending += len(chunk)
            if pending >= bytes_a_window:
                pending -= bytes_a_window
                interpreter.invoke()
        if interpreter is None:
            time.sleep(REST_SECONDS)
    return (time.process_time() - (cpu or 0.0)) / seconds


def _turn(ports: Ports, links: dict[str, Link]) -> None:
    """What has come to the links, what they say to the ports."""
    for name, event in ports.poll(0.1):
        now = time.monotonic()
        if isinstance(event, bytes):
            links[name].feed(event, now)
        elif isinstance(event, Opened):
            links[name].opened(now)
    for name, link in links.items():
        if out := link.outgoing(time.monotonic()):
            ports.write(name, out)


def ports_and_links(paths: list[str], seconds: float) -> float:
    """CPU seconds a second of our ports and links, samples thrown away."""
    boards = {str(i): BoardSettings(port=Path(path)) for i, path in enumerate(paths)}
    ports, links = Ports(boards), {name: Link() for name in boards}
    begin = ticked = time.monotonic()
    cpu = None
    while (now := time.monotonic()) - begin < WARM_UP_SECONDS + seconds:
        if cpu is None and now - begin >= WARM_UP_SECONDS:
            cpu = time.process_time()
        if now - ticked >= 0.1:
            ticked = now
            ports.tick(now)
            for link in links.values():
                link.tick(now)
        _turn(ports, links)
        if not any(link.waiting for link in links.values()):
            time.sleep(REST_SECONDS)
    ports.shut()
    return (time.process_time() - (cpu or 0.0)) / seconds


def standing_still(bundle: Path) -> float:
    """Resident bytes of interpreter, NumPy and paho in one process."""
    import paho.mqtt.client  # noqa: F401  its memory is what is measured
    import psutil

    interpreter, _ = bare_invoke(bundle)
    interpreter.invoke()
    return float(psutil.Process().memory_info().rss)


def main() -> int:
    """Measures one floor."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["read", "invoke", "ports", "memory"])
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--bundle", type=Path)
    args = parser.parse_args()
    if args.what == "memory":
        value = standing_still(args.bundle)
    elif args.what == "ports":
        value = ports_and_links(args.paths, args.seconds)
    else:
        bundle = args.bundle if args.what == "invoke" else None
        value = read_only(args.paths, args.seconds, bundle)
    sys.stdout.write(json.dumps({"value": value}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
