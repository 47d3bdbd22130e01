"""`edge-agent calibrate baseline`: a healthy machine, live or from recordings, to its own normal.

In: parsed options. Out: an exit code: 0 good (with a configuration: stored), 1 not, 2 usage, 74 the
board can't be heard; JSON lines, a screen, a page, a report. Never: changes what a running gateway
judges by unless the capture has passed every check.

A recording is stored as a live capture is, if a configuration says for which asset; with `--bundle`
alone it is only shown what would come of it.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, NamedTuple

from edge_agent.bundles.bundle import read_bundle
from edge_agent.bundles.interpreter import ModelError
from edge_agent.bundles.shelf import judging_bundle
from edge_agent.calibrate.baseline.applying import (
    drop_unused_slots,
    others_of,
    write_slots_file,
)
from edge_agent.calibrate.baseline.capture import Capture
from edge_agent.calibrate.baseline.drafting import Subject, drafted
from edge_agent.calibrate.baseline.recordings import Heard, heard, state_file
from edge_agent.calibrate.baseline.summary import check_step, state_step, summary
from edge_agent.calibrate.baseline.task import BaselineTask
from edge_agent.calibrate.baseline.verdict import Concluded, conclude
from edge_agent.calibrate.reading.readings import ReadingsError
from edge_agent.calibrate.shelf.shelf import Shelf, read_file
from edge_agent.calibrate.shelf.stored import Kind, ShelfError, Stored
from edge_agent.calibrate.sitting.command import (
    EXIT_NO,
    EXIT_OK,
    Place,
    in_use,
    live,
    place_of,
    say,
    take_up,
)
from edge_agent.calibrate.sitting.task import CannotCalibrate
from edge_agent.config import load_config

EXIT_USAGE = 2
BENEATH: tuple[Kind, ...] = ("compass", "accel")
NOT_STORED = "nothing is stored: --config F --asset A says for which asset it is meant"


class Ending(NamedTuple):
    """What became of it: `stored` if anything was, `told` in words."""

    found: Concluded
    capture: Capture | None
    stored: Stored | None
    told: str
    uid: str | None
    code: int


def baseline(options: Namespace) -> int:
    """`edge-agent calibrate baseline`, in all of its forms."""
    if options.config is None and not options.replay:
        sys.stderr.write("edge-agent: --bundle needs --replay: a live board has a configuration\n")
        return EXIT_USAGE
    if options.config is None:
        subject = Subject("replay", None, read_bundle(options.bundle), options.stream)
        return _replayed(options, subject, None)
    asset, place = _asset_and_place(options)
    settings = place.config.assets[asset]
    bundle = judging_bundle(place.config, asset)
    subject = Subject(asset, settings, bundle, settings.stream)
    return (_replayed if options.replay else _live)(options, subject, place)


def _asset_and_place(options: Namespace) -> tuple[str, Place]:
    """Which asset is meant. Raises `ValueError` in words."""
    config = load_config(options.config)
    mine = [
        name
        for name, one in config.assets.items()
        if options.asset in (None, name) and options.board in (None, one.board)
    ]
    if len(mine) != 1:
        known = ", ".join(f"{name} (board {one.board})" for name, one in config.assets.items())
        raise ValueError(f"which asset? --asset names one of: {known}")
    options.board = config.assets[mine[0]].board
    return mine[0], place_of(options)


def _live(options: Namespace, subject: Subject, place: Place | None) -> int:
    assert place is not None
    states = tuple(filter(None, (options.states or "").split(",")))
    if len(states) > 1 and not sys.stdin.isatty():
        sys.stderr.write(
            "edge-agent: --states: somebody must press Enter in each of them, and standard input "
            "is no terminal; record each state, and --replay STATE=FILE\n"
        )
        return EXIT_USAGE
    task = BaselineTask(
        subject, states, options.minutes, partial(write_slots_file, place.shelf),
        partial(others_of, place.shelf, subject.asset), options.seconds, _beneath(place.shelf),
    )  # fmt: skip
    outcome = live(options, place, task)
    found = task.found or Concluded("fail", outcome.reason, outcome.next_move, (), ())
    if outcome.code != EXIT_OK:
        reason = outcome.reason if found.verdict == "fail" else f"{found.reason}; {outcome.reason}"
        found = found._replace(reason=reason, next_move=outcome.next_move)
    elif outcome.stored:
        drop_unused_slots(place.shelf)
    uid = outcome.schema.uid if outcome.schema else None
    ending = Ending(found, task.capture, outcome.stored, outcome.reason, uid, outcome.code)
    with suppress(OSError) if outcome.dropped else nullcontext():
        _tell(options, subject, ending)
    return outcome.code


def _replayed(options: Namespace, subject: Subject, place: Place | None) -> int:
    files = [state_file(text) for text in options.replay]
    uid = place.settings.uid if place else None
    beneath = _beneath(place.shelf) if place else []
    if options.calibration is not None:
        beneath = [read_file(options.calibration)]
    try:
        got = heard(files, subject, uid, beneath)
    except (ReadingsError, CannotCalibrate, ModelError) as error:
        reason = f"{error}; {in_use(place.shelf, 'baseline')}" if place else str(error)
        found = Concluded("fail", reason, "", (), ())
        _tell(options, subject, Ending(found, None, None, "nothing was stored", None, EXIT_NO))
        return EXIT_NO
    found = conclude(got.capture, got.states, options.minutes)
    if options.json:
        say(step="read", files=[str(one.path) for one in files], uid=got.uid,
            windows=len(got.capture.scores), beneath=list(got.beneath))  # fmt: skip
    ending = _kept(options, subject, place, got, found)
    _tell(options, subject, ending)
    return ending.code


def _kept(
    options: Namespace, subject: Subject, place: Place | None, got: Heard, found: Concluded
) -> Ending:
    """Stored, if it may be and somebody said where."""
    code = EXIT_NO if found.verdict == "fail" else EXIT_OK
    if place is None:
        return Ending(found, got.capture, None, NOT_STORED, got.uid, code)
    if found.verdict == "fail":
        told = f"not stored, {in_use(place.shelf, 'baseline')}"
        return Ending(found, got.capture, None, told, got.uid, code)
    if found.verdict == "marginal" and not options.accept_marginal:
        told = f"marginal: --accept-marginal stores it; {in_use(place.shelf, 'baseline')}"
        return Ending(found, got.capture, None, told, got.uid, EXIT_NO)
    place.shelf.check_writable()
    others = others_of(place.shelf, subject.asset, got.uid)
    draft, slots = drafted(
        subject, got.capture, found, place.board, got.uid, None, got.beneath, others
    )
    if slots is not None:
        write_slots_file(place.shelf, *slots)
    stored = place.shelf.put(draft)
    drop_unused_slots(place.shelf)
    told = f"stored as {stored.id}; {take_up(place.state_dir, place.board)}"
    return Ending(found, got.capture, stored, told, got.uid, EXIT_OK)


def _beneath(shelf: Shelf) -> list[Stored]:
    """What corrects the samples before the service judges them."""
    found = []
    for kind in BENEATH:
        with suppress(ShelfError):
            stored = shelf.current(kind)
            found += [stored] if stored else []
    return found


def _tell(options: Namespace, subject: Subject, ending: Ending) -> None:
    """Lines or a page, and the report."""
    found, stored = ending.found, ending.stored
    if options.json:
        for state in found.states:
            say(**state_step(state, options.minutes))
        for check in found.checks:
            say(**check_step(check))
        say(**_last_line(subject, ending))
    else:
        from edge_agent.calibrate.baseline.page import baseline_page

        baseline_page(subject, found, ending.capture, options.minutes, ending.told)
    if options.report is not None and ending.capture is not None:
        from edge_agent.calibrate.baseline.report import write_report

        stamp = {"id": stored.id if stored else None, "uid": ending.uid, "board": options.board}
        for path in write_report(options.report, subject, found, stamp):
            sys.stderr.write(f"{path}\n")


def _last_line(subject: Subject, ending: Ending) -> dict[str, Any]:
    stored = ending.stored
    more = {"saved": stored is not None, "id": stored.id if stored else None, "uid": ending.uid}
    return summary(subject, ending.found) | more | {"told": ending.told}
