"""Recorded disk: every write of a program, and the disk as it would be had the power gone there.

In: a command, run under strace. Out: its steps in order, and for each moment a folder: either all
that was written is there, or what no fsync has confirmed is lost, whole or sector by sector.
Never: loses what was confirmed, or orders renames in a way that no journalling file system does.

Names (made, renamed, removed) reach the disk in their order, with the next fsync of a folder or of
the file that was made; before that a part of them may be there, the rest not.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT

# Those with `?` don't exist on every architecture.
CALLS = (
    "openat,close,write,pwrite64,writev,pwritev,lseek,ftruncate,fallocate,fsync,fdatasync,"
    "?rename,?renameat,renameat2,?unlink,unlinkat,?open,?creat,?truncate,copy_file_range,sendfile"
)
UNHEARD = {"open", "creat", "truncate", "writev", "pwritev", "fallocate", "copy_file_range",
           "sendfile"}  # fmt: skip
NAMING = ("open", "rename", "unlink", "creat", "truncate")
LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
UNFINISHED = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")
SECTORS_BYTES = (512, 4096)
STDOUT = 1


class Step(NamedTuple):
    """A call that has changed something below the folder, or a line that the program has said."""

    call: str
    file: str = ""
    other: str = ""
    at: int = 0
    data: bytes = b""
    fd: int = -1


class _File:
    """One inode: what was written, what is confirmed, and the writes in between."""

    def __init__(self) -> None:
        self.content, self.confirmed = bytearray(), b""
        self.open: list[tuple[int, bytes | None]] = []  # (place, bytes), or (size, None)

    def write(self, at: int, data: bytes | None) -> None:
        _apply(self.content, at, data)
        self.open.append((at, data))

    def confirm(self) -> None:
        self.confirmed, self.open = bytes(self.content), []

    def torn(self, chance: random.Random, sector_bytes: int) -> bytes:
        """Confirmed content, and any sectors of what came after."""
        content = bytearray(self.confirmed)
        for at, data in self.open:
            if data is None:
                if chance.random() < 0.5:
                    _apply(content, at, None)
                continue
            for start in range(at - at % sector_bytes, at + len(data), sector_bytes):
                piece = data[max(start - at, 0) : start - at + sector_bytes]
                if chance.random() < 0.5:
                    _apply(content, max(start, at), piece)
        return bytes(content)


class Disk:
    """Takes steps; `whole` and `torn` are the files by name as a power cut would leave them."""

    def __init__(self) -> None:
        self._names: dict[str, _File] = {}
        self._confirmed: dict[str, _File] = {}
        self._changes: list[dict[str, _File]] = []
        self._descriptors: dict[int, _File | None] = {}

    def take(self, step: Step) -> bool:
        """Whether the disk may now be another one."""
        file = self._descriptors.get(step.fd)
        match step.call:
            case "open":
                return self._open(step)
            case "write" if file:
                file.write(step.at, step.data)
            case "truncate" if file:
                file.write(step.at, None)
            case "rename":
                self._rename(step.file, step.other)
            case "unlink":
                self._name({n: f for n, f in self._names.items() if n != step.file})
            case "sync":
                self._sync(file)
            case _:
                return False
        return True

    def whole(self) -> dict[str, bytes]:
        """Everything so far is on the disk."""
        return {name: bytes(file.content) for name, file in self._names.items()}

    def torn(self, chance: random.Random) -> dict[str, bytes]:
        """Everything confirmed is, and by chance some of the rest."""
        states = [self._confirmed, *self._changes]
        names = states[chance.randint(0, len(states) - 1)]
        sector_bytes = chance.choice(SECTORS_BYTES)
        return {name: file.torn(chance, sector_bytes) for name, file in names.items()}

    def _open(self, step: Step) -> bool:
        made = step.file not in self._names and "O_CREAT" in step.other
        if made:
            self._name({**self._names, step.file: _File()})
        file = self._descriptors[step.fd] = self._names.get(step.file)  # None: a folder
        cut = file is not None and bool(file.content) and "O_TRUNC" in step.other
        if file and cut:
            file.write(0, None)
        return made or cut

    def _rename(self, old: str, new: str) -> None:
        names = {n: f for n, f in self._names.items() if n != old}
        self._name({**names, new: self._names[old]})

    def _name(self, names: dict[str, _File]) -> None:
        self._names = names
        self._changes.append(names)

    def _sync(self, file: _File | None) -> None:
        confirmed = len(self._changes)
        if file:
            file.confirm()
            here = [i for i, names in enumerate(self._changes) if file in names.values()]
            known = file in self._confirmed.values() or not here
            confirmed = 0 if known else here[0] + 1
        if confirmed:
            self._confirmed = self._changes[confirmed - 1]
            self._changes = self._changes[confirmed:]


def untraceable() -> str:
    """Why no program can be traced here, empty if one can."""
    try:
        done = subprocess.run(
            ["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "strace is not installed (apt-get install strace)"
    return f"ptrace is not allowed: {done.stderr.strip()[-200:]}" if done.returncode else ""


def record(folder: Path, trace: Path, module: str, *arguments: object) -> list[Step]:
    """Runs a module under strace; its steps below the folder, and the lines that it has said."""
    command = ["strace", "-f", "-xx", "-s", "4000000", "-e", f"trace={CALLS}", "-o", str(trace)]
    command += [sys.executable, "-m", module, *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return list(_steps(trace, str(folder)))


def _steps(trace: Path, folder: str) -> Iterator[Step]:
    places: dict[int, int] = {}  # fd -> where the next write goes
    opened: dict[str, str] = {}  # fd -> what it leads to
    with trace.open() as lines:
        for call, arguments, result in _calls(lines):
            if result >= 0:
                named = arguments if call.startswith(NAMING) else []
                names = [_name(a, opened) for a in named if a.startswith('"')]
                if call == "openat":
                    opened[str(result)] = names[0]
                yield from _step(call, arguments, names, result, folder, places)


def _step(
    call: str, arguments: list[str], names: list[str], result: int, folder: str,
    places: dict[int, int],
) -> Iterator[Step]:  # fmt: skip
    fd = int(arguments[0]) if arguments[0].isdigit() else -1
    ours = bool(names) and names[0].startswith(folder) and not names[0].endswith("-shm")
    if call == "openat":
        if ours:
            places[result] = 0
            yield Step("open", names[0], arguments[2], fd=result)
    elif call == "close":
        places.pop(fd, None)
    elif call.startswith("rename") and ours:
        yield Step("rename", names[0], names[1])
    elif call.startswith("unlink") and ours:
        yield Step("unlink", names[0])
    elif call == "write" and fd == STDOUT:
        yield Step("said", data=_text(arguments[1]))
    elif fd in places:
        yield from _on_file(call, arguments, result, fd, places)


def _on_file(
    call: str, arguments: list[str], result: int, fd: int, places: dict[int, int]
) -> Iterator[Step]:
    if call == "lseek":
        places[fd] = result
    elif call == "write":
        yield Step("write", at=places[fd], data=_text(arguments[1])[:result], fd=fd)
        places[fd] += result
    elif call == "pwrite64":
        yield Step("write", at=int(arguments[3]), data=_text(arguments[1])[:result], fd=fd)
    elif call == "ftruncate":
        yield Step("truncate", at=int(arguments[1]), fd=fd)
    elif call in ("fsync", "fdatasync"):
        yield Step("sync", fd=fd)
    elif call in UNHEARD:
        raise RuntimeError(f"the recording can't replay {call}")


def _calls(lines: Iterator[str]) -> Iterator[tuple[str, list[str], int]]:
    """Name, arguments and result of each call, when it was done."""
    begun: dict[str, str] = {}
    for raw in lines:
        line = raw.rstrip("\n")
        if found := UNFINISHED.match(line):
            begun[found[1]] = found[2]
            continue
        if found := RESUMED.match(line):
            line = f"{found[1]} {begun.pop(found[1])}{found[2]}"
        if found := LINE.match(line):
            yield found[2], found[3].split(", "), int(found[4])


def _name(argument: str, opened: dict[str, str]) -> str:
    """The path of an argument; one that begins at a folder that is open, as it is in full."""
    name = _text(argument).decode(errors="replace")
    found = re.match(r"/proc/self/fd/(\d+)", name)
    return opened.get(found[1], name) + name[found.end() :] if found else name


def _text(argument: str) -> bytes:
    """A string as strace -xx writes it."""
    return bytes.fromhex(argument.strip('"').replace("\\x", ""))


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    """Writes bytes at a place, or cuts (or fills) to a size."""
    end = at if data is None else at + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[at:]
    else:
        content[at:end] = data
