"""The image's I2C master against a model of the peripheral and of a chip on the bus.

The order of ACK, STOP and reading on an STM32F1 differs for one, two and more bytes (RM0008 section
26.3.3); a wrong one reads a byte too many, and the chip then holds the bus for ever.
"""

from __future__ import annotations

import subprocess
from math import inf

import pytest
from unicorn.arm_const import (
    UC_ARM_REG_LR,
    UC_ARM_REG_R0,
    UC_ARM_REG_R1,
    UC_ARM_REG_R2,
    UC_ARM_REG_R3,
    UC_ARM_REG_SP,
)

from tests.blue_pill import I2C1, RETURN, BluePill
from tests.emulator import ELF, build

START, STOP, ACK, POS, SWRST = 1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 15
SB, ADDR, BTF, RXNE, TXE, AF = 1, 2, 4, 1 << 6, 1 << 7, 1 << 10
GPIOB_IDR, GPIOB_BSRR = 0x40010C08, 0x40010C10
SCL, SDA = 1 << 6, 1 << 7
BYTE_US, START_US = 22.5, 5.0
CHIP = 0x1E
# Above all that the image uses, below the end of RAM.
OUT_AT, IN_AT = 0x20004800, 0x20004900


class Chip:
    """Registers behind a pointer that goes up by itself; `log` is what the bus has seen."""

    def __init__(self) -> None:
        self.registers = bytearray(range(0x40, 0x80))
        self.pointer = 0
        self.log: list[str] = []
        self._addressing = False

    def begin(self, reading: bool) -> None:
        self.log.append("read" if reading else "write")
        self._addressing = not reading

    def write(self, byte: int) -> None:
        if self._addressing:
            self.pointer, self._addressing = byte, False
            return
        self.registers[self.pointer] = byte
        self.pointer += 1

    def read(self, acknowledged: bool) -> int:
        self.log.append("ack" if acknowledged else "nack")
        self.pointer += 1
        return self.registers[self.pointer - 1]


class Bus:
    """I2C1 as RM0008 describes a master: each byte takes its time, and waits while nobody reads."""

    def __init__(self, board: BluePill, chip: Chip) -> None:
        self.board, self.chip = board, chip
        self.wrong: list[str] = []
        self.control = self.status = 0
        self.held = 0  # SCL pulses until the chip lets SDA go
        self._reset()
        board._reads.update({
            I2C1: lambda: self.control, I2C1 + 0x10: self._read_data,
            I2C1 + 0x14: self._read_status, I2C1 + 0x18: self._read_status_2,
            GPIOB_IDR: lambda: SCL | (0 if self.held else SDA),
        })  # fmt: skip
        board._writes.update({
            I2C1: self._write_control, I2C1 + 0x10: self._write_data,
            I2C1 + 0x14: lambda value: None, GPIOB_BSRR: self._drive,
        })  # fmt: skip

    def settle(self) -> None:
        """What was due by now has happened."""
        while self._due is not None and self.board.now_us >= self._due[0]:
            (at_us, event), self._due = self._due, None
            event(at_us)

    def _reset(self) -> None:
        self.status, self.busy, self.mode = 0, False, ""
        self._data: list[int] = []  # DR, and the shift register behind it
        self._due = None
        self._last = False

    def _after(self, seconds_us: float, event, begun_us: float | None = None) -> None:
        begun_us = self.board.now_us if begun_us is None else begun_us
        self._due = (begun_us + seconds_us, event)

    def _end(self) -> None:
        self.chip.log.append("stop")
        self.control &= ~STOP
        self.busy, self.mode = False, ""

    def _write_control(self, value: int) -> None:
        self.settle()
        if value & SWRST or self.control & SWRST:
            self._reset()
            self.control = value
            return
        if self.control & (START | STOP):
            self.wrong.append("CR1 written while START or STOP is on its way")
        self.control = value
        if value & START:
            self._after(START_US, self._started)
        if value & STOP and not (self.mode == "read" and self._due):
            self._end()  # else after the byte that is coming in

    def _started(self, at_us: float) -> None:
        self.control &= ~START
        self.busy, self.mode, self.status, self._last = True, "start", SB, False
        self._data.clear()

    def _write_data(self, value: int) -> None:
        self.settle()
        if self.mode == "start":
            self.status &= ~SB
            self._address = value & 0xFF
            self._after(BYTE_US, self._addressed)
        elif self.mode == "write" and len(self._data) < 2:
            self.status &= ~(BTF | (TXE if self._data else 0))
            self._data.append(value & 0xFF)
            if len(self._data) == 1:
                self._after(BYTE_US, self._sent)
        else:
            self.wrong.append(f"DR written in {self.mode or 'idle'}")

    def _addressed(self, at_us: float) -> None:
        if self._address >> 1 != CHIP:
            self.status |= AF
            return
        self.chip.begin(bool(self._address & 1))
        self.status |= ADDR

    def _sent(self, at_us: float) -> None:
        self.chip.write(self._data.pop(0))
        self.status |= TXE if self._data else TXE | BTF
        if self._data:
            self._after(BYTE_US, self._sent, at_us)

    def _read_status(self) -> int:
        self.settle()
        return self.status

    def _read_status_2(self) -> int:
        self.settle()
        if self.status & ADDR:
            self.status &= ~ADDR
            self.mode = "read" if self._address & 1 else "write"
            if self.mode == "read":
                self._next_ack, self._pos = bool(self.control & ACK), bool(self.control & POS)
                self._after(BYTE_US, self._received)
            else:
                self.status |= TXE
        return 2 if self.busy else 0

    def _received(self, at_us: float) -> None:
        """With POS, set before the first byte, the ACK bit is for the byte behind this one."""
        acknowledged = self._next_ack if self._pos else bool(self.control & ACK)
        self._next_ack = bool(self.control & ACK)
        self._last = not acknowledged
        self._data.append(self.chip.read(acknowledged))
        self.status |= RXNE if len(self._data) == 1 else RXNE | BTF
        if self.control & STOP:
            self._end()
        elif acknowledged and len(self._data) == 1:
            self._after(BYTE_US, self._received, at_us)

    def _read_data(self) -> int:
        self.settle()
        if not self._data:
            self.wrong.append("DR read while it is empty")
            return 0
        value = self._data.pop(0)
        self.status &= ~(BTF if self._data else BTF | RXNE)
        if self._data and not self._last and self.mode == "read":
            self._after(BYTE_US, self._received)
        return value

    def _drive(self, value: int) -> None:
        if value & SCL:
            self.held = max(0, self.held - 1)


