"""Virtual: the same Debian as a virtual machine with its own kernel, disk, clock and USB port.

In: folders that lie on one another, the Debian at the bottom; a serial port of the host. Out:
commands run inside over a second serial line; the console.
Never: needs KVM, reaches a network, survives `cut_power`.
"""

from __future__ import annotations

import platform
import re
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.booted.commands import Commands, until
from tests.booted.layer import UNITS, WANTED, link, write

IMAGE_MEGABYTES = 1500
MEMORY_MEGABYTES = 1024
BOOT_SECONDS = 240.0
COMMAND_SECONDS = 120.0
END_SECONDS = 20.0
CONTROL = "control.service"
CONTROL_SOCKET, MONITOR = "control.sock", "monitor.sock"
# One line in, its output and its exit code out.
CONTROL_UNIT = """[Service]
ExecStart=/bin/sh /usr/local/sbin/control
StandardInput=tty
StandardOutput=tty
StandardError=journal
TTYPath=/dev/ttyS1
"""
CONTROL_LINES = """stty -echo -onlcr
export TERM=dumb SYSTEMD_COLORS=0 LC_ALL=C
echo '~ up'
while read -r line; do
    sh -c "$line" 2>/run/control </dev/null
    code=$?
    [ $code = 0 ] || cat /run/control
    echo "~ done $code"
done
"""
QEMU = f"qemu-system-{platform.machine()}"


def image(layers: Sequence[Path], folder: Path) -> Path:
    """A disk with an ext4 of all layers, made in `folder`."""
    top, merged, disk = folder / "top", folder / "merged", folder / "disk.img"
    merged.mkdir()
    write(top, f"{UNITS}/{CONTROL}", CONTROL_UNIT)
    write(top, "usr/local/sbin/control", CONTROL_LINES)
    link(top, f"{WANTED}/{CONTROL}", f"../{CONTROL}")
    lower = ":".join(map(str, (top, *layers)))
    made = subprocess.run(
        ["unshare", "--mount", "sh", "-euc",
         'mount -t overlay overlay -o "lowerdir=$1" "$2"; mke2fs -q -t ext4 -d "$2" "$3" "$4"',
         "sh", lower, str(merged), str(disk), f"{IMAGE_MEGABYTES}M"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(f"no disk could be made: {made.stderr}")
    return disk


class VirtualMachine(Commands):
    """Running from the start on. `port` is a serial device of the host, for `plug_in`; `log`
    takes every write to the disk, see `powercut.py`; `clock` is what its clock says at the start.
    """

    def __init__(self, boot: Path, disk: Path, port: Path, log: Path, clock: str) -> None:
        self._console = bytearray()
        self._folder = disk.parent
        self._control = self._folder / CONTROL_SOCKET
        self._control.unlink(missing_ok=True)
        log.write_bytes(b"")
        self._process = subprocess.Popen(
            _command(boot, disk, port, log, clock),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._line = self._connected()

    @property
    def console(self) -> str:
        """What stood on its screen."""
        return self._console.decode("utf-8", "replace")

    def run(self, *command: str, code: int | None = 0) -> str:
        """Standard output of a command inside that must end with `code`."""
        self._line.sendall((shlex.join(command).replace("\n", " ") + "\n").encode())
        out = self._until(rb"~ done (\d+)\r?\n", COMMAND_SECONDS)
        text, ended = out[0].replace("\r", ""), int(out[1])
        if code is not None and ended != code:
            raise AssertionError(f"{command} gave {ended}: {text}")
        return text

    def plug_in(self) -> None:
        """The board's USB plug."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(END_SECONDS)
            monitor.connect(str(self._folder / MONITOR))
            _prompt(monitor)
            monitor.sendall(b"device_add usb-serial,chardev=board,serial=0042\n")
            _prompt(monitor)

    def cut_power(self) -> None:
        """The plug is pulled: nothing is told, nothing is written any more."""
        self._process.kill()
        self._process.wait()
        self._line.close()
        self._reader.join()

    def _connected(self) -> socket.socket:
        try:
            until(self._control.exists, f"{QEMU} runs", END_SECONDS)
            self._line = socket.socket(socket.AF_UNIX)
            self._line.connect(str(self._control))
            self._until(rb"~ up\r?\n", BOOT_SECONDS)
        except (AssertionError, OSError) as error:
            self._process.kill()
            self._reader.join()
            raise RuntimeError(f"{error}\n{self.console[-2000:]}") from error
        return self._line

    def _until(self, pattern: bytes, seconds: float) -> tuple[str, str]:
        """What came before the pattern, and its group."""
        end_s, got = time.monotonic() + seconds, b""
        while not (found := re.search(pattern, got)):
            self._line.settimeout(max(0.1, end_s - time.monotonic()))
            try:
                chunk = self._line.recv(65536)
            except TimeoutError:
                chunk = b""
            if not chunk:
                raise AssertionError(f"no answer in {seconds:g} s, only {got[-500:]!r}")
            got += chunk
        group = found[1] if found.re.groups else b""
        return got[: found.start()].decode("utf-8", "replace"), group.decode()

    def _read(self) -> None:
        assert self._process.stdout
        while chunk := self._process.stdout.read1(4096):  # type: ignore[attr-defined]
            self._console += chunk


def _prompt(monitor: socket.socket) -> None:
    """Until QEMU's monitor has done what it was asked."""
    got = b""
    while not got.endswith(b"(qemu) "):
        got += monitor.recv(65536)


def _command(boot: Path, disk: Path, port: Path, log: Path, clock: str) -> list[str]:
    """amd64 without KVM; the disk's writes go to a log, too."""
    (kernel,), (initrd,) = boot.glob("vmlinuz-*"), boot.glob("initrd.img-*")
    return [
        "setpriv", "--pdeathsig", "KILL",  # whoever started it is gone: so is the machine
        QEMU, "-M", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MEGABYTES),
        "-kernel", str(kernel), "-initrd", str(initrd),
        "-append", "root=/dev/vda rw console=ttyS0 systemd.show_status=true quiet",
        "-blockdev", f"driver=blklogwrites,node-name=d,log-sector-size=512,"
        f"file.driver=file,file.filename={disk},log.driver=file,log.filename={log}",
        "-device", "virtio-blk-pci,drive=d", "-rtc", f"base={clock}",
        "-chardev", f"serial,id=board,path={port}", "-device", "qemu-xhci",
        "-monitor", f"unix:{disk.with_name(MONITOR)},server=on,wait=off", "-display", "none",
        "-serial", "stdio", "-serial", f"unix:{disk.with_name(CONTROL_SOCKET)},server=on,wait=off",
        "-nic", "none", "-no-reboot",
    ]  # fmt: skip
