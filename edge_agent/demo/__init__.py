"""The demo: two simulated boards, the service's own loop, a broker, a subscriber, one fault.

In: nothing. Out: a screen, and a last line that says when the fault was injected, when the alert
arrived and what it named. Never: a second way through the code. Boards, loop, model and messages
are those of production; only the broker lives inside.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.live import Live

from edge_agent.bundles.bundle import read_bundle
from edge_agent.config import Config, load_config
from edge_agent.demo.boards import SimulatedBoard
from edge_agent.demo.broker import EmbeddedBroker, Received
from edge_agent.demo.view import AssetView, View, summary
from edge_agent.service import Service

BUNDLES = Path(__file__).resolve().parent.parent / "default_bundle"
FAULT_START_SECONDS = 10.0
FAULT_END_SECONDS = 17.0
GIVE_UP_SECONDS = 40.0
FRAMES_A_SECOND = 8
ASSET, EXPECTED_CHANNEL = "pump", "y"
FAULT = f"bearing:{FAULT_START_SECONDS:g}:{FAULT_END_SECONDS:g}:1:{EXPECTED_CHANNEL}"

CONFIG = """
[gateway]
id = "demo"

[mqtt]
port = {port}
protocol = "3.1.1"

[storage]
state_dir = "state"

[boards.accelerometer]
port = "accelerometer.tty"

[boards.compass]
port = "compass.tty"

[assets.pump]
board = "accelerometer"
stream = "accel"
bundle = "{bundles}/vibration.otolith"

