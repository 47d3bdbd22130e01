"""The whole service: real ptys, a real broker, real children that are really killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.broker.outbox import FILE_NAME
from edge_agent.broker.store import Limits, Store
from edge_agent.config import Config, load_config
from edge_agent.judging.pipeline import Fact, Gap, Judgement, Pipeline
from edge_agent.service import Service
from tests import programs
from tests.bundles import changed
from tests.conftest import ROOT, Mosquitto
from tests.subscriber import Subscriber

pytestmark = pytest.mark.timeout(120)

BASE = "otolith/test"


def configure(
    folder: Path, port: int, assets: dict[str, tuple[str, str, Path]], more: str = ""
) -> Path:
    """Assets as name -> (board, stream, bundle); the port of board b is the link `b.tty`."""
    text = f'[gateway]\nid = "test"\n[mqtt]\nport = {port}\n[storage]\nstate_dir = "state"\n'
    for board in sorted({board for board, _, _ in assets.values()}):
        text += f'[boards.{board}]\nport = "{board}.tty"\n'
    for name, (board, stream, bundle) in assets.items():
        text += f'[assets.{name}]\nboard = "{board}"\nstream = "{stream}"\nbundle = "{bundle}"\n'
    file = folder / "agent.toml"
    file.write_text(text + more)
    return file


PUMP = {"pump": ("b", "accel", programs.VIBRATION)}


@contextmanager
def service(config: Config, observe: Callable[[Fact], None] | None = None) -> Iterator[Service]:
    """The loop in a thread, stopped cleanly."""
    running, stop = Service(config, observe), threading.Event()
    codes: list[int] = []
    loop = threading.Thread(target=lambda: codes.append(running.run(stop)))
    loop.start()
    try:
        yield running
    finally:
        stop.set()
        loop.join(30)
    assert codes == [0]


@pytest.fixture
def subscriber(mosquitto: Mosquitto) -> Iterator[Subscriber]:
    made = Subscriber(mosquitto.port, f"{BASE}/#")
    yield made
    made.close()


def numbers(subscriber: Subscriber, leaf: str) -> dict[str, Any]:
    """The newest message of a topic: `health`, `board/<name>`, `<asset>/state`."""
    found: dict[str, Any] = json.loads(subscriber.latest(f"{BASE}/{leaf}") or "{}")
    return found


def statuses(subscriber: Subscriber, asset: str) -> list[str]:
    topic = f"{BASE}/{asset}/status"
    return [m.payload.decode() for m in subscriber.messages if m.topic == topic]


def test_a_fault_gives_one_begin_and_one_end_and_says_where(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    config = configure(tmp_path, mosquitto.port, PUMP, "[health]\ninterval_seconds = 1\n")
    with programs.board(tmp_path / "b.tty", "--seed", 7, "--fault", "bearing:4:8") as board:
        with programs.agent(config) as agent:
            subscriber.until(lambda: subscriber.events("end"), 40)
            # The state follows the event that changes it.
            subscriber.until(lambda: numbers(subscriber, "pump/state")["state"] == "ok")
            state = numbers(subscriber, "pump/state")
            health = json.loads(subscriber.latest(f"{BASE}/health"))
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(15) == 0
            subscriber.until(lambda: subscriber.latest(f"{BASE}/status") == "stopped")
        assert board.stdout
        fault = json.loads(board.stdout.readline())
    begin, end = subscriber.events()
    assert (begin["kind"], begin["seq"], begin["top1_ch"]) == ("begin", 1, "y")
    assert (end["kind"], end["seq"], end["event_id"]) == ("end", 2, begin["event_id"])
    assert begin["ratio"] > 1.0
    assert "y carries" in begin["why"]
    assert begin["bundle"] == "vibration"
    assert not begin["replayed"]
    assert begin["first_over"] < begin["ts"]
    assert 0 < begin["mono_ms"] / 1e3 - fault["monotonic_s"] < 5.0
    assert state["state"] == "ok"
    assert health["boards_streaming"] == health["assets_online"] == 1
    assert health["samples_lost"] == health["frames_damaged"] == 0
    assert health["samples_lost_on_board"] == health["samples_lost_on_wire"] == 0
    assert health["samples_overwritten"] == 0
    assert health["windows"] > 4
    scores = [m for m in subscriber.messages if m.topic == f"{BASE}/pump/score"]
    assert 3 <= len(scores) <= 20
    assert statuses(subscriber, "pump")[-1] == "online"
    assert json.loads(subscriber.latest(f"{BASE}/info"))["assets"][0]["status"] == "online"


def waiting_events(folder: Path) -> list[dict[str, object]]:
    """What a stopped or killed agent has left in its outbox."""
    if not (folder / "state" / FILE_NAME).exists():
        return []
    # The file is the agent's alone while it runs: what lies there is looked at in a copy.
    with tempfile.TemporaryDirectory() as scratch:
        for name in (FILE_NAME, f"{FILE_NAME}-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(folder / "state" / name, Path(scratch) / name)
        store = Store(Path(scratch) / FILE_NAME, Limits())
        rows = store.pending(0, 1000)
        store.close()
    found = [row.message for row in rows if row.message.topic.endswith("/event")]
    return [json.loads(message.payload) for message in found]


def wait_for(wanted: Callable[[], object], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_alert_outlives_kill_9_while_the_broker_is_away(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    config = configure(tmp_path, mosquitto.port, PUMP)
    mosquitto.kill()
    subscriber.expect_restart()
    with programs.board(tmp_path / "b.tty", "--seed", 7, "--fault", "bearing:3:6"):
        with programs.agent(config) as agent:
            wait_for(lambda: [e for e in waiting_events(tmp_path) if e["kind"] == "end"])
            os.kill(agent.pid, signal.SIGKILL)
            agent.wait()
        left = [event for event in waiting_events(tmp_path) if event["kind"] != "gap"]
        assert [event["kind"] for event in left] == ["begin", "end"]
        mosquitto.start()
        # An alert for which nobody has subscribed yet is gone, whoever sends it.
        subscriber.again()
        with programs.agent(config):
            subscriber.until(lambda: subscriber.events("end"))
            wait_for(lambda: not waiting_events(tmp_path))
    arrived = [event for event in subscriber.events() if event["kind"] != "gap"]
    # At least once is the promise; a duplicate is one that says so by the same id and seq.
    unique = {(e["event_id"], e["seq"]): e for e in arrived}
    assert [key for key in unique] == [(e["event_id"], e["seq"]) for e in left]
    assert all(event["replayed"] for event in arrived)
    assert len(arrived) <= len(left) + 1


def test_a_killed_gateway_is_offline_until_it_is_back(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    config = configure(tmp_path, mosquitto.port, PUMP)
    for _ in range(2):
        with programs.agent(config) as agent:
            subscriber.until(lambda: subscriber.latest(f"{BASE}/status") == "online")
            os.kill(agent.pid, signal.SIGKILL)
            agent.wait()
        subscriber.until(lambda: subscriber.latest(f"{BASE}/status") == "offline")


def test_a_board_that_is_unplugged_is_offline_and_comes_back_with_a_gap(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    config = load_config(configure(tmp_path, mosquitto.port, PUMP))
    with service(config):
        with programs.board(tmp_path / "b.tty", "--seed", 7):
            subscriber.until(lambda: subscriber.latest(f"{BASE}/pump/score"))
        subscriber.until(lambda: statuses(subscriber, "pump")[-1:] == ["offline"])
        with programs.board(tmp_path / "b.tty", "--seed", 7):
            subscriber.until(lambda: statuses(subscriber, "pump")[-1:] == ["online"])
            subscriber.until(lambda: subscriber.events("gap"))
    assert statuses(subscriber, "pump")[:4] == ["offline", "online", "offline", "online"]
    (gap,) = subscriber.events("gap")
    assert gap["why"] == "board restarted"


def test_lost_bytes_are_told_and_no_window_spans_them(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    every_second = "[health]\ninterval_seconds = 1\n"
    config = load_config(configure(tmp_path, mosquitto.port, PUMP, every_second))
    facts: list[Fact] = []
    with (
        programs.board(tmp_path / "b.tty", "--seed", 7, "--lose", 2e-5, "--clock-ppm", 80),
        service(config, facts.append) as running,
    ):
        subscriber.until(lambda: len(subscriber.events("gap")) >= 2, 60)
        counted = running._sessions["b"].link.assemblers[1].counters.lost_on_wire
        subscriber.until(lambda: numbers(subscriber, "board/b").get("samples_lost_on_wire", 0))
        subscriber.until(
            lambda: numbers(subscriber, "health")["samples_lost_on_wire"]
            == numbers(subscriber, "board/b")["samples_lost_on_wire"] >= counted
        )  # fmt: skip
    health, board = numbers(subscriber, "health"), numbers(subscriber, "board/b")
    assert (board["board"], board["state"], board["sessions"]) == ("b", "streaming", 1)
    assert "trouble" not in board
    damaged = [board[f"frames_{kind}"] for kind in ("bad_crc", "bad_cobs", "bad_frame", "oversize")]
    assert health["frames_damaged"] == sum(damaged) > 0
    assert board["samples"] > 3200
    assert board["samples_lost_on_board"] == board["samples_overwritten"] == 0
    assert 0.0 < board["clock_round_trip_ms"] == health["clock_round_trip_max_ms"] < 50.0
    assert abs(board["clock_drift_ppm"]) == health["clock_drift_max_ppm"] < 500.0
    assert (board["board_reset_cause"], board["board_rx_overrun"]) == (1, 0)
    assert 0.0 < board["board_uptime_s"] < 60.0
    lost = [fact for fact in facts if isinstance(fact, Gap)]
    told = subscriber.events("gap")
    assert sum(gap["samples_lost"] for gap in told) <= sum(gap.lost for gap in lost)
    assert told[0]["gaps"] == 1
    # The row count of a window starts anew at every gap.
    after: Fact | None = None
    for fact in facts:
        if isinstance(fact, Judgement) and isinstance(after, Gap):
            assert fact.first_row == 0
            assert fact.window_start >= after.t - 1e-3
        after = fact


def test_several_boards_and_a_bundle_that_does_not_fit(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    assets = {
        "pump": ("b", "accel", programs.VIBRATION),
        "twin": ("b", "accel", programs.VIBRATION),
        "wrong": ("b", "accel", programs.COMPASS),
        "mast": ("c", "mag", programs.COMPASS),
        "typo": ("c", "mga", programs.COMPASS),
        "none": ("c", "mag", tmp_path / "none.otolith"),
    }
    config = configure(tmp_path, mosquitto.port, assets, "[health]\ninterval_seconds = 1\n")
    with (
        programs.board(tmp_path / "b.tty", "--machine", "vibration", "--seed", 7),
        programs.board(tmp_path / "c.tty", "--machine", "compass", "--seed", 8),
        programs.agent(config),
    ):
        for asset in ("pump", "twin", "mast"):
            subscriber.until(lambda name=asset: subscriber.latest(f"{BASE}/{name}/score"), 60)
        for asset in ("wrong", "typo", "none"):
            subscriber.until(lambda name=asset: statuses(subscriber, name)[-1:] == ["refused"])
        subscriber.until(lambda: json.loads(subscriber.latest(f"{BASE}/health"))["windows"] > 8)
        about = json.loads(subscriber.latest(f"{BASE}/info"))
    log = config.with_suffix(".log").read_text()
    refusals = {asset["name"]: asset.get("refusal") for asset in about["assets"]}
    assert refusals["pump"] is None
    assert "wants unit uT, the board sends g" in refusals["wrong"]
    assert "has no stream 'mga'; it has: mag" in refusals["typo"]
    assert "No such file" in refusals["none"]
    for name in ("wrong", "typo", "none"):
        assert sum(line.startswith(f"<3>{name}: refused") for line in log.splitlines()) == 1
    pump, twin = (
        [json.loads(m.payload)["score"] for m in subscriber.messages
         if m.topic == f"{BASE}/{name}/score"]
        for name in ("pump", "twin")
    )  # fmt: skip
    assert pump == twin


def test_the_fault_of_one_asset_is_not_that_of_its_neighbour(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    assets = {"pump": PUMP["pump"], "broken": PUMP["pump"]}
    config = load_config(configure(tmp_path, mosquitto.port, assets))

    def model(_scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        raise ZeroDivisionError("a bug")

    with programs.board(tmp_path / "b.tty", "--seed", 7), service(config) as running:
        whole = running.assets["broken"].pipeline
        assert whole is not None
        running.assets["broken"].pipeline = Pipeline("broken", whole.manifest, model)
        subscriber.until(lambda: statuses(subscriber, "broken")[-1:] == ["faulty"])
        subscriber.until(lambda: subscriber.latest(f"{BASE}/pump/score"))
    assert statuses(subscriber, "pump")[-1] == "online"


def test_a_bundle_older_than_the_last_is_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "pump.otolith"
    config = load_config(configure(tmp_path, 1883, {"pump": ("b", "accel", bundle)}))
    changed(programs.VIBRATION, bundle, serial=5)
    assert Service(config).assets["pump"].refusal is None
    changed(programs.VIBRATION, bundle, serial=4)
    assert "has serial 4, this gateway has seen 5" in str(Service(config).assets["pump"].refusal)
    changed(programs.VIBRATION, bundle, serial=6)
    assert Service(config).assets["pump"].refusal is None


def test_an_unsigned_bundle_is_refused_where_keys_are_trusted(tmp_path: Path) -> None:
    file = configure(tmp_path, 1883, PUMP)
    file.write_text(f'trusted_keys = ["{"A" * 43}="]\n' + file.read_text())
    refusal = Service(load_config(file)).assets["pump"].refusal
    assert "not signed" in str(refusal)


def test_a_recording_of_the_service_replays_to_the_same_scores(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    more = '[recorder]\ndirectory = "rec"\n'
    config = load_config(configure(tmp_path, mosquitto.port, PUMP, more))
    facts: list[Fact] = []
    with programs.board(tmp_path / "b.tty", "--seed", 7), service(config, facts.append):
        wait_for(lambda: sum(isinstance(fact, Judgement) for fact in facts) >= 8)
    live = [fact.score.value for fact in facts if isinstance(fact, Judgement)]
    (recording,) = (tmp_path / "rec").iterdir()
    *scores, summary = programs.replay(recording, programs.VIBRATION, "--scores")
    assert summary["windows"] == len(live)
    assert [line["score"] for line in scores if line["kind"] == "score"] == live


def test_systemd_is_told_ready_alive_what_and_stopping(tmp_path: Path) -> None:
    config = configure(tmp_path, 1, PUMP)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        environment = {
            **os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000",
        }  # fmt: skip
        environment.pop("WATCHDOG_PID", None)
        child = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "run", "--config", config],
            cwd=ROOT, env=environment, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        told = [systemd.recv(4096).decode() for _ in range(12)]
        child.terminate()
        while told[-1] != "STOPPING=1":
            told.append(systemd.recv(4096).decode())
        assert child.wait(15) == 0
    assert told[0] == "READY=1"
    assert told.count("WATCHDOG=1") >= 5
    assert any(text.startswith("STATUS=0/1 boards streaming, broker away") for text in told)


def test_a_wrong_configuration_ends_with_78_and_its_line(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[gateway]\nid = 5\n")
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "run", "--config", tmp_path / "agent.toml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert "agent.toml:2: gateway.id: saw 5" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_folder_that_cannot_be_written_ends_with_74(tmp_path: Path) -> None:
    config = configure(tmp_path, 1883, PUMP)
    (tmp_path / "state").write_bytes(b"a file in the way")
    with programs.agent(config) as agent:
        assert agent.wait(30) == 74
    assert "Traceback" not in config.with_suffix(".log").read_text()


def test_a_second_agent_on_the_folder_touches_nothing(tmp_path: Path, mosquitto: Mosquitto) -> None:
    config = load_config(configure(tmp_path, mosquitto.port, PUMP))
    with service(config) as first:
        wait_for(lambda: first._evidence.progress.owed_seconds(1e12) == 0.0)
        wait_for((tmp_path / "state" / "agent.sock").exists)
        under_way = tmp_path / "state" / "evidence" / "a.rec.part"
        under_way.write_bytes(b"the first agent writes this")
        with pytest.raises(OSError, match="another agent runs on this state folder"):
            Service(config).run()
        time.sleep(0.5)  # a thread of the second one would be as far by now
        assert under_way.exists()
