"""Root: a Debian as it is on a gateway, unpacked once and never written to again.

In: a suite's name, pyproject.toml's dependencies. Out: `build/booted/SUITE`, cached until the list
of packages or dependencies changes.
Never: holds the product itself (that is laid over it anew for each boot), a part that is half done.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.conftest import ROOT

BUILD = ROOT / "build" / "booted"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "udev", "procps", "iproute2", "python3", "mosquitto",
    "mosquitto-clients",
)  # fmt: skip
KERNEL = {"x86_64": "linux-image-amd64", "aarch64": "linux-image-arm64"}
# All of a kernel that the virtual machine needs: its disk, its file system, its USB serial port.
MODULES = (
    "crypto/crc*", "drivers/block/virtio*", "drivers/usb/class/cdc-acm*", "drivers/usb/common/*",
    "drivers/usb/core/*", "drivers/usb/host/xhci*", "drivers/usb/serial/ftdi*",
    "drivers/usb/serial/usbserial*", "drivers/virtio/*", "fs/ext4/*", "fs/jbd2/*", "fs/mbcache*",
    "lib/*", "arch/*/crypto/crc*",
)  # fmt: skip
# The one that also boots in a virtual machine, and needs a kernel.
VIRTUAL = "bookworm"
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
VENV = Path("opt/otolith/booted")
RECIPE = 2
GLIBC_MINORS = (17, 27, 28, 31, 34)


def ready(suite: str) -> bool:
    """Whether it is there, as it must be today."""
    stamp = BUILD / f"{suite}.stamp"
    return stamp.exists() and stamp.read_text() == _key(suite)


def root(suite: str) -> Path:
    """The folder of this Debian, with a venv that holds what the product depends on; built now if
    it isn't there. Raises `RuntimeError` if it can't be."""
    place, stamp = BUILD / suite, BUILD / f"{suite}.stamp"
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one builds, the others wait
        if ready(suite):
            return place
        stamp.unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        _debian(suite, place)
        _venv(suite, place)
        stamp.write_text(_key(suite))
    return place


def dependencies() -> list[str]:
    """What pyproject.toml says that the gateway needs."""
    return list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])


def libraries_of(place: Path, suite: str) -> Path:
    """Where the venv of this root has its packages."""
    return place / VENV / "lib" / f"python{PYTHON[suite]}" / "site-packages"


def compiled(layer: Path, suite: str, packages: tuple[str, ...]) -> None:
    """Compiles packages of a layer with this Debian's Python."""
    root_of, work = root(suite), Path(tempfile.mkdtemp(dir=layer.parent))
    merged = work / "merged"
    merged.mkdir()
    (work / "work").mkdir()
    places = [f"/{libraries_of(Path(), suite)}/{name}" for name in packages]
    _run(
        "unshare", "--mount", "sh", "-euc",
        'mount -t overlay overlay -o "$1" "$2"; shift; exec chroot "$@"', "sh",
        f"lowerdir={root_of},upperdir={layer},workdir={work / 'work'}", str(merged),
        f"/{VENV}/bin/python", "-m", "compileall", "-q", *places,
    )  # fmt: skip
    shutil.rmtree(work)


def _packages(suite: str) -> list[str]:
    return [*PACKAGES, *((KERNEL[platform.machine()],) if suite == VIRTUAL else ())]


def _key(suite: str) -> str:
    """Another one: the root is built anew."""
    made_of = [_packages(suite), MODULES, dependencies(), RECIPE]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _debian(suite: str, place: Path) -> None:
    leave_out = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*",
                 "/lib/modules/*/kernel/*"]  # fmt: skip
    options = [f"--dpkgopt=path-exclude={path}" for path in leave_out]
    options += [f"--dpkgopt=path-include=/lib/modules/*/kernel/{path}" for path in MODULES]
    _run(
        "mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_packages(suite))}",
        '--aptopt=APT::Install-Recommends "false"', *options, suite, str(place), MIRROR,
    )  # fmt: skip


def _venv(suite: str, place: Path) -> None:
    _run("chroot", str(place), "python3", "-m", "venv", "--without-pip", f"/{VENV}")
    tags = [f"--platform=manylinux_2_{minor}_{platform.machine()}" for minor in GLIBC_MINORS]
    tags.append(f"--platform=manylinux2014_{platform.machine()}")
    _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:",
        "--disable-pip-version-check", "--root-user-action=ignore", "--implementation=cp",
        f"--python-version={PYTHON[suite]}", *tags,
        f"--target={libraries_of(place, suite)}", *dependencies(),
    )  # fmt: skip
    # As an installation does: the unit may not write here, and would compile at every start.
    _run("chroot", str(place), f"/{VENV}/bin/python", "-m", "compileall", "-q", f"/{VENV}/lib")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
