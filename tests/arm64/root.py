"""Root: a Debian for 64-bit Arm, unpacked, whose programs run here under qemu-user.

In: a suite's name. Out: a folder to chroot into, fresh for each use, and commands run in it.
Never: emulates a processor that LiteRT makes other sums on than a Pi (the default of QEMU 7.2 has
SVE, and gives garbage), shows it this PC's /proc/cpuinfo (LiteRT crashes on it), leaves an entry
in the kernel's list of interpreters.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT

BUILD = ROOT / "build" / "arm64"
MIRROR = "http://deb.debian.org/debian"
HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
# No python3-venv: install.sh must do without it.
PACKAGES = (
    "python3", "python3-minimal", "libpython3-stdlib", "libstdc++6", "libgomp1", "ca-certificates",
    "dash", "coreutils", "util-linux", "sed", "grep", "mawk", "findutils", "diffutils", "tar",
    "gzip",
)  # fmt: skip
DEVICES = {"null": 3, "zero": 5, "urandom": 9}
BINFMT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
ENTRY = "otolith-aarch64"
CORES = 4
# The part number of the core, as a Pi's kernel tells it.
PROCESSORS = {"cortex-a72": "0xd08", "cortex-a76": "0xd0b"}
CPUINFO = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3

"""


class Root:
    """A Debian to run things in. `processor` is one of `PROCESSORS`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, processor: str = "cortex-a72") -> str:
        """What a command says on standard output. Raises `RuntimeError` if it fails."""
        cpuinfo = "".join(
            CPUINFO.format(number=number, part=PROCESSORS[processor]) for number in range(CORES)
        )
        (self.folder / "proc" / "cpuinfo").write_text(cpuinfo)
        done = subprocess.run(
            ["env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", f"QEMU_CPU={processor}",
             shutil.which("chroot") or "/usr/sbin/chroot", str(self.folder), *command],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            told = (done.stdout + done.stderr)[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {told}")
        return done.stdout


@contextmanager
def root(suite: str) -> Iterator[Root]:
    """A fresh copy of this Debian; gone afterwards."""
    unpacked = _unpacked(suite)
    with tempfile.TemporaryDirectory(dir=BUILD) as temporary:
        folder = Path(temporary) / suite
        subprocess.run(["cp", "-a", str(unpacked), str(folder)], check=True)
        yield Root(folder)


@contextmanager
def arm_programs_run() -> Iterator[None]:
    """As long as this is entered the kernel starts Arm programs with QEMU.

    Raises `RuntimeError` where that can't be had.
    """
    with tempfile.TemporaryDirectory() as folder:
        _run("mount", "-t", "binfmt_misc", "none", folder)
        try:
            if _registered(Path(folder)):
                yield
                return
            entry = BINFMT.read_text().strip().replace(":qemu-aarch64:", f":{ENTRY}:", 1)
            (Path(folder) / "register").write_text(entry)
            try:
                yield
            finally:
                (Path(folder) / ENTRY).write_text("-1")
        finally:
            _run("umount", folder)


def _registered(folder: Path) -> bool:
    """Whether this machine has it anyway, open at registration so that a chroot can use it."""
    entry = folder / "qemu-aarch64"
    return entry.exists() and "F" in entry.read_text().partition("flags:")[2].splitlines()[0]


def _unpacked(suite: str) -> Path:
    """Unpacked once; no program of it runs meanwhile, so nothing is configured."""
    folder = BUILD / suite
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    _run(
        "mmdebstrap", "--quiet", "--variant=extract", "--arch=arm64", f"--hook-dir={HOOKS}",
        '--aptopt=APT::Install-Recommends "false"', f"--include={','.join(PACKAGES)}",
        suite, str(folder), MIRROR,
    )  # fmt: skip
    for name in ("opt", "etc/otolith", "proc/self", "sys/devices/system/cpu", "dev", "mnt", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present"):
        (folder / "sys/devices/system/cpu" / name).write_text(f"0-{CORES - 1}\n")
    for name, minor in DEVICES.items():
        if not (folder / "dev" / name).exists():
            _run("mknod", "-m", "666", str(folder / "dev" / name), "c", "1", str(minor))
    (folder / "complete").touch()
    return folder


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
