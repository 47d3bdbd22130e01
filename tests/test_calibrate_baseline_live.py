"""`edge-agent calibrate baseline --config`: simulated machines on real ptys, quicker than real."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.shelf.stored import Stored
from edge_agent.door import ask
from edge_agent.door.visit import SOCKET_NAME
from tests import programs
from tests.conftest import ROOT
from tests.test_calibrate_shelf import draft
from tests.test_service import wait_for

SEED = 7401
# So much quicker than real: six minutes in some seconds.
SPEED = 60
MINUTES = 6
CONFIG = """
[gateway]
id = "g"
[mqtt]
port = 1
[boards.b1]
port = "{folder}/board"
[assets.mast]
board = "b1"
stream = "mag"
bundle = "{bundle}"
[storage]
state_dir = "{folder}/state"
"""


def config_in(folder: Path) -> Path:
    path = folder / "agent.toml"
    path.write_text(CONFIG.format(folder=folder, bundle=programs.COMPASS))
    return path


def current(folder: Path) -> Stored | None:
    return Shelf(folder / "state", "b1").current("baseline")


def command(folder: Path, *arguments: object) -> list[str]:
    words = [sys.executable, "-m", "edge_agent", "calibrate", "baseline", "--config"]
    return [*words, str(config_in(folder)), *map(str, arguments)]


def calibrated(folder: Path, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
    return programs.run("edge_agent", *command(folder, "--json", *arguments)[3:], code=code)


def rolled_back(folder: Path, *wanted: str) -> list[dict[str, Any]]:
    where = ("--config", config_in(folder), "--json")
    return programs.run("edge_agent", "calibrate", "rollback", *wanted, *where)


def in_use(folder: Path) -> str:
    """What the running service says that its asset is judged by."""
    (mast,) = ask(folder / "state", {"do": "status"})["status"]["assets"]
    return str(mast["calibration"] or "")


@contextmanager
def machine(folder: Path, *more: object) -> Iterator[None]:
    """A mast that slews, on the pty that the configuration names."""
    with programs.board(
        folder / "board", "--machine", "compass", "--seed", SEED, "--speed", SPEED, *more
    ):
        yield


@contextmanager
def sitting(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        command(folder, "--json", *arguments),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def until(child: subprocess.Popen[str], windows: int) -> None:
    """Reads steps until so many are kept."""
    assert child.stdout
    for line in child.stdout:
        if (json.loads(line).get("windows") or 0) >= windows:
            return
    raise AssertionError("it ended before")


def test_a_mast_is_captured_stored_and_taken_up_by_the_service_that_runs(tmp_path: Path) -> None:
    with machine(tmp_path), programs.agent(config_in(tmp_path)):
        wait_for(lambda: (tmp_path / "state" / SOCKET_NAME).exists(), 30.0)
        board, *steps, last = calibrated(tmp_path, "--minutes", MINUTES)
        assert board["source"] == "the running service"
        assert (last["verdict"], last["saved"]) == ("pass", True), last
        assert "the service uses it from now on" in last["told"]
        assert last["id"] in in_use(tmp_path)
    stored = current(tmp_path)
    assert stored is not None
    assert stored.id == last["id"]
    live = [step for step in steps if step["step"] == "live"]
    assert live[0]["minutes"] < live[-1]["minutes"]
    log = (tmp_path / "agent.log").read_text()
    assert "Traceback" not in log


def test_before_the_first_there_was_none_and_the_service_goes_back_to_it(tmp_path: Path) -> None:
    """A baseline and a compass calibration; that of the accelerometer goes the same way."""
    uid = "ab" * 12
    recording = tmp_path / "mast.rec"
    mast = ("--machine", "compass", "--seed", SEED, "--uid", uid)
    programs.run("firmware_bridge", "simulate", *mast, "--seconds", 370, "--out", recording)
    with programs.board(tmp_path / "board", *mast), programs.agent(config_in(tmp_path)):
        wait_for(lambda: (tmp_path / "state" / SOCKET_NAME).exists(), 30.0)
        *_, last = calibrated(tmp_path, "--replay", recording, "--minutes", MINUTES)
        shelf = Shelf(tmp_path / "state", "b1")
        stored = {"baseline": last["id"], "compass": shelf.put(draft(uid)).id}
        (there,) = rolled_back(tmp_path, stored["compass"])
        assert there["told"] == "the service uses it from now on"
        wait_for(lambda: in_use(tmp_path) == f"{stored['compass']}+{stored['baseline']}", 30.0)
        for kind, name in stored.items():
            others = "+".join(one for one in stored.values() if one != name)
            (gone,) = rolled_back(tmp_path, "--kind", kind)
            assert (gone["id"], gone["was"]) == (None, name)
            assert gone["told"] == "the service uses none from now on"
            assert in_use(tmp_path) == others
            (there,) = rolled_back(tmp_path, name)
            assert (there["id"], there["was"], there["kind"]) == (name, None, kind)
            assert in_use(tmp_path) == f"{stored['compass']}+{stored['baseline']}"
    assert "Traceback" not in (tmp_path / "agent.log").read_text()


def test_ended_or_dropped_the_old_one_stays_and_it_goes_on(tmp_path: Path) -> None:
    with machine(tmp_path):
        with sitting(tmp_path, "--minutes", MINUTES) as child:
            until(child, 20)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=30)
        last = json.loads(out.splitlines()[-1])
        assert (last["saved"], child.returncode) == (False, 1)
        assert "ended by you" in last["reason"]
        assert "Traceback" not in err
        assert Shelf(tmp_path / "state", "b1").partial("baseline") is None
        with sitting(tmp_path, "--minutes", 60) as child:
            until(child, 400)
            child.send_signal(signal.SIGHUP)
            child.communicate(timeout=30)
        assert Shelf(tmp_path / "state", "b1").partial("baseline")
        assert current(tmp_path) is None
        board, first, *_, last = calibrated(tmp_path, "--minutes", MINUTES)
        assert board["resumed"] is True
        assert first["windows"] >= 100
        assert last["saved"] is True


def test_states_are_asked_for_and_enter_says_that_they_are_there(tmp_path: Path) -> None:
    calibrated_without = programs.run(
        "edge_agent", *command(tmp_path, "--states", "calm,gale")[3:], code=2
    )
    assert calibrated_without == []
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with machine(tmp_path):
        child = subprocess.Popen(
            command(tmp_path, "--states", "calm,gale", "--minutes", MINUTES),
            cwd=ROOT, stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        os.close(slave)
        shown, asked, seen = "", 0, set()
        deadline_s = time.monotonic() + 90.0
        while child.poll() is None and time.monotonic() < deadline_s:
            if select.select([master], [], [], 0.2)[0]:
                try:
                    shown += os.read(master, 65_536).decode("utf-8", "replace")
                except OSError:
                    break
            told = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", shown)
            for state in ("calm", "gale"):
                if f"bring the machine to {state}" in told and state not in seen:
                    seen.add(state)
                    asked += 1
                    os.write(master, b"\n")
        child.wait(timeout=30)
        os.close(master)
    assert (child.returncode, asked) == (0, 2), shown[-2000:]
    stored = current(tmp_path)
    assert stored is not None
    states = stored.details["states"]
    assert isinstance(states, list)
    assert [one[0] for one in states] == ["calm", "gale"]  # type: ignore[index,call-overload]


@pytest.mark.parametrize("fault", ["drift:100"])
def test_a_fault_that_comes_while_it_is_captured_refuses_it(tmp_path: Path, fault: str) -> None:
    with machine(tmp_path, "--fault", fault):
        *_, last = calibrated(tmp_path, "--minutes", MINUTES, code=1)
    assert (last["verdict"], last["saved"]) == ("fail", False)
    assert set(last["refused_by"]) & {"drift", "jump", "score", "far windows"}
    assert "no baseline calibration is in use" in last["reason"]
