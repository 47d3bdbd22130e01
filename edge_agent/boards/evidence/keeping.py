"""Keeping: which seconds of which wire are kept, and what is said about them.

In: alarms, commands, ticks; chunks through `tails`. Out: cases on the shelf.
Never: waits for the disk, raises for it, lets a name from the network near a path unchecked, wears
out a card: so much a day is recorded of alarms (`budget.py`), and those beyond it are facts only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from edge_agent.boards.evidence.budget import Budget
from edge_agent.boards.evidence.case import (
    check_event_id,
    check_note,
    check_verdict,
    plain,
    shown,
    stamp,
)
from edge_agent.boards.evidence.tail import Tail
from edge_agent.boards.evidence.writer import Order, Writer
from edge_agent.progress import Progress

FOLDER = "evidence"
DAILY_BYTES = 16_000_000
# What one writing of a document costs.
DOCUMENT_BYTES = 4096
# The facts of an alarm without a recording wait so long for its end, to be written once.
HELD_SECONDS = 60.0
AFTER_SECONDS = 5.0
MAX_CAPTURE_SECONDS = 3600.0


class Evidence:
    """All boards' evidence in one folder. `tails` by board: `begin`, `take` and `end` are called
    on them. All methods belong to the service's thread. `wall` is Unix time.

    Times that become part of a case are RFC 3339 text, and host seconds otherwise.
    """

    def __init__(
        self, folder: Path, limit_bytes: int, boards: Iterable[str],
        after_seconds: float = AFTER_SECONDS, wall: Callable[[], float] = time.time,
        daily_bytes: int = DAILY_BYTES,
    ) -> None:  # fmt: skip
        self.tails = {board: Tail() for board in boards}
        self._after_seconds, self._wall = after_seconds, wall
        self._capturing: dict[str, str] = {}
        self._budget = Budget(daily_bytes)
        self._held: dict[str, tuple[float, dict[str, Any]]] = {}
        self._writer = Writer(folder, limit_bytes)

    @property
    def problem(self) -> str | None:
        """What is wrong with the folder now, in one line."""
        return self._writer.problem

    @property
    def unrecorded(self) -> int:
        """Alarms of this run that the day's budget had no recording for."""
        return self._budget.unrecorded

    def notices(self) -> list[str]:
        """What people should read in the journal, once a day at most."""
        notice = self._budget.notice()
        return [notice] if notice else []

    @property
    def progress(self) -> Progress:
        """Of the thread that writes."""
        return self._writer.progress

    def nudge(self) -> None:
        """Asks the thread that writes for a sign of life."""
        self._writer.nudge()

    def keep(
        self, event_id: str, asset: str, board: str, now_s: float, facts: Mapping[str, Any]
    ) -> None:
        """An alarm began: the seconds before it, and some after. `facts` is its message: `ts`,
        `first_over`, `score`, `why`, ...; with `stream` and `window_seconds` beside them a reader
        knows which rows were alarmed. Raises `ValueError` for an id that no agent makes."""
        name, before = check_event_id(event_id), self.tails[board].last(now_s)
        if self._budget.allows(sum(map(len, before))):
            self._note(name, "alarm", asset, board, facts)
            self._record(name, board, now_s, self._after_seconds, before)
        else:
            self._held[name] = now_s + HELD_SECONDS, _about(name, "alarm", asset, board, facts)

    def ended(self, event_id: str, ts: str) -> None:
        """The alarm ended at `ts`."""
        self._write(check_event_id(event_id), {"ended": ts})

    def verdict(self, event_id: object, verdict: object, note: object, when: str) -> None:
        """What an operator says of an alarm, however old: if its case has gone, it is begun again
        without the recording. Raises `ValueError` in words for what makes no sense."""
        name = check_event_id(event_id)
        said = {"verdict": check_verdict(verdict), "note": check_note(note), "verdict_at": when}
        self._write(name, said)

    def missed(
        self, asset: str, board: str, now_s: float, note: object, when: str,
        facts: Mapping[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """An operator says that there should have been an alarm: the last seconds as a case of
        their own; gives its id. Raises `ValueError` for a note that is none."""
        name = check_event_id(f"missed-{asset}-{stamp(self._wall())}")
        said = {"ts": when, "verdict": "missed", "note": check_note(note), "verdict_at": when}
        self._note(name, "missed", asset, board, {**(facts or {}), **said})
        self._record(name, board, now_s, 0.0, self.tails[board].last(now_s))
        return name

    def capture(self, board: str, now_s: float, seconds: float, when: str) -> str:
        """The next `seconds` of the board's wire; gives the id. Raises `ValueError` in words if
        that can't be: one capture a board at a time, and the board must have said who it is."""
        tail = self.tails.get(board)
        if tail is None:
            raise ValueError(f"board: saw {shown(board)}, expected {' or '.join(self.tails)}")
        if not 0 < seconds <= MAX_CAPTURE_SECONDS:
            raise ValueError(f"seconds: saw {seconds:g}, expected up to {MAX_CAPTURE_SECONDS:g}")
        if not tail.live:
            raise ValueError(f"board {board} is not there: try again when it streams")
        if board in self._capturing:
            raise ValueError(f"board {board} is being captured: wait for {self._capturing[board]}")
        name = self._capturing[board] = f"capture-{stamp(self._wall())}"
        self._note(name, "capture", None, board, {"ts": when, "seconds": seconds})
        self._record(name, board, now_s, seconds, [])
        return name

    def tick(self, now_s: float) -> None:
        """Ten times a second or so: hands over what has come."""
        self._budget.tick(now_s)
        for name in [name for name, (due_s, _) in self._held.items() if now_s >= due_s]:
            self._write(name, {})
        for board, tail in self.tails.items():
            for name, chunks, over in tail.handed(now_s):
                self._budget.spend(sum(map(len, chunks)))
                self._writer.record(Order(name, chunks, over))
                if over and self._capturing.get(board) == name:
                    del self._capturing[board]

    def close(self) -> None:
        """Ends every recording where it is, and writes what is left."""
        for tail in self.tails.values():
            tail.end()
        for name in list(self._held):
            self._write(name, {})
        self.tick(0.0)
        self._writer.close()

    def _note(
        self, name: str, kind: str, asset: str | None, board: str, facts: Mapping[str, Any]
    ) -> None:
        self._write(name, _about(name, kind, asset, board, facts))

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        """Has facts written, with those that have waited for them."""
        _, held = self._held.pop(name, (0.0, {}))
        self._budget.spend(DOCUMENT_BYTES)
        self._writer.note(name, {**held, **facts})

    def _record(
        self, name: str, board: str, now_s: float, seconds: float, before: list[bytes]
    ) -> None:
        tail = self.tails[board]
        if not tail.head:
            return
        over = not tail.live or seconds <= 0
        self._budget.spend(sum(map(len, before)))
        self._writer.record(Order(name, before, over, tail.head))
        if not over:
            tail.follow(name, now_s, now_s + seconds)


def _about(
    name: str, kind: str, asset: str | None, board: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    return {**plain(facts), "event_id": name, "kind": kind, "asset": asset, "board": board}
