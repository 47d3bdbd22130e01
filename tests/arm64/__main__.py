"""`make arm64`: the release, installed by its own install.sh in Debian 12 and 13 for 64-bit Arm,
and every family of networks computed there and here.

In: `build/dist/otolith-<version>-aarch64.tar.gz` (`make dist`). Out: a table or JSON lines, exit 1
if an int8 network gives another bit there than here, if XNNPACK is lost, or if the release does
not install or fails its self-test. Never: says anything about speed: that is a PC, emulating.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tests.arm64.networks import WINDOWS, networks
from tests.arm64.outputs import outputs
from tests.arm64.root import BUILD, PROCESSORS, Root, arm_programs_run, root
from tests.conftest import ROOT
from tests.releases import unpack

SUITES = ("bookworm", "trixie")
# Float behind an int8 encoder (the memory) or around int8 products (the step form): there the last
# bits are the machine's. Scaled features, so 1 is a usual deviation.
FLOAT_LIMITS = {"memory": 1e-4, "memory-conv": 1e-4, "lstm-step": 1e-3}
PYTHON = "/opt/otolith/current/venv/bin/python"


def main() -> int:
    """Both Debians, or one."""
    parser = argparse.ArgumentParser(description="The release on 64-bit Arm, emulated.")
    parser.add_argument("--suite", choices=SUITES, action="append")
    parser.add_argument("--archive", type=Path, help="default: the newest in build/dist")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    # Ended from outside it tidies up, too: the kernel's list of interpreters is everybody's.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    archive = options.archive or newest(ROOT / "build" / "dist")
    folder = BUILD / "networks"
    names = networks(folder)
    here = outputs(folder)
    lines: list[dict[str, Any]] = []
    with arm_programs_run():
        for suite in options.suite or SUITES:
            sys.stderr.write(f"{suite}: {archive.name} is being installed\n")
            lines += examined(suite, archive, folder, names, here)
    wrong = sum(not each["ok"] for each in lines)
    if options.json:
        for each in [*lines, {"ok": not wrong, "wrong": wrong, "lines": len(lines)}]:
            sys.stdout.write(json.dumps(each) + "\n")
    else:
        Console().print(table(lines))
    return 1 if wrong else 0


def newest(folder: Path) -> Path:
    """The archive that was built last. Raises `RuntimeError` if there is none."""
    found = sorted(folder.glob("otolith-*-aarch64.tar.gz"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise RuntimeError(f"no archive for aarch64 in {folder}: make dist")
    return found[-1]


def examined(
    suite: str, archive: Path, folder: Path, names: list[str], here: dict[str, NDArray[np.float32]]
) -> list[dict[str, Any]]:
    """What one Debian says, a line a question."""
    with root(suite) as debian:
        began_s = time.monotonic()
        install(debian, archive)
        installed_s = time.monotonic() - began_s
        lines = [
            {"suite": suite, "what": f"selftest: {each['what']}", "ok": each["ok"],
             "found": each["found"]}
            for each in selftest(debian)
        ]  # fmt: skip
        found = f"{size_mb(debian)} MB, {installed_s:.0f} s emulated"
        lines.insert(0, {"suite": suite, "what": "install.sh", "ok": True, "found": found})
        shutil.copytree(folder, debian.folder / "mnt" / "networks")
        shutil.copy(Path(__file__).with_name("outputs.py"), debian.folder / "mnt")
        for processor in PROCESSORS:
            there = computed(debian, processor)
            lines += [
                {"suite": suite, "processor": processor, **compared(name, here, there)}
                for name in names
            ]
    return lines


def install(debian: Root, archive: Path) -> None:
    """As on a gateway: unpack, and run install.sh."""
    unpack(archive, debian.folder / "mnt")
    (script,) = (debian.folder / "mnt").glob("otolith-*/install.sh")
    debian.run("sh", f"/{script.relative_to(debian.folder)}")
    shutil.rmtree(script.parent)


def selftest(debian: Root) -> list[dict[str, Any]]:
    """Its checks. Raises `RuntimeError` if one of them is wrong."""
    told = debian.run("edge-agent", "selftest", "--json").splitlines()
    return [json.loads(line) for line in told[:-1]]


def size_mb(debian: Root) -> int:
    """What the installed version takes."""
    files = (path for path in (debian.folder / "opt" / "otolith").rglob("*") if path.is_file())
    return round(sum(path.stat().st_size for path in files if not path.is_symlink()) / 1e6)


def computed(debian: Root, processor: str) -> dict[str, NDArray[np.float32]]:
    """The outputs of all networks on this processor."""
    debian.run(PYTHON, "/mnt/outputs.py", "/mnt/networks", "/mnt/out.npz", processor=processor)
    with np.load(debian.folder / "mnt" / "out.npz") as file:
        return {name: file[name] for name in file.files}


def compared(
    name: str, here: dict[str, NDArray[np.float32]], there: dict[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """One network, there and here."""
    most = float(np.max(np.abs(here[name] - there[name])))
    limit, network = FLOAT_LIMITS.get(name, 0.0), f"{name}/network"
    # All of an int8 model, the int8 encoder of a memory, nothing of the step form.
    same = bool(np.array_equal(here[network], there[network])) if network in here else None
    words = {True: "int8 bit-identical", False: "int8 DIFFERS", None: "float at its ends"}[same]
    delegated = [bool(found[f"{name}/xnnpack"]) for found in (here, there)]
    kernels = {(True, True): "XNNPACK", (False, False): "no XNNPACK on either"}
    return {
        "what": name, "windows": WINDOWS,
        "ok": same is not False and most <= limit and delegated[0] == delegated[1],
        "found": f"{words}, largest difference {most:.2g}, "
        f"{kernels.get((delegated[0], delegated[1]), 'XNNPACK on one only')}",
        "largest_difference": most, "int8_identical": same, "xnnpack": delegated,
    }  # fmt: skip


def table(lines: list[dict[str, Any]]) -> Table:
    """For people."""
    page = Table("", "Debian", "core", "what", "found")
    for each in lines:
        mark = "ok" if each["ok"] else "WRONG"
        page.add_row(mark, each["suite"], each.get("processor", ""), each["what"], each["found"])
    return page


if __name__ == "__main__":
    sys.exit(main())
