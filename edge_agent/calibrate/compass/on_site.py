"""`edge-agent calibrate compass --config F`: the board turned before our eyes.

In: parsed options. Out: an exit code: 0 stored, 1 not stored, 74 the board can't be heard; steps
as JSON lines or a screen, and a page at the end. Never: does the work, which is `LiveCompass`'s.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.calibrate.compass.calibration import Calibration
from edge_agent.calibrate.compass.site import Site
from edge_agent.calibrate.compass.summary import summary
from edge_agent.calibrate.compass.task import LiveCompass
from edge_agent.calibrate.shelf.shelf import Shelf, software
from edge_agent.calibrate.shelf.stored import Kind, ShelfError, Stored
from edge_agent.calibrate.sitting.command import Outcome, Place, in_use, live, place_of, say


def compass_live(options: Namespace, site: Site) -> int:
    """One sitting, its page or last line, its report."""
    place = place_of(options)
    gravity = _current(place.shelf, "accel")
    task = LiveCompass(options.stream, options.fixed, site, options.seconds, gravity)
    outcome = live(options, place, task)
    found = task.found
    if found is None or not outcome.finished:
        found = Calibration("fail", outcome.reason, outcome.next_move)
    if options.report and found.matrix is not None:
        _report(options.report, place, task, outcome)
    with suppress(OSError) if outcome.dropped else nullcontext():
        if options.json:
            _last_line(found, outcome)
        else:
            _page(place, task, found, outcome)
    return outcome.code


def _current(shelf: Shelf, kind: Kind) -> list[Stored]:
    """The one in use, if it can be read; `Applied` asks whether it is of the board that answers."""
    try:
        stored = shelf.current(kind)
    except ShelfError:
        return []
    return [stored] if stored else []


def _last_line(found: Calibration, outcome: Outcome) -> None:
    fields = summary(found, None)
    if outcome.stored is None:
        more = (outcome.reason, outcome.next_move)
        fields |= {"saved": False, "reason": ": ".join(filter(None, more))}
    else:
        fields |= {"saved": True}
    uid = outcome.schema.uid if outcome.schema else None
    say(**fields, id=outcome.stored.id if outcome.stored else None, uid=uid)


def _page(place: Place, task: LiveCompass, found: Calibration, outcome: Outcome) -> None:
    from edge_agent.calibrate.compass.page import compass_page

    readings = task.kept.readings() if task.kept and outcome.finished else None
    title = f"compass of board {place.board}"
    last = outcome.last or in_use(place.shelf, "compass")
    compass_page(title, readings, found, task.site, None, last)
    if outcome.next_move and outcome.next_move != found.next_move:
        sys.stderr.write(f"edge-agent: {outcome.next_move}\n")


def _report(folder: Path, place: Place, task: LiveCompass, outcome: Outcome) -> None:
    from edge_agent.calibrate.compass.report import write_report

    assert task.found is not None
    assert task.kept is not None
    stored = outcome.stored
    stamp = {
        "board": place.board, "id": stored.id if stored else None, "saved": stored is not None,
        "temperature_c": outcome.temperature_c, "software": software(),
        "firmware": outcome.schema.firmware if outcome.schema else None,
    }  # fmt: skip
    now = datetime.now(UTC)
    readings = task.kept.readings()
    for path in write_report(folder, readings, task.found, task.site, None, now, stamp):
        sys.stderr.write(f"{path}\n")
