"""The reports in a real browser: every plot is seen to be drawn, and nothing is fetched."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests import programs
from tests.posed_boards import laid_down, posed_board, random_poses, write_wire

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
)
WIDTH, HEIGHT = 1400, 4000
# Run in a copy of the page: where each plot has come to lie, and what the page would have fetched.
ASK = """<script>document.body.dataset.seen = JSON.stringify({
  boxes: [...document.querySelectorAll("svg")].map(svg => {
    const box = svg.getBoundingClientRect();
    return [box.x, box.y, box.width, box.height].map(Math.round);
  }),
  fetched: performance.getEntriesByType("resource").map(entry => entry.name),
})</script>"""


class Seen(NamedTuple):
    """One plot: the share of its pixels that are not white, and how many colours there are."""

    drawn: float
    colours: int


def browse(page: Path, *more: str) -> str:
    """What Chromium prints about a page."""
    assert CHROMIUM
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--force-device-scale-factor=1", f"--window-size={WIDTH},{HEIGHT}",
         f"--user-data-dir={page.parent / 'profile'}", *more, page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def plots(report: Path) -> list[Seen]:
    """Every plot of a report, as Chromium draws it."""
    asked, picture = report.with_name("asked.html"), report.with_suffix(".png")
    asked.write_text(report.read_text() + ASK)
    told = re.search(r'data-seen="([^"]*)"', browse(asked, "--dump-dom"))
    assert told
    seen = json.loads(unescape(told[1]))
    assert seen["fetched"] == []
    browse(report, f"--screenshot={picture}")
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    found = []
    for x, y, width, height in seen["boxes"]:
        cut = pixels[y : y + height, x : x + width].reshape(-1, 3)
        assert len(cut) == width * height, "the plot lies outside of the page"
        colours = len(np.unique(cut, axis=0))
        found.append(Seen(float((cut < 250).any(axis=1).mean()), colours))
    return found


def report_of(folder: Path) -> Path:
    (page,) = folder.glob("*.html")
    return page


def test_the_compass_report_is_drawn(tmp_path: Path) -> None:
    recording = tmp_path / "turned.rec"
    programs.run(
        "firmware_bridge", "simulate", "--turn", "full", "--seed", 3, "--seconds", 60,
        "--out", recording,
    )  # fmt: skip
    programs.run(
        "edge_agent", "calibrate", "compass", "--replay", recording, "--check", recording,
        "--report", tmp_path / "report", "--json",
    )  # fmt: skip
    found = plots(report_of(tmp_path / "report"))
    # Three sides raw, three corrected, residuals, coverage, heading.
    assert len(found) == 9
    for seen in found:
        assert seen.drawn > 0.01
        assert seen.colours > 5


def test_the_accelerometer_report_is_drawn(tmp_path: Path) -> None:
    up = random_poses(np.random.default_rng(4))
    poses = write_wire(tmp_path / "poses.rec", laid_down(posed_board(4), up, 400.0), 400.0)
    programs.run(
        "edge_agent", "calibrate", "accel", "--replay", poses, "--report", tmp_path / "report",
        "--json",
    )  # fmt: skip
    found = plots(report_of(tmp_path / "report"))
    assert len(found) >= 3
    for seen in found:
        assert seen.drawn > 0.01
        assert seen.colours > 5
