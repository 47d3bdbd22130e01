"""A board on a live pty, and the command line around it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.__main__ import main
from firmware_bridge.codec import encode
from firmware_bridge.frames import Data
from firmware_bridge.link import Identified, Link, State
from firmware_bridge.port import Port
from firmware_bridge.recording import Playback
from firmware_bridge.sampler import sampled
from firmware_bridge.samples import Samples
from firmware_bridge.signals import ACCEL, MAG, Machine, board_document, make_machine
from firmware_bridge.simulator import PseudoTerminal
from firmware_bridge.sources import MachineSource

UID = "0123456789abcdef01234567"
DOCUMENT = board_document(UID, (ACCEL, MAG))


@contextmanager
def simulator(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "firmware_bridge", "simulate", *arguments],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)
        assert process.stdout
        process.stdout.close()


def said(process: subprocess.Popen[str]) -> dict:
    assert process.stdout
    return json.loads(process.stdout.readline())


def listen(
    path: str, enough: Callable[[Link, list], bool], link: Link | None = None
) -> tuple[Link, list]:
    """A host on a real port until it has enough (or 20 s are over)."""
    link, port, events = link or Link(), Port(path, 921_600), []
    try:
        events += link.opened(time.monotonic())
        end_s = time.monotonic() + 20
        while not enough(link, events) and time.monotonic() < end_s:
            events += link.tick(time.monotonic())
            port.write(link.outgoing(time.monotonic()))
            events += link.feed(port.read(0.02), time.monotonic())
            if link.state is State.STALE:
                events += link.opened(time.monotonic())
    finally:
        port.close()
    assert enough(link, events)
    return link, events


def streamed(samples: int) -> Callable[[Link, list], bool]:
    return lambda link, events: (
        1 in link.assemblers and link.assemblers[1].counters.samples >= samples
    )


def test_a_live_board_and_a_host_that_comes_back(tmp_path: Path):
    name = tmp_path / "board"
    arguments = (
        "--machine",
        "vibration",
        "--machine",
        "compass",
        "--link",
        str(name),
        "--uid",
        UID,
    )
    with simulator(*arguments, "--fault", "bearing:0.2:0.4:2:x") as process:
        assert said(process) == {"port": str(name), "uid": UID}
        on, off = said(process), said(process)
        assert (on["fault"], on["state"], on["channel"], on["severity"]) == (
            "bearing",
            "on",
            "x",
            2,
        )
        assert off["state"] == "off"
        assert off["monotonic_s"] - on["monotonic_s"] == pytest.approx(0.2)
        assert off["unix_s"] - time.time() == pytest.approx(
            off["monotonic_s"] - time.monotonic(), abs=0.01
        )
        for _ in range(2):
            link, events = listen(str(name), streamed(1600))
            counters = link.assemblers[1].counters
            assert (counters.lost_on_wire, counters.refused) == (0, 0)
            assert link.decoder.counters.damaged == 0
            identified = next(e for e in events if isinstance(e, Identified))
            assert identified.document == DOCUMENT
            assert {e.stream for e in events if isinstance(e, Samples)} == {1, 2}
        assert process.poll() is None
    assert process.returncode == 0
    assert not name.is_symlink()


def test_a_live_board_on_a_terrible_cable_that_resets(tmp_path: Path):
    name = tmp_path / "board"
    with simulator(
        "--link", str(name), "--lose", "2e-5", "--flip", "2e-5", "--split", "--delay-ms", "5",
        "--reset-at", "1.5",
    ) as process:  # fmt: skip
        said(process)

        def survived(link: Link, events: list) -> bool:
            return link.state is State.STREAMING and any(
                e.restarted for e in events if isinstance(e, Samples)
            )

        link, events = listen(str(name), survived)
        assert said(process)["reset"] is True
        samples = [e for e in events if isinstance(e, Samples)]
        counters = link.assemblers[1].counters
        lost = counters.lost_on_wire + counters.lost_on_board
        assert sum(s.lost_before for s in samples) == lost


def test_a_recording_on_a_pty_as_fast_as_it_is_read(tmp_path: Path):
    file = tmp_path / "one.rec"
    assert main(["simulate", "--seconds", "20", "--fault", "bearing:5", "--out", str(file)]) == 0
    with simulator("--recording", str(file), "--speed", "inf") as process:
        port = said(process)["port"]
        _, events = listen(port, streamed(64_000))
    live = np.concatenate([e.values for e in events if isinstance(e, Samples)])
    playback = Playback()
    recorded = [e.values for e in playback.feed(file.read_bytes()) if isinstance(e, Samples)]
    assert np.array_equal(live, np.concatenate(recorded))


def test_a_written_recording_is_the_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "m.rec"
    arguments = ["--machine", "vibration", "--machine", "compass", "--seconds", "3", "--seed", "9"]
    assert main(["simulate", *arguments, "--fault", "bearing:1:2", "--out", str(file)]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out == {"out": str(file), "bytes": file.stat().st_size, "seconds": 3.0}
    playback = Playback()
    samples = [e for e in playback.feed(file.read_bytes()) if isinstance(e, Samples)]
    values = np.concatenate([s.values for s in samples if s.stream == 1])
    assert values.shape == (9600, 3)
    machine: Machine = make_machine("vibration", 9)[1]
    error = np.abs(values - machine.values(0, 9600))
    assert error[:3200].max() <= 0.0039 / 2 + 1e-6
    assert error[3200:6400, 1].max() > 0.05
    assert main(["dump", str(file), "--json"]) == 0
    *frames, totals = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [f["frame"] for f in frames] == ["Identify"] + ["Data"] * (120 + 30)
    assert totals["totals"]["streams"]["accel"]["samples"] == 9600
    assert totals["totals"]["wire"]["frames"] == 151
    assert main(["dump", str(file)]) == 0
    text = capsys.readouterr().out
    assert "Data       stream=1 seq=0 first_index=0 t_us=0 n=80" in text
    assert "flags=EMULATED payload=480B" in text


def test_dump_of_a_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with simulator("--machine", "compass") as process:
        port = said(process)["port"]
        assert main(["dump", port, "--seconds", "1.5", "--json"]) == 0
    *frames, totals = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"Identify", "Time", "Started", "Data"} <= {f["frame"] for f in frames}
    assert totals["totals"]["problem"] is None
    assert totals["totals"]["streams"]["mag"]["samples"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["dump", "/nowhere"], 74, "/nowhere"),
        (["simulate", "--recording", "/nowhere"], 74, "/nowhere"),
        (["simulate", "--out", "/tmp/x"], 2, "--out needs --seconds"),
        (["simulate", "--boards", "0"], 2, "at least one"),
        (["simulate", "--fault", "drift:1"], 2, "vibration has"),
        (["simulate", "--fault", "bearing:1:2:1:q"], 2, "no channel 'q'"),
        (
            ["simulate", "--machine", "compass", "--machine", "vibration", "--rate", "9"],
            2,
            "--rate",
        ),
    ],
)
def test_errors_are_for_people(arguments, code, error, capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == code
    seen = capsys.readouterr().err
    assert error in seen
    assert seen.startswith("edge-board: ")


@pytest.mark.parametrize("fault", ["rust:1", "bearing", "bearing:a", "bearing:3:2"])
def test_a_bad_fault_is_a_usage_error(fault, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", "--fault", fault])
    assert stopped.value.code == 2
    assert "expected KIND:START" in capsys.readouterr().err


def test_dump_of_something_else_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "x"
    file.write_bytes(os.urandom(5000))
    assert main(["dump", str(file)]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "problem     5000 bytes, no frame: wrong baud rate?"
    file.write_bytes(encode(Data(1, 0, 0, 0, 1, 0, 0, b"1234")))
    assert main(["dump", str(file)]) == 1
    assert "no IDENTIFY frame found" in capsys.readouterr().out


def test_dump_of_a_noisy_port_ends_by_itself_and_says_why(capsys: pytest.CaptureFixture[str]):
    terminal = PseudoTerminal(None)
    ended = threading.Event()

    def babble() -> None:
        while not ended.wait(0.01):
            terminal.write(random.Random(1).randbytes(100))

    thread = threading.Thread(target=babble)
    thread.start()
    assert main(["dump", terminal.path]) == 1
    ended.set()
    thread.join()
    terminal.close()
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"problem     \d+ bytes, no frame: wrong baud rate\?", last)


def test_dump_ends_in_a_table_of_rates_and_losses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The sensor is 2 % fast, and two frames are cut out of the recording."""
    stream, machine = make_machine("vibration", 1)
    fast = replace(stream, rate_hz=3264.0)
    document = board_document(UID, (stream,))
    chunks = [b"".join(sampled(document, [MachineSource(fast, machine)], 2.0))]
    frames = chunks[0].split(b"\0")
    del frames[10], frames[20]
    (tmp_path / "r").write_bytes(b"\0".join(frames))
    assert main(["dump", str(tmp_path / "r")]) == 0
    *_, heads, row = capsys.readouterr().out.splitlines()
    assert heads.split()[:3] == ["stream", "rate", "Hz"]
    name, rate, nominal, samples, wire, board, gaps, *rest = row.split()
    assert (name, nominal, wire, board, gaps) == ("accel", "3200.0", "160", "0", "2")
    assert float(rate) == pytest.approx(3264.0, abs=0.1)
    assert int(samples) + 160 == pytest.approx(2 * 3264, abs=80)
    assert set(rest) == {"0"}


def test_several_boards_in_one_process(tmp_path: Path):
    with simulator("--link", str(tmp_path / "b"), "--boards", "3", "--seed", "4") as process:
        told = [said(process) for _ in range(3)]
        assert [line["port"] for line in told] == [str(tmp_path / n) for n in ("b", "b2", "b3")]
        assert len({line["uid"] for line in told}) == 3
        for line in told:
            link, _ = listen(line["port"], streamed(800))
            assert link.schema.uid == line["uid"]
            assert link.assemblers[1].counters.lost_on_wire == 0


def test_vectors_check():
    assert main(["vectors", "--check"]) == 0


def test_ctrl_c_ends_quietly():
    # A child inherits an ignored SIGINT, and a shell ignores it for what it runs in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _interrupt()
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt():
    with simulator() as process:
        said(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
