"""The usual faults, each as it is: what the doctor sees, says, and leaves alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from socket import create_server
from typing import Any

import pytest

from edge_agent.checkup.findings import (
    Finding,
    PortFacts,
    StreamFacts,
    SystemFacts,
    judge_port,
    judge_system,
)
from firmware_bridge.board import SimulatedBoard
from firmware_bridge.codec import Decoder, encode
from firmware_bridge.devices import is_probed_by_modem_manager
from firmware_bridge.frames import Started
from firmware_bridge.schema import parse_schema
from firmware_bridge.signals import ACCEL, board_document
from firmware_bridge.simulator import PseudoTerminal, machine_sources
from tests import programs
from tests.conftest import ROOT, Mosquitto

pytestmark = pytest.mark.timeout(120)

NMEA = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"


def doctor(*arguments: object, code: int) -> list[dict[str, Any]]:
    """The findings; the summary is checked and taken off."""
    *found, summary = programs.run("edge_agent", "doctor", *arguments, "--json", code=code)
    wrong = sum(finding["level"] == "wrong" for finding in found)
    assert summary == {"ok": code == 0, "wrong": wrong, "findings": len(found)}
    assert (wrong > 0) == (code == 1)
    return found


def one(found: list[dict[str, Any]], words: str) -> dict[str, Any]:
    """The finding that has seen these words; everything that is wrong says what to do."""
    assert all(f["do"] and f["expected"] for f in found if f["level"] == "wrong")
    (finding,) = [f for f in found if words in f["seen"]]
    return finding


@contextmanager
def speaking(answer: Callable[[bytes, int], bytes]) -> Iterator[str]:
    """A pty whose other end says what `answer(heard, fd)` gives, every few milliseconds."""
    terminal, ended = PseudoTerminal(None), threading.Event()

    def serve() -> None:
        while not ended.wait(0.003):
            terminal.write(answer(terminal.read(), terminal.fd))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield terminal.path
    finally:
        ended.set()
        thread.join()
        terminal.close()


def simulated(change: Callable[[bytes], bytes] = bytes) -> Callable[[bytes, int], bytes]:
    """A good board, as far as `change` lets it be."""
    board = SimulatedBoard(*machine_sources(["vibration"], 7), time.monotonic())

    def answer(heard: bytes, _fd: int) -> bytes:
        board.feed(heard, time.monotonic())
        return change(board.poll(time.monotonic()))

    return answer


def test_a_board_that_is_well() -> None:
    with speaking(simulated()) as path:
        (finding,) = doctor("--port", path, "--seconds", 1.5, code=0)
    assert finding["level"] == "well"
    assert re.search(r"accel \d{4} samples at 3200\.0 Hz, none lost", finding["seen"])


def test_a_board_is_silent_again_after_the_visit() -> None:
    spoke_s = [0.0]

    def noted(said: bytes) -> bytes:
        spoke_s[0] = time.monotonic() if said else spoke_s[0]
        return said

    with speaking(simulated(noted)) as path:
        doctor("--port", path, "--seconds", 0.5, code=0)
        time.sleep(0.5)
        assert time.monotonic() - spoke_s[0] > 0.4


def test_no_such_device(tmp_path: Path) -> None:
    (finding,) = doctor("--port", tmp_path / "none", code=1)
    assert "does not exist" in finding["seen"]
    assert finding["do"].startswith("plug the board in, or correct the path; ")


def test_a_port_that_another_program_holds() -> None:
    with speaking(lambda heard, _: b"") as path:
        code = f"import serial; s = serial.Serial({path!r}, exclusive=True); print(1); input()"
        holder = subprocess.Popen(
            [sys.executable, "-uc", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout
        holder.stdout.readline()
        (finding,) = doctor("--port", path, code=1)
        holder.communicate(b"\n")
    assert f"held by process {holder.pid} (" in finding["seen"]
    assert finding["do"] == "stop that first"


def test_silence() -> None:
    with speaking(lambda heard, _: b"") as path:
        finding = one(doctor("--port", path, code=1), "not a byte comes (tried 921600, 460800")
    assert "swap RX and TX" in finding["do"]


@pytest.mark.parametrize("noisy", [False, True])
def test_another_baud_rate(noisy: bool) -> None:
    """The board hears and is heard at its own rate only; at others there is noise, or nothing."""
    good, noise = simulated(), bytes(range(1, 256)) + b"\0"

    def at_460800(heard: bytes, fd: int) -> bytes:
        if termios.tcgetattr(fd)[5] == termios.B460800:
            return good(heard, fd)
        return noise if noisy and heard else b""

    with speaking(at_460800) as path:
        finding = one(doctor("--port", path, code=1), "a board answers at 460800 baud")
    assert finding["do"] == "baud = 460800"
    assert "at 921600 baud" in finding["expected"]


@pytest.mark.parametrize(
    ("says", "kind"),
    [(NMEA, "NMEA of a GPS receiver: '$GPGGA,123519"),
     (b"\x1b[2JU-Boot 2023\r\n", "text: '.[2JU-Bo"),
     (bytes(range(128, 256)) + b"\0", "noise: '....")],
)  # fmt: skip
def test_another_firmware_is_shown_and_cannot_upset_a_terminal(says: bytes, kind: str) -> None:
    with speaking(lambda heard, _: says) as path:
        finding = one(doctor("--port", path, code=1), "bytes but no frame")
    assert kind in finding["seen"]
    assert "\x1b" not in finding["seen"]


def test_an_echo() -> None:
    with speaking(lambda heard, _: heard) as path:
        finding = one(doctor("--port", path, code=1), "only what we send comes back")
    assert "loopback" in finding["do"]


def test_a_sensor_that_does_not_answer() -> None:
    decoder = Decoder()

    def refused(said: bytes) -> bytes:
        frames = [f._replace(status=3) if isinstance(f, Started) else f for f in decoder.feed(said)]
        return b"".join(map(encode, frames))

    with speaking(simulated(refused)) as path:
        finding = one(
            doctor("--port", path, code=1), "START is refused: the sensor does not answer"
        )
    assert "wiring" in finding["do"]


def test_losses(tmp_path: Path) -> None:
    with programs.board(tmp_path / "b.tty", "--seed", 7, "--lose", 2e-4):
        found = doctor("--port", tmp_path / "b.tty", code=1)
    assert "cable" in one(found, "samples lost on the wire")["do"]
    assert "ground" in one(found, "damaged frames in")["do"]


def configure(folder: Path, port: int, more: str = "", board: str = "") -> Path:
    file = folder / "agent.toml"
    file.write_text(
        f'[gateway]\nid = "t"\n[mqtt]\nport = {port}\n{more}[storage]\nstate_dir = "state"\n'
        f'outbox_limit_bytes = 1000000\n[boards.press]\nport = "b.tty"\n{board}[assets.motor]\n'
        f'board = "press"\nstream = "accel"\nbundle = "{programs.VIBRATION}"\n'
    )
    return file


def test_a_gateway_that_is_well(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with programs.board(tmp_path / "b.tty", "--seed", 7):
        found = doctor("--config", configure(tmp_path, mosquitto.port), "--seconds", 1, code=0)
    assert {f["about"] for f in found if f["level"] == "well"} == {"board press", "broker"}
    assert not (tmp_path / "state").exists()


def test_a_gateway_that_is_not(tmp_path: Path) -> None:
    """Another board, no broker, a bundle that does not fit, a file where the state should be."""
    config = configure(tmp_path, 1, board='uid = "0123"\n')
    config.write_text(config.read_text().replace(str(programs.VIBRATION), str(programs.COMPASS)))
    (tmp_path / "state").write_bytes(b"")
    with programs.board(tmp_path / "b.tty", "--seed", 7):
        found = doctor("--config", config, "--seconds", 0.5, code=1)
    wrong = {f["about"]: f for f in found if f["level"] == "wrong"}
    assert set(wrong) == {"board press", "broker", "asset motor", "state"}
    assert wrong["board press"]["expected"] == "board 0123"
    assert re.search(r'uid = "\w{24}"', wrong["board press"]["do"])
    assert "refused" in wrong["broker"]["seen"]
    assert "wants unit uT, the board sends g" in wrong["asset motor"]["seen"]


def test_a_service_that_runs_is_left_alone(tmp_path: Path, mosquitto: Mosquitto) -> None:
    config = configure(tmp_path, mosquitto.port)
    log = config.with_suffix(".log")
    with programs.board(tmp_path / "b.tty", "--seed", 7), programs.agent(config) as agent:
        deadline_s = time.monotonic() + 30
        while "streaming (" not in log.read_text() or "connected" not in log.read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        found = doctor("--config", config, code=0)
        time.sleep(1.5)
        assert agent.poll() is None
    finding = one(found, f"held by edge-agent itself, process {agent.pid}")
    assert (finding["level"], "journalctl" in finding["do"]) == ("note", True)
    lines = [text for text in log.read_text().splitlines() if text.startswith("<")]
    assert len(lines) == 2, lines


def test_brokers_that_refuse_or_say_nothing(tmp_path: Path, mosquitto: Mosquitto) -> None:
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(conf.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    mosquitto.restart()
    config = configure(tmp_path, mosquitto.port)
    assert "Not authorized" in one(doctor("--config", config, code=1), "the broker refuses")["seen"]
    with create_server(("127.0.0.1", 0)) as mute:
        config = configure(tmp_path, mute.getsockname()[1])
        one(doctor("--config", config, code=1), "something listens but does not answer")


def test_people_get_a_line_a_finding(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "doctor", "--port", tmp_path / "none"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"wrong  {tmp_path}/none: {tmp_path}/none does not exist; expected")
    assert "; do: plug the board in" in line


def test_a_wrong_configuration_is_78_with_its_lines(tmp_path: Path) -> None:
    config = configure(tmp_path, 1, board="bauds = 5\n")
    assert programs.run("edge_agent", "doctor", "--config", config, code=78) == []


def test_modem_manager_is_seen_where_it_runs_and_is_not_told_off(tmp_path: Path) -> None:
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "comm").write_text("ModemManager\n")
    terminal = PseudoTerminal(None)
    udev, device = tmp_path / "udev", os.stat(terminal.path).st_rdev
    udev.mkdir()
    node = tmp_path / "ttyACM0"
    if os.geteuid() == 0:
        os.mknod(node, 0o020600, device)
    else:
        pytest.skip("a device node can be made by root only")
    record = udev / f"c{os.major(device)}:{os.minor(device)}"
    assert is_probed_by_modem_manager(str(node), tmp_path, udev)
    record.write_text("E:ID_MM_DEVICE_IGNORE=1\n")
    assert not is_probed_by_modem_manager(str(node), tmp_path, udev)
    record.write_text("E:ID_BUS=usb\n")
    assert is_probed_by_modem_manager(str(node), tmp_path, udev)
    (tmp_path / "77" / "comm").write_text("bash\n")
    assert not is_probed_by_modem_manager(str(node), tmp_path, udev)
    assert not is_probed_by_modem_manager(terminal.path, tmp_path, udev)
    terminal.close()


WELL = PortFacts(
    "/dev/x", 921_600, schema=parse_schema(board_document("77", (ACCEL,))), received_bytes=60_000,
    frames=120, seconds=3.0, streams=(StreamFacts("accel", 3200.0, 3201.0, 9600, 0, 0),),
    round_trip_ms=0.6, drift_ppm=12.0,
)  # fmt: skip


def judged(**changes: object) -> list[Finding]:
    return judge_port("board b", replace(WELL, **changes))


@pytest.mark.parametrize(
    ("changes", "seen", "do"),
    [
        ({"refusal": "/dev/x: permission denied for joe: sudo usermod -aG dialout joe, and"},
         "/dev/x: permission denied for joe", "usermod -aG dialout"),
        ({"modem_manager": True}, "ModemManager runs", "99-otolith.rules"),
        ({"expected_uid": "78"}, "board 77 answers", 'uid = "77"'),
        ({"trouble": "no data for 1.0 s"}, "no data for 1.0 s", "edge-board dump"),
        ({"refused": ("TIME", 255)}, "TIME is refused: unknown (255)", "flash the firmware"),
        ({"damaged": 3}, "3 damaged frames in 3.0 s", "cable"),
        ({"schema": None}, "frames come", "flash the firmware"),
        ({"streams": (StreamFacts("mag", 100.0, 0.0, 0, 0, 0),)}, "no samples", "wiring"),
        ({"streams": (StreamFacts("mag", 100.0, 80.0, 240, 0, 0),)}, "80 Hz", "settings"),
        ({"streams": (StreamFacts("mag", 100.0, 100.0, 290, 0, 10),)},
         "10 of 300 samples lost on the board", "baud rate"),
        ({"streams": (StreamFacts("mag", 100.0, 100.0, 300, 0, 0, 4),)},
         "4 batches with a sensor error", "supply"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_port(changes: dict[str, Any], seen: str, do: str) -> None:
    (finding,) = (found for found in judged(**changes) if found.level == "wrong")
    assert seen in finding.seen
    assert do in finding.do
    assert finding.expected


def test_what_is_worth_a_note_leaves_the_board_well() -> None:
    name, well = judged(lasting_name="/dev/serial/by-id/usb-1")
    assert (name.level, well.level) == ("note", "well")
    assert name.do == 'port = "/dev/serial/by-id/usb-1"'
    slow, well = judged(round_trip_ms=45.0)
    assert (slow.level, well.level) == ("note", "well")
    assert "45 ms" in slow.seen


def test_what_is_wrong_with_a_machine() -> None:
    well = SystemFacts("/var/lib/edge-agent", free_bytes=10**10, broker="127.0.0.1:1883")
    assert [f.level for f in judge_system(well)] == ["well"]
    full, clock = judge_system(replace(well, free_bytes=10**6, clock_synced=False))[1:]
    assert (full.level, full.about, "1 MB free" in full.seen) == ("wrong", "disk", True)
    assert (clock.level, clock.about) == ("note", "clock")
    assert judge_system(replace(well, free_bytes=None)) == judge_system(well)
