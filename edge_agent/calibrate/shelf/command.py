"""`edge-agent calibrate list`, `show` and `rollback`: what is on the shelf of a board.

In: parsed options. Out: an exit code, JSON lines or a table. Never: changes a calibration, puts one
in use that is not there, deletes one.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from edge_agent.calibrate.shelf.shelf import NONE, Shelf
from edge_agent.calibrate.shelf.stored import KINDS, Kind, ShelfError, Stored
from edge_agent.calibrate.sitting.command import EXIT_NO, EXIT_OK, place_of, say, take_up
from edge_agent.config import load_config

WITHOUT: dict[Kind, str] = {
    "compass": "its readings stay as they come",
    "accel": "its readings stay as they come",
    "baseline": "its assets go by their bundles alone",
}


def list_calibrations(options: Namespace) -> int:
    """`edge-agent calibrate list`: of one board or of all, oldest first."""
    config = load_config(options.config)
    boards = [options.board] if options.board else list(config.boards)
    found = 0
    for board in boards:
        shelf = Shelf(config.storage.state_dir, board)
        for kind in [options.kind] if options.kind else KINDS:
            rows = _list(shelf, kind, options.json)
            found += rows
            if rows and not options.json and shelf.current_id(kind) is None:
                _line(f"{board:<8} no {kind} is in use: {WITHOUT[kind]}")
    if options.json:
        say(calibrations=found)
    elif not found:
        _line("none yet: `edge-agent calibrate compass --config F --board B` makes one")
    return EXIT_OK


def show_calibration(options: Namespace) -> int:
    """`edge-agent calibrate show [ID]`: everything that one says; the one in use by itself."""
    place = place_of(options)
    stored = place.shelf.read(options.id) if options.id else place.shelf.current(options.kind)
    if stored is None:
        raise ShelfError(place.shelf.none_in_use(options.kind))
    if options.json:
        say(**_fields(stored, place.shelf), **_rest(stored))
        return EXIT_OK
    for name, value in (_fields(stored, place.shelf) | _rest(stored)).items():
        for i, text in enumerate(_texts(value)):
            _line(f"{'' if i else name.replace('_', ' '):<24} {text}")
    return EXIT_OK


def rollback(options: Namespace) -> int:
    """`edge-agent calibrate rollback [ID]`: the one before is in use again, or the one that is
    named; before the first there was none."""
    place = place_of(options)
    try:
        kind, now = _gone_back_to(place.shelf, options)
    except ShelfError as error:
        if options.json:
            say(rolled_back=False, reason=str(error))
        else:
            sys.stderr.write(f"edge-agent: {error}\n")
        return EXIT_NO
    was = place.shelf.current_id(kind)
    place.shelf.use(kind, now)
    told = take_up(place.state_dir, place.board, "it" if now else NONE)
    if options.json:
        say(rolled_back=True, board=place.board, kind=kind, id=now.id if now else None, was=was,
            told=told)  # fmt: skip
    else:
        name = f"{now.id} of {now.made:%Y-%m-%d %H:%M}" if now else f"no {kind} calibration"
        means = "" if now else f"; board {place.board}: {WITHOUT[kind]}"
        _line(f"{name} is in use, {was or NONE} was{means}; {told}")
    return EXIT_OK


def _gone_back_to(shelf: Shelf, options: Namespace) -> tuple[Kind, Stored | None]:
    """Of which kind, and which one; None: none. Raises `ShelfError`."""
    if options.id not in (None, NONE):
        stored = shelf.read(options.id)
        return stored.kind, stored
    kind: Kind = options.kind
    before = shelf.before(kind)
    return kind, None if options.id else before


def _list(shelf: Shelf, kind: Kind, as_json: bool) -> int:
    rows = shelf.all(kind)
    for stored in rows:
        fields = _fields(stored, shelf)
        if as_json:
            say(**fields)
        else:
            _line(_row(stored, fields))
    for told in shelf.damaged(kind):
        sys.stderr.write(f"edge-agent: board {shelf.board}: {told}\n")
    return len(rows)


def _row(stored: Stored, fields: dict[str, Any]) -> str:
    error = "" if stored.error is None else f"{stored.error:.3g} {stored.error_unit}"
    warm = "" if stored.temperature_c is None else f"{stored.temperature_c:.1f} C"
    mark = "in use" if fields["in_use"] else ""
    return (
        f"{stored.board:<8} {stored.id:<20} {stored.made:%Y-%m-%d %H:%M} {stored.verdict:<8} "
        f"{error:<9} {warm:<6} {mark}"
    ).rstrip()


def _fields(stored: Stored, shelf: Shelf) -> dict[str, Any]:
    """What tells one from another."""
    return {
        "id": stored.id, "board": stored.board, "uid": stored.uid, "kind": stored.kind,
        "number": stored.number, "made": stored.made.isoformat(), "verdict": stored.verdict,
        "error": stored.error, "error_unit": stored.error_unit,
        "temperature_c": stored.temperature_c, "software": stored.software,
        "in_use": shelf.current_id(stored.kind) == stored.id,
    }  # fmt: skip


def _rest(stored: Stored) -> dict[str, Any]:
    """Everything else."""
    return stored.model_dump(mode="json", include={"reason", "correction", "band", "details"})


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{name} {_texts(each)[0]}" for name, each in value.items()] or ["-"]
    if isinstance(value, list):
        return ["  ".join(_texts(each)[0] for each in value) or "-"]
    if isinstance(value, float):
        return [f"{value:.6g}"]
    return ["-" if value is None else str(value)]


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
