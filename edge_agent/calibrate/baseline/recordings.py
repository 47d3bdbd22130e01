"""Recordings: files of the wire to a capture, one file a state.

In: `FILE` or `STATE=FILE`, a bundle. Out: a `Capture` that has ended. Never: more than one chunk of
a file in memory, two boards in one capture, a file that is not the wire of a board.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge_agent.calibrate.baseline.capture import Capture
from edge_agent.calibrate.baseline.drafting import Subject
from edge_agent.calibrate.baseline.task import DEFAULT_STATES, state_names, stream_of
from edge_agent.calibrate.reading.readings import ReadingsError
from edge_agent.calibrate.shelf.applying import Applied
from edge_agent.calibrate.shelf.stored import Stored
from edge_agent.replay import CHUNK_BYTES
from firmware_bridge.link import Identified
from firmware_bridge.recording import Playback
from firmware_bridge.schema import Schema


class StateFile(NamedTuple):
    """One file, and which state the machine is in all through it."""

    state: str
    path: Path


class Heard(NamedTuple):
    """All files. `beneath` are the calibrations that were applied."""

    capture: Capture
    uid: str
    states: tuple[str, ...]
    beneath: tuple[str, ...]


def state_file(text: str) -> StateFile:
    """`FILE` or `STATE=FILE`; a file that is there is taken for one, whatever its name."""
    name, mark, path = text.partition("=")
    if not mark or not name or Path(text).exists():
        return StateFile(DEFAULT_STATES[0], Path(text))
    return StateFile(name, Path(path))


def heard(
    files: Sequence[StateFile], subject: Subject, uid: str | None, beneath: Sequence[Stored]
) -> Heard:
    """`uid`: the board that it must be. Raises `ReadingsError`, `CannotCalibrate`, `ModelError`,
    `OSError`."""
    states = tuple(dict.fromkeys(file.state for file in files))
    reader = _Reader(subject, uid, beneath)
    for file in files:
        reader.read(file, states.index(file.state))
    assert reader.capture is not None
    assert reader.uid is not None
    names = state_names(subject.bundle, states)
    return Heard(reader.capture, reader.uid, names, reader.beneath)


class _Reader:
    """Feeds one capture from one file after the other."""

    def __init__(self, subject: Subject, uid: str | None, beneath: Sequence[Stored]) -> None:
        self._subject, self._beneath = subject, beneath
        self.uid = uid
        self.capture: Capture | None = None
        self.beneath: tuple[str, ...] = ()
        self._applied: Applied | None = None
        self._stream: int | None = None

    def read(self, file: StateFile, state: int) -> None:
        playback, known = Playback(), False
        with file.path.open("rb") as content:
            while chunk := content.read(CHUNK_BYTES):
                for event in playback.feed(chunk):
                    if isinstance(event, Identified):
                        self._begin(file.path.name, event.schema)
                        if not known and self.capture is not None:
                            self.capture.begin(state)
                        known = True
                    elif self.capture and self._applied and event.stream == self._stream and known:
                        self.capture.take(self._applied.apply(event))
        if not known:
            raise ReadingsError(f"{file.path.name}: {playback.problem}")

    def _begin(self, name: str, schema: Schema) -> None:
        if self.uid is not None and schema.uid != self.uid:
            raise ReadingsError(
                f"{name} is of board {schema.uid}, {self.uid} was expected: name the right file"
            )
        self.uid = schema.uid
        stream = stream_of(schema, self._subject)
        self._stream = stream.id
        mine = [one for one in self._beneath if one.refusal(schema.uid) is None]
        self._applied = Applied(mine, schema)
        applied = self._applied.id_of(stream.id)
        self.beneath = (applied,) if applied else ()
        if self.capture is None:
            self.capture = Capture(self._subject.bundle, stream, self._subject.settings)
