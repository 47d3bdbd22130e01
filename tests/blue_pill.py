"""Blue pill: enough of an STM32F103 for the real image to believe that it is on silicon.

In: the ELF that is flashed, bytes from a host. Out: bytes for the host, and how many instructions
that took. The image runs as it is in unicorn's Cortex-M3; around it are models of the clock tree,
TIM2 with its 16 bits, USART2 with DMA, SPI1 with an ADXL345, an I2C1 with nothing on it, and the
watchdog, written from RM0008 and the chip's data sheet and not from the driver.
Never: tells the image anything that silicon would not.

What it can't show: wait states, analogue pins, interrupts in the middle of anything (they come when
the core sleeps or each `SLICE_US`).
"""

from __future__ import annotations

import struct
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path

from unicorn import UC_ARCH_ARM, UC_HOOK_BLOCK, UC_HOOK_CODE, UC_MODE_MCLASS, UC_MODE_THUMB, Uc
from unicorn.arm_const import UC_ARM_REG_LR, UC_ARM_REG_PC, UC_ARM_REG_SP

from firmware_bridge.link import Event, Link

CORE_HZ = 72e6
# Cycles an instruction: loads, branches and flash wait states of a Cortex-M3 at 72 MHz.
CYCLES = 1.5
BYTE_US = 10e6 / 921600
SPI_BYTE_US = 8 / 4.5
TICK_US = 1000.0
SLICE_US = 200.0
STEP_SECONDS = 0.002
WFI, NOP = 0xBF30, 0xBF00
FLASH, RAM, FLASH_BYTES, RAM_BYTES = 0x08000000, 0x20000000, 64 << 10, 20 << 10
RETURN = FLASH + FLASH_BYTES - 16
UID = bytes.fromhex("32ffd905474b343027741057")

RCC, TIM2, USART2, SPI1, I2C1 = 0x40021000, 0x40000000, 0x40004400, 0x40013000, 0x40005400
GPIOA, DMA1, IWDG = 0x40010800, 0x40020000, 0x40003000
CCR7, CNDTR7, CMAR7 = DMA1 + 0x80, DMA1 + 0x84, DMA1 + 0x8C


class Adxl345:
    """The chip on SPI: registers and a FIFO in stream mode; sample n is `row(n)`."""

    def __init__(self) -> None:
        self.registers = bytearray(64)
        self.registers[0] = 0xE5
        self.fifo: deque[tuple[int, int, int]] = deque(maxlen=32)
        self.made = self.overruns = 0
        self.absent = False
        self._begun_us = 0.0
        self._pointer: int | None = None
        self._reading = False
        self._latched = b""

    @staticmethod
    def row(n: int) -> tuple[int, int, int]:
        """What it feels, so that every sample can be told from every other."""
        return n % 4000, -(n % 3999), n * 7 % 3001

    @property
    def rate_hz(self) -> float:
        """Table 7."""
        return 3200.0 / 2 ** (15 - (self.registers[0x2C] & 15))

    def advance(self, now_us: float) -> None:
        """Takes the samples that are due."""
        while self.registers[0x2D] & 8 and now_us >= self._begun_us + (self.made + 1) * (
            1e6 / self.rate_hz
        ):
            self.overruns += len(self.fifo) == 32
            self.fifo.append(self.row(self.made))
            self.made += 1

    def select(self, selected: bool, now_us: float) -> None:
        """Chip select: a transfer begins or ends."""
        self.advance(now_us)
        self._pointer = None

    def exchange(self, out: int, now_us: float) -> int:
        """One byte each way."""
        if self.absent:
            return 0xFF
        self.advance(now_us)
        if self._pointer is None:
            self._reading, self._pointer = bool(out & 0x80), out & 0x3F
            if self._reading and self._pointer == 0x32:
                row = self.fifo.popleft() if self.fifo else (0, 0, 0)
                self._latched = struct.pack("<3h", *row)
            return 0
        at, self._pointer = self._pointer, self._pointer + 1
        if self._reading:
            return self._read(at)
        if at == 0x2D and out & 8 and not self.registers[at] & 8:
            self._begun_us, self.made = now_us, 0
        if at == 0x38 and not out & 0xC0:
            self.fifo.clear()
        self.registers[at] = out
        return 0

    def _read(self, at: int) -> int:
        if 0x32 <= at <= 0x37:
            return self._latched[at - 0x32]
        return len(self.fifo) if at == 0x39 else self.registers[at]


