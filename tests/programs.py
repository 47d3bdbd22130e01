"""The product's programs as children, the way their users run them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

VIBRATION = ROOT / "edge_agent" / "default_bundle" / "vibration.otolith"
COMPASS = ROOT / "edge_agent" / "default_bundle" / "compass.otolith"


def run(module: str, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
    """The JSON lines of a program that must end with `code`."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"{done.args}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def replay(recording: Path, bundle: Path, *arguments: object) -> list[dict[str, Any]]:
    """`edge-agent replay --json`."""
    return run("edge_agent", "replay", recording, "--bundle", bundle, "--json", *arguments)


@contextmanager
def board(link: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """`edge-board simulate` on a pty that is called `link`; ready when it is entered."""
    child = subprocess.Popen(
        [sys.executable, "-m", "firmware_bridge", "simulate", "--link", link,
         *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout
    assert "port" in json.loads(child.stdout.readline())
    try:
        yield child
    finally:
        child.terminate()
        child.communicate()


@contextmanager
def agent(config: Path) -> Iterator[subprocess.Popen[str]]:
    """`edge-agent run`, its journal beside the configuration."""
    with config.with_suffix(".log").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "run", "--config", config],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log, text=True,
        )  # fmt: skip
        try:
            yield child
        finally:
            child.terminate()
            child.wait()


@contextmanager
def mosquitto_sub(port: int, topic: str) -> Iterator[list[tuple[str, str]]]:
    """Debian's own subscriber; (topic, payload) of what it has printed, filled at the end."""
    received: list[tuple[str, str]] = []
    child = subprocess.Popen(
        ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", topic, "-q", "1", "-v"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield received
    finally:
        child.terminate()
        out, _ = child.communicate()
        for line in out.splitlines():
            name, _, payload = line.partition(" ")
            received.append((name, payload))


def mosquitto_pub(port: int, topic: str, payload: str, *more: str) -> None:
    """Debian's own publisher."""
    subprocess.run(
        ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-t", topic, "-m", payload,
         "-q", "1", *more],
        check=True, timeout=10,
    )  # fmt: skip
