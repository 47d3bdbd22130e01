"""Feedback: a gateway's evidence with operators' verdicts to recordings that `build` takes.

In: `ID.json` and `ID.rec` of one case. Out: which rows were anomalous, and what it is good for.
Never: touches a file, believes more than was said: `unsure` and no verdict give nothing.

    confirmed    faulty: from the beginning of the first window that was over the threshold up to
                 the alarm's end; the other rows are normal
    missed       faulty: every row, for nobody said since when
    false_alarm  normal: every row
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from converter.errors import ConverterError
from converter.labels import Flags
from converter.recordings import Recording, parse_recording
from edge_agent.boards.evidence.case import Case

Role: TypeAlias = Literal["normal", "faulty"]
ROLES: dict[str, Role] = {"false_alarm": "normal", "confirmed": "faulty", "missed": "faulty"}


class Lesson(NamedTuple):
    """What one case teaches; `anomalous` is bool[rows] of the recording."""

    role: Role
    rows: int
    seconds: float
    anomalous: Flags


def read_case(name: str, content: bytes) -> Case:
    """`ID.json`. Raises `ConverterError` if it isn't one, or is that of another case."""
    try:
        case = Case.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "JSON"
        raise ConverterError(f"{name} is no case of evidence: {place}: {first['msg']}") from None
    if f"{case.event_id}.json" != name:
        raise ConverterError(f"{name} is about {case.event_id}: a case's file is called like it")
    return case


def lesson(case: Case, content: bytes) -> Lesson:
    """What a judged case and its recording teach. Raises `ConverterError`."""
    if case.verdict not in ROLES:
        raise ConverterError("nobody has said what it was")
    recording = parse_recording(f"{case.event_id}.rec", content, case.stream)
    anomalous = np.zeros(recording.rows, np.bool_)
    if case.verdict == "missed":
        anomalous[:] = True
    elif case.verdict == "confirmed":
        anomalous = _alarmed(case, recording, content)
        if not anomalous.any():
            raise ConverterError("the alarm lies outside of the recording")
    seconds = recording.rows / recording.stream.rate_hz
    return Lesson(ROLES[case.verdict], recording.rows, round(seconds, 3), anomalous)


def _alarmed(case: Case, recording: Recording, content: bytes) -> Flags:
    """Rows of the alarm; all of them if the case doesn't say when it was."""
    if case.seen_bytes is not None and case.seen_bytes > len(content):
        raise ConverterError("the recording ends before the alarm: copy it from the gateway again")
    seen_rows = _rows_of(case, content)
    if case.ts is None or not seen_rows:
        return np.ones(recording.rows, np.bool_)
    times_s = _times_s(recording)
    # The window that raised the alarm ended, up to one chunk, with what had come by then.
    raised_s = times_s[seen_rows - 1]
    window_seconds = case.window_seconds or 0.0
    begin_s = raised_s - _seconds(case.first_over or case.ts, case.ts) - window_seconds
    end_s = raised_s + _seconds(case.ts, case.ended) if case.ended else np.inf
    return np.asarray((times_s > begin_s) & (times_s <= end_s))


def _rows_of(case: Case, content: bytes) -> int:
    """How many rows of the recording had come when the alarm was raised."""
    try:
        return parse_recording("", content[: case.seen_bytes or 0], case.stream).rows
    except ConverterError:
        return 0


def _times_s(recording: Recording) -> NDArray[np.float64]:
    """When each row was taken, by the board's clock."""
    return np.concatenate(
        [batch.t0 + np.arange(len(batch.values)) / batch.rate_hz for batch in recording.batches]
    )


def _seconds(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds()