class BluePill:
    """One board, from reset on; `now_us` is its time, `instructions` what it has executed."""

    def __init__(self, elf: Path, crystal: bool = True) -> None:
        self.chip = Adxl345()
        self.crystal = crystal
        self.now_us = 0.0
        self.instructions = self.sleeps = 0
        self.fed_us: list[float] = []
        self.sent = bytearray()
        self._words: dict[int, int] = {RCC: 0x83, RCC + 0x24: 1 << 27}
        self._incoming: deque[int] = deque()
        self._spi_ready_us = self._dma_end_us = self._slice_us = 0.0
        self._spi_in = 0
        self._sizes: dict[int, int] = {}
        self._reads: dict[int, Callable[[], int]] = {
            TIM2 + 0x24: lambda: int(self.now_us) & 0xFFFF,
            USART2: lambda: 0xC0 | (0x20 if self._incoming else 0),
            USART2 + 4: lambda: self._incoming.popleft() if self._incoming else 0,
            SPI1 + 8: lambda: 2 | (1 if self.now_us >= self._spi_ready_us else 0),
            SPI1 + 12: lambda: self._spi_in,
            CNDTR7: self._dma_left,
        }
        self._writes: dict[int, Callable[[int], None]] = {
            RCC: self._clocks,
            RCC + 4: lambda value: self._put(RCC + 4, value & ~12 | (value & 3) << 2),
            TIM2 + 0x2C: lambda value: self._put(TIM2 + 0x2C, value & 0xFFFF),
            SPI1 + 12: self._spi,
            GPIOA + 0x10: self._pins,
            CCR7: self._dma,
            I2C1: lambda value: self._put(I2C1 + 0x14, 1 if value & 0x100 else 0),
            # Whatever is addressed, nobody acknowledges.
            I2C1 + 0x10: lambda value: self._put(I2C1 + 0x14, 1 << 10),
            IWDG: lambda value: self.fed_us.append(self.now_us) if value == 0xAAAA else None,
        }
        self._load(elf)

    def run(self, seconds: float) -> None:
        """Lets it run for so long, of its own time."""
        end_us = self.now_us + seconds * 1e6
        while self.now_us < end_us:
            self._slice_us = self.now_us + SLICE_US
            self._uc.emu_start(self._uc.reg_read(UC_ARM_REG_PC) | 1, RETURN)
            while self._incoming and self._words.get(USART2 + 12, 0) & 0x20:
                self._interrupt(16 + 38)

    def hear(self, data: bytes) -> None:
        """Bytes from the host; one that comes while another waits is not lost here."""
        self._incoming.extend(data)

    def word(self, address: int) -> int:
        """What lies there: in a register that has no model of its own, or in memory."""
        if address >> 28 == 4:
            return self._words.get(address, 0)
        return int.from_bytes(self._uc.mem_read(address, 4), "little")

    def _load(self, elf: Path) -> None:
        image = bytearray(elf.with_suffix(".bin").read_bytes())
        self._sleeps_at = _addresses_of_wfi(elf)
        for at in self._sleeps_at:
            struct.pack_into("<H", image, at - FLASH, NOP)
        self._image = bytes(image)
        uc = self._uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        uc.mem_map(FLASH, FLASH_BYTES)
        uc.mem_write(FLASH, self._image)
        uc.mem_map(RAM, RAM_BYTES)
        uc.mem_map(0xE000E000, 0x1000)
        uc.mem_map(0x1FFFF000, 0x1000)
        uc.mem_write(0x1FFFF7E8, UID)
        uc.mmio_map(0x40000000, 0x30000, self._mmio_read, None, self._mmio_write, None)
        uc.hook_add(UC_HOOK_BLOCK, self._block)
        for at in self._sleeps_at:
            uc.hook_add(UC_HOOK_CODE, self._sleep, begin=at, end=at)
        stack, entry = struct.unpack_from("<2I", image)
        uc.reg_write(UC_ARM_REG_SP, stack)
        uc.reg_write(UC_ARM_REG_PC, entry)

    def _interrupt(self, vector: int) -> None:
        context = self._uc.context_save()
        (entry,) = struct.unpack_from("<I", self._image, 4 * vector)
        self._slice_us = self.now_us + SLICE_US
        self._uc.reg_write(UC_ARM_REG_LR, RETURN | 1)
        self._uc.emu_start(entry | 1, RETURN)
        self._uc.context_restore(context)

    def _block(self, uc: Uc, address: int, size: int, _: object) -> None:
        count = self._sizes.get(address * 4096 + size)
        if count is None:
            count = _count(self._image[address - FLASH : address - FLASH + size])
            self._sizes[address * 4096 + size] = count
        self.instructions += count
        self.now_us += count * CYCLES * 1e6 / CORE_HZ
        if self.now_us >= self._slice_us:
            uc.emu_stop()

    def _sleep(self, uc: Uc, address: int, size: int, _: object) -> None:
        """Until SysTick; a byte from the host would wake it too."""
        self.sleeps += 1
        if not self._incoming:
            self.now_us = (self.now_us // TICK_US + 1) * TICK_US

    def _put(self, address: int, value: int) -> None:
        self._words[address] = value & 0xFFFFFFFF

    def _mmio_read(self, uc: Uc, offset: int, size: int, _: object) -> int:
        address = 0x40000000 + offset
        read = self._reads.get(address)
        return read() if read else self._words.get(address, 0)

    def _mmio_write(self, uc: Uc, offset: int, size: int, value: int, _: object) -> None:
        address = 0x40000000 + offset
        write = self._writes.get(address)
        if write:
            write(value)
        else:
            self._put(address, value)

    def _clocks(self, value: int) -> None:
        ready = value & ~(1 << 17 | 1 << 25)
        ready |= (1 << 17) if value & 1 << 16 and self.crystal else 0
        self._put(RCC, ready | (1 << 25 if value & 1 << 24 else 0))

    def _spi(self, value: int) -> None:
        self._spi_in = self.chip.exchange(value & 0xFF, self.now_us)
        self._spi_ready_us = self.now_us + SPI_BYTE_US

    def _pins(self, value: int) -> None:
        if value & (1 << 4 | 1 << 20):
            self.chip.select(bool(value & 1 << 20), self.now_us)

    def _dma(self, value: int) -> None:
        self._put(CCR7, value)
        if value & 1:
            size = self._words[CNDTR7]
            self.sent += self._uc.mem_read(self._words[CMAR7], size)
            self._dma_end_us = self.now_us + size * BYTE_US

    def _dma_left(self) -> int:
        if not self._words.get(CCR7, 0) & 1:
            return self._words.get(CNDTR7, 0)
        return max(0, round((self._dma_end_us - self.now_us) / BYTE_US + 0.5))


class Session:
    """A board and the host's side of its line, both on the board's time."""

    def __init__(self, board: BluePill) -> None:
        self.board, self.link = board, Link()
        self.events: list[Event] = []

    def open(self) -> None:
        """Lets the board start up, and opens its port."""
        self.board.run(0.02)
        self.events += self.link.opened(self.board.now_us * 1e-6)

    def run(self, seconds: float) -> None:
        """Both, for so long."""
        end_us = self.board.now_us + seconds * 1e6
        while self.board.now_us < end_us:
            self.board.hear(self.link.outgoing(self.board.now_us * 1e-6))
            self.board.run(STEP_SECONDS)
            sent, now_s = bytes(self.board.sent), self.board.now_us * 1e-6
            self.board.sent.clear()
            self.events += self.link.feed(sent, now_s) + self.link.tick(now_s)


def _addresses_of_wfi(elf: Path) -> list[int]:
    text = subprocess.run(
        ["arm-none-eabi-objdump", "-d", elf], capture_output=True, text=True, check=True
    ).stdout
    lines = [line.split("\t") for line in text.splitlines() if "\twfi" in line]
    return [int(line[0].strip(" :"), 16) for line in lines]


def _count(code: bytes) -> int:
    """Instructions in Thumb code: those that begin 11101, 11110 or 11111 have four bytes."""
    at = count = 0
    while at < len(code):
        at += 4 if code[at + 1] >> 3 >= 0b11101 else 2
        count += 1
    return count
