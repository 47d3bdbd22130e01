"""SVG: the few plots of a report, as text.

In: points and titles. Out: `<svg>` elements that need nothing from anywhere. Never: draws more
points than a browser likes (2,000 a cloud), loads a library for what fifty lines do.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.sphere import RINGS, SECTIONS, Floats

SIZE, MARGIN = 320, 44
MOST_POINTS = 2000
BLUE, GREY, RED = "#1f6fb2", "#9aa3ab", "#c0392b"


class Cloud(NamedTuple):
    """Points float64[n, 2] in one colour."""

    points: Floats
    colour: str = BLUE


def scatter(
    title: str, across: str, up: str, clouds: Sequence[Cloud], square: bool = False,
    radius: float | None = None, width: int = SIZE,
) -> str:  # fmt: skip
    """Clouds on common axes; `square` keeps circles round, `radius` draws one about zero."""
    low, high = _limits(clouds, square, radius)
    span = np.maximum(high - low, np.finfo(float).tiny)
    inner = np.array([width - 2 * MARGIN, SIZE - 2 * MARGIN])
    parts = [_frame(title, across, up, low, high, width)]
    if radius is not None:
        middle = _place(np.zeros(2), low, span, inner)
        size = radius / span * inner
        parts.append(f'<ellipse cx="{middle[0]:.1f}" cy="{middle[1]:.1f}" rx="{size[0]:.1f}" '
                     f'ry="{size[1]:.1f}" fill="none" stroke="{RED}"/>')  # fmt: skip
    for points, colour in clouds:
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.5"/>'
            for x, y in (_place(point, low, span, inner) for point in _few(points))
        )
        parts.append(f'<g fill="{colour}" fill-opacity="0.6">{dots}</g>')
    return _svg(width, "".join(parts), title)


def section_map(title: str, seen: NDArray[np.bool_]) -> str:
    """The 100 sections of the sphere from the one about +z (top) to the one about -z; equal areas
    on the page, too."""
    inner = SIZE - 2 * MARGIN
    parts, first, above = [], 0, 1.0
    for low, sectors in RINGS:
        top, tall = MARGIN + (1.0 - above) / 2 * inner, max((above - low) / 2 * inner, 8.0)
        for sector in range(sectors):
            x, wide = MARGIN + sector / sectors * inner, inner / sectors
            colour = BLUE if seen[first + sector] else "#e6e9ec"
            parts.append(f'<rect x="{x:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{tall:.1f}" '
                         f'fill="{colour}" stroke="white"/>')  # fmt: skip
        first, above = first + sectors, low
    assert first == SECTIONS
    words = _text(SIZE / 2, 20, title, "middle", 14) + _text(
        SIZE / 2, SIZE - 14, "turned about z, -180° to 180°", "middle"
    )
    return _svg(SIZE, "".join(parts) + words, title)


def _limits(clouds: Sequence[Cloud], square: bool, radius: float | None) -> tuple[Floats, Floats]:
    points = np.concatenate([cloud.points for cloud in clouds])
    low, high = points.min(axis=0), points.max(axis=0)
    if radius is not None:
        low, high = np.minimum(low, -radius), np.maximum(high, radius)
    if square:
        middle, half = (low + high) / 2, float((high - low).max()) / 2
        low, high = middle - half, middle + half
    return low, high


def _place(point: Floats, low: Floats, span: Floats, inner: Floats) -> Floats:
    share = (point - low) / span
    return np.array([MARGIN + share[0] * inner[0], MARGIN + (1.0 - share[1]) * inner[1]])


def _few(points: Floats) -> Floats:
    if len(points) <= MOST_POINTS:
        return points
    return points[np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(np.intp)]


def _frame(title: str, across: str, up: str, low: Floats, high: Floats, width: int) -> str:
    right, bottom = width - MARGIN, SIZE - MARGIN
    return "".join((
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{right - MARGIN}" height="{bottom - MARGIN}" '
        f'fill="none" stroke="{GREY}"/>',
        _text(width / 2, 20, title, "middle", 14),
        _text(width / 2, SIZE - 10, across, "middle"),
        _text(MARGIN, MARGIN - 8, up, "middle"),
        _text(MARGIN, bottom + 16, f"{low[0]:.4g}", "start"),
        _text(right, bottom + 16, f"{high[0]:.4g}", "end"),
        _text(MARGIN - 4, bottom, f"{low[1]:.4g}", "end"),
        _text(MARGIN - 4, MARGIN + 10, f"{high[1]:.4g}", "end"),
    ))  # fmt: skip


def _text(x: float, y: float, words: str, anchor: str, size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(words)}</text>"
    )


def _svg(width: int, inside: str, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{SIZE}" '
        f'viewBox="0 0 {width} {SIZE}" role="img" aria-label="{escape(title)}" '
        f'font-family="sans-serif">{inside}</svg>'
    )
