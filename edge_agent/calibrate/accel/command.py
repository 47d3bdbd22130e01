"""`edge-agent calibrate accel`: a recording, or a board in somebody's hands, to a calibration.

In: parsed options. Out: an exit code: 0 good (live: stored), 1 not, 2 usage, 74 the board can't be
heard; JSON lines, a screen, a page. Never: stores what comes from a file, or a check.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from edge_agent.calibrate.accel.checking import band_hz, listened, shaker_check, tap_check
from edge_agent.calibrate.accel.grading import Result
from edge_agent.calibrate.accel.recording import Recorded, longest_run, read_recording
from edge_agent.calibrate.accel.self_test import ask_self_test
from edge_agent.calibrate.accel.sides import parse_sides
from edge_agent.calibrate.accel.summary import check_step, pose_steps, summary
from edge_agent.calibrate.accel.tap import Tapped
from edge_agent.calibrate.accel.task import AccelTask
from edge_agent.calibrate.accel.units import local_gravity_g
from edge_agent.calibrate.reading.readings import ReadingsError
from edge_agent.calibrate.sitting.command import Outcome, live, place_of, say
from edge_agent.calibrate.sitting.task import CannotCalibrate
from edge_agent.checkup.findings import Finding

EXIT_OK, EXIT_NO, EXIT_USAGE = 0, 1, 2
NOT_STORED = "Nothing was stored: the calibration in use, if any, stays."
# What `--tap` and `--shaker` say without a file: the recording, or the live board, itself.
ITSELF: Literal["itself"] = "itself"


def accel(options: Namespace) -> int:
    """`edge-agent calibrate accel --replay FILE`, or `--config F` for a live board."""
    if options.height is not None and options.latitude is None:
        sys.stderr.write("edge-agent: --height needs --latitude\n")
        return EXIT_USAGE
    try:
        options.sides = parse_sides(options.sides) if options.sides else ()
    except ValueError as error:
        sys.stderr.write(f"edge-agent: --sides {error}\n")
        return EXIT_USAGE
    for path in {options.tap, options.shaker} - {None, ITSELF}:
        Path(path).stat()  # told before anybody lays a board down
    if ITSELF in (options.tap, options.shaker):
        if options.tap is not None and options.shaker is not None:
            sys.stderr.write("edge-agent: --tap and --shaker: one at a time, or name files\n")
            return EXIT_USAGE
        return _checked_only(options)
    return _calibrated_live(options) if options.replay is None else _calibrated_file(options)


def _calibrated_file(options: Namespace) -> int:
    task = AccelTask(local_gravity_g(options.latitude, options.height), options.stream)
    task.sides = options.sides
    try:
        recorded = _read(options, options.replay)
        _uid_agrees(options, recorded)
        task.begin(recorded.schema)
    except (ReadingsError, CannotCalibrate) as error:
        return _refused(options, task, str(error))
    for batch in recorded.batches:
        task.take(batch)
    task.ended()
    found = task.verdict()
    if not recorded.from_board:
        task.rate.nominal_hz = None
    findings, tap = _findings(options, task)
    if options.json:
        say(step="read", rows=recorded.rows, unit=recorded.stream.unit, notes=recorded.notes,
            uid=recorded.schema.uid if recorded.from_board else None)  # fmt: skip
    _told(options, str(options.replay), task, found, findings, recorded.notes, NOT_STORED)
    if options.json:
        say(**summary(task, found), id=None)
    _report(options, recorded.name, task, found, findings, tap, {})
    return EXIT_OK if found.verdict != "fail" else EXIT_NO


def _calibrated_live(options: Namespace) -> int:
    place = place_of(options)
    gravity_g = local_gravity_g(options.latitude, options.height)
    task = AccelTask(gravity_g, options.stream, options.seconds)
    task.sides = options.sides
    task.self_test = ask_self_test(place.settings, options.stream)
    if options.json:
        say(**check_step(task.self_test))
    outcome = live(options, place, task)
    found = task.verdict() if task.stream else Result("fail", outcome.reason, "", 180.0)
    if task.stream is not None:
        options.band = options.band or band_hz(place, task.stream.name)
    findings, tap = _findings(options, task) if task.stream else ([task.self_test], None)
    title = f"accelerometer of board {place.board}"
    _told(options, title, task, found, findings, (), outcome.reason)
    if options.json:
        say(**_last_line(task, found, outcome))
    elif outcome.next_move and outcome.next_move != found.next_move:
        sys.stderr.write(f"edge-agent: {outcome.next_move}\n")
    stored = outcome.stored
    stamp = {"board": place.board, "id": stored.id if stored else None, "saved": stored is not None,
             "temperature_c": outcome.temperature_c}  # fmt: skip
    _report(options, title, task, found, findings, tap, stamp)
    return outcome.code


def _checked_only(options: Namespace) -> int:
    """Taps or a calibrator, and nothing of poses."""
    what: Literal["tap", "shaker"] = "tap" if options.tap == ITSELF else "shaker"
    if options.replay is None:
        place = place_of(options)
        heard = listened(options, place, what)
        if heard is None:
            return EXIT_NO
        assert heard.stream is not None
        options.band = options.band or band_hz(place, heard.stream.name)
        rows, rate_hz = heard.rows, heard.rate_hz
    else:
        try:
            rows, rate_hz = longest_run(_read(options, options.replay))
        except ReadingsError as error:
            return _refused(options, AccelTask(), str(error))
    if what == "tap":
        finding, tap = tap_check(rows, rate_hz, options.band)
    else:
        finding, tap = shaker_check(rows, rate_hz, options.shaker_rms), None
    if options.json:
        say(**check_step(finding))
        say(verdict="fail" if finding.level == "wrong" else "pass", check=finding.about,
            resonance_hz=tap.resonance_hz if tap else None,
            damping=tap.damping if tap else None, saved=False, reason=finding.seen)  # fmt: skip
    else:
        from edge_agent.calibrate.accel.page import checks_page

        checks_page(str(options.replay or options.board or what), [finding])
    return EXIT_NO if finding.level == "wrong" else EXIT_OK


def _findings(options: Namespace, task: AccelTask) -> tuple[list[Finding], Tapped | None]:
    """The checks of the poses' samples, and of the files of taps and calibrator."""
    found, tap = task.findings(), None
    fit = task.result().fit
    for what, path in (("tap", options.tap), ("shaker", options.shaker)):
        if path is None:
            continue
        try:
            rows, rate_hz = longest_run(_read(options, Path(path)))
        except ReadingsError as error:
            found.append(Finding("wrong", what, str(error), "a recording"))
            continue
        rows = rows if fit is None else fit.correct(rows)
        if what == "tap":
            finding, tap = tap_check(rows, rate_hz, options.band)
            found.append(finding)
        else:
            found.append(shaker_check(rows, rate_hz, options.shaker_rms))
    return found, tap


