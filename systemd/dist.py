"""Dist: one archive that installs Otolith on a gateway without a network.

In: this source tree, wheels from the index (or `--wheels DIR`), a signing key if wanted. Out:
`build/dist/otolith-<version>-<machine>.tar.gz` with wheels, `install.sh`, unit, SBOM, SHA256SUMS.
Never: a file of the tree that the wheel doesn't name, the clock: the same sources and the same
wheels are the same bytes.

    python systemd/dist.py                       64-bit Arm, Debian 12 and 13
    python systemd/dist.py --platform x86_64     PCs, Debian 12 and 13
    python systemd/dist.py --platform host       this machine and this Python only
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sbom import sbom

from edge_agent.bundles.signature import sign

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("firmware_bridge", "edge_agent", "converter")
DEBIAN_PYTHONS = ("3.11", "3.13")
# Debian 12 has glibc 2.36; wheels name the oldest glibc that they run with.
GLIBC_MINORS = range(36, 16, -1)
FILES = {
    "install.sh": "systemd/install.sh",
    "agent.toml": "systemd/examples/agent.toml",
    "LICENSE": "LICENSE",
    "systemd/edge-agent.service": "systemd/edge-agent.service",
    "systemd/trixie.conf": "systemd/trixie.conf",
    "systemd/99-otolith.rules": "systemd/99-otolith.rules",
}
IF_THERE = ("SECURITY.md",)
SUMS_NAME = "SHA256SUMS"
# The first moment that a zip file can state.
EARLIEST_EPOCH = 315_532_800
# Bytecode, and what a file system rounds up.
UNPACKED_FACTOR = 1.3


class Target(NamedTuple):
    """What an archive is for."""

    machine: str
    pythons: tuple[str, ...]
    cross: bool

    @property
    def label(self) -> str:
        """What the archive's name says of it."""
        only = "" if self.cross else f"-py{self.pythons[0].replace('.', '')}"
        return f"{self.machine}{only}"

    def pip_options(self, python: str) -> list[str]:
        """What has pip think that it were there."""
        if not self.cross:
            return []
        digits = python.replace(".", "")
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in GLIBC_MINORS]
        platforms = [f"--platform={tag}" for tag in (*tags, f"manylinux2014_{self.machine}")]
        abis = [f"--abi={abi}" for abi in (f"cp{digits}", "abi3", "none")]
        return [*platforms, "--implementation=cp", f"--python-version={digits}", *abis]


def main() -> int:
    """Builds one archive."""
    parser = argparse.ArgumentParser(description="One archive that installs without a network.")
    parser.add_argument("--platform", default="aarch64", choices=("aarch64", "x86_64", "host"))
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "dist", metavar="DIR")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="take these, download none")
    parser.add_argument("--key", type=Path, metavar="F", help="signing.key of keygen")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        archive = dist(target_of(options.platform), options.out, options.wheels, options.key)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"dist: {' '.join(error.cmd[:5])} ...: {(error.stderr or '')[-2000:]}\n")
        return 1
    except (OSError, ValueError) as error:
        sys.stderr.write(f"dist: {error}\n")
        return 1
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    sys.stdout.write(f"{digest}  {archive}  {archive.stat().st_size / 1e6:.1f} MB\n")
    return 0


def target_of(name: str) -> Target:
    """`host` is this machine with this Python; the others are both Debians."""
    if name == "host":
        return Target(platform.machine(), ("{}.{}".format(*sys.version_info),), False)
    return Target(name, DEBIAN_PYTHONS, True)