class Bench:
    """The image's `i2c_transfer`, called on a board that has started."""

    def __init__(self) -> None:
        build()
        self.board, self.chip = BluePill(ELF), Chip()
        self.bus = Bus(self.board, self.chip)
        self.board.run(0.03)
        names = subprocess.run(
            ["arm-none-eabi-nm", ELF], capture_output=True, text=True, check=True
        ).stdout
        (self._entry,) = (
            int(line.split()[0], 16)
            for line in names.splitlines()
            if line.endswith(" i2c_transfer")
        )

    def transfer(self, chip: int, out: bytes, size: int) -> bytes | None:
        """What was read, or None if it says that nobody answered."""
        self.chip.log.clear()
        uc = self.board._uc
        context = uc.context_save()
        stack = uc.reg_read(UC_ARM_REG_SP) - 8
        uc.mem_write(OUT_AT, out or b"\0")
        uc.mem_write(IN_AT, b"\xee" * (size + 1))
        uc.mem_write(stack, size.to_bytes(4, "little"))
        for register, value in (
            (UC_ARM_REG_R0, chip), (UC_ARM_REG_R1, OUT_AT), (UC_ARM_REG_R2, len(out)),
            (UC_ARM_REG_R3, IN_AT), (UC_ARM_REG_SP, stack), (UC_ARM_REG_LR, RETURN | 1),
        ):  # fmt: skip
            uc.reg_write(register, value)
        self.board._slice_us = inf
        uc.emu_start(self._entry | 1, RETURN)
        done = uc.reg_read(UC_ARM_REG_R0) & 0xFF
        *read, guard = uc.mem_read(IN_AT, size + 1)
        uc.context_restore(context)
        assert guard == 0xEE
        self.board.now_us += 2 * BYTE_US
        self.bus.settle()
        assert not self.bus.busy
        assert self.bus.wrong == []
        return bytes(read) if done else None


@pytest.fixture(scope="module")
def bench() -> Bench:
    bench = Bench()
    bench.bus.wrong.clear()
    return bench


@pytest.mark.parametrize("size", range(1, 10))
@pytest.mark.parametrize("repeated_start", [False, True])
def test_the_last_byte_and_no_other_is_refused(
    bench: Bench, size: int, repeated_start: bool
) -> None:
    bench.chip.pointer = 5
    out = bytes([5]) if repeated_start else b""
    assert bench.transfer(CHIP, out, size) == bytes(range(0x45, 0x45 + size))
    begun = ["write", "read"] if repeated_start else ["read"]
    assert bench.chip.log == [*begun, *["ack"] * (size - 1), "nack", "stop"]


def test_what_is_written_arrives(bench: Bench) -> None:
    assert bench.transfer(CHIP, bytes([0x20, 1, 2, 3]), 0) == b""
    assert bench.chip.registers[0x20:0x24] == b"\x01\x02\x03\x63"
    assert bench.chip.log == ["write", "stop"]


def test_nobody_answers_and_the_next_one_does(bench: Bench) -> None:
    begun_us = bench.board.now_us
    assert bench.transfer(0x0D, bytes([5]), 6) is None
    assert bench.board.now_us - begun_us < 500
    assert bench.transfer(CHIP, bytes([5]), 2) == b"\x45\x46"


@pytest.mark.parametrize("clocks", [1, 9])
def test_a_chip_that_holds_the_bus_is_clocked_out(bench: Bench, clocks: int) -> None:
    bench.bus.busy, bench.bus.held = True, clocks
    begun_us = bench.board.now_us
    assert bench.transfer(CHIP, bytes([5]), 6) == bytes(range(0x45, 0x4B))
    assert bench.bus.held == 0
    assert bench.board.now_us - begun_us < 5000