def _told(
    options: Namespace, title: str, task: AccelTask, found: Result, findings: list[Finding],
    notes: tuple[str, ...], last: str,
) -> None:  # fmt: skip
    if options.json:
        for pose in pose_steps(task, found):
            say(**pose)
        for finding in findings:
            if finding is not task.self_test:
                say(**check_step(finding))
        return
    from edge_agent.calibrate.accel.page import accel_page, checks_page

    checks_page(title, findings)
    accel_page(None, task, found, notes, last)


def _last_line(task: AccelTask, found: Result, outcome: Outcome) -> dict[str, Any]:
    fields = summary(task, found)
    stored = outcome.stored
    more = filter(None, (outcome.reason, outcome.next_move))
    fields |= {"saved": stored is not None, "reason": ": ".join(more)}
    uid = outcome.schema.uid if outcome.schema else None
    return fields | {"id": stored.id if stored else None, "uid": uid}


def _refused(options: Namespace, task: AccelTask, reason: str) -> int:
    """What can't be calibrated has a verdict, too."""
    found = Result("fail", reason, "", 180.0)
    if options.json:
        say(**summary(task, found), id=None)
    else:
        from edge_agent.calibrate.accel.page import accel_page

        accel_page(str(options.replay), task, found, (), NOT_STORED)
    return EXIT_NO


def _read(options: Namespace, path: Path) -> Recorded:
    return read_recording(path, options.stream, options.rate, options.unit)


def _uid_agrees(options: Namespace, recorded: Recorded) -> None:
    """With `--uid` a recording of another board is not taken for it."""
    if options.uid is not None and recorded.from_board and recorded.schema.uid != options.uid:
        raise ReadingsError(
            f"{recorded.name} is of board {recorded.schema.uid}, {options.uid} was expected: "
            "name the right file"
        )


def _report(
    options: Namespace, name: str, task: AccelTask, found: Result, findings: list[Finding],
    tap: Tapped | None, stamp: dict[str, Any],
) -> None:  # fmt: skip
    if options.report is None or found.fit is None:
        return
    from edge_agent.calibrate.accel.report import write_report

    now = datetime.now(UTC)
    for path in write_report(options.report, name, task, found, findings, tap, now, stamp):
        sys.stderr.write(f"{path}\n")
