"""The real image on an emulated board: QEMU with the firmware's ELF, its UART on a pty."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT

FIRMWARE = ROOT / "firmware_bridge" / "firmware"
ELF = ROOT / "build" / "firmware" / "otolith-f103.elf"
# netduino2 is an STM32F205 with USART2, USART3 and TIM2 where an F103 has them. Of the three
# serial lines the first, USART1, is not used.
QEMU = [
    "qemu-system-arm", "-M", "netduino2", "-kernel", str(ELF), "-nodefaults",
    "-display", "none", "-monitor", "none", "-serial", "null", "-serial", "pty",
]  # fmt: skip
START_SECONDS = 10.0
TOOLS = {"arm-none-eabi-gcc": "gcc-arm-none-eabi", "qemu-system-arm": "qemu-system-arm"}


class EmulatedBoard(NamedTuple):
    """A running board: the device it is on, and where it takes a recording from, if anywhere."""

    process: subprocess.Popen[str]
    port: Path
    feed: Path | None


@cache
def build() -> str:
    """The image, made once a session; gives what `make f103` printed."""
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (apt-get install {package})")
    done = subprocess.run(
        ["make", "--no-print-directory", "-C", FIRMWARE, "f103"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def emulator(link: Path, with_feed: bool = False) -> Iterator[EmulatedBoard]:
    """A board on a pty that is called `link`. With `with_feed` a second one takes a recording."""
    build()
    serial = ["-serial", "pty"] if with_feed else []
    process = subprocess.Popen(
        [*QEMU, *serial], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        link.symlink_to(_device(process, "serial1"))
        feed = Path(_device(process, "serial2")) if with_feed else None
        yield EmulatedBoard(process, link, feed)
    finally:
        link.unlink(missing_ok=True)
        process.terminate()
        process.communicate()


def _device(process: subprocess.Popen[str], label: str) -> str:
    """The name that QEMU prints for this serial line; they come in their order."""
    assert process.stdout
    deadline_s = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline_s:
        line = process.stdout.readline()
        found = re.match(rf"char device redirected to (\S+) \(label {label}\)", line)
        if found:
            return found[1]
        assert line, f"QEMU has ended with {process.wait()}"
    raise AssertionError(f"QEMU names no {label}")
