"""Machine: one booted systemd in namespaces, its console on a pty.

In: folders that lie on one another, the Debian at the bottom. Out: commands run inside, its
journal, its processes as the host sees them.
Never: leaves a process, a mount or a cgroup behind, shares a network with the host.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.booted.commands import LOOK_SECONDS, Commands, until

SCRIPT = Path(__file__).with_name("boot.sh")
BOOT_SECONDS = 60.0
END_SECONDS = 10.0


class Machine(Commands):
    """Running from `booted` on. `console` is all that it has printed there."""

    def __init__(self, init: psutil.Process, console: bytearray) -> None:
        self.init, self._console = init, console

    @property
    def console(self) -> str:
        """What stood on its screen."""
        return self._console.decode("utf-8", "replace")

    def run(self, *command: str, code: int | None = 0) -> str:
        """Standard output of a command inside that must end with `code` (None: any)."""
        enter = ["nsenter", f"--target={self.init.pid}", "--mount", "--pid", "--net", "--cgroup",
                 "--uts", "--ipc", "--"]  # fmt: skip
        done = subprocess.run(
            [*enter, *command], capture_output=True, text=True, timeout=60, check=False
        )
        if code is not None and done.returncode != code:
            raise AssertionError(f"{command} gave {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file inside."""
        file = Path(f"/proc/{self.init.pid}/root{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=mode)
        file.write_text(text)

    def main_process(self, unit: str) -> psutil.Process:
        """The unit's main process, by the number that the host gives it."""
        inside = self.show(unit, "MainPID")
        for process in self.init.children(recursive=True):
            status = Path(f"/proc/{process.pid}/status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid"))
            if numbers.split()[-1] == inside:
                return process
        raise AssertionError(f"{unit} has no process {inside}")


@contextmanager
def booted(*layers: Path) -> Iterator[Machine]:
    """Boots what the layers make together, topmost first; pulled out like a plug at the end."""
    cgroup = _cgroup_root() / f"otolith-{os.getpid()}-{time.monotonic_ns()}"
    cgroup.mkdir()
    scratch = Path(tempfile.mkdtemp(prefix="otolith-booted-"))
    master, slave = os.openpty()
    console = bytearray()
    child = subprocess.Popen(
        ["sh", str(SCRIPT), str(cgroup), os.ttyname(slave), str(scratch),
         ":".join(map(str, layers))],
        stderr=slave, start_new_session=True,
    )  # fmt: skip
    reader = threading.Thread(target=_read, args=(master, console), daemon=True)
    reader.start()
    try:
        yield _up(psutil.Process(child.pid), console)
    finally:
        child.kill()  # --kill-child: with it goes process 1, and with that all others
        child.wait()
        os.close(slave)
        reader.join(END_SECONDS)
        os.close(master)
        _remove(cgroup)
        shutil.rmtree(scratch)


def _up(child: psutil.Process, console: bytearray) -> Machine:
    def process_one() -> psutil.Process | None:
        inits = [process for process in child.children() if process.name() == "systemd"]
        return inits[0] if inits else None

    def answers() -> bool:
        state = machine.run("systemctl", "is-system-running", code=None).strip()
        return state in ("running", "degraded")

    try:
        machine = Machine(until(process_one, "systemd is process 1", END_SECONDS), console)
        until(answers, "systemd has started everything", BOOT_SECONDS)
    except AssertionError as error:
        raise RuntimeError(f"{error}\n{console.decode('utf-8', 'replace')[-2000:]}") from error
    return machine


def _cgroup_root() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise RuntimeError("no cgroup2 file system is mounted: systemd can't be booted here")


def _read(master: int, console: bytearray) -> None:
    while True:
        try:
            console += os.read(master, 4096)
        except OSError:  # the other end is closed: the machine is gone
            return


def _remove(cgroup: Path) -> None:
    """Bottom up; a cgroup is busy for a moment after its last process."""
    end_s = time.monotonic() + END_SECONDS
    while cgroup.exists():
        try:
            for folder, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(folder)
        except OSError:
            if time.monotonic() > end_s:
                raise
            time.sleep(LOOK_SECONDS)
