"""The firmware's C as a process to talk to: `firmware_bridge/firmware/host/harness.h` in Python.

In: calls. Out: what the C answered. Never: the real clock, a C compiler's absence without a word.
Whatever the sanitizers find ends the process, and the call that it happened in fails with it.
"""

from __future__ import annotations

import fcntl
import shutil
import struct
import subprocess
import tempfile
from enum import IntEnum
from functools import cache
from typing import NamedTuple

import pytest

from tests.conftest import ROOT

FIRMWARE = ROOT / "firmware_bridge" / "firmware"
PROGRAM = ROOT / "build" / "firmware" / "harness"
Row = tuple[int, int, int]


class Driver(IntEnum):
    """The drivers, in the order of host/sensors.c."""

    ADXL345 = 0
    QMC5883L = 1
    HMC5883L = 2
    SYNTHETIC_ACCEL = 3
    SYNTHETIC_MAG = 4


class Chip(IntEnum):
    """The models of chips."""

    ADXL345 = 0
    QMC5883L = 1
    HMC5883L = 2


class Fault(IntEnum):
    """What a chip or its bus can have."""

    WELL = 0
    ABSENT = 1
    BUS_ERROR = 2
    STUCK_HIGH = 3
    STUCK_LOW = 4
    GLITCH = 5


class Counters(NamedTuple):
    """Of the receiver."""

    frames: int
    bad_crc: int
    bad_cobs: int
    oversize: int


class About(NamedTuple):
    """What the schema will say about a sensor."""

    clip: int
    stream_id: int
    rates_millihertz: list[int]
    stream: str
    chip: str
    unit: str
    scale: str
    range: str


class Read(NamedTuple):
    """One read of a driver that gave rows or flags."""

    time_us: int
    flags: int
    rows: list[Row]


class SelfTest(NamedTuple):
    """Per channel, in raw numbers."""

    delta: Row
    low: Row
    high: Row

    @property
    def passed(self) -> list[bool]:
        """Whether each channel is within its limits."""
        return [low <= delta <= high for delta, low, high in zip(*self, strict=True)]


class ChipState(NamedTuple):
    """What a model of a chip has lived through."""

    transfers: int
    taken: int
    early_reads: int
    registers: bytes


class NodeState(NamedTuple):
    """What a board does, and what its LED says."""

    busy: bool
    light_code: int
    light_on: bool
    schema_crc: int


def signal_row(number: int) -> Row:
    """Row `number` of a chip that counts (host/chips/chip.h)."""
    return number % 1000 * 2, -(number % 1000) * 2, number * 7 % 997 * 2


def rows_of(raw: bytes) -> list[Row]:
    """Three i16 each."""
    return [(x, y, z) for x, y, z in struct.iter_unpack("<3h", raw)]


