"""Screen: a live calibration before the eyes of whoever does it.

In: `Progress`, seconds left. Out: 80 by 24 cells on a terminal, lines into a pipe, JSON for a
script. Never: draws more than four times a second, sends a line that has not changed (a slow SSH
link must keep up), shows a sign that the terminal has not got, raises when the terminal has gone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import time
from contextlib import suppress
from io import StringIO
from typing import Protocol, TextIO

from rich.console import Console
from rich.text import Text

from edge_agent.calibrate.sitting.task import Progress

WIDTH, HEIGHT = 80, 24
PICTURE_ROWS, ROWS = 12, 4
REFRESH_SECONDS, LINE_SECONDS, JSON_SECONDS = 0.25, 5.0, 1.0
COLOURS = {"pass": "bold green", "marginal": "bold yellow", "fail": "bold red"}
SIGNS = {"#": ("█", "green"), ".": ("·", "bright_black"), "@": ("▓", "bold magenta")}
# Signs of one kind in a row, or one of the rest.
RUNS = re.compile(r"#+|\.+|@+|[^#.@]+")
PLAIN_WORDS = str.maketrans({"°": " deg", "µ": "u", "²": "2", "±": "+-", "…": "..."})
ALTERNATE, NORMAL = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[?25h\x1b[?1049l"
BELL = "\a"


class Screen(Protocol):
    """Where progress is shown."""

    def show(self, progress: Progress, seconds_left: float, note: str = "") -> None:
        """Draws what has changed, if it is time to."""
        ...

    def close(self, bell: bool = False) -> None:
        """The end; `bell` calls the person back."""
        ...


def screen_for(as_json: bool, heading: str) -> Screen:
    """What fits where standard output goes."""
    if as_json:
        return JsonScreen(sys.stdout)
    size = shutil.get_terminal_size()
    small = size.columns < WIDTH or size.lines < HEIGHT
    if not sys.stdout.isatty() or small or os.environ.get("TERM", "dumb") == "dumb":
        return LineScreen(sys.stdout)
    return FullScreen(sys.stdout, heading)


class FullScreen:
    """The whole terminal; only lines that have changed are sent."""

    def __init__(self, out: TextIO, heading: str) -> None:
        self._out, self._heading = out, heading
        self._plain = not (out.encoding or "").lower().replace("-", "").startswith("utf8")
        self._console = Console(
            file=StringIO(), force_terminal=True, color_system="standard", width=WIDTH,
            highlight=False, markup=False, legacy_windows=False,
        )  # fmt: skip
        self._shown: list[str] = [""] * HEIGHT
        self._drawn_s = 0.0
        self._rung = 0
        self._send(ALTERNATE)

    def show(self, progress: Progress, seconds_left: float, note: str = "") -> None:
        """At most four times a second."""
        if progress.bells > self._rung:
            self._rung = progress.bells
            self._send(BELL)
        now_s = time.monotonic()
        if now_s - self._drawn_s < REFRESH_SECONDS:
            return
        self._drawn_s = now_s
        page = _Page(self._plain)
        page.fill(self._heading, progress, seconds_left, note)
        lines = [self._ansi(line) for line in page.lines]
        changed = [
            f"\x1b[{row};1H{line}\x1b[K"
            for row, (line, shown) in enumerate(zip(lines, self._shown, strict=True), 1)
            if line != shown
        ]
        self._shown = lines
        self._send("".join(changed))

    def close(self, bell: bool = False) -> None:
        """The terminal as it was."""
        self._send(NORMAL + (BELL if bell else ""))

    def _ansi(self, line: Text) -> str:
        line.truncate(WIDTH)
        with self._console.capture() as captured:
            self._console.print(line, end="", no_wrap=True, overflow="crop", crop=True)
        return captured.get()

    def _send(self, text: str) -> None:
        with suppress(OSError, UnicodeEncodeError):  # the terminal may be gone: SIGHUP tells
            self._out.write(text)
            self._out.flush()


class LineScreen:
    """A line every five seconds and at every change of the verdict or of what to do."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._said: tuple[str | None, str, str] | None = None
        self._said_s = -LINE_SECONDS

    def show(self, progress: Progress, seconds_left: float, note: str = "") -> None:
        """One line, if there is something to say."""
        now_s = time.monotonic()
        saying = (progress.verdict, progress.next_move, note)
        if now_s - self._said_s < (1.0 if saying != self._said else LINE_SECONDS):
            return
        self._said, self._said_s = saying, now_s
        parts = [f"{_clock(seconds_left)} left", progress.headline, progress.next_move, note]
        verdict = f"{progress.verdict.upper()} " if progress.verdict else ""
        _say(self._out, printable(verdict + "; ".join(filter(None, parts))))

    def close(self, bell: bool = False) -> None:
        """Nothing to put back."""


