"""The status page: as a person reads it, and a service that runs behind it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from edge_agent.door import NoService, ask
from edge_agent.health.status import Status, of_answer
from edge_agent.health.status_page import bar, lines
from tests import programs, statuses
from tests.conftest import ROOT, Mosquitto, free_port
from tests.test_metrics import read
from tests.test_service import wait_for

pytestmark = pytest.mark.timeout(120)


def asked(config: Path, *arguments: str) -> tuple[int, str, str]:
    """`edge-agent status` as a script runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "status", "--config", config, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_four_boards_fit_on_a_terminal() -> None:
    longest = "x" * 64
    numbers = statuses.health(
        uptime_s=1e7, queue_depth=200_000, queue_oldest_s=1e6, queue_hours_left=1e4,
        dropped_alerts=10**6, dropped_telemetry=10**6, samples_lost_on_board=10**9,
        samples_lost_on_wire=10**9, samples_overwritten=10**9, gaps=10**6, clock_steps=1000,
        clock_last_step_s=-1e9, clock_synced=None, temp_c=-40.0, undervoltage_seen=1,
        window_late_p50_ms=12345.0, window_late_p99_ms=12345.0, invoke_p50_ms=1.0,
        invoke_p99_ms=1.0, disk_written_bytes=10**12, disk_written_bytes_per_day=10**12,
        broker_connections=10**6,
    )  # fmt: skip
    status = statuses.status(
        health=numbers,
        gateway=longest,
        boards=[statuses.board(longest, samples=10**12, clock_drift_ppm=-500.0)] * 4,
        assets=[statuses.asset(longest, bundle=longest, ratio=1e9, calibration="x")] * 4,
        problems=["y" * 300] * 9,
        wrong=["z" * 300] * 9,
    )
    page = list(lines(status))
    assert len(page) <= 23  # the prompt needs one
    assert max(map(len, page)) <= 80
    assert page[-1].endswith("(and 8 more: --json)")


def test_the_last_line_says_how_it_is() -> None:
    assert list(lines(statuses.status()))[-1] == "all is well"
    wrong = statuses.status(wrong=["board press: no data for 1.0 s"])
    assert list(lines(wrong))[-1] == "wrong: board press: no data for 1.0 s"


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [
        (None, ""),
        (0.0, ".....|..... 0.00"),
        (0.42, "##...|..... 0.42"),
        (1.0, "#####|..... 1.00"),
        (7.5, "#####|##### 7.50"),
        (-3.0, ".....|..... -3.00"),
    ],
)
def test_a_ratio_is_a_bar_with_the_threshold_in_the_middle(ratio: float | None, shown: str) -> None:
    assert bar(ratio) == shown


def test_a_boards_words_cannot_upset_a_terminal() -> None:
    page = lines(statuses.status(problems=["board \x1b[2J\x07 ü\n"], wrong=["\x9b31m\r"]))
    assert all(re.fullmatch(r"[ -~]*", line) for line in page)


def test_an_answer_of_another_version_is_a_sentence() -> None:
    good = statuses.status().model_dump(mode="json")
    assert of_answer({"status": {**good, "new": 1}}) == statuses.status()
    for bad in (None, {}, {**good, "health": {}}, {**good, "assets": 5}):
        with pytest.raises(ValueError, match=r"no good [\w.]+ in its answer; .* another version"):
            of_answer({"status": bad})


def test_without_a_service_it_is_said_how_to_look(tmp_path: Path) -> None:
    config = configure(tmp_path, 1)
    for _ in range(2):
        code, page, error = asked(config)
        assert (code, page) == (74, "")
        assert "systemctl status edge-agent" in error
        assert "journalctl" in error
        (tmp_path / "state").mkdir(exist_ok=True)


def configure(folder: Path, port: int, more: str = "") -> Path:
    file = folder / "agent.toml"
    file.write_text(
        f'[gateway]\nid = "hall-1"\n[mqtt]\nport = {port}\n[storage]\nstate_dir = "state"\n'
        '[boards.press]\nport = "b.tty"\n[assets.motor]\nboard = "press"\nstream = "accel"\n'
        f'bundle = "{programs.VIBRATION}"\n[health]\ninterval_seconds = 1\n{more}'
    )
    return file


def test_a_service_that_runs_tells_people_scripts_and_prometheus(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    port, file = free_port(), tmp_path / "otolith.prom"
    more = f'prometheus_file = "otolith.prom"\nprometheus_port = {port}\n'
    config = configure(tmp_path, mosquitto.port, more)
    with programs.agent(config) as agent:
        with programs.board(tmp_path / "b.tty", "--seed", 7):
            wait_for(lambda: _judged(tmp_path))
            code, said, _ = asked(config, "--json")
            status = json.loads(said)
            page = asked(config)[1].splitlines()
            scraped = _get(port)
            wait_for(lambda: "otolith_asset_ratio" in file.read_text())
            kept = read(file.read_text())
        wait_for(lambda: _status(tmp_path).wrong)
        door = os.stat(tmp_path / "state" / "agent.sock")
        code_gone, gone, _ = asked(config)
        agent.terminate()
        assert agent.wait(20) == 0
    assert (code, status["ok"], status["wrong"]) == (0, True, [])
    health = status["health"]
    assert 0.0 < health["invoke_p50_ms"] <= health["invoke_p99_ms"] < 1000.0
    assert 0.0 < health["window_late_p50_ms"] <= health["window_late_p99_ms"] < 5000.0
    assert health["open_descriptors"] > 5
    assert health["threads"] > 1
    assert status["boards"][0]["state"] == "streaming"
    (asset,) = status["assets"]
    assert (asset["status"], asset["bundle"]) == ("online", "vibration")
    assert 0.0 < asset["ratio"] == pytest.approx(asset["score"] / asset["threshold"], rel=1e-4)
    assert page[-1] == "all is well"
    assert re.search(
        r"motor +online +ok +[#.]{5}\|[#.]{5} \d\.\d\d +vibration serial", "\n".join(page)
    )
    labels = frozenset({("gateway", "hall-1"), ("asset", "motor")})
    assert scraped["otolith_asset_online", labels] == kept["otolith_asset_online", labels] == 1
    assert kept["otolith_asset_ratio", labels] > 0.0
    assert scraped["otolith_asset_windows_total", labels] > 1
    assert code_gone == 1
    assert gone.splitlines()[-1].startswith("wrong: board press: ")
    assert door.st_mode & 0o777 == 0o600
    assert not file.exists()


def _status(folder: Path) -> Status:
    return of_answer(ask(folder / "state", {"do": "status"}))


def _judged(folder: Path) -> bool:
    with suppress(NoService):  # it is starting
        status = _status(folder)
        return not status.wrong and status.assets[0].windows > 4
    return False


def _get(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return read(answer.read().decode())


def test_a_port_and_a_file_that_cannot_be_had_end_nothing(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    more = f'prometheus_file = "none/x.prom"\nprometheus_port = {mosquitto.port}\n'
    config = configure(tmp_path, mosquitto.port, more)
    with programs.agent(config) as agent:
        wait_for(lambda: "prometheus_file" in config.with_suffix(".log").read_text())
        time.sleep(1.5)
        assert asked(config)[0] == 1  # there is no board
        assert agent.poll() is None
    log = config.with_suffix(".log").read_text()
    assert log.count("health.prometheus_file: ") == 1
    assert log.count("health.prometheus_port: ") == 1
