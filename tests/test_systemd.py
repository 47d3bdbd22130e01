"""The unit: valid, tight, and in step with the agent."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from edge_agent.__main__ import _parser
from tests.conftest import ROOT

UNIT = ROOT / "systemd" / "edge-agent.service"
NEWER = ROOT / "systemd" / "trixie.conf"
RULES = ROOT / "systemd" / "99-otolith.rules"
# 15 is 1.5 of 10; comparable services stand at 9.2.
MAX_EXPOSURE = "15"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@needs_systemd
def test_the_exposure_is_small() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={MAX_EXPOSURE}", UNIT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


@needs_systemd
@pytest.mark.parametrize("credential", [False, True])
def test_systemd_understands_every_line(tmp_path: Path, credential: bool) -> None:
    text = UNIT.read_text().replace("/opt/otolith/current/venv/bin/python", "/bin/true")
    # A bare container has no `kill` of its own; every Debian that boots has.
    text = text.replace("/bin/kill", "/bin/true")
    if credential:
        text = text.replace("#LoadCredential", "LoadCredential")
    (tmp_path / UNIT.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / UNIT.name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_starts_the_command_that_there_is() -> None:
    text = UNIT.read_text()
    (start,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    _, _, arguments = start.partition(" -m edge_agent ")
    options = _parser().parse_args(arguments.split())
    assert options.config == Path("/etc/otolith/agent.toml")
    assert "RestartPreventExitStatus=78" in text
    assert "Type=notify\n" in text
    assert "StateDirectory=edge-agent" in text
    example = (ROOT / "systemd" / "examples" / "agent.toml").read_text()
    assert 'state_dir = "/var/lib/edge-agent"' in example


def test_the_drivers_of_the_ports_are_loaded_before_the_unit_looks_for_them() -> None:
    """A device class that is unknown at the start is denied until the next one."""
    text = UNIT.read_text()
    modules = {
        "char-ttyACM": "cdc_acm",
        "char-ttyUSB": "usbserial",
        "char-ttyAMA": None,
        "char-ttyS": None,
    }
    assert set(re.findall(r"^DeviceAllow=(\S+) rw$", text, re.MULTILINE)) == set(modules)
    for key in ("After", "Wants"):
        (units,) = re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)
        loaded = {unit for unit in units.split() if unit.startswith("modprobe@")}
        assert loaded == {f"modprobe@{name}.service" for name in modules.values() if name}


def test_no_key_is_given_twice_by_mistake() -> None:
    lists = {"DeviceAllow", "SystemCallFilter", "IPAddressAllow"}
    lines = [line for line in UNIT.read_text().splitlines() if re.match(r"\w+=", line)]
    keys = [line.partition("=")[0] for line in lines]
    assert {key for key in keys if keys.count(key) > 1} <= lists
    parser = ConfigParser(strict=False, allow_no_value=True, interpolation=None)
    parser.read(UNIT)
    assert parser.sections() == ["Unit", "Service", "Install"]


def test_what_newer_systemd_gets_replaces_lines_and_loosens_none() -> None:
    """Only how it is started, told to reload and started again: nothing that keeps it in."""
    parser = ConfigParser(allow_no_value=True, interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(NEWER)
    assert parser.sections() == ["Service"]
    assert dict(parser["Service"]) == {
        "Type": "notify-reload", "ExecReload": "", "RestartSteps": "8",
        "RestartMaxDelaySec": "5min",
    }  # fmt: skip


def test_the_udev_rule_speaks_of_serial_ports_and_keeps_modem_manager_off() -> None:
    rules = [line for line in RULES.read_text().splitlines() if line and line[0] != "#"]
    for rule in rules:
        for part in rule.split(", "):
            assert re.fullmatch(r'[A-Z]+(\{\w+\})?(==|!=|=|\+=)"[^"]*"', part), part
    assert 'SUBSYSTEM!="tty"' in rules[1]
    assert 'ENV{ID_MM_DEVICE_IGNORE}="1"' in rules[2]
    assert 'GROUP="dialout"' in rules[2]
