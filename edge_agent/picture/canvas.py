"""Canvas: text and coloured rectangles to a small PNG. Only this file loads the drawing library.

In: lines of text with places, rectangles of heats. Out: the bytes of a PNG with a palette, the
same for the same input. Never: touches a file, loads the library before the first picture (a
gateway without alarms doesn't pay for it), fails on a name.

Colours are those of inferno: ordered in brightness, so also for people who see no red or green and
on a grey print. They lie on a dark card of their own, so that it doesn't matter what is around it.
"""

from __future__ import annotations

import io
import math
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font: TypeAlias = FreeTypeFont | ImageFont

Heats = NDArray[np.uint8]

BRIGHT, DIM = 255, 185
# The palette: a ramp from the card to white for text, then the colours of the cells.
CARD = (27, 30, 38)
INKS = 32
INFERNO = (
    0x000004, 0x1B0C41, 0x4A0C6B, 0x781C6D, 0xA52C60, 0xCF4446, 0xED6925, 0xFB9B06, 0xF7D13D,
    0xFCFFA4,
)  # fmt: skip
HEATS = 96

NAME_CHARACTERS = 60  # of the head and of the tail of a name: there is no room for more
# The built-in font has ASCII only.
SPELLED = str.maketrans(
    {"μ": "u", "°": "deg ", "ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "×": "x",
     "Ω": "Ohm", "–": "-", "−": "-"}
)  # fmt: skip


class Canvas:
    """Text is drawn as brightness and rectangles as heats; both become one palette."""

    def __init__(self, width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self._ink = Image.new("L", (width, height))
        self._draw = ImageDraw.Draw(self._ink)
        self._blocks: list[tuple[int, int, Heats]] = []

    def text(
        self, x: float, y: float, text: str, size: int, brightness: int = DIM, anchor: str = "la"
    ) -> None:
        """One line; `anchor` says which point of it lies at x, y: l, m or r, then a (top),
        m (middle) or s (base line)."""
        self._draw.text((x, y), text, fill=brightness, font=_font(size), anchor=anchor)

    def upright(self, x: int, y: int, text: str, size: int) -> None:
        """One line that reads upwards and ends at `y`, centred on `x`."""
        from PIL import Image, ImageDraw

        line = Image.new("L", (math.ceil(text_width(text, size)) + 1, size + 3))
        ImageDraw.Draw(line).text((0, 0), text, fill=DIM, font=_font(size))
        self._ink.paste(line.transpose(Image.Transpose.ROTATE_90), (x - size // 2 - 1, y))

    def block(self, x: int, y: int, heats: Heats) -> None:
        """A rectangle of colours, uint8[height, width] of 0 to HEATS - 1."""
        self._blocks.append((x, y, heats))

    def png(self, event_id: str) -> bytes:
        """The file; `event_id` lies in a text chunk of that name."""
        from PIL import Image, PngImagePlugin

        pixels = (np.asarray(self._ink, np.uint16) * (INKS - 1) // BRIGHT).astype(np.uint8)
        for x, y, heats in self._blocks:
            pixels[y : y + heats.shape[0], x : x + heats.shape[1]] = INKS + heats
        picture = Image.frombytes("P", self._ink.size, pixels.tobytes())
        picture.putpalette(_palette())
        notes = PngImagePlugin.PngInfo()
        notes.add_text("event_id", event_id)
        content = io.BytesIO()
        # The highest level costs eight times as much for a twentieth of the bytes.
        picture.save(content, "PNG", compress_level=6, pnginfo=notes)
        return content.getvalue()


def plain(name: str, instead: str) -> str:
    """What the font can show of a name; `instead` if that isn't at least half of it."""
    if len(name) > 2 * NAME_CHARACTERS:
        name = name[:NAME_CHARACTERS] + name[-NAME_CHARACTERS:]
    letters = unicodedata.normalize("NFKD", name).translate(SPELLED)
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    shown = "".join(letter if " " <= letter <= "~" else "?" for letter in letters)
    known = sum(letter == same for letter, same in zip(letters, shown, strict=True))
    return shown if shown.strip() and 2 * known >= len(shown) else instead


def fit(text: str, size: int, wide: float) -> str:
    """The text, or its head and tail: names often differ in their last letters."""
    if text_width(text, size) <= wide:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: kept - kept // 2]}\N{HORIZONTAL ELLIPSIS}{text[-(kept // 2) :]}"
        if text_width(short, size) <= wide:
            return short
    return ""


def text_width(text: str, size: int) -> float:
    """Pixels that a line takes."""
    return float(_font(size).getlength(text))


@cache
def _font(size: int) -> Font:
    from PIL import ImageFont

    return ImageFont.load_default(size)


@cache
def _palette() -> bytes:
    """The ramp of the text, then the colours of the cells."""
    ramp = np.linspace(CARD, (255, 255, 255), INKS)
    anchors = np.array([(c >> 16, c >> 8 & 255, c & 255) for c in INFERNO])
    at = np.linspace(0, len(INFERNO) - 1, HEATS)
    heats = [np.interp(at, range(len(INFERNO)), anchors[:, i]) for i in range(3)]
    return np.concatenate([ramp, np.stack(heats, axis=1)]).round().astype(np.uint8).tobytes()
