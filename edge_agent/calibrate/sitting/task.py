"""Task: what every live calibration is, so that one loop, one screen and one shelf serve them all.

In: samples as they come. Out: how far it is (`Progress`), and in the end a `Draft` for the shelf or
a refusal in words. Never: knows of a terminal, a port, a file or a clock; `sitting.py` runs it.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from edge_agent.calibrate.shelf.stored import Draft, Kind
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema

Verdict: TypeAlias = Literal["pass", "marginal", "fail"]


class CannotCalibrate(ValueError):
    """This board can't be calibrated so; one line that says why and what to do."""


class Progress(NamedTuple):
    """How far it is. The screen has 80 columns and 24 lines: `title` one line, `picture` at most
    12 lines of at most 77 cells, `rows` (name, text) at most 4, `verdict` as a word in colour
    beside `headline`, `next_move` what to do now in words (both up to 130 cells).

    In `picture` the signs `#` (done), `.` (not yet) and `@` (now) are cells, coloured blocks where
    the terminal can; anything else is text. `enough` ends the sitting by itself once it
    lasts 3 s, `acceptable` lets Enter end it, `over` ends it at once (nothing more to gain, or
    what came can't be used). The terminal rings
    when `bells` grows: a step is done, look up. `fields` are flat JSON numbers and words for
    `--json`."""

    title: str
    headline: str
    next_move: str
    verdict: Verdict | None = None
    picture: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    enough: bool = False
    acceptable: bool = False
    over: bool = False
    bells: int = 0
    fields: dict[str, Any] = {}


class Refused(NamedTuple):
    """Nothing to store: why, and what to do."""

    reason: str
    next_move: str


class Task(Protocol):
    """A calibration under way."""

    @property
    def kind(self) -> Kind:
        """Which shelf it goes to."""
        ...

    @property
    def streams(self) -> tuple[int, ...]:
        """Ids of the streams that must keep coming, after `begin`."""
        ...

    @property
    def limit_seconds(self) -> float:
        """After so long the sitting ends, with what there is."""
        ...

    def begin(self, schema: Schema) -> None:
        """The board has said who it is; again after it was lost. Raises `CannotCalibrate`."""
        ...

    def take(self, samples: Samples) -> None:
        """A batch of any stream of the board; never slow (< 1 ms)."""
        ...

    def progress(self) -> Progress:
        """How far it is, fitted anew; called at most twice a second, may take 50 ms."""
        ...

    def finish(self, board: str, temperature_c: float | None) -> Draft | Refused:
        """The last word, from everything there is."""
        ...

    def partial(self) -> bytes | None:
        """What to go on from if the connection drops, at most 4 MiB; None: it can't be."""
        ...

    def resume(self, content: bytes) -> bool:
        """Goes on from what `partial` gave, after `begin`; hostile until checked. Whether it
        does."""
        ...


@runtime_checkable
class Waits(Protocol):
    """A task that waits for the person now and then: Enter says that it can go on."""

    def enter(self) -> bool:
        """Whether it was waited for; else Enter accepts what there is."""
        ...
