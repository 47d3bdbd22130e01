"""Shelf: the calibrations of one board in the state folder, and which of them is in use.

In: drafts that were found good, a request to go back. Out: `Stored` calibrations. Never: leaves
half a file, keeps more than ten of a kind, loses the one in use.

    state_dir/calibrations/<board>/compass-3-1f2a9c.json    never changed once it is there
    state_dir/calibrations/<board>/compass.current          the id of the one in use, or none
    state_dir/calibrations/<board>/compass.partial          what an interrupted sitting had

Files get the owner of the state folder, so that root may calibrate and the service may read.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.calibrate.shelf.stored import (
    ID,
    KINDS,
    LIMIT_BYTES,
    Draft,
    Kind,
    ShelfError,
    Stored,
    read_stored,
    sealed,
    write_stored,
)
from edge_agent.files import as_owner, write_atomically
from edge_agent.versions import version_of

FOLDER = "calibrations"
KEPT = 10
NONE = "none"
LIMIT_NAME_BYTES = 64
LIMIT_PARTIAL_BYTES = 4 << 20


class Shelf:
    """The calibrations of one board."""

    def __init__(self, state_dir: Path, board: str) -> None:
        self._state_dir = state_dir
        self.board = board
        self.folder = state_dir / FOLDER / board

    def check_writable(self) -> None:
        """Before somebody turns a board for ten minutes. Raises `PermissionError`, `OSError`."""
        with self._made():
            pass
        if not os.access(self.folder, os.W_OK | os.X_OK):
            told = "not allowed: run it with sudo, or as the user of the service"
            raise PermissionError(None, told, str(self.folder))

    def put(self, draft: Draft, now: datetime | None = None) -> Stored:
        """Stores it and puts it in use. Raises `OSError`, `ShelfError`."""
        if draft.board != self.board:
            raise ShelfError(f"a calibration of board {draft.board} is not put to {self.board}")
        numbers = [number for number, _ in self._files(draft.kind)]
        made = (now or datetime.now(UTC)).replace(microsecond=0)
        stored = sealed(draft, max(numbers, default=0) + 1, made, software())
        content = write_stored(stored)
        read_stored(stored.id, content)  # what could not be read again is not put in use
        self._write(self._file(stored.id), content)
        self.use(stored.kind, stored)
        with self._made() as folder:
            for _, path in self._files(draft.kind)[:-KEPT]:
                (folder / path.name).unlink(missing_ok=True)
        return stored

    def all(self, kind: Kind | None = None) -> list[Stored]:
        """Everything that can be read, oldest first, kind by kind."""
        return [
            stored
            for each in ((kind,) if kind else KINDS)
            for _, path in self._files(each)
            for stored in self._readable(path)
        ]

    def damaged(self, kind: Kind) -> list[str]:
        """What can't be read and why, a line each."""
        told = []
        for _, path in self._files(kind):
            try:
                self.read(path.stem)
            except ShelfError as error:
                told.append(str(error))
        return told

    def current_id(self, kind: Kind) -> str | None:
        """Which one is in use; None if none is."""
        try:
            with self._pointer(kind).open("rb") as file:
                name = file.read(LIMIT_NAME_BYTES).decode("ascii", "replace").strip()
        except OSError:
            return None
        return name if re.match(ID, name) and name.startswith(kind) else None

    def current(self, kind: Kind) -> Stored | None:
        """The one in use. Raises `ShelfError` if it can't be read, in one line."""
        name = self.current_id(kind)
        return None if name is None else self.read(name)

    def for_board(self, uid: str) -> tuple[list[Stored], list[str]]:
        """What is in use for the board that answers, and why anything else is not, a line each."""
        found, refusals = [], []
        for kind in KINDS:
            try:
                stored = self.current(kind)
            except ShelfError as error:
                refusals.append(str(error))
                continue
            refusal = stored.refusal(uid) if stored else None
            if refusal:
                refusals.append(refusal)
            elif stored:
                found.append(stored)
        return found, refusals

    def read(self, name: str) -> Stored:
        """The calibration of that id. Raises `ShelfError`."""
        if not re.match(ID, name):
            raise ShelfError(f"{name!r} names no calibration; `calibrate list` shows them")
        stored = read_file(self._file(name))
        if stored.id != name or stored.board != self.board:
            told = f"{name}.json holds {stored.id} of board {stored.board}"
            raise ShelfError(f"{told}: it was moved there; roll back, or calibrate again")
        return stored

    def before(self, kind: Kind) -> Stored | None:
        """The one before the one in use; None if that is the oldest that is kept and can be read.
        Raises `ShelfError` if none is in use."""
        now = self.current_id(kind)
        if now is None:
            raise ShelfError(self.none_in_use(kind))
        number = int(now.split("-")[1])
        older = [path for n, path in self._files(kind) if n < number]
        return next((each for path in reversed(older) for each in self._readable(path)), None)

    def use(self, kind: Kind, stored: Stored | None) -> None:
        """Puts this one in use, or none of the kind: all of them stay on the shelf. Raises
        `OSError`."""
        self._write(self._pointer(kind), f"{stored.id if stored else NONE}\n".encode())

    def none_in_use(self, kind: Kind) -> str:
        """That it is so, and how one is put in use again, if there is one."""
        told = f"board {self.board} has no {kind} calibration in use"
        last = next((path.stem for _, path in reversed(self._files(kind))), None)
        return f"{told}: `calibrate rollback {last}` puts that one in use" if last else told

    def save_partial(self, kind: Kind, content: bytes) -> None:
        """What a sitting has so far, so that it may go on. Raises `OSError`."""
        if len(content) <= LIMIT_PARTIAL_BYTES:
            self._write(self._partial(kind), content)

    def partial(self, kind: Kind) -> bytes | None:
        """What an interrupted sitting had, at most 4 MiB; whoever reads it checks it."""
        with suppress(OSError), self._partial(kind).open("rb") as file:
            content = file.read(LIMIT_PARTIAL_BYTES + 1)
            return content if len(content) <= LIMIT_PARTIAL_BYTES else None
        return None

    def partial_age_seconds(self, kind: Kind) -> float:
        """How long ago that was; infinity if there is none."""
        try:
            return max(0.0, time.time() - self._partial(kind).stat().st_mtime)
        except OSError:
            return math.inf

    def drop_partial(self, kind: Kind) -> None:
        """The sitting came to its end."""
        with suppress(OSError), self._made() as folder:
            (folder / self._partial(kind).name).unlink(missing_ok=True)

    def _readable(self, path: Path) -> list[Stored]:
        """The calibration, or none where the file is damaged."""
        try:
            return [self.read(path.stem)]
        except ShelfError:
            return []

    def _files(self, kind: Kind) -> list[tuple[int, Path]]:
        """Numbers and paths, oldest first."""
        with suppress(OSError):
            return sorted(
                (int(path.stem.split("-")[1]), path)
                for path in self.folder.glob(f"{kind}-*.json")
                if re.match(ID, path.stem)
            )
        return []

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _pointer(self, kind: Kind) -> Path:
        return self.folder / f"{kind}.current"

    def _partial(self, kind: Kind) -> Path:
        return self.folder / f"{kind}.partial"

    def _write(self, path: Path, content: bytes) -> None:
        with self._made() as folder:
            write_atomically(folder / path.name, content)

    @contextmanager
    def _made(self) -> Iterator[Path]:
        """The board's folder, which is there now, with no more rights than the service has."""
        self._state_dir.mkdir(parents=True, exist_ok=True)
        with as_owner(self._state_dir) as (_, inside):
            folder = inside / FOLDER / self.board
            folder.mkdir(parents=True, exist_ok=True)
            yield folder


def read_file(path: Path) -> Stored:
    """One calibration, also one that was copied from a shelf. Raises `ShelfError`."""
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise ShelfError(f"{path}: {error.strerror or error}") from None
    return read_stored(path.name, content)


def software() -> str:
    """Which version made it."""
    return " ".join(filter(None, ("otolith", version_of("otolith"))))
