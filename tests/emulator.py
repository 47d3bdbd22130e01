"""The real image on an emulated board: QEMU with the firmware's ELF, its UART on a pty."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from firmware_bridge.codec import DELIMITER, Decoder, encode
from firmware_bridge.frames import Data, Frame, Heartbeat, HeartbeatRequest, Request
from firmware_bridge.port import Port
from tests.conftest import ROOT
from tests.firmware import make

ELF = ROOT / "build" / "firmware" / "otolith-f103.elf"
TOOLS = {"arm-none-eabi-gcc": "gcc-arm-none-eabi", "qemu-system-arm": "qemu-system-arm"}
# netduino2 is an STM32F205 with USART2, USART3 and TIM2 where an F103 has them. Of the serial
# lines the first, USART1, is not used.
QEMU = [
    "qemu-system-arm", "-M", "netduino2", "-kernel", str(ELF), "-nodefaults",
    "-display", "none", "-monitor", "none", "-serial", "null", "-serial", "pty",
]  # fmt: skip
BAUD = 921600
START_SECONDS = 20.0
# Longer than QEMU needs to see that a pty was opened: then nothing is answered twice.
REPLY_SECONDS = 2.0
TRIES = 5

F = TypeVar("F", bound=Frame)


class EmulatedBoard(NamedTuple):
    """A running board: the device it is on, and where it takes a recording from, if anywhere."""

    process: subprocess.Popen[str]
    port: Path
    feed: Path | None


class Host:
    """The other end of the line, without a session: what is asked and what comes."""

    def __init__(self, path: Path) -> None:
        self.port = Port(str(path), BAUD)
        self.decoder = Decoder(sync=True)
        self.data: list[Data] = []
        self.port.write(DELIMITER)

    def listen(self, seconds: float) -> list[Frame]:
        """Whatever comes in this time, DATA and replies; DATA is kept in `data` too."""
        frames: list[Frame] = []
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            frames += self._read()
        return frames

    def ask(self, request: Request, answer: type[F], tries: int = TRIES) -> F:
        """The reply to a request, repeated as a host does; DATA on the way is kept."""
        for _ in range(tries):
            self.port.write(encode(request))
            deadline_s = time.monotonic() + REPLY_SECONDS
            while time.monotonic() < deadline_s:
                for frame in self._read():
                    if isinstance(frame, answer) and frame.seq == request.seq:
                        return frame
        raise AssertionError(f"no reply to {request}")

    def _read(self) -> list[Frame]:
        frames = self.decoder.feed(self.port.read(0.01))
        self.data += [frame for frame in frames if isinstance(frame, Data)]
        return frames


@cache
def build() -> str:
    """The image, made once a session; gives what `make f103` printed."""
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (apt-get install {package})")
    return make("f103")


@contextmanager
def emulator(link: Path, with_feed: bool = False) -> Iterator[EmulatedBoard]:
    """A board that has started, on a pty that is called `link`; its UART has nobody yet.

    With `with_feed` a second pty takes a recording. QEMU looks once a second whether a pty has
    been opened, so the first answer may take that long.
    """
    build()
    # On one core its two threads pass each byte on without waking another one.
    one_core = ["taskset", "-c", str(max(os.sched_getaffinity(0)))]
    serial = ["-serial", "pty"] if with_feed else []
    process = subprocess.Popen(
        [*one_core, *QEMU, *serial], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        link.symlink_to(_device(process, "serial1"))
        feed = Path(_device(process, "serial2")) if with_feed else None
        _wait_until_started(link)
        yield EmulatedBoard(process, link, feed)
    finally:
        link.unlink(missing_ok=True)
        process.terminate()
        process.communicate()


def _device(process: subprocess.Popen[str], label: str) -> str:
    """The name that QEMU prints for this serial line; they come in their order."""
    assert process.stdout
    for line in process.stdout:
        found = re.match(rf"char device redirected to (\S+) \(label {label}\)", line)
        if found:
            return found[1]
    raise AssertionError(f"QEMU has ended with {process.wait()} and named no {label}")


def _wait_until_started(link: Path) -> None:
    host = Host(link)
    host.ask(HeartbeatRequest(0, 1), Heartbeat, tries=int(START_SECONDS / REPLY_SECONDS))
    host.port.close()