[assets.mast]
board = "compass"
stream = "mag"
bundle = "{bundles}/compass.otolith"
"""


class Outcome(NamedTuple):
    """What the demo ends with."""

    injected_at: float | None
    alerted_at: float | None
    delay_s: float | None
    named: str | None
    expected: str
    messages: int
    ok: bool


def run(as_json: bool) -> int:
    """Plays the demo; 0 if the alert came and named the right channel, 1 otherwise."""
    with tempfile.TemporaryDirectory(prefix="otolith-demo-") as folder, ExitStack() as stack:
        home = Path(folder)
        broker = stack.enter_context(EmbeddedBroker())
        vibration = SimulatedBoard("vibration", home / "accelerometer.tty", 7, (FAULT,))
        board = stack.enter_context(vibration)
        stack.enter_context(SimulatedBoard("compass", home / "compass.tty", 8))
        (home / "agent.toml").write_text(CONFIG.format(port=broker.port, bundles=BUNDLES))
        config = load_config(home / "agent.toml", {})  # variables of this shell are for others
        view = View({name: _asset_view(config, name) for name in config.assets})
        with _quiet_journal(home / "journal", sys.stdout.isatty() and not as_json):
            received = _play(config, view, broker, board, as_json)
    outcome = judge(received, board.faults)
    _last_line(outcome, as_json)
    return 0 if outcome.ok else 1


@contextmanager
def _quiet_journal(path: Path, on: bool) -> Iterator[None]:
    """The journal goes to a file while there is a screen to draw; LiteRT writes to it as well."""
    if not on:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with path.open("w") as journal:
        os.dup2(journal.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def judge(received: list[Received], faults: list[dict[str, Any]]) -> Outcome:
    """The verdict, from what the subscriber got and from when the board began its fault."""
    injected_at = next((float(f["unix_s"]) for f in faults if f["state"] == "on"), None)
    begins = [
        (message.unix_s, fields)
        for message in received
        if message.topic.endswith("/event")
        and (fields := json.loads(message.payload)).get("kind") == "begin"
    ]
    alerted_at, alert = begins[0] if begins else (None, {})
    named = f"{alert['asset']} {alert['top1_ch']}" if alert else None
    expected = f"{ASSET} {EXPECTED_CHANNEL}"
    delay_s = None
    if injected_at is not None and alerted_at is not None:
        delay_s = round(alerted_at - injected_at, 3)
    ok = delay_s is not None and delay_s >= 0.0 and named == expected and len(begins) == 1
    return Outcome(injected_at, alerted_at, delay_s, named, expected, len(received), ok)


def _asset_view(config: Config, name: str) -> AssetView:
    sensor = read_bundle(config.assets[name].bundle).manifest.sensor
    return AssetView(sensor.channels, sensor.unit)


def _play(
    config: Config, view: View, broker: EmbeddedBroker, board: SimulatedBoard, as_json: bool
) -> list[Received]:
    """Runs the service until the episode has ended; gives what the subscriber got."""
    stop = threading.Event()
    service = Service(config, observe=view.take, observe_samples=view.take_samples)
    loop = threading.Thread(target=service.run, args=(stop,), name="service")
    loop.start()
    received: list[Received] = []
    screen = not as_json and sys.stdout.isatty()
    try:
        if screen:
            with Live(view, refresh_per_second=FRAMES_A_SECOND, redirect_stderr=False):
                _collect(view, broker, board, received, lines=None)
        else:
            _collect(view, broker, board, received, lines=as_json)
    finally:
        stop.set()
        loop.join()
    _take(view, broker, received, lines=None if screen else as_json)
    return received


def _collect(
    view: View,
    broker: EmbeddedBroker,
    board: SimulatedBoard,
    received: list[Received],
    lines: bool | None,
) -> None:
    """Waits for messages; `lines` says how to print them (None: the screen shows them)."""
    begin = time.monotonic()
    while time.monotonic() - begin < GIVE_UP_SECONDS:
        view.headline = _headline(board, time.monotonic() - begin)
        time.sleep(1 / FRAMES_A_SECOND)
        new = _take(view, broker, received, lines)
        if board.fault("off") and any(_ends_the_episode(message) for message in new):
            return


def _take(
    view: View, broker: EmbeddedBroker, received: list[Received], lines: bool | None
) -> list[Received]:
    """What has come since the last time; `lines` says how to print it."""
    new: list[Received] = []
    while not broker.received.empty():
        message = broker.received.get()
        new.append(message)
        view.take_message(message)
        if lines is not None:
            _print_message(message, lines)
    received += new
    return new


def _headline(board: SimulatedBoard, elapsed_seconds: float) -> str:
    if board.fault("off"):
        return f"{elapsed_seconds:4.0f} s   the bearing is well again"
    if board.fault("on"):
        return f"{elapsed_seconds:4.0f} s   BEARING FAULT INJECTED on {ASSET} {EXPECTED_CHANNEL}"
    return f"{elapsed_seconds:4.0f} s   two healthy machines; a bearing fault comes soon"


def _ends_the_episode(message: Received) -> bool:
    return message.topic.endswith("/event") and b'"kind":"end"' in message.payload


def _print_message(message: Received, as_json: bool) -> None:
    if as_json:
        payload = message.payload.decode(errors="replace")
        fields = {"topic": message.topic, "unix_s": message.unix_s, "payload": payload}
        sys.stdout.write(json.dumps(fields) + "\n")
    elif not message.topic.endswith("/score"):
        sys.stdout.write(f"{message.topic}  {summary(message)}\n")
    sys.stdout.flush()


def _last_line(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(outcome._asdict()) + "\n")
        return
    injected, alerted = _clock(outcome.injected_at), _clock(outcome.alerted_at)
    delay = "no alert" if outcome.delay_s is None else f"{outcome.delay_s:.2f} s later"
    sys.stdout.write(
        f"{'OK' if outcome.ok else 'FAILED'}: bearing fault injected at {injected}, alerted at "
        f"{alerted} ({delay}); named: {outcome.named}, expected: {outcome.expected}\n"
    )


def _clock(unix_s: float | None) -> str:
    if unix_s is None:
        return "never"
    return time.strftime("%H:%M:%S", time.localtime(unix_s)) + f".{int(unix_s % 1 * 1000):03d}"