@cache
def make(target: str) -> str:
    """A target of the firmware's Makefile, made once a process, one process after the other; gives
    what it printed."""
    for tool in ("gcc", "make"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (apt-get install build-essential)")
    lock = ROOT / "build" / "firmware.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return _made(target)


def _made(target: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", "-C", FIRMWARE, target],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


class Harness:
    """One process, and the world in it: a board, three chips, every driver, a receiver.

    A world begins at time 0 with all chips there and well, and a line that takes a frame at once.
    """

    def __init__(self) -> None:
        make("host")
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
        )

    @property
    def alive(self) -> bool:
        """False once a call has failed."""
        return self._process.poll() is None

    def call(self, operation: int, payload: bytes = b"") -> bytes:
        """One request of harness.h."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(struct.pack("<BI", operation, len(payload)) + payload)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail(operation)
        head = self._process.stdout.read(4)
        if len(head) < 4:
            self._fail(operation)
        (size,) = struct.unpack("<I", head)
        answer = self._process.stdout.read(size)
        if len(answer) < size:
            self._fail(operation)
        return answer

    def close(self) -> int:
        """Ends the process; gives its exit code, which is 0 if nothing was found."""
        self._process.communicate()
        self._stderr.close()
        return self._process.returncode

    def _fail(self, operation: int) -> None:
        code = self._process.wait()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace")
        self._process.communicate()
        self._stderr.close()
        raise AssertionError(f"operation {operation:02X} ended the harness with {code}:\n{said}")

    def reset(self) -> None:
        """A new world."""
        self.call(0x00)

    # COBS, CRC, frames, clock, light

    def feed(self, data: bytes) -> list[bytes]:
        """Bytes to the receiver; gives the bodies that they complete."""
        answer, bodies = self.call(0x01, data), []
        while answer:
            size = int.from_bytes(answer[:2], "little")
            bodies.append(answer[2 : 2 + size])
            answer = answer[2 + size :]
        return bodies

    def counters(self) -> Counters:
        """Of the receiver, since `reset`."""
        return Counters(*struct.unpack("<4I", self.call(0x02)))

    def seal(self, body: bytes) -> bytes:
        """The frame of a body."""
        return self.call(0x03, body)

    def cobs_encode(self, data: bytes) -> bytes:
        """Without the 00 at the end."""
        return self.call(0x04, data)

    def cobs_decode(self, data: bytes) -> bytes | None:
        """None if it is no COBS."""
        answer = self.call(0x05, data)
        return answer[1:] if answer[0] else None

    def crc32(self, data: bytes, crc: int = 0) -> int:
        """Goes on from `crc`."""
        return int.from_bytes(self.call(0x06, struct.pack("<I", crc) + data), "little")

    def clock(self, mask: int, counts: list[int]) -> list[int]:
        """The times at which a hardware counter had these values, one after the other."""
        answer = self.call(0x07, struct.pack(f"<{1 + len(counts)}I", mask, *counts))
        return list(struct.unpack(f"<{len(counts)}Q", answer))

    def light(self, code: int, time_us: int) -> bool:
        """Whether the LED is on."""
        return bool(self.call(0x08, struct.pack("<BQ", code, time_us))[0])

    # The world: time, line, chips

    @property
    def time_us(self) -> int:
        """The board's time."""
        return int.from_bytes(self.call(0x11), "little")

    @time_us.setter
    def time_us(self, value: int) -> None:
        self.call(0x10, struct.pack("<Q", value))

    def costs(self, look_ns: int = 250, spi_byte_ns: int = 1778, i2c_byte_ns: int = 22500) -> None:
        """What a look at the clock and a byte on a bus take. With look_ns 0, drivers that wait
        wait for ever."""
        self.call(0x12, struct.pack("<3I", look_ns, spi_byte_ns, i2c_byte_ns))

    def line(self, blocked: bool = False, baud: int = 0) -> None:
        """Whether the line takes frames, and how fast they leave: 0 is at once."""
        self.call(0x13, struct.pack("<BI", blocked, baud))

    def sent(self) -> bytes:
        """What has left since the last time."""
        return self.call(0x14)

    def restarts(self) -> tuple[int, int]:
        """How often the board was told to start over, and the last mode."""
        count, mode = struct.unpack("<IB", self.call(0x15))
        return count, mode

    def fault(self, chip: Chip, fault: Fault) -> None:
        """From now on."""
        self.call(0x18, bytes([chip, fault]))

    def fault_once(self, chip: Chip, transfer: int, fault: Fault = Fault.BUS_ERROR) -> None:
        """The transfer with this number has it: 1 is the next one, 0 none."""
        self.call(0x19, struct.pack("<BIB", chip, transfer, fault))

    def power_cycle(self, chip: Chip) -> None:
        """The chip forgets everything."""
        self.call(0x1A, bytes([chip]))

    def still(self, chip: Chip, row: Row) -> None:
        """The chip feels this from now on, instead of counting."""
        self.call(0x1B, struct.pack("<BB3i", chip, True, *row))

    def ppm(self, chip: Chip, ppm: int) -> None:
        """Its oscillator is this much too fast, from its next start on."""
        self.call(0x1C, struct.pack("<Bi", chip, ppm))

    def self_test_force(self, chip: Chip, force: Row) -> None:
        """What the self test does to each axis: numbers (ADXL345), milligauss (HMC5883L)."""
        self.call(0x1D, struct.pack("<B3i", chip, *force))

    def chip(self, chip: Chip) -> ChipState:
        """What the model knows."""
        answer = self.call(0x1E, bytes([chip]))
        transfers, taken, early_reads = struct.unpack_from("<3I", answer)
        return ChipState(transfers, taken, early_reads, answer[12:])

    # One driver by itself

    def about(self, driver: Driver) -> About:
        """What it says about itself."""
        answer = self.call(0x20, bytes([driver]))
        clip, stream_id, count = struct.unpack_from("<hBB", answer)
        rates = list(struct.unpack_from(f"<{count}I", answer, 4))
        texts = answer[4 + 4 * count :].decode().split("\0")
        return About(clip, stream_id, rates, *texts[:5])

    def probe(self, driver: Driver) -> bool:
        """Whether its chip is there."""
        return bool(self.call(0x21, bytes([driver]))[0])

    def start(self, driver: Driver, rate_millihertz: int = 0) -> bool:
        """0 leaves the rate as it is."""
        return bool(self.call(0x22, struct.pack("<BI", driver, rate_millihertz))[0])

    def stop(self, driver: Driver) -> None:
        """The chip rests."""
        self.call(0x23, bytes([driver]))

    def read(self, driver: Driver) -> Read:
        """Once, now."""
        now_us, answer = self.time_us, self.call(0x24, bytes([driver]))
        return Read(now_us, answer[0], rows_of(answer[1:]))

    def run(self, driver: Driver, reads: int, step_us: int) -> list[Read]:
        """Reads `step_us` apart (or more, if one takes that long), without those that gave
        nothing."""
        answer, found, at = self.call(0x25, struct.pack("<BII", driver, reads, step_us)), [], 0
        while at < len(answer):
            time_us, flags, count = struct.unpack_from("<QBB", answer, at)
            at += 10 + 6 * count
            found.append(Read(time_us, flags, rows_of(answer[at - 6 * count : at])))
        return found

    def self_test(self, driver: Driver) -> SelfTest | None:
        """None if the chip didn't answer."""
        answer = self.call(0x26, bytes([driver]))
        assert answer[0] < 2, f"{driver.name} has no self test"
        return SelfTest(*rows_of(answer[1:])) if answer[0] else None

    def registers(self, driver: Driver, first: int, size: int) -> bytes | None:
        """None if the chip didn't answer."""
        answer = self.call(0x27, bytes([driver, first, size]))
        return answer[1:] if answer[0] else None

    # A whole board

    def node(
        self,
        sensors: list[tuple[Driver, bool]],
        *,
        emulated: bool = False,
        crystal: bool = True,
        reset_cause: int = 1,
        uid: bytes = bytes(range(12)),
        name: str = "host",
    ) -> list[bool]:
        """A board with these sensors; the second of each is `anyway` of node_add. Gives which of
        them answer."""
        head = struct.pack("<3B12sB", emulated, crystal, reset_cause, uid, len(name))
        pairs = b"".join(bytes([driver, anyway]) for driver, anyway in sensors)
        return [
            bool(there)
            for there in self.call(0x30, head + name.encode() + bytes([len(sensors)]) + pairs)
        ]

    def node_feed(self, data: bytes) -> int:
        """Bytes into its ring (512); gives how many have found no room since it is there."""
        return int.from_bytes(self.call(0x31, data), "little")

    def node_run(self, polls: int = 1, step_us: int = 0) -> bytes:
        """That many polls, with so much time before each; gives what was sent."""
        self.call(0x32, struct.pack("<II", polls, step_us))
        return self.sent()

    def node_state(self) -> NodeState:
        """Now."""
        busy, code, on, crc = struct.unpack("<BBBI", self.call(0x33))
        return NodeState(bool(busy), code, bool(on), crc)


@cache
def _shared(generation: int) -> Harness:
    return Harness()


def fresh_harness() -> Harness:
    """The session's one process, with a new world; another process if a test has ended it."""
    generation = 0
    while not _shared(generation).alive:
        generation += 1
    harness = _shared(generation)
    harness.reset()
    return harness
