"""Layer: the product as it is in the working tree, laid over a Debian.

In: an empty folder. Out: the folder, with the agent, the unit, a configuration, a broker that wants
a password, and a board.
Never: changes a line of the unit; what a site would add stands in a drop-in.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.booted.root import VENV, compiled, libraries_of
from tests.conftest import ROOT

PACKAGES = ("edge_agent", "firmware_bridge")
AGENT = "edge-agent.service"
BOARD = "board.service"
BROKER = "mosquitto.service"
PASSWORD = "correct-horse-7-battery"
PASSWORD_FILE = "/etc/otolith/mqtt-password"
CREDENTIAL = f"[Service]\nLoadCredential=mqtt-password:{PASSWORD_FILE}\n"
# The simulator holds its end of the pty open, so an exclusive use that ended with kill -9 would
# last; a real port is free again when its last user is gone.
FREE_PORT = "usr/local/sbin/free-port"
FREE_PORT_LINES = """#!/usr/bin/python3
import fcntl, os, sys, termios
if os.path.exists(sys.argv[1]):
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY), termios.TIOCNXCL)
"""
CONFIG = "/etc/otolith/agent.toml"
READER = "reader"
UNITS, WANTED = "etc/systemd/system", "etc/systemd/system/multi-user.target.wants"
# Each board is a pty, /run/board, /run/board2 ...; a bearing fails 3 s after power-up.
BOARD_UNIT = (
    "[Service]\n"
    f"ExecStart=/{VENV}/bin/python -m firmware_bridge simulate --machine vibration"
    " --fault bearing:3:600:1:y --link /run/board --boards {boards}\n"
)
BROKER_SETTINGS = (
    "listener 1883 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/passwords\n"
)
# Nobody logs in, nothing is updated.
MASKED = ("console-getty.service", "apt-daily.timer", "apt-daily-upgrade.timer",
          "e2scrub_all.timer", "dpkg-db-backup.timer", "systemd-firstboot.service")  # fmt: skip


def lay(place: Path, suite: str, source: Path = ROOT, agents: tuple[str, ...] = (AGENT,)) -> Path:
    """Fills `place` from the working tree `source`; the agents come up with the boot. Another name
    than `AGENT` is a copy of the unit with a configuration, a state folder and a board of its own.
    """
    packages = libraries_of(place, suite)
    for package in PACKAGES:
        left_out = shutil.ignore_patterns("__pycache__", "firmware", "build")
        shutil.copytree(source / package, packages / package, ignore=left_out)
    compiled(place, suite, PACKAGES)
    unit = (source / "systemd" / "edge-agent.service").read_text()
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    # The venv is where the unit looks for it.
    link(place, start.split("/bin/python ")[0][1:], f"/{VENV}")
    for i, name in enumerate(agents):
        if suite == "trixie":  # as install.sh does from systemd 254 on
            more = (source / "systemd" / "trixie.conf").read_text()
            write(place, f"{UNITS}/{name}.d/10-trixie.conf", more)
        write(place, f"{UNITS}/{name}", unit)
        _site(place, name.removesuffix(".service"), start, f"/run/board{i + 1 if i else ''}")
        link(place, f"{WANTED}/{name}", f"../{name}")
    _around(place, len(agents))
    bundle = source / "edge_agent" / "default_bundle" / "vibration.otolith"
    shutil.copy(bundle, place / "etc/otolith/motor.otolith")
    return place


def config_of(name: str) -> str:
    """Where the configuration of this copy lies."""
    return CONFIG if f"{name}.service" == AGENT else f"/etc/otolith/{name}.toml"


def config(name: str = "edge-agent", port: str = "/run/board", more: str = "") -> str:
    """One board, one asset, the bundle that comes with the product."""
    return (
        f'[gateway]\nid = "{name}"\n[mqtt]\nusername = "gateway"\n'
        f'[storage]\nstate_dir = "/var/lib/{name}"\n'
        f'[health]\ninterval_seconds = 5\nprometheus_file = "/run/{name}/otolith.prom"\n'
        f'[boards.press]\nport = "{port}"\n'
        '[assets.motor]\nboard = "press"\nstream = "accel"\n'
        f'bundle = "/etc/otolith/motor.otolith"\n'
        # Each alarm is told: it is what these checks wait for.
        f"[assets.motor.alarm]\nre_alarm_seconds = 0.0\nbegins_an_hour = 0\n{more}"
    )


def write(place: Path, path: str, text: str, mode: int = 0o644) -> None:
    """A file of the layer."""
    file = place / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def link(place: Path, path: str, target: str) -> None:
    """A symbolic link of the layer; one that is there is replaced."""
    file = place / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.symlink_to(target)


def _site(place: Path, name: str, start: str, port: str) -> None:
    """What a site adds: its password, its configuration, and what makes a copy a copy."""
    drop_in = CREDENTIAL + f"ExecStartPre=+/{FREE_PORT} {port}\n"
    if f"{name}.service" != AGENT:
        own = start.replace(CONFIG, config_of(name))
        drop_in += f"StateDirectory=\nStateDirectory={name}\n"
        drop_in += f"RuntimeDirectory=\nRuntimeDirectory={name}\n"
        drop_in += f"ExecStart=\nExecStart={own}\n"
    write(place, f"{UNITS}/{name}.service.d/site.conf", drop_in)
    write(place, config_of(name)[1:], config(name, port))
    write(place, PASSWORD_FILE[1:], PASSWORD + "\n", 0o600)
    write(place, FREE_PORT, FREE_PORT_LINES, 0o755)


def _around(place: Path, boards: int) -> None:
    """The rest of the machine: its name, its broker, its boards."""
    write(place, "etc/hostname", "gateway\n")
    write(place, "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    write(place, f"{UNITS}/{BOARD}", BOARD_UNIT.format(boards=boards))
    for name in MASKED:
        link(place, f"{UNITS}/{name}", "/dev/null")
    # Debian starts the broker with every boot; here it comes when it is asked to.
    link(place, f"{WANTED}/{BROKER}", "/dev/null")
    write(place, "etc/mosquitto/conf.d/otolith.conf", BROKER_SETTINGS)
    users = place / "etc/mosquitto/passwords"
    write(place, "etc/mosquitto/passwords", f"gateway:{PASSWORD}\n{READER}:{PASSWORD}\n")
    subprocess.run(["mosquitto_passwd", "-U", users], check=True)