class JsonScreen:
    """A flat object a second."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._said_s = -JSON_SECONDS

    def show(self, progress: Progress, seconds_left: float, note: str = "") -> None:
        """The step `live`."""
        now_s = time.monotonic()
        if now_s - self._said_s < JSON_SECONDS:
            return
        self._said_s = now_s
        fields = {
            "step": "live", "seconds_left": round(seconds_left, 1), "verdict": progress.verdict,
            "headline": progress.headline, "next_move": progress.next_move, **progress.fields,
        }  # fmt: skip
        _say(self._out, json.dumps(fields, allow_nan=False))

    def close(self, bell: bool = False) -> None:
        """Nothing to put back."""


def plain(text: str) -> str:
    """The same in ASCII, one cell a sign where it can be."""
    return printable(text).translate(PLAIN_WORDS).encode("ascii", "replace").decode()


def printable(text: str) -> str:
    """Without what would steer the terminal: names come from the board."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


class _Page:
    """Twenty-four lines of text; in ASCII if `ascii_only`."""

    def __init__(self, ascii_only: bool) -> None:
        self._ascii = ascii_only
        self.lines: list[Text] = []

    def fill(self, heading: str, progress: Progress, seconds_left: float, note: str) -> None:
        """From top to bottom."""
        left = f"{_clock(seconds_left)} left"
        title = f" {heading}"[: WIDTH - len(left) - 2]
        self._add((f"{title:{WIDTH - len(left) - 1}}{left}", "bold"))
        self._add((f" {progress.title}", ""))
        for line in progress.picture[:PICTURE_ROWS]:
            self._picture(line)
        self._down_to(2 + PICTURE_ROWS)
        for name, text in progress.rows[:ROWS]:
            self._add((f" {name:<9} ", "cyan"), (text, ""))
        self._down_to(2 + PICTURE_ROWS + ROWS)
        word = progress.verdict.upper() if progress.verdict else "..."
        self._beside(word, COLOURS.get(progress.verdict or "", "bold"), progress.headline, 2)
        self._beside("next", "bold cyan", progress.next_move, 2)
        keys = "Enter takes it   " if progress.acceptable else ""
        self._add((f" {keys}q ends it, the old calibration stays", "dim"))
        self._add((f" {note}", "yellow"))

    def _add(self, *parts: tuple[str, str]) -> None:
        told = [(plain(t) if self._ascii else printable(t), style) for t, style in parts]
        self.lines.append(Text.assemble(*told))

    def _down_to(self, line: int) -> None:
        self.lines += [Text()] * (line - len(self.lines))

    def _picture(self, line: str) -> None:
        parts = [("  ", "")]
        for run in RUNS.findall(line):
            block, colour = SIGNS.get(run[0], ("", ""))
            drawn = run if self._ascii or not block else block * len(run)
            parts.append((drawn, colour))
        self._add(*parts)

    def _beside(self, word: str, style: str, text: str, rows: int) -> None:
        """A word in its style, and text beside it on so many lines."""
        told = plain(text) if self._ascii else text
        wrapped = textwrap.wrap(told, WIDTH - 13, max_lines=rows, placeholder=" ...") or [""]
        end = len(self.lines) + rows
        self._add((f" {word:<10}", style), (wrapped[0], ""))
        for more in wrapped[1:]:
            self._add((" " * 11 + more, ""))
        self._down_to(end)


def _clock(seconds: float) -> str:
    return f"{int(max(seconds, 0.0)) // 60}:{int(max(seconds, 0.0)) % 60:02d}"


def _say(out: TextIO, text: str) -> None:
    try:
        out.write(text + "\n")
    except UnicodeEncodeError:
        out.write(plain(text) + "\n")
    out.flush()
