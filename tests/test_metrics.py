"""Prometheus: what it reads, by its own parser; how it is served; what visitors can't do."""

from __future__ import annotations

import http.client
import random
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.boards.board_health import BoardHealth
from edge_agent.boards.ports import Ports
from edge_agent.health.payloads import Health
from edge_agent.health.prometheus import OF_ASSET, OF_BOARD, OF_GATEWAY, exposition, write_file
from edge_agent.health.scrape import MAX_REQUEST_BYTES, MAX_VISITORS, Scrape
from edge_agent.health.status import AssetNow, Status
from tests import statuses
from tests.conftest import ROOT, free_port

pytestmark = pytest.mark.timeout(60)

ALERTS = ROOT / "systemd" / "examples" / "prometheus-alerts.yml"


def read(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels; no two have the same."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("gauge", "counter")
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            assert sample.name.startswith("otolith_")
            assert sample.name.endswith("_total") == (family.type == "counter")
            found[key] = sample.value
    assert len(found) == sum(bool(line) and line[0] != "#" for line in text.splitlines())
    return found


def value(text: str, name: str, **labels: str) -> float:
    labels = {"gateway": "hall-1", **labels}
    return read(text)[f"otolith_{name}", frozenset(labels.items())]


def busy() -> Status:
    """Every number is there, and every one is another."""
    numbers = statuses.health(
        **{n: i for i, n in enumerate(Health.model_fields, 1) if n != "version"}
    )
    text = {"board", "state", "trouble", "uid", "firmware"}
    board = {n: i for i, n in enumerate(BoardHealth.model_fields, 1000) if n not in text}
    return statuses.status(2, health=numbers, boards=[statuses.board("press", **board)])


def test_it_is_what_prometheus_reads() -> None:
    status = busy()
    text = exposition(status)
    for metric in OF_GATEWAY:
        seen = value(text, metric.name, **dict(metric.labels))
        assert seen == pytest.approx(getattr(status.health, metric.field) * metric.factor)
    for metric in OF_BOARD:
        seen = value(text, metric.name, board="press", **dict(metric.labels))
        assert seen == pytest.approx(getattr(status.boards[0], metric.field) * metric.factor)
    assert value(text, "asset_ratio", asset="asset-1") == 0.42
    assert value(text, "asset_online", asset="asset-0") == 1
    assert value(text, "info", version="1.2.3") == 1
    assert read(exposition(statuses.status(4)))


def test_units_are_base_units() -> None:
    status = statuses.status(health=statuses.health(window_late_p99_ms=12.5, queue_hours_left=2.0))
    text = exposition(status)
    assert value(text, "window_lateness_p99_seconds") == pytest.approx(0.0125)
    assert value(text, "queue_left_seconds") == 7200
    assert not re.search(r"_(ms|ppm|hours|s|c)[ {_]", re.sub(r"(?m)^# HELP.*$", "", text))


def test_every_number_of_the_payloads_has_a_metric_or_a_reason() -> None:
    """What a gateway sums up, its boards and assets say one by one."""
    by_parts = {
        "boards", "boards_streaming", "assets", "assets_online", "windows", "samples",
        "samples_lost", "samples_lost_on_board", "samples_lost_on_wire", "samples_overwritten",
        "gaps", "episodes", "bytes", "frames", "frames_damaged", "frames_bad_crc",
        "frames_bad_cobs", "frames_bad_frame", "frames_oversize", "frames_unexpected",
        "board_sessions", "board_restarts", "boards_rx_errors", "boards_rx_overrun",
        "boards_fifo_overrun", "boards_tx_dropped", "clock_round_trip_max_ms",
        "clock_drift_max_ppm",
    }  # fmt: skip
    # Prometheus has its own rate(); the rest is about the past, or a number without a meaning.
    else_where = {"version", "disk_written_bytes_per_day", "undervoltage_seen", "throttled_seen",
                  "clock_last_step_s"}  # fmt: skip
    known = {metric.field for metric in OF_GATEWAY}
    assert set(Health.model_fields) - known - by_parts - else_where == set()
    words = {"board", "state", "trouble", "uid", "firmware", "board_reset_cause", "board_rx_ok",
             "batches_clipped"}  # fmt: skip
    assert set(BoardHealth.model_fields) - {metric.field for metric in OF_BOARD} == words
    assert {metric.field for metric in OF_ASSET} < set(AssetNow.model_fields)


def test_a_label_may_hold_anything_and_what_is_unknown_is_left_out() -> None:
    name = 'a"b\\c\nd ü'
    text = exposition(statuses.status(boards=[statuses.board(name, samples=3)]))
    assert value(text, "board_samples_total", board=name) == 3
    assert "otolith_temperature_celsius" not in text
    infinite = statuses.status(assets=[statuses.asset("x", ratio=float("inf"), score=-1e-30)])
    assert value(exposition(infinite), "asset_ratio", asset="x") == float("inf")
    assert value(exposition(infinite), "asset_score", asset="x") == -1e-30


def test_promtool_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    for arguments, said in ((["metrics"], exposition(busy())), (["rules", str(ALERTS)], "")):
        done = subprocess.run(
            [promtool, "check", *arguments], input=said, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not done.stderr


def test_the_examples_alerts_are_about_metrics_and_labels_that_there_are() -> None:
    samples = read(exposition(busy()))
    names, labels = {name for name, _ in samples}, {key for _, each in samples for key, _ in each}
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in group["rules"]:
        used = re.findall(r"otolith_\w+", rule["expr"])
        assert used
        assert set(used) <= names
        assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= labels


def test_the_file_is_whole_whenever_it_is_read_and_others_may_read_it(tmp_path: Path) -> None:
    file, done, sizes = tmp_path / "otolith.prom", threading.Event(), set()
    texts = [exposition(statuses.status(count)) for count in (1, 8)]
    write_file(file, texts[0])

    def look() -> None:
        while not done.is_set():
            sizes.add(len(file.read_bytes()))

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(400):
        write_file(file, texts[number % 2])
    done.set()
    reader.join()
    assert sizes <= {len(text.encode()) for text in texts}
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["otolith.prom"]


class Serving:
    """A scrape endpoint, and a loop as the service's."""

    def __init__(self) -> None:
        self.ports, self.port = Ports({}), free_port()
        self.scrape = Scrape(self.port, self.ports, lambda: exposition(statuses.status(4)))
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self) -> None:
        while not self.ended.is_set():
            self.ports.poll(0.05)
            self.scrape.tick(time.monotonic())

    def get(self, method: str = "GET", path: str = "/metrics") -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as client:
            client.request(method, path)
            response = client.getresponse()
            return response.status, response.read().decode()

    def say(self, said: bytes) -> bytes:
        """All that comes back until the other side has closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            heard = b""
            try:
                connection.sendall(said)
                while chunk := connection.recv(65_536):
                    heard += chunk
            except ConnectionError:
                pass
            return heard

    def end(self) -> None:
        self.ended.set()
        self._thread.join()
        self.scrape.close()
        self.ports.shut()


@pytest.fixture
def serving() -> Iterator[Serving]:
    made = Serving()
    yield made
    made.end()


def test_one_page_and_no_other(serving: Serving) -> None:
    status, text = serving.get()
    assert status == 200
    assert read(text) == read(exposition(statuses.status(4)))
    assert serving.get(path="/metrics?x=1")[0] == 200
    assert serving.get(path="/")[0] == 404
    assert serving.get(path="/metrics/../../etc/passwd")[0] == 404
    for method in ("POST", "HEAD", "DELETE", "BREW"):
        assert serving.get(method)[0] == 405
    assert serving.say(b"GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")


def test_nobody_else_hears_of_it(serving: Serving) -> None:
    bound = serving.scrape._listener.getsockname()
    assert bound == ("127.0.0.1", serving.port)


def test_a_port_that_is_taken_is_said_and_nothing_ends(serving: Serving) -> None:
    ports = Ports({})
    second = Scrape(serving.port, ports, lambda: "")
    assert second.problem
    assert "Address already in use: choose another" in second.problem
    second.tick(0.0)
    second.close()
    ports.shut()
    assert serving.get()[0] == 200


def test_bytes_that_make_no_sense_get_no_more_than_an_answer(serving: Serving) -> None:
    rng = random.Random(5)
    cases = [b"\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics\r\n\r\n", b"\x16\x03\x01\xff\r\n\r\n",
             b"GET  /metrics HTTP/1.1\r\n\r\n", b"GET /metrics SIP/2.0\r\n\r\n",
             *(rng.randbytes(300) + b"\r\n\r\n" for _ in range(50))]  # fmt: skip
    for case in cases:
        assert serving.say(case).startswith(b"HTTP/1.1 4"), case
    assert serving.say(b"GET /" + b"x" * 3 * MAX_REQUEST_BYTES).startswith(b"HTTP/1.1 431 ")
    serving.say(b"x" * 1_000_000)
    assert serving.get()[0] == 200


def test_who_says_nothing_has_to_make_room(serving: Serving) -> None:
    silent = [
        socket.create_connection(("127.0.0.1", serving.port)) for _ in range(MAX_VISITORS + 2)
    ]
    assert serving.get()[0] == 200
    assert len(serving.scrape._visitors) <= MAX_VISITORS
    for connection in silent:
        connection.close()
    assert serving.get()[0] == 200
