"""Releases: unpacked, installed in a folder, and spoilt in every way that a test can think of.

In: an unpacked release. Out: roots in which it is installed, copies with something wrong.
Never: changes a file that another copy shares.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "systemd"))
import dist  # noqa: E402  # a script beside what it packs, in no package

PREFIX = Path("opt/otolith")


def unpack(archive: Path, folder: Path) -> None:
    """As people do it; Debian 12's Python has no filter for archives yet."""
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(folder)], check=True)


def next_version(release: Path, folder: Path) -> Path:
    """A release with a higher number, unpacked in this folder."""
    newer = linked(release, folder / "otolith-0.2.0")
    rewrite(newer / "RELEASE", (newer / "RELEASE").read_text().replace("=0.1.0", "=0.2.0"))
    dist.seal(newer)
    return newer


def linked(source: Path, target: Path) -> Path:
    """A copy by hard links: nothing of 300 MB is copied."""
    subprocess.run(["cp", "-al", str(source), str(target)], check=True)
    # Here an installed version has noted where its root is.
    for options in (target / PREFIX).glob("*/OPTIONS"):
        rewrite(options, options.read_text().replace(str(source), str(target)))
    return target


def rewrite(file: Path, content: str | bytes) -> None:
    """Other content, without touching what the same file is elsewhere."""
    file.unlink(missing_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def command(folder: Path, root: Path, *more: str) -> list[str]:
    """The command line of install.sh."""
    return ["sh", str(folder / "install.sh"), "--root", str(root), "--python", sys.executable,
            *more]  # fmt: skip


def install(folder: Path, root: Path, *more: str, code: int = 0, path: str = "") -> str:
    """Runs it; gives all that it said."""
    done = subprocess.run(
        command(folder, root, *more), capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{path}{os.environ['PATH']}"},
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == code, told
    if code:
        (loud,) = (line for line in done.stderr.splitlines() if "FAILED" in line)
        assert loud.startswith("install.sh: FAILED: ")
        assert "everything is as before" in done.stderr
    return told


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Every file, folder and link, by what would change with it."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in root.rglob("*"):
        about = path.lstat()
        if path.suffix == ".pyc" or path.name == "__pycache__":
            continue  # the old version's own commands may make them
        link = os.readlink(path) if path.is_symlink() else ""
        size = () if stat.S_ISDIR(about.st_mode) else (about.st_size, about.st_mtime_ns)
        found[str(path.relative_to(root))] = (about.st_mode, link, *size)
    return found


def current(root: Path) -> str:
    """The version that the service would start."""
    return os.readlink(root / PREFIX / "current")


def agent(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`edge-agent` of the installed version."""
    python = root / PREFIX / "current" / "venv" / "bin" / "python"
    return subprocess.run(
        [str(python), "-I", "-m", "edge_agent", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def flip(folder: Path) -> None:
    """One bit of one wheel, as a bad card would."""
    wheel = next(folder.glob("wheels/numpy-*.whl"))
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(wheel, bytes(content))


def unlist(folder: Path) -> None:
    """A sum that is gone."""
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    rewrite(folder / "SHA256SUMS", "".join(lines[:-1]))


def forge(folder: Path) -> None:
    """A sum that is another."""
    sums = (folder / "SHA256SUMS").read_text()
    rewrite(folder / "SHA256SUMS", ("f" if sums[0] != "f" else "0") + sums[1:])


def other(key: str, value: str) -> Any:
    """A release that says something else about itself, with the right sums."""

    def change(folder: Path) -> None:
        lines = (folder / "RELEASE").read_text().splitlines()
        lines = [f"{key}={value}" if line.startswith(f"{key}=") else line for line in lines]
        rewrite(folder / "RELEASE", "\n".join(lines) + "\n")
        dist.seal(folder)

    return change


def rebuilt(folder: Path) -> None:
    """The installed version, and yet not the same."""
    other("version", "0.1.0")(folder)
    other("needs_kb", "1000")(folder)


def lead_astray(folder: Path) -> None:
    """A link to a wheel with the right sum, which somebody could change after it was checked."""
    wheel = next(folder.glob("wheels/rich-*.whl"))
    wheel.rename(folder.parent / wheel.name)
    wheel.symlink_to(folder.parent / wheel.name)


BROKEN = {
    "a damaged wheel": (flip, "damaged (wheels/numpy"),
    "a missing sum": (unlist, "are not those of SHA256SUMS"),
    "a false sum": (forge, "damaged ("),
    "no sums": (lambda folder: (folder / "SHA256SUMS").unlink(), "has no SHA256SUMS"),
    "a missing wheel": (
        lambda folder: next(folder.glob("wheels/rich-*.whl")).unlink(), "wheels/rich-",
    ),
    "a wheel too many": (
        lambda folder: (folder / "wheels" / "evil-1.0-py3-none-any.whl").touch(), "wheels/evil",
    ),
    "a link": (lead_astray, "is no file: copy"),
    "another machine": (other("machine", "sparc64"), "this archive for sparc64 64 bit"),
    "another Python": (other("pythons", "2.7 3.99"), "has wheels for 2.7 3.99"),
    "no room": (other("needs_kb", "99999999999"), "MB free, needs"),
    "the same version, other content": (rebuilt, "another build of 0.1.0"),
}  # fmt: skip
