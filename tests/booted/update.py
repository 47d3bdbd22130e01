"""Update: install.sh under a real systemd, with versions that come up and versions that don't.

In: a working tree, of which a release is made. Out: verdicts.
Never: breaks the code of a version: its unit starts something else, which systemd can't tell apart.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.booted.commands import until
from tests.booted.layer import AGENT, BOARD, BROKER, UNITS, lay
from tests.booted.machine import Machine, booted
from tests.booted.root import PYTHON, root
from tests.booted.verdict import Verdict, judged
from tests.conftest import ROOT
from tests.releases import dist, unpack

SUITE = "bookworm"
INSTALL_SECONDS, READY_SECONDS = 300.0, 30.0
# Instead of the service: one ends before it is ready, the other never says that it is.
ENDS, HANGS = "/bin/false", "/bin/sleep 600"
VERSIONS = {"0.2.0": "", "0.3.0": ENDS, "0.4.0": HANGS}


def update(source: Path) -> Iterator[Verdict]:
    """A first version, a good one, two that fail, and the way back."""
    with tempfile.TemporaryDirectory(prefix="otolith-update-", dir=ROOT / "build") as folder:
        layer = lay(Path(folder) / "layer", SUITE, source)
        _bare(layer)
        first = _releases(layer / "mnt", Path(folder))
        with booted(layer, root(SUITE)) as machine:
            machine.run("systemctl", "start", BROKER, BOARD)
            for name, check in CHECKS.items():
                yield judged("update", name, partial(check, machine, first))


def _bare(layer: Path) -> None:
    """Takes away what install.sh is to bring; what the site wrote stays."""
    for path in (f"{UNITS}/{AGENT}", f"{UNITS}/multi-user.target.wants/{AGENT}"):
        (layer / path).unlink()
    shutil.rmtree(layer / "opt/otolith/current")


def _releases(place: Path, folder: Path) -> str:
    """The release and its successors, unpacked; gives the number of the first."""
    target = dist.Target(platform.machine(), (PYTHON[SUITE],), True)
    unpack(dist.dist(target, folder), folder)
    (release,) = folder.glob("otolith-*/")
    first = release.name.split("-")[1]
    place.mkdir(parents=True, exist_ok=True)
    release.rename(place / first)
    for version, instead in VERSIONS.items():
        copy = place / version
        subprocess.run(["cp", "-al", str(place / first), str(copy)], check=True)
        _change(copy / "RELEASE", f"version={first}", f"version={version}")
        if instead:
            unit = copy / "systemd" / AGENT
            (line,) = (x for x in unit.read_text().splitlines() if x.startswith("ExecStart="))
            _change(unit, line, f"ExecStart={instead}")
            _change(unit, "TimeoutStartSec=60", "TimeoutStartSec=10")
        dist.seal(copy)
    return first


def _change(file: Path, old: str, new: str) -> None:
    """Other words in one copy of a file that others share."""
    text = file.read_text()
    assert text.count(old) == 1, f"{file}: {old!r}"
    file.unlink()
    file.write_text(text.replace(old, new))


def _install(machine: Machine, version: str, code: int) -> str:
    """Runs install.sh inside and gives its last words."""
    script = f"sh /mnt/{version}/install.sh >/run/told 2>&1; echo $? >/run/code"
    machine.run("rm", "-f", "/run/told", "/run/code")
    machine.run("systemd-run", "--quiet", "--no-block", "sh", "-c", script)
    until(lambda: machine.run("cat", "/run/code", code=None), "install.sh ends", INSTALL_SECONDS)
    told, found = machine.run("cat", "/run/told"), machine.run("cat", "/run/code").strip()
    assert found == str(code), f"ended with {found}: {told}"
    return told.strip().splitlines()[-1]


def _runs(machine: Machine, version: str) -> str:
    """The service is ready, and it is this version's."""
    assert machine.run("readlink", "/opt/otolith/current").strip() == version
    assert machine.show(AGENT, "ActiveState") == "active"
    program = machine.run("cat", f"/etc/systemd/system/{AGENT}")
    assert "/opt/otolith/current/venv/bin/python -m edge_agent run" in program
    return f"{version} runs as process {machine.show(AGENT, 'MainPID')}"


def _first(machine: Machine, first: str) -> str:
    _install(machine, first, 0)
    machine.run("systemctl", "enable", "--now", AGENT)
    return _runs(machine, first)


def _good(machine: Machine, first: str) -> str:
    _install(machine, "0.2.0", 0)
    assert machine.run("readlink", "/opt/otolith/previous").strip() == first
    return _runs(machine, "0.2.0")


def _fails(version: str) -> Callable[[Machine, str], str]:
    def check(machine: Machine, first: str) -> str:
        told = _install(machine, version, 1)
        assert "everything is as before" in told, told
        until(lambda: machine.show(AGENT, "ActiveState") == "active", "ready again", READY_SECONDS)
        seen = _runs(machine, "0.2.0")
        assert version not in machine.run("ls", "/opt/otolith")
        return f"{version} was taken back, {seen}"

    return check


def _back(machine: Machine, first: str) -> str:
    machine.run("edge-agent", "rollback")
    return _runs(machine, first)


CHECKS: dict[str, Callable[[Machine, str], str]] = {
    "first install": _first,
    "update": _good,
    "an update that ends at once": _fails("0.3.0"),
    "an update that never becomes ready": _fails("0.4.0"),
    "edge-agent rollback": _back,
}
