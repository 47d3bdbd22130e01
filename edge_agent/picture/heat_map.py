"""Heat map: the small picture of an alarm, which fits a phone and a message.

In: a `Surprise`, and what the alarm is called. Out: the bytes of a PNG, 400 pixels wide: channel by
time or by band, each cell in multiples of its normal level. Never: touches a file, fails on a
name or a number, shows more than 12 rows (it says how many it leaves out).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from edge_agent.picture.canvas import BRIGHT, HEATS, Canvas, Heats, fit, plain, text_width
from edge_agent.picture.surprise import RANGE, WORST_CELL, Cells, Surprise

WIDTH = 400
MAX_ROWS = 12
MARGIN = 10
TITLE, TEXT, SMALL = 15, 13, 12
ROWS_TOP = 54
# The fewer rows there are, the higher they are.
ROW_PIXELS = {1: 44, 2: 34, 3: 28, 4: 25, 6: 22, 8: 20, MAX_ROWS: 18}
NAME_PIXELS, SHARE_PIXELS, EXTRA_PIXELS, LABEL_PIXELS = 116, 38, 16, 56
SCALE_PIXELS = 130

# The scale begins a bit below 1 x normal, so that normal cells stay dark, and ends at 100 x, or
# over the worst cell: pictures of usual alarms can be compared, and no alarm is one bright patch.
COLDEST_DECADE, HOTTEST_DECADE = -0.5, 2.0
TIME_UNITS = (("d", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))


class Caption(NamedTuple):
    """What the picture is of; `ts` is ISO 8601."""

    event_id: str
    asset: str
    ts: str
    ratio: float


class Column(NamedTuple):
    """Where a column lies."""

    begin: int
    end: int


class Scale(NamedTuple):
    """The powers of ten between the coldest and the hottest colour."""

    low: float
    high: float

    def heats(self, cells: Cells) -> Heats:
        """The colours of cells."""
        place = (np.log10(np.maximum(cells, 10.0**self.low)) - self.low) / (self.high - self.low)
        return np.asarray((place.clip(0.0, 1.0) * (HEATS - 1)).round().astype(np.uint8))


def heat_map(surprise: Surprise, caption: Caption) -> bytes:
    """The picture: the worst channels from the top, each with its share of the anomaly."""
    rows = surprise.order[:MAX_ROWS]
    names = [fit(plain(surprise.channels[r], f"channel {r + 1}"), TEXT, NAME_PIXELS) for r in rows]
    left = MARGIN + math.ceil(max(text_width(name, TEXT) for name in names)) + 8
    columns = _columns(surprise, left, WIDTH - MARGIN - SHARE_PIXELS)
    pitch = next(pixels for count, pixels in ROW_PIXELS.items() if len(rows) <= count)
    bottom = ROWS_TOP + pitch * len(rows)
    hidden = len(surprise.channels) - len(rows)
    canvas = Canvas(WIDTH, bottom + (66 if surprise.extras else 60) + (17 if hidden else 0))
    scale = _scale(surprise.cells)
    _draw_caption(canvas, surprise, caption, names[0])
    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        top = ROWS_TOP + place * pitch
        middle = top + pitch // 2 - 1
        canvas.text(MARGIN, middle, name, TEXT, BRIGHT, "lm")
        heats = scale.heats(surprise.cells[row])
        _draw_row(canvas, heats, columns, top, pitch - 2, gap=surprise.axis == "band")
        # Shares of something off the scale say nothing.
        if scale.high < math.log10(WORST_CELL):
            share = f"{surprise.shares[row]:.0%}"
            canvas.text(WIDTH - MARGIN, middle, share, SMALL, anchor="rm")
    _draw_axis(canvas, surprise, columns, bottom)
    _draw_scale(canvas, scale, bottom + 28)
    if hidden:
        canvas.text(MARGIN, bottom + 60, f"{hidden} quieter channels are not shown", SMALL)
    return canvas.png(caption.event_id)


def _columns(surprise: Surprise, left: int, right: int) -> list[Column]:
    """What is no band stands apart, as wide as its label is high."""
    bands = len(surprise.columns) - surprise.extras
    beside = [right - EXTRA_PIXELS * count for count in range(surprise.extras, -1, -1)]
    end = beside[0] - 6 if surprise.extras else right
    cuts = np.rint(np.linspace(left, end, bands + 1)).astype(int).tolist()
    return [Column(*edges) for edges in (*pairwise(cuts), *pairwise(beside))]


def _scale(cells: Cells) -> Scale:
    worst = math.log10(max(float(cells.max()), 1.0))
    return Scale(COLDEST_DECADE, max(HOTTEST_DECADE, math.ceil(2 * worst) / 2))


def _draw_caption(canvas: Canvas, surprise: Surprise, caption: Caption, worst: str) -> None:
    """Asset, time, ratio; below them the worst cell of the worst channel."""
    ratio = f"ratio {caption.ratio:.3g}"
    when = plain(caption.ts[:19].replace("T", " "), "") + " UTC" * caption.ts.endswith("Z")
    right, base = WIDTH - MARGIN, 24
    canvas.text(right, base, ratio, TITLE, BRIGHT, "rs")
    right -= math.ceil(text_width(ratio, TITLE)) + 10
    canvas.text(right, base, when, SMALL, anchor="rs")
    room = right - text_width(when, SMALL) - 10 - MARGIN
    asset = fit(plain(caption.asset, "asset"), TITLE, room)
    canvas.text(MARGIN, base, asset, TITLE, BRIGHT, "ls")
    cells = surprise.cells[surprise.order[0]]
    column = int(cells.argmax())
    size = "off the scale" if cells[column] >= WORST_CELL else f"{_times(cells[column])} normal"
    line = f"worst: {worst}, {_where(surprise, column)}, {size}"
    canvas.text(MARGIN, 43, fit(line, SMALL, WIDTH - 2 * MARGIN), SMALL, anchor="ls")


def _where(surprise: Surprise, column: int) -> str:
    """A column in words."""
    if surprise.axis == "band":
        return plain(surprise.columns[column], f"column {column + 1}")
    seconds = (len(surprise.columns) - column) * surprise.column_seconds
    unit, size = _time_unit(seconds)
    return f"{seconds / size:.3g} {unit} before the end"


def _draw_row(
    canvas: Canvas, heats: Heats, columns: list[Column], top: int, high: int, gap: bool
) -> None:
    """Time flows, bands stand side by side."""
    for heat, (begin, end) in zip(heats, columns, strict=True):
        wide = end - begin - (gap and end - begin > 5)
        canvas.block(begin, top, np.full((high, wide), heat, np.uint8))


def _draw_axis(canvas: Canvas, surprise: Surprise, columns: list[Column], y: int) -> None:
    bands = len(columns) - surprise.extras
    if surprise.axis == "time":
        _draw_times(canvas, surprise.column_seconds * len(columns), columns, y + 3)
    else:
        _draw_bands(canvas, surprise.columns[:bands], columns, y + 3)
    for name, (begin, end) in zip(surprise.columns[bands:], columns[bands:], strict=True):
        label = fit(plain(name, "?"), SMALL, LABEL_PIXELS)
        canvas.upright((begin + end) // 2, y + 4, label, SMALL)


def _draw_times(canvas: Canvas, span_seconds: float, columns: list[Column], y: int) -> None:
    """Round times before the end of the window."""
    left, right = columns[0].begin, columns[-1].end
    unit, size = _time_unit(span_seconds / 2)
    span = span_seconds / size
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= span / 5)
    canvas.text(right, y, f"0 {unit}", SMALL, anchor="ra")
    for tick in np.arange(step, span * 1.001, step):
        x = right - tick / span * (right - left)
        canvas.text(max(x, left + 8), y, f"{-tick:g}", SMALL, anchor="ma")


def _draw_bands(canvas: Canvas, labels: tuple[str, ...], columns: list[Column], y: int) -> None:
    """Where some bands begin, and where the last one ends."""
    ranges = [RANGE.match(label) for label in labels]
    if not ranges or not (last := ranges[-1]):
        return
    unit = labels[-1][last.end() :].split("(")[0].strip()
    right = columns[len(labels) - 1].end
    canvas.text(right, y, f"{last[2]} {unit}", SMALL, anchor="ra")
    room, free = right - text_width(f"{last[2]} {unit}", SMALL) - 10, 0.0
    for begin, low in ((c.begin, r[1]) for c, r in zip(columns, ranges, strict=False) if r):
        wide = text_width(low, SMALL)
        if begin >= free and begin + wide <= room:
            canvas.text(begin, y, low, SMALL)
            free = begin + wide + 16


def _draw_scale(canvas: Canvas, scale: Scale, y: int) -> None:
    colours = np.linspace(0, HEATS - 1, SCALE_PIXELS).round().astype(np.uint8)
    canvas.block(MARGIN, y, np.tile(colours, (8, 1)))
    for decade in range(0, int(scale.high) + 1, math.ceil(scale.high / 3)):
        x = MARGIN + (decade - scale.low) / (scale.high - scale.low) * SCALE_PIXELS
        canvas.text(x, y + 11, _times(10.0**decade), SMALL, anchor="ma")
    canvas.text(MARGIN + SCALE_PIXELS + 12, y + 4, "1x: worst 1% of normal", SMALL, anchor="lm")


def _time_unit(seconds: float) -> tuple[str, float]:
    """The largest unit that fits into a time, and its seconds."""
    return next((unit for unit in TIME_UNITS if seconds >= unit[1]), TIME_UNITS[-1])


def _times(value: float) -> str:
    """`33x`."""
    if value >= 99_999.5:
        return f"{value:.0e}x".replace("e+0", "e")
    return f"{value:.2g}x" if value < 10 else f"{value:.0f}x"
