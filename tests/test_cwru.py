"""CWRU: a bundle from three seconds of a healthy motor, the faults live over ptys and by replay.

Saturated when clean, as everybody's CWRU is: this tests the way from CSV to alert, not quality.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge_agent.config import load_config
from edge_agent.judging.pipeline import AlarmEvent, Fact, Judgement
from edge_agent.service import Service
from tests.conftest import Mosquitto
from tests.programs import board, mosquitto_sub, replay, run

pytestmark = pytest.mark.data("cwru")

RATE_HZ = 48_000
NORMAL_ROWS = 146_000
FIRST_SHARE = 0.7
FAULTS = ("B007_0hp", "IR007_0hp", "OR007at6_0hp")
LIVE_SECONDS = 3.5


@pytest.fixture(scope="module")
def motor(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A folder with recordings and `motor.otolith`, built on the first 70 % of the normal one."""
    folder = tmp_path_factory.mktemp("cwru")
    source = data_dir / "cwru"
    common = ("--rate-hz", RATE_HZ, "--columns", "DE,FE", "--unit", "g", "--out", folder)
    normal = source / "Normal_0_part1.npz"
    known = round(FIRST_SHARE * NORMAL_ROWS)
    run("converter", "import", normal, *common, "--rows", f":{known}", "--name", "known")
    run("converter", "import", normal, *common, "--rows", f"{known}:", "--name", "unseen")
    run("converter", "import", *(source / f"{name}.npz" for name in FAULTS), *common, "--faulty")
    built = run(
        "converter", "build", "--normal", folder / "known.rec", "--name", "motor",
        "--evaluate", *(folder / f"{name}.rec" for name in FAULTS),
        "--front-end", "spectral", "--segment-length", 1024, "--segment-hop", 512,
        "--hop", 480, "--train-hop", 120, "--family", "dense", "--epochs", 60,
        "--on-delay", 10, "--off-delay", 20, "--factor", 1.5, "--out", folder / "motor.otolith",
        "--json",
    )[-1]  # fmt: skip
    assert built["accepted"], built["reasons"]
    return folder


def test_replay_is_silent_on_the_unseen_part_and_alarms_on_each_fault(motor: Path) -> None:
    assert replay(motor / "unseen.rec", motor / "motor.otolith")[-1]["episodes"] == 0
    for name in FAULTS:
        lines = replay(motor / f"{name}.rec", motor / "motor.otolith")
        begins = [line for line in lines if line.get("kind") == "begin"]
        assert len(begins) == 1, name
        assert begins[0]["t"] <= 1.0, name


CONFIG = """
[gateway]
id = "lab"
[mqtt]
port = {port}
[storage]
state_dir = "state"
"""
ASSET = """
[boards.b_{name}]
port = "{name}.tty"
[assets.{name}]
board = "b_{name}"
stream = "samples"
bundle = "motor.otolith"
"""


def test_live_over_ptys_is_what_replay_says(motor: Path, mosquitto: Mosquitto) -> None:
    """Four boards, four assets, one process; a subscriber of Debian's own gets the alerts."""
    names = ("unseen", *FAULTS)
    text = CONFIG.format(port=mosquitto.port) + "".join(ASSET.format(name=n) for n in names)
    (motor / "agent.toml").write_text(text)
    judged: dict[str, list[Judgement]] = defaultdict(list)
    began: list[str] = []

    def observe(fact: Fact) -> None:
        if isinstance(fact, Judgement):
            judged[fact.asset].append(fact)
        elif isinstance(fact, AlarmEvent) and fact.change.kind == "begin":
            began.append(fact.asset)

    stop = threading.Event()
    with mosquitto_sub(mosquitto.port, "otolith/lab/+/event") as received, ExitStack() as stack:
        for name in names:
            link = motor / f"{name}.tty"
            stack.enter_context(board(link, "--recording", motor / f"{name}.rec"))
        service = Service(load_config(motor / "agent.toml"), observe=observe)
        loop = threading.Thread(target=service.run, args=(stop,))
        loop.start()
        deadline = time.monotonic() + 30
        while set(began) < set(FAULTS) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(LIVE_SECONDS)
        stop.set()
        loop.join()
    events = [json.loads(payload) for _, payload in received]
    alerted = {event["asset"] for event in events if event["kind"] == "begin"}
    assert alerted == set(FAULTS)
    for name in names:
        offline = replay(motor / f"{name}.rec", motor / "motor.otolith", "--scores")
        expected = [line["score"] for line in offline if line.get("kind") == "score"]
        first_pass = [fact.score.value for fact in judged[name]][: len(expected)]
        assert len(expected) > 50
        assert first_pass == expected, name
