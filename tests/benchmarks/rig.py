"""Rig: simulated boards, a broker and the agent as processes, and what they cost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.certificates import Authority, listener
from tests.conftest import ROOT, Mosquitto

BUNDLE = ROOT / "edge_agent" / "default_bundle" / "vibration.otolith"
START_SECONDS = 20.0
HEALTH_SECONDS = 10


def python(*arguments: str, **options: object) -> subprocess.Popen[str]:
    """A child of this interpreter in the repository."""
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, **options)


def floor(what: str, *arguments: str) -> float:
    """One figure of `tests.benchmarks.floor`."""
    with python("-m", "tests.benchmarks.floor", what, *arguments) as child:
        out, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(f"floor {what} ended with {child.returncode}")
    return float(json.loads(out.splitlines()[-1])["value"])


def recording(folder: Path, seconds: float, seed: int = 5) -> Path:
    """A healthy vibration machine as a file."""
    path = folder / f"vibration-{seconds:g}s.rec"
    command = ["-m", "firmware_bridge", "simulate", "--machine", "vibration", "--seed", str(seed)]
    with python(*command, "--seconds", str(seconds), "--out", str(path)) as child:
        child.communicate()
    if child.returncode:
        raise RuntimeError(f"edge-board simulate ended with {child.returncode}")
    return path


@contextmanager
def boards(folder: Path, count: int, processes: int, speed: float = 1.0) -> Iterator[list[str]]:
    """`count` boards that play the same recording again and again, each on a pty, shared out
    among so many processes; `speed` times as fast as they would."""
    source, each = recording(folder, 20.0), count // processes
    children = [
        python("-m", "firmware_bridge", "simulate", "--recording", str(source), "--repeat",
               "--boards", str(each), "--link", str(folder / f"board{i}.tty"),
               "--speed", str(speed))
        for i in range(processes)
    ]  # fmt: skip
    try:
        lines = [child.stdout.readline() for child in children for _ in range(each)]
        yield [json.loads(line)["port"] for line in lines]
    finally:
        for child in children:
            child.terminate()
            child.communicate()


@contextmanager
def broker(folder: Path) -> Iterator[Mosquitto]:
    """A Mosquitto of our own, over TLS as a plant's is; `ca_of` says whom to trust."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        raise RuntimeError("the benchmark needs mosquitto (apt-get install mosquitto)")
    authority = Authority(ca_of(folder).parent)
    running = Mosquitto(program, folder, listener(authority.issue("broker")))
    try:
        yield running
    finally:
        running.kill()


def ca_of(folder: Path) -> Path:
    """The certificate of the authority that has signed the broker's."""
    return folder / "authority" / "ca.pem"


def config(folder: Path, port: int, links: list[str], bundle: Path = BUNDLE) -> Path:
    """A gateway with one asset a board."""
    text = '[gateway]\nid = "bench"\n[storage]\nstate_dir = "state"\n'
    text += f'[mqtt]\nport = {port}\ntls = true\nca_file = "{ca_of(folder)}"\n'
    text += f"[health]\ninterval_seconds = {HEALTH_SECONDS}\n"
    for i, link in enumerate(links):
        text += f'[boards.b{i}]\nport = "{link}"\n[assets.a{i}]\nboard = "b{i}"\n'
        text += f'stream = "accel"\nbundle = "{bundle}"\n'
        # Each alarm is told: it is what some of these benchmarks wait for.
        text += f"[assets.a{i}.alarm]\nre_alarm_seconds = 0.0\nbegins_an_hour = 0\n"
    path = folder / "agent.toml"
    path.write_text(text)
    return path


@contextmanager
def agent(settings: Path) -> Iterator[psutil.Process]:
    """`edge-agent run` as a process."""
    log = settings.with_suffix(".log").open("w")
    child = python("-m", "edge_agent", "run", "--config", str(settings), stderr=log)
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.communicate()
        log.close()


def cpu_share(process: psutil.Process, warm_up_seconds: float, seconds: float) -> float:
    """CPU seconds a second of a running process, its children excluded."""
    time.sleep(warm_up_seconds)
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    if process.status() == psutil.STATUS_ZOMBIE:
        raise RuntimeError("the agent has ended: its cost is nothing")
    return (after.user + after.system - before.user - before.system) / seconds
