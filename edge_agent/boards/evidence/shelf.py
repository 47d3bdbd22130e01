"""Shelf: the folder of evidence, bounded, each file in it whole.

In: the bytes of recordings as they come, facts of cases. Out: `ID.rec` and `ID.json`.
Never: more than `limit_bytes` and `max_cases`, a file under its own name before it is whole (it is
written as `.part`, and what is left of those goes at the start), a frame cut in two.

Room is made by removing whole cases, the oldest first: those that nobody has judged, then judged
ones. Verdicts without a recording never push out a recording: when there are too many cases, they
go first.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edge_agent.boards.evidence.case import (
    DOCUMENT,
    MAX_DOCUMENT_BYTES,
    PARTIAL,
    RECORDING,
    SCHEMA_VERSION,
    is_event_id,
    read_document,
    write_document,
)
from firmware_bridge.codec import DELIMITER, MAX_ENCODED_BYTES

MAX_CASES = 2000
# A disk gives whole blocks.
BLOCK_BYTES = 4096
# No recording may take more of the folder than this share.
RECORDING_SHARE = 0.5


@dataclass(slots=True)
class _Case:
    """What one case takes, in blocks of the disk."""

    recording_bytes: int = 0
    document_bytes: int = 0
    labelled: bool = False

    @property
    def size_bytes(self) -> int:
        return self.recording_bytes + self.document_bytes


@dataclass(slots=True)
class _Part:
    """A recording under way; `rest` is the beginning of a frame."""

    path: Path
    file: BinaryIO
    head_bytes: int
    size_bytes: int = 0
    rest: bytes = b""
    synced: bool = False


class Shelf:
    """The folder. One thread at a time. Every call may raise `OSError`."""

    def __init__(self, folder: Path, limit_bytes: int, max_cases: int = MAX_CASES) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes
        self._max_cases = max_cases
        self._parts: dict[str, _Part] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"*{PARTIAL}"):
            leftover.unlink(missing_ok=True)
        self._cases = self._found()
        self._make_room(0, "")

    def begin(self, name: str, head: bytes) -> None:
        """A new recording that begins with `head`; data follow from the next delimiter on. Where
        no room can be made, there is none."""
        if name in self._parts or not self._make_room(len(head), name):
            return
        path = self._folder / f"{name}{RECORDING}{PARTIAL}"
        part = _Part(path, path.open("wb", buffering=0), len(head))
        self._parts[name] = part
        self._write(name, part, head)

    def append(self, name: str, data: bytes) -> int:
        """What came next; gives the bytes of whole frames so far. A recording that has been given
        up takes nothing, and one that is too long ends."""
        part = self._parts.get(name)
        if part is None:
            return 0
        if not part.synced:
            _, delimiter, data = data.partition(DELIMITER)
            part.synced = bool(delimiter)
        whole, delimiter, rest = data.rpartition(DELIMITER)
        frames = part.rest + whole + delimiter if delimiter else b""
        part.rest = rest if delimiter else part.rest + rest
        if len(part.rest) > MAX_ENCODED_BYTES:
            # That is no frame, so nothing is cut in two; it stays as the damage that it is.
            frames, part.rest = frames + part.rest, b""
        room = self._make_room(len(frames), name)
        if room:
            self._write(name, part, frames)
        if not room or part.size_bytes > self._limit_bytes * RECORDING_SHARE:
            self.finish(name)
        return part.size_bytes

    def finish(self, name: str) -> None:
        """The recording is whole now; one without any frame is none."""
        part = self._parts.pop(name, None)
        if part is None:
            return
        with part.file:
            # Before the new name: a power cut must not leave it with nothing behind it.
            os.fsync(part.file.fileno())
        if part.size_bytes <= part.head_bytes:
            part.path.unlink(missing_ok=True)
            return
        part.path.replace(part.path.with_suffix(""))
        self._cases.setdefault(name, _Case()).recording_bytes = _blocks(part.size_bytes)

    def note(self, name: str, facts: dict[str, Any]) -> None:
        """Adds facts to `ID.json`, or begins one; it is the old one or the new one, never half."""
        path = self._folder / f"{name}{DOCUMENT}"
        known = self._document(path) or {"schema_version": SCHEMA_VERSION, "event_id": name}
        document = {"verdict": None, **known, **facts}
        content = write_document(document)
        self._make_room(len(content), name)
        partial = path.with_name(path.name + PARTIAL)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        case = self._cases.setdefault(name, _Case())
        case.document_bytes = _blocks(len(content))
        case.labelled = document["verdict"] is not None

    def close(self) -> None:
        """Every recording ends where it is."""
        for name in list(self._parts):
            self.finish(name)

    def _write(self, name: str, part: _Part, data: bytes) -> None:
        """All of it; where that fails, the recording ends with the last whole frame before."""
        view = memoryview(data)
        try:
            while view:
                view = view[part.file.write(view) :]
        except OSError:
            with suppress(OSError):
                part.file.truncate(part.size_bytes)
                self.finish(name)
            raise
        part.size_bytes += len(data)

    def _make_room(self, needed_bytes: int, name: str) -> bool:
        """Whether there is room for `needed_bytes` more of `name`; other cases go for it."""
        taken = sum(case.size_bytes for case in self._cases.values())
        taken += sum(_blocks(part.size_bytes) for part in self._parts.values()) + _blocks(
            needed_bytes
        )
        spare = self._max_cases - (name not in self._cases)
        while taken > self._limit_bytes or len(self._cases) > spare:
            victim = self._victim(name, len(self._cases) > spare)
            if victim is None:
                return False
            taken -= self._cases[victim].size_bytes
            # In this order a crash between the two leaves a case, not a riddle.
            for ending in (RECORDING, DOCUMENT):
                (self._folder / f"{victim}{ending}").unlink(missing_ok=True)
            del self._cases[victim]
        return True

    def _victim(self, name: str, too_many: bool) -> str | None:
        idle = [key for key in self._cases if key != name and key not in self._parts]
        bare = [k for k in idle if self._cases[k].labelled and not self._cases[k].recording_bytes]
        unlabelled = [key for key in idle if not self._cases[key].labelled]
        order = [*(bare if too_many else ()), *unlabelled, *idle]
        return order[0] if order else None

    def _found(self) -> dict[str, _Case]:
        """What earlier runs left, oldest first. Files that are not ours are left alone."""
        cases: dict[str, _Case] = {}
        ages: dict[str, float] = {}
        for ending in (DOCUMENT, RECORDING):
            for path in self._folder.glob(f"*{ending}"):
                name = path.name.removesuffix(ending)
                if not is_event_id(name) or not path.is_file():
                    continue
                case, status = cases.setdefault(name, _Case()), path.stat()
                # A verdict makes the document younger, not the recording: that one comes last.
                ages[name] = status.st_mtime
                if ending == RECORDING:
                    case.recording_bytes = _blocks(status.st_size)
                else:
                    case.document_bytes = _blocks(status.st_size)
                    case.labelled = self._document(path).get("verdict") is not None
        return {name: cases[name] for name in sorted(cases, key=lambda name: ages[name])}

    def _document(self, path: Path) -> dict[str, Any]:
        try:
            with path.open("rb") as file:
                return read_document(file.read(MAX_DOCUMENT_BYTES))
        except FileNotFoundError:
            return {}


def _blocks(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