def dist(target: Target, out: Path, wheels: Path | None = None, key: Path | None = None) -> Path:
    """The archive's path. Raises `CalledProcessError` if pip fails, `OSError`, `ValueError`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    epoch = source_epoch()
    name = f"otolith-{project['version']}-{target.label}"
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        folder = Path(temporary) / name
        (folder / "wheels").mkdir(parents=True)
        own = own_wheel(folder / "wheels", epoch)
        requirements = [*project["dependencies"], "pip"]
        kilobytes = collect(target, requirements, wheels, folder / "wheels", unpacked_kb([own]))
        for inside, source in FILES.items():
            copy(ROOT / source, folder / inside)
        for source in IF_THERE:
            if (ROOT / source).exists():
                copy(ROOT / source, folder / source)
        (folder / "RELEASE").write_text(
            f"version={project['version']}\nmachine={target.machine}\n"
            f"pythons={' '.join(target.pythons)}\nneeds_kb={kilobytes}\n"
        )
        document = sbom(list((folder / "wheels").iterdir()), epoch)
        (folder / "sbom.cdx.json").write_text(json.dumps(document, indent=1) + "\n")
        seal(folder, key.read_text() if key else None)
        return packed(folder, out / f"{name}.tar.gz", epoch)


def source_epoch() -> int:
    """`SOURCE_DATE_EPOCH`, or when the last commit was made."""
    if text := os.environ.get("SOURCE_DATE_EPOCH"):
        return max(int(text), EARLIEST_EPOCH)
    git = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout else EARLIEST_EPOCH


def own_wheel(folder: Path, epoch: int) -> Path:
    """Our wheel, from a copy of the sources: what an earlier build left in the tree stays out."""
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, tree / package, ignore=_leftovers)
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, tree / file)
        for path in tree.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        run_pip(["wheel", "--no-deps", f"--wheel-dir={folder}", str(tree)], epoch)
    (wheel,) = folder.glob("otolith-*.whl")
    return wheel


def collect(
    target: Target, requirements: Sequence[str], given: Path | None, folder: Path, own_kb: int
) -> int:
    """The wheels of all Pythons into one folder; gives the room in kB that one of them takes."""
    most = 0
    for python in target.pythons:
        with tempfile.TemporaryDirectory() as temporary:
            options = target.pip_options(python)
            source = ["--no-index", f"--find-links={given}"] if given else []
            run_pip(["download", "--only-binary=:all:", f"--dest={temporary}", *options, *source,
                     *requirements])  # fmt: skip
            wheels = sorted(Path(temporary).iterdir())
            most = max(most, unpacked_kb(wheels))
            for wheel in wheels:
                copy(wheel, folder / wheel.name)
    return most + own_kb


def unpacked_kb(wheels: Iterable[Path]) -> int:
    """What they take on disk, bytecode included."""
    sizes = (info.file_size for wheel in wheels for info in zipfile.ZipFile(wheel).infolist())
    return int(sum(sizes) * UNPACKED_FACTOR / 1024)


def run_pip(arguments: Sequence[str], epoch: int = EARLIEST_EPOCH) -> None:
    """The pip of this Python, reproducibly."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


def seal(folder: Path, private_key: str | None = None) -> None:
    """`SHA256SUMS` over every file, and its signature. Raises `ValueError` for a bad key."""
    for name in (SUMS_NAME, f"{SUMS_NAME}.sig"):
        (folder / name).unlink(missing_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in files
    )
    (folder / SUMS_NAME).write_text(sums)
    if private_key:
        (folder / f"{SUMS_NAME}.sig").write_bytes(sign(private_key, sums.encode()))


def packed(folder: Path, archive: Path, epoch: int) -> Path:
    """The folder as a tar.gz: sorted, owned by root, one time for all."""
    draft = archive.with_name(f"{archive.name}.new")
    # Wheels are packed already: level 1 is as small as level 9 and takes a fraction of the time.
    with (
        draft.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=epoch) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path in sorted([folder, *folder.rglob("*")]):
            info = tarfile.TarInfo(str(path.relative_to(folder.parent)))
            info.mtime = epoch
            if path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                content = path.read_bytes()
                info.size, info.mode = len(content), 0o755 if path.suffix == ".sh" else 0o644
                tar.addfile(info, io.BytesIO(content))
    return draft.replace(archive)


def copy(source: Path, target: Path) -> None:
    """The bytes alone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _leftovers(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name in {"__pycache__", "build"} or name.endswith(".pyc")}


if __name__ == "__main__":
    sys.exit(main())
