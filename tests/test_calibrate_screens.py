"""What a technician sees: real terminals of 80 by 24 cells under tmux, kept as text in `screens/`.

Numbers, names and which sections are filled differ from run to run: both sides are masked before
they are compared. `OTOLITH_WRITE_SCREENS=1` writes them anew; read what has changed then.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.calibrate.compass.guide import HOLDS
from edge_agent.calibrate.sitting import screen
from edge_agent.calibrate.sitting.screen import FullScreen, LineScreen, plain
from edge_agent.calibrate.sitting.task import Progress
from tests.conftest import ROOT
from tests.sockets import Socket
from tests.test_calibrate_live import current, in_hand, shelf_in
from tests.test_calibrate_shelf import config_in, draft
from tests.turned_boards import played, tumbled

SCREENS = Path(__file__).with_name("screens")
WRITE = bool(os.environ.get("OTOLITH_WRITE_SCREENS"))
PATIENCE_SECONDS = 30.0
needs_tmux = pytest.mark.skipif(
    shutil.which("tmux") is None, reason="tmux is not installed (apt-get install tmux)"
)


class Terminal:
    """A terminal in which one sitting runs; its last words are `code` and the exit code."""

    def __init__(self, folder: Path, *arguments: object, encoding: str = "utf-8") -> None:
        self._socket = str(folder / "tmux")
        words = [sys.executable, "-m", "edge_agent", "calibrate", "compass", "--config",
                 config_in(folder), *arguments]  # fmt: skip
        command = shlex.join(map(str, words))
        environment = f"PYTHONPATH={ROOT} PYTHONIOENCODING={encoding}"
        self._tmux("new-session", "-d", "-x", "80", "-y", "24",
                   f"env {environment} {command}; echo code $?; exec sleep 99")  # fmt: skip

    def shown(self) -> str:
        """What stands there now."""
        return self._tmux("capture-pane", "-p")

    def press(self, key: str) -> None:
        """As tmux names it."""
        self._tmux("send-keys", key)

    def drop(self) -> None:
        """As when an SSH connection ends: the terminal hangs up."""
        self._tmux("kill-server")

    def wait(self, *texts: str) -> str:
        """The screen on which all of these stand."""
        deadline_s = time.monotonic() + PATIENCE_SECONDS
        while not all(text in (shown := self.shown()) for text in texts):
            assert time.monotonic() < deadline_s, f"no {texts} on\n{shown}"
            time.sleep(0.05)
        return shown

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, "-u", "-f", "/dev/null", *arguments],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Socket]:
    socket = Socket(tmp_path / "board")
    yield socket
    socket.end()
    subprocess.run(["tmux", "-S", str(tmp_path / "tmux"), "kill-server"],
                   capture_output=True, check=False)  # fmt: skip


def masked(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub(r"[█▓·#.@]{68}", "<map>", text)
    text = re.sub(r"compass-\d+-[0-9a-f]{6}", "<id>", text)
    text = re.sub(r"/tmp/\S+", "<path>", text)
    for words in HOLDS:
        for form in (words, plain(words)):
            text = text.replace(f"{form} and turn it slowly all round", "<move>")
    text = re.sub(r"\b[0-9a-f]{24}\b", "<uid>", text)
    text = re.sub(r"ellipsoid( and gravity)?, with", "<method>, with", text)
    text = re.sub(r"(next +)(.|\n {11})*(the error should become|<move>).*", r"\1<move>", text)
    text = re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "9", text)
    return "\n".join(re.sub(" +", " ", line).rstrip() for line in text.rstrip().splitlines())


def expect(name: str, shown: str) -> None:
    """The screen is the one that is kept."""
    lines = shown.rstrip("\n").splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    path = SCREENS / f"{name}.txt"
    if WRITE:
        path.write_text("\n".join(line.rstrip() for line in lines).rstrip() + "\n")
    assert masked(shown) == masked(path.read_text())


@needs_tmux
def test_a_board_turned_well(tmp_path: Path, socket: Socket) -> None:
    socket.plug(made=in_hand())
    terminal = Terminal(tmp_path)
    expect("good", terminal.wait("PASS", "hold on: it is good"))
    expect("good-end", terminal.wait("code 0"))
    stored = current(tmp_path)
    assert stored is not None
    assert stored.verdict == "pass"


@needs_tmux
def test_a_marginal_one_is_taken_with_enter(tmp_path: Path, socket: Socket) -> None:
    socket.plug(made=in_hand("14"))
    terminal = Terminal(tmp_path)
    expect("marginal", terminal.wait("MARGINAL", "Enter takes it"))
    terminal.press("Enter")
    expect("marginal-end", terminal.wait("code 0"))
    stored = current(tmp_path)
    assert stored is not None
    assert stored.verdict == "marginal"


@needs_tmux
def test_what_cannot_be_calibrated_is_not_taken(tmp_path: Path, socket: Socket) -> None:
    field, gravity = tumbled()
    field[:, 2] = 7.0
    socket.plug(made=played(field, gravity))
    terminal = Terminal(tmp_path, "--seconds", 6)
    terminal.wait("axis z does not move")
    terminal.press("Enter")
    expect("failed", terminal.wait("Enter: not yet"))
    expect("failed-end", terminal.wait("code 1"))
    assert current(tmp_path) is None


@needs_tmux
@pytest.mark.parametrize("key", ["q", "C-c"])
def test_interrupted_on_a_terminal_without_utf8(tmp_path: Path, socket: Socket, key: str) -> None:
    before = shelf_in(tmp_path).put(draft())
    socket.plug(made=in_hand("14"))
    terminal = Terminal(tmp_path, encoding="ascii")
    expect("ascii", terminal.wait("MARGINAL", "of heading"))
    terminal.press(key)
    shown = terminal.wait("code 1")
    assert shown.isascii()
    assert f"ended by you; {before.id} stays in use" in shown
    assert current(tmp_path) == before


@needs_tmux
def test_no_data(tmp_path: Path, socket: Socket) -> None:
    socket.plug(made=in_hand("still"))
    terminal = Terminal(tmp_path)
    expect("at-rest", terminal.wait("the board rests"))
    socket.frozen = True
    expect("no-data", terminal.wait("code 74"))


@needs_tmux
def test_dropped_and_resumed(tmp_path: Path, socket: Socket) -> None:
    socket.plug(made=in_hand("14"))
    terminal = Terminal(tmp_path)
    terminal.wait("MARGINAL")
    terminal.drop()
    deadline_s = time.monotonic() + PATIENCE_SECONDS
    while shelf_in(tmp_path).partial("compass") is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    terminal = Terminal(tmp_path)
    expect("resumed", terminal.wait("MARGINAL", "goes on from the sitting that was dropped"))


class Tty(io.StringIO):
    """Counts what is sent."""

    encoding = "utf-8"

    def sent(self) -> str:
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


def progress(headline: str = "0.50° of heading") -> Progress:
    return Progress("turn it", headline, "tip it", "marginal", ("label    " + "#.@" * 22,) * 12)


def test_only_lines_that_have_changed_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "REFRESH_SECONDS", 0.0)
    tty = Tty()
    full = FullScreen(tty, "compass")
    full.show(progress(), 10.0)
    assert 1000 < len(tty.sent().encode()) < 20_000
    full.show(progress(), 10.0)
    assert tty.sent() == ""
    full.show(progress("0.40° of heading"), 10.0)
    assert len(tty.sent().encode()) < 120
    full.close(bell=True)
    assert tty.sent().endswith("\a")


def test_a_boards_own_name_cannot_steer_the_terminal() -> None:
    tty = Tty()
    full = FullScreen(tty, "\x1b[31mevil\x07")
    tty.sent()
    full.show(progress("\x1b]0;title\x07"), 10.0)
    sent = tty.sent()
    assert "\x1b]" not in sent
    assert "\x07" not in sent
    assert "?[31mevil?" in sent
    lines = LineScreen(tty)
    lines.show(progress("\x1b[2J"), 10.0)
    assert "\x1b" not in tty.sent()


def test_at_most_four_times_a_second() -> None:
    tty = Tty()
    full = FullScreen(tty, "compass")
    full.show(progress(), 10.0)
    tty.sent()
    for i in range(50):
        full.show(progress(str(i)), 10.0)
    assert tty.sent() == ""


def test_lines_for_whoever_has_no_terminal() -> None:
    out = Tty()
    lines = LineScreen(out)
    lines.show(progress(), 61.0)
    assert out.sent() == "MARGINAL 1:01 left; 0.50° of heading; tip it\n"
    lines.show(progress("0.40°"), 60.0)
    assert out.sent() == ""


@pytest.mark.parametrize("word", ["30° down", "48 µT", "±2", "Übung"])
def test_plain_words_are_ascii(word: str) -> None:
    assert plain(word).isascii()
